# SPDX-License-Identifier: BSD-2-Clause
"""The daemon's control socket, in the file system. A process of root sends one question and gets one answer.

The socket carries packets and no stream (SOCK_SEQPACKET, unix(7)): a question arrives whole or not at all, so no client
can keep the daemon waiting with half a question.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

from ganeti_vif.engine.failure import Failure

PATH = "/run/ganeti-vif/control.sock"
LARGEST = 1 << 17
"""Bytes of a question. Ganeti's environment has 2 to 4 KiB; that of a hook for an instance with many NICs 20."""
PATIENCE = 2.0
"""Seconds from connect to question. A client of ours asks at once."""
MOST = 256
"""Clients at one time. More clients wait in the kernel until they give up (listen(2))."""

_CREDENTIALS = struct.Struct("=iii")


@dataclass(slots=True)
class Question:
    """The WORDS that CLIENT sent. It waits for the answer SINCE then (monotonic seconds)."""

    words: list[bytes]
    since: float
    client: socket.socket

    def answer(self, status: str, text: str) -> None:
        """Send the answer and close the connection. Does nothing if the client has given up."""
        with contextlib.suppress(OSError):
            self.client.send(f"{status}\n{text}".encode("utf-8", "replace")[:LARGEST])
        self.client.close()

    def withdrawn(self) -> bool:
        """Whether the client closed the connection: then it does the work itself."""
        try:
            return self.client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True


class Control:
    """The listening socket, and the clients that have not asked yet. A context manager."""

    def __init__(self, path: str = PATH) -> None:
        self._path = path
        self.listener = socket.socket(
            socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )
        self._silent: dict[int, tuple[socket.socket, float]] = {}

    def __enter__(self) -> Control:
        """Raises Failure if it cannot be made. The caller holds the daemon's lock, so an old socket is a dead one."""
        try:
            os.makedirs(os.path.dirname(self._path), mode=0o755, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
            before = os.umask(0o177)
            try:
                self.listener.bind(self._path)
            finally:
                os.umask(before)
            self.listener.listen(MOST)
        except OSError as error:
            what = f"{self._path} cannot be opened: {os.strerror(error.errno or 0)}"
            raise Failure(what, "see: df /run") from error
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._path)
        for one in (self.listener, *(client for client, _ in self._silent.values())):
            one.close()

    def descriptors(self) -> Iterator[int]:
        """The file descriptors to poll for reading."""
        if len(self._silent) < MOST:
            yield self.listener.fileno()
        yield from self._silent

    def patience(self) -> float:
        """Seconds until questions() must be called, even if nothing can be read."""
        return max(0.0, min((since for _, since in self._silent.values()), default=float("inf")) + PATIENCE - _now())

    def questions(self) -> Iterator[Question]:
        """The questions since the last call. Does not wait. Drops clients without the right, and those too slow."""
        self._accept()
        for descriptor, (client, since) in list(self._silent.items()):
            try:
                asked = client.recv(LARGEST + 1)
            except BlockingIOError:
                if _now() < since + PATIENCE:
                    continue
                asked = b""
            except OSError:
                asked = b""
            del self._silent[descriptor]
            if not asked or len(asked) > LARGEST:
                client.close()
            else:
                yield Question(asked.split(b"\0"), _now(), client)

    def _accept(self) -> None:
        while len(self._silent) < MOST:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            client.setblocking(False)
            credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            _, user, _ = _CREDENTIALS.unpack(credentials)
            if user in (0, os.geteuid()):
                self._silent[client.fileno()] = client, _now()
            else:
                client.close()


def _now() -> float:
    return time.monotonic()
