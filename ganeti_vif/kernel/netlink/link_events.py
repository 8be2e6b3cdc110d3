# SPDX-License-Identifier: BSD-2-Clause
"""The devices of this node, kept up to date by events.

It keeps what the responder needs: name, index, MAC and bridge of each device. Needs no rights.
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
    """An Ethernet device that can send frames. MASTER is the index of its bridge, or 0."""

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
        # Without CAP_NET_ADMIN the limit is sysctl net.core.rmem_max: then events are lost more often, and read again.
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
        """The file descriptor, which is readable when events wait."""
        return self._socket.fileno()

    def read(self) -> set[str]:
        """The names whose device came, went, or changed its index, MAC or bridge since the last call."""
        changed: set[str] = set()
        lost = False
        while (data := self._receive()) is not None:
            lost |= not data
            for kind, payload in messages(data):
                changed.update(self._take(kind, payload))
        # Once, and not for each loss: where thousands of devices change, more events are lost during the dump.
        return changed | self._look() if lost else changed

    def _receive(self) -> bytes | None:
        """One datagram; an empty one if events were lost; None if no datagram waits."""
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
        if family == AF_BRIDGE:  # a message about a port; the kernel also sends one about the device
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
        """Read all devices at once. Returns the names that changed."""
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
