# SPDX-License-Identifier: BSD-2-Clause
"""What the tests do on a machine: install, attach, ping, and look at what is there."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType

from tests.kernel.environment import SCRIPT, bridged, mac, routed
from tests.kernel.responder_lab import RESPONDS
from tests.lab import Node, VirtualCable

from .machine import Machine

PATIENCE = 300.0
"""Seconds for installing something on a machine that has much else to do."""
INSTALL = "DEBIAN_FRONTEND=noninteractive apt-get -o Dpkg::Use-Pty=0 install --yes --no-install-recommends"
CONFIGURATION = "/etc/ganeti-vif/ganeti-vif.conf"


def sh(machine: Node, command: str, *, check: bool = True) -> str:
    """What COMMAND of root's shell prints, errors too."""
    done = machine.run(["sh", "-c", f"exec 2>&1; {command}"], check=check, timeout=PATIENCE)
    return done.stdout


def install(machine: Machine, package: str = "this", *options: str) -> str:
    """Install the package with apt, without a terminal; what that printed."""
    return sh(machine, f"{INSTALL} {' '.join(options)} /mnt/{package}.deb")


def configure(machine: Machine, text: str = RESPONDS) -> None:
    """Give the machine this configuration, and put it into force."""
    machine.path(CONFIGURATION).write_text(text)
    sh(machine, "ganeti-vif setup")
    for service in ("ganeti-vifd", "ganeti-vif-responder"):
        sh(machine, f"service {service} reload")


def until(met: Callable[[], bool], what: str) -> None:
    """Wait for what no event tells of."""
    deadline = time.monotonic() + PATIENCE
    while not met():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)


def daemon(machine: Machine) -> int:
    """The daemon's process, as the machine counts; 0 if none answers."""
    found = re.search(r"^daemon: process (\d+)$", sh(machine, "ganeti-vif status"), re.MULTILINE)
    return int(found[1]) if found else 0


def plug(machine: Machine, stack: ExitStack, tap: str, number: int, address: str) -> Node:
    """A guest with a whole IP stack behind a tap of the machine. It is attached."""
    guest = stack.enter_context(Node(f"vm{number}"))
    stack.enter_context(VirtualCable(machine, tap, guest, "eth0"))
    guest.run(["ip", "link", "set", "eth0", "address", mac(number), "up"])
    guest.run(["ip", "addr", "add", address, "dev", "eth0"])
    attach(machine, (routed if address.startswith("192.0.2.") else bridged)(tap, number))
    return guest


def attach(machine: Machine, environment: dict[str, str]) -> None:
    """As Ganeti attaches a NIC. It works and says nothing."""
    done = machine.run([SCRIPT], env=environment, check=False, timeout=PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def routed_over_ipv6(guest: Node) -> bool:
    """Whether GUEST was told of a router and made itself an address."""
    has_router = "default via fe80::" in guest.run(["ip", "-6", "route"]).stdout
    shown = guest.run(["ip", "-6", "addr", "show", "dev", "eth0", "scope", "global", "-tentative"]).stdout
    return has_router and "2001:db8::" in shown


def reaches(guest: Node, address: str) -> None:
    """GUEST gets an answer from ADDRESS."""
    guest.run(["ping", "-c", "1", "-W", "20", address])


class Pinging:
    """A ping every 10 ms from a guest to an address while the block runs. None is lost."""

    def __init__(self, guest: Node, address: str) -> None:
        self._guest, self._address = guest, address

    def __enter__(self) -> Pinging:
        command = ["ping", "-n", "-q", "-i", "0.01", "-W", "20", self._address]
        self._ping: subprocess.Popen[str] = self._guest.popen(command)
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self._ping.send_signal(signal.SIGINT)
        said, errors = self._ping.communicate(timeout=PATIENCE)
        if kind is None:
            found = re.search(r"(\d+) packets transmitted, (\d+) received", said)
            assert found, said + errors
            self.sent, received = int(found[1]), int(found[2])
            # the last may be on its way when ping is told to stop
            assert received in (self.sent, self.sent - 1), said
