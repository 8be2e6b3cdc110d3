# SPDX-License-Identifier: BSD-2-Clause
"""Asking a running QEMU for the tap descriptors of its network devices.

QMP has no command for that, so we send HMP's `info network` over QMP: there the answer has an end and no terminal
codes. A monitor serves one client at a time, and other clients wait. Ganeti may be first, so we wait for a limited
time. Ganeti may come after us, so we ask only this and close the connection.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from typing import Any

from ganeti_vif.engine.failure import Failure

PATIENCE = 3.0
"""Seconds for the whole conversation. Ganeti's own connections give up after 5
(lib/hypervisor/hv_kvm/monitor.py at 3.0.2)."""

LONGEST = 1 << 20
"""Bytes of one answer; a NIC takes 200."""

_TAP = re.compile(r"^[ \\]*(?P<netdev>\S+): index=[0-9]+,type=tap,(?:.*,)?fd=(?P<fd>[0-9]+)\s*$", re.MULTILINE)
"""The format of print_net_client and net_init_tap (qemu net/net.c, net/tap.c): one line for each queue."""


MOVING = ("inmigrate", "finish-migrate", "postmigrate")
"""The states (query-status) of a guest that is migrating, or has migrated away."""


def tap_descriptors(path: str) -> dict[str, frozenset[int]]:
    """The tap descriptors by netdev, from the QMP socket at PATH.

    Raises Failure if QEMU does not answer, or if the guest is migrating.
    """
    deadline = time.monotonic() + PATIENCE
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as channel:
        try:
            channel.settimeout(PATIENCE)
            channel.connect(path)
            lines = _Lines(channel, deadline)
            lines.next("QMP")
            _ask(channel, lines, {"execute": "qmp_capabilities"})
            if (state := _state(_ask(channel, lines, {"execute": "query-status"}))) in MOVING:
                raise Failure(f"it is being migrated (QEMU says {state})", "note: ganeti-vif adopt when that is over")
            question = {"execute": "human-monitor-command", "arguments": {"command-line": "info network"}}
            return parse(_ask(channel, lines, question))
        except TimeoutError as error:
            what = f"QEMU's monitor {path} does not answer within {PATIENCE:.0f} s"
            raise Failure(what, f"see: ss -xp | grep {path}") from error
        except (OSError, ValueError) as error:
            reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
            raise Failure(f"QEMU's monitor {path} cannot be asked: {reason}", "see: ls -l " + path) from error


def parse(answer: object) -> dict[str, frozenset[int]]:
    """The tap descriptors by netdev, from the answer to `info network`. Raises ValueError if it is no text."""
    if not isinstance(answer, str):
        raise ValueError("its answer to 'info network' is no text")
    found: dict[str, frozenset[int]] = {}
    for match in _TAP.finditer(answer):
        found[match["netdev"]] = found.get(match["netdev"], frozenset()) | {int(match["fd"])}
    return found


def _state(answer: object) -> str:
    return str(answer.get("status")) if isinstance(answer, dict) else ""


def _ask(channel: socket.socket, lines: _Lines, question: dict[str, Any]) -> object:
    channel.sendall(json.dumps(question).encode() + b"\n")
    return lines.next("return")


class _Lines:
    """QMP's messages, one on each line, without events."""

    def __init__(self, channel: socket.socket, deadline: float) -> None:
        self._channel, self._deadline = channel, deadline
        self._rest = b""

    def next(self, key: str) -> object:
        """The value of KEY in the next message. Raises ValueError for another message, and OSError."""
        while True:
            message = json.loads(self._line())
            if not isinstance(message, dict):
                raise ValueError("it does not speak QMP")
            if key in message:
                return message[key]
            if "event" not in message:
                raise ValueError(f"it answers {json.dumps(message)[:200]}")

    def _line(self) -> bytes:
        while b"\n" not in self._rest:
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._channel.settimeout(left)
            data = self._channel.recv(65536)
            if not data:
                raise ValueError("it hung up")
            self._rest += data
            if len(self._rest) > LONGEST:
                raise ValueError("its answer has no end")
        line, _, self._rest = self._rest.partition(b"\n")
        return line
