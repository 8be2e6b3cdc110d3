# SPDX-License-Identifier: BSD-2-Clause
"""The devices of this node as they come, change and go, followed without asking again.

Only what matters to a guest's service: a device's name, index, MAC and bridge. Needs no rights.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from ganeti_vif.kernel.netlink.events import BUFFER, RTNLGRP_LINK, SO_RCVBUFFORCE, messages
from ganeti_vif.kernel.netlink.links import (
    AF_BRIDGE,
    IFLA_ADDRESS,
    IFLA_EXT_MASK,
    IFLA_IFNAME,
    IFLA_MASTER,
    RTM_GETLINK,
)
from ganeti_vif.kernel.netlink.query import Query, attribute, attributes, number, text

RTM_NEWLINK, RTM_DELLINK = 16, 17
IFF_LOOPBACK = 8
_IFINFO = struct.Struct("=BxHiII")
_SKIP_STATS = attribute(IFLA_EXT_MASK, struct.pack("=I", 1 << 3))


@dataclass(frozen=True, slots=True)
class ServedDevice:
    """A device that frames can be sent on. MASTER is the index of its bridge, or 0."""

    name: str
    index: int
    mac: bytes
    master: int


class Links:
    """All Ethernet devices, from now on. A context manager."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        # Without the right to exceed it we have the limit of sysctl net.core.rmem_max, and look again more often.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        with contextlib.suppress(PermissionError):
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        self._socket.bind((0, 1 << RTNLGRP_LINK - 1))
        self.by_name: dict[str, ServedDevice] = {}
        self.by_index: dict[int, ServedDevice] = {}
        self._look()

    def __enter__(self) -> Links:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def fileno(self) -> int:
        """The descriptor, readable when read() has something to say."""
        return self._socket.fileno()

    def read(self) -> set[str]:
        """The names that stand for another device than before, or for one with another MAC or bridge."""
        changed: set[str] = set()
        lost = False
        while (data := self._receive()) is not None:
            lost |= not data
            for kind, payload in messages(data):
                changed.update(self._take(kind, payload))
        # Once, and not for each loss: looking takes long enough to lose more where thousands of devices change.
        return changed | self._look() if lost else changed

    def _receive(self) -> bytes | None:
        """One datagram; nothing of it if events were lost; None if there is none."""
        try:
            return self._socket.recv(1 << 16)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                return b""
            raise

    def _take(self, kind: int, payload: bytes) -> Iterator[str]:
        if kind not in (RTM_NEWLINK, RTM_DELLINK):
            return
        family, _, index, flags, _ = _IFINFO.unpack_from(payload)
        if family == AF_BRIDGE:  # about a port; what we want to know of it comes in a message of its own too
            return
        old = self.by_index.get(index)
        new = None if kind == RTM_DELLINK else _device(payload, index, flags)
        if old != new:
            yield from self._replace(old, new)

    def _replace(self, old: ServedDevice | None, new: ServedDevice | None) -> Iterator[str]:
        if old:
            del self.by_index[old.index]
            if self.by_name.get(old.name) == old:
                del self.by_name[old.name]
            yield old.name
        if new:
            self.by_index[new.index] = self.by_name[new.name] = new
            yield new.name

    def _look(self) -> set[str]:
        """Take in all devices at once. Returns the names that changed."""
        query = Query()
        try:
            found = {}
            for payload in query.dump(RTM_GETLINK, _IFINFO.pack(0, 0, 0, 0, 0) + _SKIP_STATS):
                _, _, index, flags, _ = _IFINFO.unpack_from(payload)
                if device := _device(payload, index, flags):
                    found[index] = device
        finally:
            query.close()
        old, self.by_index = self.by_name, found
        self.by_name = {device.name: device for device in found.values()}
        names = old.keys() | self.by_name.keys()
        return {name for name in names if old.get(name) != self.by_name.get(name)}


def _device(payload: bytes, index: int, flags: int) -> ServedDevice | None:
    found = attributes(payload, _IFINFO.size)
    mac = found.get(IFLA_ADDRESS, b"")
    if len(mac) != 6 or flags & IFF_LOOPBACK or IFLA_IFNAME not in found:
        return None
    return ServedDevice(text(found[IFLA_IFNAME]), index, mac, number(found.get(IFLA_MASTER, b"\0")))
