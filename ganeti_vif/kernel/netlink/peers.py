# SPDX-License-Identifier: BSD-2-Clause
"""The peers of VXLAN devices: the entries of a device for the MAC 00:00:00:00:00:00, one for each copy of a frame.

Message layout: linux/neighbour.h; linux drivers/net/vxlan/vxlan_core.c, vxlan_fdb_info() and vxlan_fdb_add(). A nexthop
group would be one entry for all peers, but the kernel sends each broadcast to only one member of the group.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from ipaddress import ip_address

from ganeti_vif.engine.difference import Alter, Change, Make, Remove
from ganeti_vif.engine.objects import Address, Peers
from ganeti_vif.kernel.netlink.links import AF_BRIDGE, FEW
from ganeti_vif.kernel.netlink.query import Query, attribute, attributes
from ganeti_vif.kernel.netlink.requests import HEADER, NLM_F_ACK, Requests

RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
NLM_F_REQUEST, NLM_F_CREATE, NLM_F_APPEND = 0x1, 0x400, 0x800
NDA_DST, NDA_LLADDR, NDA_IFINDEX = 1, 2, 8
NTF_SELF, NUD_NOARP_PERMANENT = 0x2, 0x40 | 0x80
TOGETHER = 200
"""Entries in one request: enough to be fast, and less than a socket takes at once."""

_NDMSG = struct.Struct("=BxxxiHBB")
_ANY_MAC = attribute(NDA_LLADDR, bytes(6))
_DESTINATION = _NDMSG.size + len(_ANY_MAC)
_DST4 = struct.pack("=HH", 8, NDA_DST)


def read(query: Query, wanted: Mapping[int, Peers]) -> Iterator[Peers]:
    """The peers of the VXLAN devices of WANTED, by their ifindex: a device without any has an empty set.

    One filtered dump for each device, or one of all for many. Raises Failure if the kernel refuses.
    """
    if len(wanted) > FEW:
        found = query.gathered(RTM_GETNEIGH, _NDMSG.pack(AF_BRIDGE, 0, 0, 0, 0), _gathered)
    else:
        found = {}
        for index in wanted:
            body = _NDMSG.pack(AF_BRIDGE, 0, 0, 0, 0) + attribute(NDA_IFINDEX, struct.pack("=I", index))
            found |= query.gathered(RTM_GETNEIGH, body, _gathered)
    for index, one in wanted.items():
        yield Peers(device=one.device, lower=one.lower, addresses=_addresses(tuple(found.get(index, ()))))


def _gathered(payloads: Iterator[bytes]) -> dict[int, list[bytes]]:
    """The packed addresses of the entries for unknown MACs, by ifindex. There may be two million of them."""
    found: dict[int, list[bytes]] = defaultdict(list)
    unpack, size, end = _NDMSG.unpack_from, _NDMSG.size, _DESTINATION
    for payload in payloads:
        if payload[size:end] != _ANY_MAC:
            continue
        if payload[end : end + 4] == _DST4:
            found[unpack(payload)[1]].append(payload[end + 4 : end + 8])
        elif address := attributes(payload, size).get(NDA_DST):
            found[unpack(payload)[1]].append(address)
    return found


@lru_cache(maxsize=8)
def _addresses(packed: tuple[bytes, ...]) -> frozenset[Address]:
    """Thousands of devices have the same peers, so they share one set."""
    return frozenset(map(ip_address, packed))


def perform(requests: Requests, change: Change, index: int, lower: int) -> None:
    """Make CHANGE to the peers of the device with this INDEX, all or nothing of what it adds. LOWER is the ifindex of
    the device below, or 0. New peers come first, then old ones go: no frame is lost between them.

    Raises OSError with the kernel's reason if it refuses.
    """
    match change:
        case Make(Peers() as wanted):
            _add(requests, wanted.addresses, index, lower)
        case Alter(Peers() as actual, Peers() as wanted):
            _add(requests, wanted.addresses - actual.addresses, index, lower)
            with suppress(FileNotFoundError):  # it went by itself
                _send(requests, RTM_DELNEIGH, 0, actual.addresses - wanted.addresses, index, lower)
        case Remove(Peers() as actual):
            _send(requests, RTM_DELNEIGH, 0, actual.addresses, index, lower)
        case _:
            raise NotImplementedError(change)


def _add(requests: Requests, addresses: frozenset[Address], index: int, lower: int) -> None:
    try:
        _send(requests, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_APPEND, addresses, index, lower)
    except OSError:
        with suppress(OSError):  # some of them may not have been made
            _send(requests, RTM_DELNEIGH, 0, addresses, index, lower)
        raise


def _send(requests: Requests, kind: int, flags: int, addresses: frozenset[Address], index: int, lower: int) -> None:
    """TOGETHER entries in one request. They have one number: a refusal of any of them counts."""
    entries = _entries(addresses, lower)
    for start in range(0, len(entries), TOGETHER):
        some, number, data = entries[start : start + TOGETHER], requests.number(), bytearray()
        for place, entry in enumerate(some, 1):
            ack = NLM_F_ACK if place == len(some) else 0
            size = HEADER.size + _NDMSG.size + len(entry)
            data += HEADER.pack(size, kind, NLM_F_REQUEST | ack | flags, number, 0)
            data += _NDMSG.pack(AF_BRIDGE, index, NUD_NOARP_PERMANENT, NTF_SELF, 0) + entry
        requests.send(data, number, number)


@lru_cache(maxsize=8)
def _entries(addresses: frozenset[Address], lower: int) -> list[bytes]:
    """The attributes of each entry. The kernel's own entry for a group leads by the device below, and has no twin."""
    via = attribute(NDA_IFINDEX, struct.pack("=I", lower))
    ends = [(one, attribute(NDA_DST, one.packed)) for one in addresses]
    return [_ANY_MAC + end + (via if one.is_multicast else b"") for one, end in ends]
