# SPDX-License-Identifier: BSD-2-Clause
"""Asking the kernel over netlink, decoding only what is asked for.

Reading is ours and no library's because it happens while a VM waits and on nodes with thousands of devices: a dump of
8000 links takes pyroute2 0.7.2 four to six seconds, a listing of the filters of a thousand NICs takes libnftables 1.0.6
four, and either takes a fraction of one here. Writing goes through pyroute2 (kernel/netlink/changes.py) and libnftables
(kernel/nftables/changes.py). Message layouts: linux/netlink.h, linux/rtnetlink.h, linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Iterator

from ganeti_vif.engine.failure import Failure, Gone

NLM_F_REQUEST, NLM_F_DUMP, NLM_F_DUMP_INTR = 0x1, 0x300, 0x10
NLMSG_ERROR, NLMSG_DONE = 2, 3
SOL_NETLINK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK = 270, 11, 12

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_RECEIVE = 1 << 18
"""More than the 32 KiB that the kernel puts into one datagram of a dump, and than any single answer."""


class Query:
    """A socket for questions. Strict: the kernel honours the filters of a dump, or says that it cannot."""

    def __init__(self, protocol: int = socket.NETLINK_ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
        self._socket.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def get(self, kind: int, body: bytes) -> bytes:
        """The payload of the one message that answers. Raises Gone if there is no such object."""
        for payload in self._ask(kind, NLM_F_REQUEST, body, single=True):
            return payload
        raise Gone("the kernel gave no answer", "note: run it again")

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """The payloads of all messages of a dump, taken again while the kernel says that it changed meanwhile."""
        for attempt in range(10):
            try:
                return list(self._ask(kind, NLM_F_REQUEST | NLM_F_DUMP, body, single=False))
            except InterruptedError:
                # Whoever changes tables without end gets on with it meanwhile: 1, 2, 4 ... ms, half a second in all.
                time.sleep(0.001 * 2**attempt)
        raise Failure(
            "the kernel's tables changed during ten reads in a row", "note: run it again when the node is calmer"
        )

    def _ask(self, kind: int, flags: int, body: bytes, *, single: bool) -> Iterator[bytes]:
        self._sequence += 1
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, self._sequence, 0) + body)
        interrupted = False
        while True:
            data = self._socket.recv(_RECEIVE)
            at = 0
            while at < len(data):
                length, kind, flags, sequence, _ = _HEADER.unpack_from(data, at)
                payload, at = data[at + _HEADER.size : at + length], at + (length + 3 & ~3)
                if sequence != self._sequence:
                    continue
                interrupted |= bool(flags & NLM_F_DUMP_INTR)
                if kind == NLMSG_DONE:
                    if interrupted:
                        raise InterruptedError
                    _check(payload)
                    return
                if kind == NLMSG_ERROR:
                    _check(payload)
                    return
                yield payload
                if single:
                    return


def _check(payload: bytes) -> None:
    """Raise what the error code at the head of PAYLOAD stands for."""
    code = -struct.unpack_from("=i", payload)[0] if len(payload) >= 4 else 0
    if code in (errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.ENXIO):
        raise Gone(os.strerror(code), "note: nothing")
    if code:
        raise Failure(
            f"the kernel refused to answer: {os.strerror(code)}", "note: run it as root, on Linux 5.0 or newer"
        )


def attributes(data: bytes, at: int = 0) -> dict[int, bytes]:
    """The attributes of DATA from offset AT on, by type (without the nesting flags); the last of a type wins."""
    found = {}
    end = len(data)
    while at + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[at + 4 : at + length]
        at += length + 3 & ~3
    return found


def nested(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Like attributes(), for lists in which a type comes more than once."""
    at = 0
    while at + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < 4:
            return
        yield kind & 0x3FFF, data[at + 4 : at + length]
        at += length + 3 & ~3


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute for a request, padded to four bytes."""
    return _ATTRIBUTE.pack(len(value) + 4, kind) + value + bytes(-len(value) % 4)


def number(value: bytes) -> int:
    """An unsigned integer attribute of any width, in the machine's byte order."""
    return int.from_bytes(value, "little" if struct.pack("=H", 1) == b"\1\0" else "big")


def text(value: bytes) -> str:
    """A string attribute, without its closing NUL."""
    return value.rstrip(b"\0").decode("utf-8", "replace")
