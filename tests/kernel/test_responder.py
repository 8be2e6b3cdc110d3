# SPDX-License-Identifier: BSD-2-Clause
"""The responder follows bindings and taps, says what is wrong, and has no more rights than it needs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.lab import PATIENCE, Node, Tap

from .actions import answer, attach, differences, ip, run
from .conftest import MakeTap, apply, configure
from .environment import bridged, mac, public, routed
from .guest_frames import asks, offered
from .responder_lab import (
    DIRECTORY,
    RESPONDS,
    USER,
    bind,
    binding,
    path_of,
    responding,
    said,
    served,
    start,
    state,
    stop,
    until,
)


@pytest.fixture
def quiet(node: Node) -> Node:
    """A node with the package and no networks: bindings are written by the tests themselves."""
    configure(node, RESPONDS)
    node.path(DIRECTORY).mkdir(parents=True, exist_ok=True)
    return node


@pytest.fixture
def responder(quiet: Node) -> Iterator[subprocess.Popen[str]]:
    with responding(quiet) as daemon:
        yield daemon


def up(node: Node, tap: Tap) -> Tap:
    ip(node, f"link set {tap.name} up")
    return tap


def address(tap: Tap, number: int = 5) -> str:
    """The address that the guest is offered, sooner or later."""
    return offered(tap, asks(number), PATIENCE).address


def silent(node: Node, tap: Tap, witness: Tap) -> None:
    """No answer at TAP to a question that was asked before one at WITNESS, which is answered."""
    tap.clear()
    tap.send(asks(5))
    assert address(witness, 9) == public(9)
    assert state(node)["taps"].keys() == {witness.name}
    assert not any(b"\x63\x82\x53\x63" in frame for frame in tap.frames(0))


@pytest.fixture
def witness(quiet: Node, tap: MakeTap) -> Tap:
    """A tap that is served all the time."""
    one = up(quiet, tap(quiet))
    bind(quiet, one.name, 9)
    return one


def shorten(path: Path) -> None:
    """As a writer does: the responder is told when it closes the file."""
    os.truncate(path, 10)
    path.open("a").close()


def become_a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.usefixtures("responder")
class TestBindingsAndTaps:
    """They come, change and go in any order."""

    def test_a_binding_after_its_tap(self, quiet: Node, tap: MakeTap) -> None:
        one = up(quiet, tap(quiet))
        bind(quiet, one.name)
        assert address(one) == public(5)

    def test_a_binding_before_its_tap(self, quiet: Node, tap: MakeTap) -> None:
        bind(quiet, "tap0")
        until(lambda: state(quiet)["bindings"] == 1, "the binding to be read")
        one = up(quiet, tap(quiet))
        assert one.name == "tap0"
        assert address(one) == public(5)

    def test_the_first_request_after_the_link_comes_up_is_answered(
        self, quiet: Node, tap: MakeTap, witness: Tap
    ) -> None:
        one = tap(quiet)
        bind(quiet, one.name)
        until(lambda: served(quiet, one.name, public(5)), "the tap to be served")
        for _ in range(3):
            up(quiet, one)
            one.send(asks(5))
            one.expect(lambda frame: b"\x63\x82\x53\x63" in frame, "an offer to the only request")
            ip(quiet, f"link set {one.name} down")

    def test_a_tap_that_is_made_again_under_its_name(self, quiet: Node, tap: MakeTap) -> None:
        old = up(quiet, tap(quiet))
        bind(quiet, old.name)
        assert address(old) == public(5)
        old.close()
        old.wait_gone()
        new = up(quiet, tap(quiet))
        assert (new.name == old.name) and (new.ifindex != old.ifindex)
        assert address(new) == public(5)

    def test_a_tap_that_is_renamed(self, quiet: Node, tap: MakeTap, witness: Tap) -> None:
        one = tap(quiet)
        bind(quiet, one.name)
        until(lambda: served(quiet, one.name, public(5)), "the tap to be served")
        ip(quiet, f"link set {one.name} name other", "link set other up")
        until(lambda: state(quiet)["taps"].keys() == {witness.name}, "the end of its service")
        bind(quiet, "other", 5, IP=public(6))
        assert address(one) == public(6)

    @pytest.mark.parametrize("how", ["in place", "renamed", "renamed while open", "sed", "linked"])
    def test_a_rewritten_binding(self, quiet: Node, tap: MakeTap, how: str) -> None:
        one = up(quiet, tap(quiet))
        bind(quiet, one.name)
        assert address(one) == public(5)
        path, text = path_of(quiet, one.name), binding(one.name, IP=public(6))
        beside = quiet.path("/var/lib/beside")
        match how:
            case "in place":
                path.write_text(text)
            case "renamed":
                beside.write_text(text)
                beside.rename(path)
            case "renamed while open":
                with beside.open("w") as file:
                    beside.rename(path)
                    file.write(text)
            case "sed":
                quiet.run(["sed", "-i", f"s/{public(5)}/{public(6)}/", f"{DIRECTORY}/{one.name}"])
            case "linked":
                beside.write_text(text)
                path.unlink()
                path.hardlink_to(beside)
        until(lambda: served(quiet, one.name, public(6)), "the new binding")
        assert address(one) == public(6)

    @pytest.mark.parametrize(
        "change",
        [
            lambda path: path.unlink(),
            lambda path: path.rename(path.with_name("elsewhere")),
            lambda path: path.rename(path.parent.with_name("elsewhere")),
            lambda path: path.write_text(""),
            lambda path: path.write_text("MAC=aa:00:00:00:00:05\nIP=nonsense\n"),
            lambda path: path.write_bytes(b"\0" * 4096),
            shorten,
            become_a_fifo,
            lambda path: path.unlink() or path.mkdir(),
            lambda path: path.unlink() or path.symlink_to("nowhere"),
        ],
        ids=["unlink", "rename", "move", "empty", "bad", "zeros", "truncate", "fifo", "directory", "dangling"],
    )
    def test_a_binding_that_goes_or_becomes_bad_serves_nobody(
        self, quiet: Node, tap: MakeTap, witness: Tap, change: Callable[[Path], object]
    ) -> None:
        one = up(quiet, tap(quiet))
        bind(quiet, one.name)
        assert address(one) == public(5)
        path = path_of(quiet, one.name)
        change(path)
        until(lambda: not served(quiet, one.name, public(5)), "the end of its service")
        silent(quiet, one, witness)
        if path.is_fifo() or path.is_symlink():
            path.unlink()
        elif path.is_dir():
            path.rmdir()
        bind(quiet, one.name)
        assert address(one) == public(5)

    def test_a_directory_that_is_replaced(self, quiet: Node, tap: MakeTap) -> None:
        one, other = up(quiet, tap(quiet)), up(quiet, tap(quiet))
        bind(quiet, one.name)
        assert address(one) == public(5)
        old = quiet.path(DIRECTORY)
        old.rename(old.with_name("old"))
        until(lambda: not served(quiet, one.name, public(5)), "the end of its service")
        bind(quiet, other.name, 6)
        assert address(other, 6) == public(6)

    def test_the_bridge_of_a_tap_changes_its_mac(self, quiet: Node, tap: MakeTap) -> None:
        one = up(quiet, tap(quiet))
        ip(
            quiet,
            "link add br9 type bridge",
            "link set br9 address 02:00:00:00:00:01 up",
            f"link set {one.name} master br9",
        )
        bind(quiet, one.name, 5, INDEV="br9")
        for hardware in ("02:00:00:00:00:01", "02:00:00:00:00:02"):
            ip(quiet, f"link set br9 address {hardware}")
            until(partial(_answers_from, one, hardware), "the MAC")


def _answers_from(tap: Tap, hardware: str) -> bool:
    return offered(tap, asks(5), PATIENCE).source == hardware


@pytest.mark.usefixtures("responder")
class TestComplaints:
    def test_a_bad_binding_is_named_with_its_line_and_reason(self, quiet: Node, tap: MakeTap) -> None:
        one = tap(quiet)
        path_of(quiet, one.name).write_text(f"INDEV={one.name}\nMAC={mac(5)}\nMTU=many\n")
        place = f"{DIRECTORY}/{one.name}:3: MTU: 'many' is no number"
        until(lambda: any(line.startswith(place) for line in differences(quiet)), "the complaint")
        assert run(quiet, "check").returncode == 1
        (invalid,) = state(quiet)["invalid"]
        assert (invalid["file"], invalid["line"]) == (f"{DIRECTORY}/{one.name}", 3)
        assert f"trouble: {place}" in run(quiet, "status").stdout
        until(lambda: place in said(quiet), "a line in the log")
        bind(quiet, one.name)
        until(lambda: not any(place in line for line in differences(quiet)), "the end of the complaint")
        assert said(quiet).count(place) == 1

    def test_a_directory_that_it_may_not_read_is_complained_of(self, quiet: Node, tap: MakeTap) -> None:
        one = up(quiet, tap(quiet))
        bind(quiet, one.name)
        assert address(one) == public(5)
        quiet.path(DIRECTORY).chmod(0o700)
        quiet.path(DIRECTORY).rename(quiet.path("/var/lib/other"))
        quiet.path("/var/lib/other").rename(quiet.path(DIRECTORY))
        until(lambda: any("cannot be read" in line for line in differences(quiet)), "the complaint")
        quiet.path(DIRECTORY).chmod(0o755)
        assert address(one) == public(5)

    def test_a_file_that_is_written_slowly_is_not_complained_of(self, quiet: Node, tap: MakeTap) -> None:
        one = up(quiet, tap(quiet))
        with path_of(quiet, one.name).open("w") as file:
            until(lambda: bool(state(quiet)["invalid"]), "a look at the empty file")
            file.write(binding(one.name))
        assert address(one) == public(5)
        bind(quiet, "tap99", 7, MTU="many")
        until(lambda: "tap99" in said(quiet), "a complaint of another file")
        assert f"/{one.name}:" not in said(quiet)

    def test_counters_tell_what_was_heard_and_said(self, quiet: Node, tap: MakeTap) -> None:
        one = up(quiet, tap(quiet))
        bind(quiet, one.name)
        assert address(one) == public(5)
        one.send(asks(6))
        one.send(asks(5)[:100])
        until(
            lambda: (
                state(quiet)["taps"][one.name]["counts"].keys()
                >= {"dhcp4_discover", "dhcp4_offer", "spoofed", "malformed"}
            ),
            "the counters",
        )


def test_a_responder_that_does_not_run_is_missed_as_soon_as_there_is_a_binding(ready: Node, tap: MakeTap) -> None:
    apply(ready, RESPONDS)
    assert differences(ready) == []
    attach(ready, routed(tap(ready).name))
    (line,) = differences(ready)
    assert line.startswith("ganeti-vif-responder does not run")
    with responding(ready):
        assert differences(ready) == []
    apply(ready, RESPONDS + "enabled = no\n")
    assert differences(ready) == []


def test_it_is_nobody_with_one_capability(quiet: Node) -> None:
    with responding(quiet) as daemon:
        status = dict(
            line.split(":\t", 1)
            for line in Path(f"/proc/{daemon.pid}/status").read_text().splitlines()
            if ":\t" in line
        )
        user = quiet.run(["id", "-u", USER]).stdout.strip()
        assert user != "0"
        assert status["Uid"].split() == [user] * 4
        assert status["Groups"].split() == []
        for kind in ("CapPrm", "CapEff", "CapBnd"):
            assert int(status[kind], 16) == 1 << 13
        assert status["NoNewPrivs"] == "1"


def test_without_its_user_it_does_not_serve_as_root(quiet: Node) -> None:
    done = quiet.run(["ganeti-vif-responder", "--foreground", "--user", "no-such-user"], check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0].endswith("there is no user no-such-user")
    with responding(quiet, "--user", "root") as daemon:
        assert Path(f"/proc/{daemon.pid}").stat().st_uid == 0


def test_only_root_may_ask_for_its_state(quiet: Node) -> None:
    with responding(quiet):
        ask = (
            f"import socket; s = socket.socket(socket.AF_UNIX); s.settimeout({PATIENCE});"
            " s.connect('/run/ganeti-vif-responder/state.sock'); print(len(s.recv(10)))"
        )
        allowed = quiet.run(["python3", "-c", ask], check=False)
        refused = quiet.run(["setpriv", "--reuid=nobody", "--clear-groups", "python3", "-c", ask], check=False)
        assert (allowed.returncode, allowed.stdout) == (0, "10\n")
        assert refused.returncode == 1 and "PermissionError" in refused.stderr


def test_there_is_one_on_a_node(quiet: Node) -> None:
    with responding(quiet):
        second = quiet.run(["ganeti-vif-responder", "--foreground"], check=False)
        assert second.returncode == 1
        assert "is held by process" in second.stderr


def test_killed_it_starts_again(quiet: Node, tap: MakeTap) -> None:
    one = up(quiet, tap(quiet))
    bind(quiet, one.name)
    daemon = start(quiet)
    daemon.send_signal(signal.SIGKILL)
    daemon.wait(timeout=PATIENCE)
    with responding(quiet):
        assert address(one) == public(5)


class TestReload:
    def test_what_guests_are_told_changes(self, quiet: Node, tap: MakeTap) -> None:
        one = up(quiet, tap(quiet))
        bind(quiet, one.name)
        with responding(quiet) as daemon:
            assert address(one) == public(5)
            configure(quiet, RESPONDS.replace("guests.example.org", "other.example.org"))
            daemon.send_signal(signal.SIGHUP)
            until(lambda: b"other.example.org" in offered(one, asks(5), PATIENCE).frame, "the other domain")

    def test_a_broken_configuration_is_refused_and_the_old_one_kept(self, quiet: Node, tap: MakeTap) -> None:
        one = up(quiet, tap(quiet))
        bind(quiet, one.name)
        with responding(quiet) as daemon:
            configure(quiet, "[responder]\nlease-time = never\n")
            daemon.send_signal(signal.SIGHUP)
            until(lambda: "the old configuration stays in force" in said(quiet), "the refusal")
            assert address(one) == public(5)

    def test_it_is_switched_off_and_on(self, quiet: Node, tap: MakeTap) -> None:
        one = up(quiet, tap(quiet))
        bind(quiet, one.name)
        with responding(quiet) as daemon:
            assert address(one) == public(5)
            configure(quiet, RESPONDS.replace("for = all", "for = all\nconsumer = nfdhcpd"))
            daemon.send_signal(signal.SIGHUP)
            until(lambda: said(quiet).count("configuration read again") == 1, "the change")
            configure(quiet, RESPONDS)
            until(lambda: state(quiet)["taps"] == {}, "nobody to be served")
            daemon.send_signal(signal.SIGHUP)
            assert address(one) == public(5)


def test_systemd_hears_that_it_is_ready_and_alive(quiet: Node) -> None:
    address = "\0responder-test"
    # The address is one of the node's network namespace.
    with quiet.inside(lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as systemd:
        systemd.bind(address)
        systemd.settimeout(PATIENCE)
        quiet.run(["useradd", "--system", "--no-create-home", USER], check=False)
        path = "/usr/sbin:/usr/bin:/sbin:/bin"
        env = {"PATH": path, "NOTIFY_SOCKET": f"@{address[1:]}", "WATCHDOG_USEC": "200000"}
        daemon = quiet.popen(["ganeti-vif-responder", "--foreground"], env=env)
        assert systemd.recv(100) == b"READY=1"
        assert {systemd.recv(100) for _ in range(3)} == {b"WATCHDOG=1"}
        stop(daemon)
        assert daemon.returncode == 0


def test_the_same_address_on_two_bridges_is_two_guests(ready: Node, tap: MakeTap) -> None:
    apply(ready, RESPONDS)
    one, other = tap(ready), tap(ready)
    attach(ready, bridged(one.name, 5, "pvn1"))
    attach(ready, bridged(other.name, 6, "pvn2", IP="10.0.0.5"))
    with responding(ready):
        assert address(one, 5) == address(other, 6) == "10.0.0.5"
        taps = answer(ready, "status")["responder"]["taps"]
        assert {taps[tap.name]["address"] for tap in (one, other)} == {"10.0.0.5"}


def test_private_filtered_lets_the_answers_through(ready: Node, tap: MakeTap) -> None:
    """Only the bridge's own MAC and the network's prefix get out of such a tap."""
    apply(ready, RESPONDS)
    one = tap(ready)
    attach(ready, bridged(one.name, 5, NETWORK_TAGS="private-filtered nfdhcpd"))
    with responding(ready):
        assert address(one) == "10.0.0.5"
