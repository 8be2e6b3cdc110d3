# SPDX-License-Identifier: BSD-2-Clause
"""Reading from the kernel over netlink, decoding only the attributes that we need.

We read without a library because a VM waits meanwhile, and a node may have thousands of devices. A dump of 8000 links
takes pyroute2 0.7.2 four to six seconds, and the filters of a thousand NICs take libnftables 1.0.6 four seconds. Here
either takes less than one second. Changes use pyroute2 (kernel/netlink/changes.py) and libnftables
(kernel/nftables/changes.py). Message layouts: linux/netlink.h, linux/rtnetlink.h, linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from ganeti_vif.engine.failure import Failure, Gone

T = TypeVar("T")
NLM_F_REQUEST, NLM_F_DUMP, NLM_F_DUMP_INTR = 0x1, 0x300, 0x10
NLMSG_ERROR, NLMSG_DONE = 2, 3
SOL_NETLINK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK = 270, 11, 12

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_RECEIVE = 1 << 18
"""Bytes: more than the 32 KiB that the kernel puts into one datagram of a dump, and more than any single answer."""


class NoFamily(Gone):
    """The kernel has nothing of this address family: it was booted with ipv6.disable=1."""


class Query:
    """A socket for reading. It is strict: the kernel applies the filters of a dump, or refuses."""

    def __init__(self, protocol: int = socket.NETLINK_ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
        self._socket.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def get(self, kind: int, body: bytes) -> bytes:
        """The payload of the one message in the answer. Raises Gone if there is no such object, Failure if refused."""
        for payload in self._ask(kind, NLM_F_REQUEST, body, single=True):
            return payload
        raise Gone("the kernel gave no answer", "note: run it again")

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """The payloads of all messages of a dump: none of a family that the kernel lacks. Repeats a dump during which
        the tables changed, up to ten times.

        Raises Gone if there is no such object, and Failure if the kernel refuses or the tables change each time.
        """
        return self.gathered(kind, body, list)

    def gathered(self, kind: int, body: bytes, gather: Callable[[Iterator[bytes]], T]) -> T:
        """What GATHER makes of the payloads of a dump: of millions of messages not all need to be in memory at once. It
        is called again if the tables changed meanwhile. Raises what dump() raises."""
        for attempt in range(10):
            try:
                return gather(self._ask(kind, NLM_F_REQUEST | NLM_F_DUMP, body, single=False))
            except NoFamily:
                return gather(iter(()))
            except InterruptedError:
                # 1, 2, 4 ... ms, half a second in all: the program that changes the tables can finish meanwhile.
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
    """Raises Gone or Failure for the error code at the start of PAYLOAD, and nothing if that is 0."""
    code = -struct.unpack_from("=i", payload)[0] if len(payload) >= 4 else 0
    if code in (errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.ENXIO):
        raise Gone(os.strerror(code), "note: nothing")
    if code == errno.EAFNOSUPPORT:
        raise NoFamily(os.strerror(code), "note: nothing")
    if code:
        raise Failure(
            f"the kernel refused to answer: {os.strerror(code)}", "note: run it as root, on Linux 5.0 or newer"
        )


def attributes(data: bytes, at: int = 0) -> dict[int, bytes]:
    """The attributes of DATA from offset AT on, by type without its flags. Of equal types the last one counts."""
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
    """Type and value of each attribute of DATA, for lists in which a type occurs more than once."""
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
