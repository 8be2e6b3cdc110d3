# SPDX-License-Identifier: BSD-2-Clause
"""The socket on which the responder tells the daemon what guests say of addresses that they chose.

The responder reads guests' packets, so it has no rights. It decides nothing: it sends messages of one fixed form, and
the daemon decides. A message that nobody takes is lost. Guests repeat what matters.
"""

from __future__ import annotations

import contextlib
import grp
import os
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv6Address

from ganeti_vif.engine.failure import Failure
from ganeti_vif.nic.claim import Claimed
from ganeti_vif.nic.shared import Announced

PATH = "/run/ganeti-vif/claims.sock"
GROUP = "ganeti-vif-responder"
"""May send. The package makes it, with the responder's user."""
_MESSAGE = struct.Struct("!BBI6s16s")
_VERSION = 1
_FIRST, _ANNOUNCED = 1, 2
"""The second byte of a message: the guest asks whether somebody has the address, or announces one that it shares."""
_ROUNDS = 64
"""Messages in one call, so that no flood keeps the daemon from its other work."""


class ClaimSocket:
    """The daemon's end. Raises Failure if it cannot be made."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(PATH)
            before = os.umask(0o117)
            try:
                self._socket.bind(PATH)
            finally:
                os.umask(before)
            with contextlib.suppress(KeyError):  # no responder is installed, so none is to send
                os.chown(PATH, -1, grp.getgrnam(GROUP).gr_gid)
        except OSError as error:
            self._socket.close()
            raise Failure(f"{PATH} cannot be opened: {os.strerror(error.errno or 0)}", "see: df /run") from error

    def __enter__(self) -> ClaimSocket:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            os.unlink(PATH)
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> Iterator[Claimed | Announced]:
        """What came since the last call. Does not wait. Messages of another form are left out."""
        for _ in range(_ROUNDS):
            try:
                message = self._socket.recv(_MESSAGE.size + 1)
            except OSError:
                return
            if len(message) == _MESSAGE.size and message[0] == _VERSION:
                _, kind, index, mac, address = _MESSAGE.unpack(message)
                found = IPv6Address(address)
                if kind == _ANNOUNCED:
                    yield Announced(index, mac.hex(":"), found.ipv4_mapped or found)
                else:
                    yield Claimed(index, mac.hex(":"), found, kind == _FIRST)


class ClaimSender:
    """The responder's end."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)

    def close(self) -> None:
        self._socket.close()

    def say(self, index: int, mac: bytes, address: bytes, *, first: bool, announced: bool = False) -> bool:
        """Tell the daemon of a claim to ADDRESS; or that the guest ANNOUNCED it, which it shares. IPv4 is mapped.

        Returns whether one runs. Raises BlockingIOError if it has not taken what was said before.
        As few as ten messages may wait (net.unix.max_dgram_qlen)."""
        try:
            self._socket.sendto(_MESSAGE.pack(_VERSION, _ANNOUNCED if announced else first, index, mac, address), PATH)
        except BlockingIOError:
            raise
        except OSError:
            return False
        return True
