# SPDX-License-Identifier: BSD-2-Clause
"""Events of this node's network: changes of devices and their settings, of our routes, rules and filters.

The kernel sends no events for most sysctls and for proxy neighbours. The daemon surveys those at intervals.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from ganeti_vif.engine.chains import BELOW, SCRATCH
from ganeti_vif.engine.marks import PROTOCOL, TABLE
from ganeti_vif.kernel.netlink.links import (
    AF_BRIDGE,
    IFLA_ADDRESS,
    IFLA_AF_SPEC,
    IFLA_BR_FORWARD_DELAY,
    IFLA_BR_MCAST_SNOOPING,
    IFLA_BR_STP_STATE,
    IFLA_BR_VLAN_FILTERING,
    IFLA_GROUP,
    IFLA_IFNAME,
    IFLA_INFO_DATA,
    IFLA_INFO_KIND,
    IFLA_LINKINFO,
    IFLA_MASTER,
    IFLA_MTU,
    TAP_KIND,
)
from ganeti_vif.kernel.netlink.query import SOL_NETLINK, attributes, number, text
from ganeti_vif.kernel.netlink.routing import FRA_PROTOCOL
from ganeti_vif.kernel.nftables.filters import NETLINK_NETFILTER, NFTA_CHAIN_NAME, NFTA_RULE_CHAIN, NFTA_TABLE

NETLINK_ADD_MEMBERSHIP, SO_RCVBUFFORCE = 1, 33
RTNLGRP_LINK, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV6_RULE = 1, 7, 8, 11, 19
RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF = 24, 25
NFNLGRP_NFTABLES = 7

NFT_DELCHAIN, NFT_DELRULE = (10 << 8 | 5, 10 << 8 | 8)
RTA_OIF, NETCONFA_IFINDEX = 4, 1
IFF_UP, IFF_LOWER_UP = 1, 1 << 16
IFLA_EVENT, FAILOVER, NOTIFY_PEERS = 44, 3, 4
"""A bond fails over, or the kernel asks whoever has an address on a device to announce it (linux/if_link.h)."""
BUFFER = 4 << 20
"""Bytes for events that wait: a node that reboots a thousand VMs makes many of them at once."""


class _Kind(IntEnum):
    """Message types of rtnetlink (linux/rtnetlink.h)."""

    NEWLINK, DELLINK, DELROUTE, DELRULE, NEWNETCONF = 16, 17, 25, 33, 80


_HEADER = struct.Struct("=IHHII")
_IFINFO = struct.Struct("=BxHiII")


@dataclass(frozen=True, slots=True)
class DeviceGone:
    """The device NAME with this INDEX does not exist any more."""

    name: str
    index: int


@dataclass(frozen=True, slots=True)
class Changed:
    """Something about DEVICE changed. Without a device: anything on the node may have changed."""

    device: str | None


@dataclass(frozen=True, slots=True)
class Rewired:
    """What DEVICE is connected to may have changed: its carrier, its MAC, the active port of a bond. It may be a port
    of another device, which has the index MASTER; 0 if it is none, or if that does not matter to the bridge."""

    device: str
    master: int


@dataclass(frozen=True, slots=True)
class Unfiltered:
    """A whole filter chain of ours is gone: the chain of DEVICE, or without a device a shared chain."""

    device: str | None


Event = DeviceGone | Changed | Rewired | Unfiltered


class Events:
    """Two sockets that receive events from now on. A context manager. Raises OSError without CAP_NET_ADMIN."""

    def __init__(self) -> None:
        route = (
            RTNLGRP_LINK,
            RTNLGRP_IPV4_ROUTE,
            RTNLGRP_IPV4_RULE,
            RTNLGRP_IPV6_ROUTE,
            RTNLGRP_IPV6_RULE,
            RTNLGRP_IPV4_NETCONF,
            RTNLGRP_IPV6_NETCONF,
        )
        self.sockets = (_listen(socket.NETLINK_ROUTE, route), _listen(NETLINK_NETFILTER, (NFNLGRP_NFTABLES,)))
        self._last: dict[int, tuple[object, ...]] = {}
        self._wires: dict[int, tuple[int, bytes | None]] = {}

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self.sockets:
            one.close()

    def read(self) -> list[Event]:
        """All events that wait, in order and each once. Does not wait for more. Lost events become Changed(None)."""
        found: dict[Event, None] = {}
        decoders = ((self._route_event, self._wire_event), (_filter_event,))
        for one, decoding in zip(self.sockets, decoders, strict=True):
            while (data := _receive(one)) is not None:
                for kind, payload in messages(data):
                    found.update((event, None) for decode in decoding if (event := decode(kind, payload)))
                if not data:
                    found[Changed(None)] = None
        return list(found)

    def _route_event(self, kind: int, payload: bytes) -> Event | None:
        match kind:
            case _Kind.DELLINK:
                return self._link_gone(payload)
            case _Kind.NEWLINK:
                return self._link(payload)
            case _Kind.DELROUTE if payload[5] == PROTOCOL:  # rtm_protocol
                return _changed_index(attributes(payload, 12).get(RTA_OIF))
            case _Kind.DELRULE if number(attributes(payload, 12).get(FRA_PROTOCOL, b"\0")) == PROTOCOL:
                return Changed(None)
            case _Kind.NEWNETCONF:
                return _changed_index(attributes(payload, 4).get(NETCONFA_IFINDEX))
        return None

    def _link_gone(self, payload: bytes) -> Event:
        family, _, index, _, _ = _IFINFO.unpack_from(payload)
        name = text(attributes(payload, _IFINFO.size)[IFLA_IFNAME])
        self._last.pop(-index if family == AF_BRIDGE else index, None)
        if family != AF_BRIDGE:
            self._wires.pop(index, None)
        # In the bridge family this message means that a port left its bridge. The device still exists.
        return Changed(name) if family == AF_BRIDGE else DeviceGone(name, index)

    def _wire_event(self, kind: int, payload: bytes) -> Event | None:
        """None if the device is connected as before, or is a guest's: its neighbours are told by other means."""
        if kind != _Kind.NEWLINK:
            return None
        family, _, index, flags, _ = _IFINFO.unpack_from(payload)
        found = attributes(payload, _IFINFO.size)
        lower = text(attributes(found.get(IFLA_LINKINFO, b"")).get(IFLA_INFO_KIND, b""))
        if family == AF_BRIDGE or lower == TAP_KIND:
            return None
        now = (flags & (IFF_UP | IFF_LOWER_UP), found.get(IFLA_ADDRESS))
        announced = number(found.get(IFLA_EVENT, b"\0")) in (FAILOVER, NOTIFY_PEERS)
        if self._wires.get(index) == now and not announced:
            return None
        self._wires[index] = now
        # A veth beneath a bridge is a container that starts, and no way to the neighbours.
        master = 0 if lower == "veth" else number(found.get(IFLA_MASTER, b"\0"))
        return Rewired(text(found[IFLA_IFNAME]), master)

    def _link(self, payload: bytes) -> Event | None:
        """None if nothing changed that matters: the kernel also sends this message for carrier and statistics."""
        family, _, index, flags, _ = _IFINFO.unpack_from(payload)
        found = attributes(payload, _IFINFO.size)
        now: tuple[object, ...]
        if family == AF_BRIDGE:
            index = -index  # a port's VLANs come in messages of their own, and are kept apart
            now = (found.get(IFLA_AF_SPEC),)
        else:
            facts = (IFLA_IFNAME, IFLA_MTU, IFLA_MASTER, IFLA_ADDRESS, IFLA_GROUP)
            now = (flags & IFF_UP, *(found.get(fact) for fact in facts), *_bridge_settings(found))
        if self._last.get(index) == now:
            return None
        self._last[index] = now
        return Changed(text(found[IFLA_IFNAME]))


def _listen(protocol: int, groups: tuple[int, ...]) -> socket.socket:
    one = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol)
    one.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    one.bind((0, 0))
    for group in groups:
        one.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
    return one


def _receive(one: socket.socket) -> bytes | None:
    """One datagram; an empty one if events were lost; None if no datagram waits."""
    try:
        return one.recv(1 << 16)
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno == errno.ENOBUFS:
            return b""
        raise


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The type and the payload of each netlink message in a datagram."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, _, _, _ = _HEADER.unpack_from(data, at)
        yield kind, data[at + _HEADER.size : at + length]
        at += length + 3 & ~3


def _bridge_settings(found: dict[int, bytes]) -> Iterator[bytes | None]:
    """The settings of a bridge that setup makes. The other attributes of a bridge are timers, which always change."""
    info = attributes(found.get(IFLA_LINKINFO, b""))
    if text(info.get(IFLA_INFO_KIND, b"")) == "bridge":
        data = attributes(info.get(IFLA_INFO_DATA, b""))
        for setting in (
            IFLA_BR_FORWARD_DELAY,
            IFLA_BR_STP_STATE,
            IFLA_BR_VLAN_FILTERING,
            IFLA_BR_MCAST_SNOOPING,
        ):
            yield data.get(setting)


def _changed_index(value: bytes | None) -> Event | None:
    """The event for the device with this ifindex. None if it is gone: an event of its own reports that."""
    if value is None:
        return Changed(None)
    index = int.from_bytes(value, sys.byteorder, signed=True)
    if index <= 0:
        return None  # the settings `all` and `default`, which are no device's
    try:
        return Changed(socket.if_indextoname(index))
    except OSError:
        return None


def _filter_event(kind: int, payload: bytes) -> Event | None:
    """When a table is removed, the kernel sends an event for each of its chains."""
    if kind not in (NFT_DELCHAIN, NFT_DELRULE):
        return None
    found = attributes(payload, 4)
    table, _, _ = text(found[NFTA_TABLE]).partition("-")
    if table != TABLE:
        return None
    chain = text(found[NFTA_CHAIN_NAME if kind == NFT_DELCHAIN else NFTA_RULE_CHAIN])
    if chain.startswith(SCRATCH):
        return None
    name, _, direction = chain.removesuffix(BELOW).rpartition("-")
    device = name if name and direction in ("in", "out") else None
    # Rules go whenever a chain is filled again. No program changes a chain by removing it.
    return Unfiltered(device) if kind == NFT_DELCHAIN else Changed(device)
