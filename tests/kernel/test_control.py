# SPDX-License-Identifier: BSD-2-Clause
"""The daemon's door: whatever comes to it, it goes on answering those who ask properly; and who gets no answer does the
work alone."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from ganeti_vif.system.ask import PROTOCOL
from ganeti_vif.system.control import LARGEST
from tests.lab import PATIENCE, Node

from .actions import attach, differences, vif_script
from .conftest import MakeTap
from .environment import SCRIPT, bridged, routed
from .vifd import RECORDS, SOCKET, answers, clean, hanging, launched, stopped, until

NOBODY = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--"]
CONNECT = """
import socket
one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
one.settimeout(60)
try:
    one.connect("/run/ganeti-vif/control.sock")
    one.send(b"ganeti-vif 1\\0state")
    print(one.recv(1000) or "hung up")
except OSError as error:
    print(error.strerror)
"""


@pytest.fixture
def vifd(ready: Node) -> Iterator[subprocess.Popen[str]]:
    """The daemon of a node that is set up, which has to outlive the test."""
    daemon = launched(ready)
    yield daemon
    assert daemon.poll() is None, daemon.communicate()
    assert answers(ready)
    stopped(daemon)
    assert daemon.returncode == 0


def connected(node: Node) -> socket.socket:
    one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    one.settimeout(PATIENCE)
    one.connect(str(node.path(SOCKET)))
    return one


def asked(node: Node, question: bytes) -> bytes:
    """The answer to QUESTION; empty if the daemon hangs up without one."""
    with closing(connected(node)) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * LARGEST)
        one.send(question)
        try:
            return one.recv(LARGEST)
        except ConnectionResetError:
            return b""


def question(environment: dict[str, str]) -> bytes:
    return b"\0".join([PROTOCOL, b"vif", *(f"{name}={value}".encode() for name, value in environment.items())])


@pytest.mark.usefixtures("vifd")
class TestWhoAsks:
    """It answers root, and those only."""

    def test_others_cannot_connect(self, ready: Node) -> None:
        done = ready.run([*NOBODY, "/usr/bin/python3", "-c", CONNECT])
        assert done.stdout == "Permission denied\n"

    def test_others_get_no_answer_even_if_they_can_connect(self, ready: Node) -> None:
        ready.run(["chmod", "666", SOCKET])
        done = ready.run([*NOBODY, "/usr/bin/python3", "-c", CONNECT])
        assert done.stdout in ("hung up\n", "Connection reset by peer\n", "Broken pipe\n")


@pytest.mark.usefixtures("vifd")
class TestWhatIsAsked:
    """Whatever it is, the next one is answered."""

    @pytest.mark.parametrize("nothing", [b"", bytes(LARGEST + 1), b"\0" * LARGEST + b"\0"])
    def test_nothing_and_too_much_get_no_answer(self, ready: Node, nothing: bytes) -> None:
        assert asked(ready, nothing) == b""

    @pytest.mark.parametrize(
        "rubbish",
        [
            b"GET / HTTP/1.0\r\n\r\n",
            b"\0",
            b"\xff\xfe\0\xfd",
            b"ganeti-vif 2\0vif\0INSTANCE=vm5.example.com",
            PROTOCOL,
            PROTOCOL + b"\0",
            PROTOCOL + b"\0no such door",
            PROTOCOL + b"\0vif\0=\0\0==\0INSTANCE",
            PROTOCOL + b"\0vif\0INTERFACE=\xff\xff\0MAC=\xe4",
            PROTOCOL + b"\0hook",
            PROTOCOL + b"\0hook\0GANETI_HOOKS_PATH=\xff\0GANETI_HOOKS_PHASE=post",
        ],
    )
    def test_rubbish_gets_no_good_news(self, ready: Node, rubbish: bytes) -> None:
        assert asked(ready, rubbish).partition(b"\n")[0] in (b"alone", b"1")

    def test_who_is_silent_is_not_waited_for(self, ready: Node, tap: MakeTap) -> None:
        with closing(connected(ready)) as silent:
            attach(ready, bridged(tap(ready).name))
            assert silent.recv(1) == b""

    def test_three_hundred_silent_ones_do_not_keep_it_from_answering(self, ready: Node, tap: MakeTap) -> None:
        one = tap(ready)
        with ExitStack() as stack:
            silent = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(300)]
            for each in silent:
                stack.enter_context(closing(each))
                each.setblocking(False)
                each.connect_ex(str(ready.path(SOCKET)))
            attach(ready, bridged(one.name))
        assert differences(ready) == []

    def test_three_hundred_at_once_are_all_answered(self, ready: Node) -> None:
        with ExitStack() as stack:
            clients = [stack.enter_context(closing(connected(ready))) for _ in range(300)]
            for client in clients:
                client.send(PROTOCOL + b"\0state")
            for client in clients:
                assert client.recv(LARGEST).startswith(b"0\n")

    def test_who_hangs_up_gets_nothing_done(self, ready: Node, tap: MakeTap, vifd: subprocess.Popen[str]) -> None:
        one = tap(ready)
        with hanging(vifd, ready), closing(connected(ready)) as client:
            client.send(question(bridged(one.name)))
        assert answers(ready)  # after that one
        assert not ready.path(f"{RECORDS}/{one.name}.json").exists()


def has_connected(client: subprocess.Popen[str]) -> bool:
    """Whether CLIENT, which opens no other socket before it works alone, has one."""
    try:
        return any(os.readlink(one).startswith("socket:") for one in Path(f"/proc/{client.pid}/fd").iterdir())
    except OSError:
        return False


@pytest.mark.parametrize("given", [bridged, routed])
def test_who_is_left_without_an_answer_does_it_alone(ready: Node, tap: MakeTap, given: object) -> None:
    """The daemon is killed while it has the question."""
    daemon, one = launched(ready), tap(ready)
    with ready.popen(["flock", "/run/ganeti-vif/nics.lock", "sh", "-c", "echo held; read _"], stdin=-1) as holder:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        with ready.popen([SCRIPT], env=given(one.name)) as client:  # type: ignore[operator]
            until(lambda: has_connected(client), "the client")
            stopped(daemon, signal.SIGKILL)
            holder.communicate("\n", timeout=PATIENCE)
            out, errors = client.communicate(timeout=PATIENCE)
    assert (client.returncode, out, errors) == (0, "", "")
    assert differences(ready) == []


def test_who_has_lost_patience_does_it_alone_and_the_daemon_does_not_do_it_again(ready: Node, tap: MakeTap) -> None:
    daemon, one = launched(ready), tap(ready)
    with hanging(daemon, ready):
        attach(ready, bridged(one.name))
        assert differences(ready) == []
    assert answers(ready)
    assert clean(ready)
    assert ready.path("/var/log/ganeti/vif.log").read_text().count("attached to") == 1
    stopped(daemon)


def test_a_refusal_is_told_by_the_daemon_as_by_the_script_itself(ready: Node, tap: MakeTap) -> None:
    one = tap(ready)
    bad = bridged(one.name, LINK="absent"), bridged(one.name, MAC="rubbish"), routed("tap99")
    alone = [vif_script(ready, environment) for environment in bad]
    daemon = launched(ready)
    for environment, before in zip(bad, alone, strict=True):
        done = vif_script(ready, environment)
        assert (done.returncode, done.stdout, done.stderr) == (before.returncode, before.stdout, before.stderr)
    stopped(daemon)


def test_the_socket_of_a_daemon_that_was_killed_is_in_nobodys_way(ready: Node, tap: MakeTap) -> None:
    stopped(launched(ready), signal.SIGKILL)
    assert ready.path(SOCKET).exists()
    attach(ready, bridged(tap(ready).name))
    daemon = launched(ready)
    attach(ready, bridged(tap(ready).name, 6))
    assert differences(ready) == []
    stopped(daemon)
    assert not ready.path(SOCKET).exists()
