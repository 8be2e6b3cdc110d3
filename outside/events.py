"""Hearing of changes of this node's network as they happen: devices, our routes and rules, our filters.

Not heard: sysctls, proxy neighbours (the kernel tells nobody) and files. Whoever listens looks at those now and then.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from engine.objects import PROTOCOL, TABLE
from outside.filters import NETLINK_NETFILTER
from outside.links import AF_BRIDGE, IFLA_IFNAME
from outside.query import SOL_NETLINK, attributes, number, text
from outside.routing import FRA_PROTOCOL

NETLINK_ADD_MEMBERSHIP, SO_RCVBUFFORCE = 1, 33
RTNLGRP_LINK, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV6_RULE = 1, 7, 8, 11, 19
NFNLGRP_NFTABLES = 7

NFT_DELTABLE, NFT_DELCHAIN, NFT_DELRULE = (10 << 8 | 2, 10 << 8 | 5, 10 << 8 | 8)
NFTA_TABLE = 1
BUFFER = 4 << 20
"""Bytes for events that wait: a node that reboots a thousand VMs makes a lot of them at once."""


class _Kind(IntEnum):
    """Messages of rtnetlink (linux/rtnetlink.h)."""

    NEWLINK, DELLINK, DELROUTE, DELRULE = 16, 17, 25, 33


_HEADER = struct.Struct("=IHHII")
_IFINFO = struct.Struct("=BxHiII")


@dataclass(frozen=True, slots=True)
class Gone:
    """The device NAME, which had this INDEX, does not exist any more."""

    name: str
    index: int


@dataclass(frozen=True, slots=True)
class Changed:
    """Something changed that may be ours; or events were lost, and anything may have."""


Event = Gone | Changed


class Events:
    """Two sockets that hear of changes from now on. A context manager."""

    def __init__(self) -> None:
        route = (RTNLGRP_LINK, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV6_RULE)
        self.sockets = (_listen(socket.NETLINK_ROUTE, route), _listen(NETLINK_NETFILTER, (NFNLGRP_NFTABLES,)))

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self.sockets:
            one.close()

    def read(self) -> Iterator[Event]:
        """All events that wait, at most one Changed; does not wait for more."""
        changed = False
        for one, decode in zip(self.sockets, (_route_event, _filter_event), strict=True):
            while (data := _receive(one)) is not None:
                for kind, payload in messages(data):
                    event = decode(kind, payload)
                    changed |= isinstance(event, Changed)
                    if isinstance(event, Gone):
                        yield event
                changed |= not data
        if changed:
            yield Changed()


def _listen(protocol: int, groups: tuple[int, ...]) -> socket.socket:
    one = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol)
    one.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    one.bind((0, 0))
    for group in groups:
        one.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
    return one


def _receive(one: socket.socket) -> bytes | None:
    """One datagram; nothing of it if events were lost; None if there is none."""
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


def _route_event(kind: int, payload: bytes) -> Event | None:
    match kind:
        case _Kind.DELLINK:
            family, _, index, _, _ = _IFINFO.unpack_from(payload)
            # In the bridge family it says that a port left its bridge, and the device lives on.
            if family == AF_BRIDGE:
                return Changed()
            return Gone(text(attributes(payload, _IFINFO.size)[IFLA_IFNAME]), index)
        case _Kind.NEWLINK:
            return Changed()
        case _Kind.DELROUTE if payload[5] == PROTOCOL:  # rtm_protocol
            return Changed()
        case _Kind.DELRULE if number(attributes(payload, 12).get(FRA_PROTOCOL, b"\0")) == PROTOCOL:
            return Changed()
    return None


def _filter_event(kind: int, payload: bytes) -> Event | None:
    if kind in (NFT_DELTABLE, NFT_DELCHAIN, NFT_DELRULE) and text(attributes(payload, 4)[NFTA_TABLE]) == TABLE:
        return Changed()
    return None
