# SPDX-License-Identifier: BSD-2-Clause
"""The responder's state socket: the responder answers each connection with one JSON object, and closes it.

The socket carries a stream, which the client reads to its end. One message of a SOCK_SEQPACKET socket cannot hold the
state of some thousand taps (sysctl net.core.wmem_max).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import struct
from collections.abc import Callable
from typing import Any

from ganeti_vif.engine.failure import Failure

DIRECTORY = "/run/ganeti-vif-responder"
SOCKET = f"{DIRECTORY}/state.sock"
_WAIT = 5.0
"""Seconds that a busy responder may take to answer."""
_PATIENCE = 5.0
"""Seconds that a client may take to read its answer."""
_MOST = 64 << 20
_ASKERS = 4
_PEER = struct.Struct("=iII")


def make_directory(user: int, group: int) -> None:
    """Make the responder's directory and give it to its user, which only root can. Raises Failure if that fails."""
    try:
        os.makedirs(DIRECTORY, mode=0o755, exist_ok=True)
        os.chown(DIRECTORY, user, group)
    except OSError as error:
        raise Failure(f"{DIRECTORY} cannot be made: {os.strerror(error.errno or 0)}", "see: ls -ld /run") from error


class Askers:
    """The responder's end: the clients, and the rest of the answer for each. Raises Failure if it cannot be made.

    Its descriptor (fileno) is readable when a client can be served.
    """

    def __init__(self) -> None:
        self._told: dict[int, tuple[socket.socket, memoryview, float]] = {}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(SOCKET)
            self._socket.bind(SOCKET)
            os.chmod(SOCKET, 0o600)
            self._socket.listen(_ASKERS)
        except OSError as error:
            self._socket.close()
            what = f"{SOCKET} cannot be made: {os.strerror(error.errno or 0)}"
            raise Failure(what, f"see: ls -ld {DIRECTORY}") from error
        self._ready = select.epoll()
        self._ready.register(self._socket, select.EPOLLIN)

    def fileno(self) -> int:
        return self._ready.fileno()

    def close(self) -> None:
        self.dismiss()
        self._ready.close()
        self._socket.close()
        with contextlib.suppress(OSError):
            os.unlink(SOCKET)

    @property
    def due(self) -> float:
        """The time at which dismiss() must be called, even if nothing can be read."""
        return min((until for _, _, until in self._told.values()), default=float("inf"))

    def answer(self, state: Callable[[], dict[str, Any]], now: float) -> None:
        """Send each client its answer, the result of STATE, as far as it accepts it now. Does not wait."""
        for descriptor, _ in self._ready.poll(0):
            if descriptor in self._told:
                self._tell(descriptor)
            elif asker := self._accept():
                rest = memoryview(json.dumps(state()).encode())
                self._told[asker.fileno()] = (asker, rest, now + _PATIENCE)
                self._ready.register(asker, select.EPOLLOUT)

    def dismiss(self, now: float = float("inf")) -> None:
        """Close the connections of clients whose time is over at NOW."""
        for descriptor in [one for one, (_, _, until) in self._told.items() if now >= until]:
            self._dismiss(descriptor)

    def _accept(self) -> socket.socket | None:
        """The next client if it has the right to ask: root, or the responder's own user."""
        try:
            asker, _ = self._socket.accept()
        except OSError:
            return None
        asker.setblocking(False)
        _, user, _ = _PEER.unpack(asker.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        if user in (0, os.geteuid()):
            return asker
        asker.close()
        return None

    def _tell(self, descriptor: int) -> None:
        asker, rest, until = self._told[descriptor]
        try:
            rest = rest[asker.send(rest) :]
        except BlockingIOError:
            return
        except OSError:
            rest = rest[:0]
        if rest:
            self._told[descriptor] = (asker, rest, until)
        else:
            self._dismiss(descriptor)

    def _dismiss(self, descriptor: int) -> None:
        asker, _, _ = self._told.pop(descriptor)
        self._ready.unregister(descriptor)
        asker.close()


def ask() -> dict[str, Any] | None:
    """The responder's state; None if no responder runs. Raises Failure if it runs but does not answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as one:
        one.settimeout(_WAIT)
        try:
            one.connect(SOCKET)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except OSError as error:
            raise _silent(os.strerror(error.errno or 0)) from error
        try:
            data = b"".join(iter(lambda: one.recv(1 << 16), b""))
            answer = json.loads(data[:_MOST])
        except (OSError, ValueError) as error:
            raise _silent(str(error)) from error
    if not isinstance(answer, dict):
        raise _silent("no JSON object")
    return answer


def _silent(reason: str) -> Failure:
    return Failure(f"ganeti-vif-responder does not answer: {reason}", "service ganeti-vif-responder restart")
