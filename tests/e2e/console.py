# SPDX-License-Identifier: BSD-2-Clause
"""Console: a guest's serial console on the node that runs it, with the laboratory's agent at the other end."""

from __future__ import annotations

import socket

from tests.lab import PATIENCE, Agent, Result

from .member import Member

CONTROL = "/var/run/ganeti/kvm-hypervisor/ctrl"


class Console:
    """QEMU's socket for the console that Ganeti configured; one holder at a time, free after the `with` block.

    What the guest prints while nobody holds it is lost, so the guest is asked until it answers.
    """

    def __init__(self, member: Member, instance: str, *, timeout: float = PATIENCE) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(str(member.path(f"{CONTROL}/{instance}.serial")))
            self._agent = Agent(self._socket.fileno(), self._socket.fileno(), instance)
            self._agent.knock(timeout)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Console:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def run(self, command: str, *, check: bool = True, timeout: float = PATIENCE) -> Result:
        """Run a shell command (busybox) as root in the guest; see Agent.run."""
        return self._agent.run(command, check=check, timeout=timeout)
