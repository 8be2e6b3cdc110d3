# SPDX-License-Identifier: BSD-2-Clause
"""Requests over netlink: the kernel does them, or answers with the reason why not (linux/netlink.h)."""

from __future__ import annotations

import os
import socket
import struct

from ganeti_vif.kernel.netlink.query import NLMSG_ERROR

NLM_F_ACK = 0x4
PATIENCE = 30
"""Seconds. The kernel answers before send() returns, unless it waits for another process's request to end."""

HEADER = struct.Struct("=IHHII")
"""struct nlmsghdr: length, type, flags, sequence number, port."""


class Requests:
    """A socket for requests. The caller gives each of its messages the next number."""

    def __init__(self, protocol: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.bind((0, 0))
        self._socket.settimeout(PATIENCE)
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def number(self) -> int:
        """The number of the next message."""
        self._sequence += 1
        return self._sequence

    def send(self, data: bytes | bytearray, first: int, asked: int) -> None:
        """Send DATA, whose messages have the numbers from FIRST on. ASKED is the number of the one with NLM_F_ACK.

        Returns when the kernel has answered that one. Raises OSError with the kernel's reason if it refuses a message,
        and TimeoutError after PATIENCE.
        """
        self._socket.send(data)
        while True:
            answer, at = self._socket.recv(1 << 16), 0
            while at < len(answer):
                length, kind, _, sequence, _ = HEADER.unpack_from(answer, at)
                if kind == NLMSG_ERROR and sequence >= first:  # lower numbers: more errors of an earlier, refused batch
                    code = -struct.unpack_from("=i", answer, at + HEADER.size)[0]
                    if code:
                        raise OSError(code, os.strerror(code))
                    if sequence == asked:
                        return
                at += length + 3 & ~3
