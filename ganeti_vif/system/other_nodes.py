# SPDX-License-Identifier: BSD-2-Clause
"""The other nodes of the cluster: their names by gnt-node, and one command on all of them by Ganeti's own ssh.

The keys and the options are Ganeti's (lib/ssh.py, SshRunner, at 3.0.2): root's key, and one host key for the cluster.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from ganeti_vif.engine.failure import Failure
from ganeti_vif.system import ssconf

KNOWN_HOSTS = "/var/lib/ganeti/known_hosts"
OPTIONS = (
    "-oEscapeChar=none",
    "-oHashKnownHosts=no",
    f"-oGlobalKnownHostsFile={KNOWN_HOSTS}",
    "-oUserKnownHostsFile=/dev/null",
    "-oCheckHostIp=no",
    "-oConnectTimeout=10",
    "-oBatchMode=yes",
    "-oStrictHostKeyChecking=yes",
)
AT_ONCE = 32
"""How many nodes are asked at the same time."""
PATIENCE = 120.0
"""Seconds for one node's answer."""
MOST = 16 << 20
"""Bytes of one node's answer."""


class Member(NamedTuple):
    """A node of the cluster, by NAME, with its node group."""

    name: str
    group: str
    offline: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What the command printed on NODE, and its exit STATUS. None: there was no answer in time."""

    node: str
    status: int | None
    output: str
    errors: str


@dataclass(slots=True)
class _Call:
    node: str
    process: subprocess.Popen[bytes]
    ends: float
    output: dict[str, bytes] = field(default_factory=lambda: {"stdout": b"", "stderr": b""})
    open: int = 2


def members() -> list[Member]:
    """The nodes that may run instances. Raises Failure if this node is not the master."""
    fields = "name,group,offline,vm_capable"
    command = ["gnt-node", "list", "--no-headers", "--separator=|", "-o", fields]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failure(f"gnt-node does not run: {error}", "note: do this on the master of a Ganeti cluster") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        what = f"gnt-node list says: {said[0] if said else f'status {done.returncode}'}"
        raise Failure(what, "note: do this on the master: gnt-cluster getmaster")
    rows = [line.split("|") for line in done.stdout.splitlines()]
    return [Member(row[0], row[1], row[2] == "Y") for row in rows if len(row) == 4 and row[3] != "N"]


def ask(nodes: Iterable[str], command: str, progress: Callable[[int, int], None]) -> Iterator[Answer]:
    """Run COMMAND of root's shell on all NODES, at most AT_ONCE of them at a time. Answers come as they are complete.

    PROGRESS is called with the number of answers and of nodes. If the caller stops early, or is interrupted, every ssh
    ends. Raises Failure if this node is in no cluster or has no ssh.
    """
    waiting, total = list(nodes), 0
    number = len(waiting)
    name, ports = ssconf.cluster_name(), ssconf.ssh_ports()
    calls: dict[int, _Call] = {}
    with selectors.DefaultSelector() as selector:
        try:
            while waiting or calls:
                while waiting and len(calls) < AT_ONCE:
                    call = _started(waiting.pop(0), command, name, ports)
                    calls[call.process.pid] = call
                    for kind in call.output:
                        selector.register(getattr(call.process, kind), selectors.EVENT_READ, (call, kind))
                progress(total, number)
                _read(selector, min(call.ends for call in calls.values()) - time.monotonic())
                for call in _over(calls):
                    for kind in call.output:
                        with suppress(KeyError, ValueError):
                            selector.unregister(getattr(call.process, kind))
                    del calls[call.process.pid]
                    total += 1
                    yield _answer(call)
        finally:
            for call in calls.values():
                call.process.kill()
                call.process.wait()


def _started(node: str, command: str, cluster: str, ports: Mapping[str, int]) -> _Call:
    options = [*OPTIONS, f"-oHostKeyAlias={cluster}", f"-oPort={ports.get(node, 22)}"]
    by_ssh = ["ssh", *options, f"root@{node}", command]
    try:
        process = subprocess.Popen(
            ["sh", "-c", command] if ssconf.is_here(node) else by_ssh,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except OSError as error:
        raise Failure(f"ssh does not run: {os.strerror(error.errno or 0)}", "apt install openssh-client") from error
    return _Call(node, process, time.monotonic() + PATIENCE)


def _read(selector: selectors.BaseSelector, seconds: float) -> None:
    """Read what came within SECONDS, or as soon as something comes."""
    for key, _ in selector.select(max(seconds, 0)):
        call, kind = key.data
        data = os.read(key.fd, 1 << 16)
        call.output[kind] += data
        if not data or len(call.output[kind]) > MOST:
            selector.unregister(key.fileobj)
            call.open -= 1


def _over(calls: Mapping[int, _Call]) -> list[_Call]:
    """The calls that printed all, or that took too long."""
    now = time.monotonic()
    return [call for call in calls.values() if not call.open or now >= call.ends]


def _answer(call: _Call) -> Answer:
    """The answer of a call that is over. An ssh that still runs is ended."""
    late = bool(call.open)
    if late or any(len(text) > MOST for text in call.output.values()):
        call.process.kill()
    status = call.process.wait()
    for stream in (call.process.stdout, call.process.stderr):
        if stream:
            stream.close()
    output, errors = (call.output[kind].decode("utf-8", "replace") for kind in ("stdout", "stderr"))
    return Answer(call.node, None if late else status, output, errors)
