# SPDX-License-Identifier: BSD-2-Clause
"""Permanent neighbours: reading ours, making and removing them. Message layout: linux/neighbour.h."""

from __future__ import annotations

import errno
import socket
import struct
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address

from ganeti_vif.engine.difference import Alter, Change, Make, Remove
from ganeti_vif.engine.marks import PROTOCOL
from ganeti_vif.engine.objects import Address, Neighbours
from ganeti_vif.kernel.netlink.links import FEW
from ganeti_vif.kernel.netlink.query import Query, attribute, attributes, number
from ganeti_vif.kernel.netlink.requests import HEADER, NLM_F_ACK, Requests

RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
NLM_F_REQUEST, NLM_F_REPLACE, NLM_F_CREATE = 0x1, 0x100, 0x400
NDA_DST, NDA_LLADDR, NDA_IFINDEX, NDA_PROTOCOL = 1, 2, 8, 12
NUD_PERMANENT = 0x80

_NDMSG = struct.Struct("=BxxxiHBB")


def read(query: Query, wanted: Collection[Neighbours]) -> Iterator[Neighbours]:
    """Our permanent neighbours on the devices of WANTED. One filtered dump for each device, or one of all for many."""
    if len(wanted) > FEW:
        yield from ours(query)
        return
    for one in wanted:
        with suppress(OSError):  # there is no such device
            index = attribute(NDA_IFINDEX, struct.pack("=I", socket.if_nametoindex(one.device)))
            yield from _by_device(query.dump(RTM_GETNEIGH, _NDMSG.pack(0, 0, 0, 0, 0) + index))


def ours(query: Query) -> Iterator[Neighbours]:
    """Every permanent neighbour that carries our protocol number, by its device."""
    yield from _by_device(query.dump(RTM_GETNEIGH, _NDMSG.pack(0, 0, 0, 0, 0)))


def _by_device(payloads: Iterable[bytes]) -> Iterator[Neighbours]:
    """If somebody gave an address another MAC, its device is here twice. The last counts: the rest is missing then."""
    found: dict[tuple[int, str], set[Address]] = defaultdict(set)
    for payload in payloads:
        _, index, status, _, _ = _NDMSG.unpack_from(payload)
        values = attributes(payload, _NDMSG.size)
        if status & NUD_PERMANENT and NDA_LLADDR in values and number(values.get(NDA_PROTOCOL, b"\0")) == PROTOCOL:
            found[index, values[NDA_LLADDR].hex(":")].add(ip_address(values[NDA_DST]))
    for (index, mac), addresses in found.items():
        with suppress(OSError):  # the device is gone by now
            yield Neighbours(device=socket.if_indextoname(index), mac=mac, addresses=frozenset(addresses))


def perform(requests: Requests, change: Change, index: int) -> None:
    """Make CHANGE to the neighbours on the device with this INDEX, all or nothing of what it makes.

    What another program made for these addresses is replaced. Raises OSError with the kernel's reason if it refuses.
    """
    match change:
        case Make(Neighbours() as wanted):
            _make(requests, wanted, index)
        case Alter(Neighbours() as actual, Neighbours() as wanted):
            with _gone():
                _remove(requests, actual.addresses - wanted.addresses, index)
            _make(requests, wanted, index)
        case Remove(Neighbours() as actual):
            _remove(requests, actual.addresses, index)
        case _:
            raise NotImplementedError(change)


@contextmanager
def _gone() -> Iterator[None]:
    """No address that is to go needs to be there: the kernel removes those of IPv6 when the device loses IPv6."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise


def _make(requests: Requests, wanted: Neighbours, index: int) -> None:
    lladdr = attribute(NDA_LLADDR, bytes.fromhex(wanted.mac.replace(":", "")))
    more = lladdr + attribute(NDA_PROTOCOL, bytes([PROTOCOL]))
    try:
        _send(requests, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, wanted.addresses, index, more)
    except OSError:
        with suppress(OSError):  # some of them may not have been made
            _remove(requests, wanted.addresses, index)
        raise


def _remove(requests: Requests, addresses: Collection[Address], index: int) -> None:
    _send(requests, RTM_DELNEIGH, 0, addresses, index)


def _send(
    requests: Requests, kind: int, flags: int, addresses: Collection[Address], index: int, more: bytes = b""
) -> None:
    """One request for all ADDRESSES, because a VM waits for it. After one that it refuses, the kernel does the next."""
    messages: list[bytes] = []
    first = last = requests.number()
    for address in addresses:
        last = last if not messages else requests.number()
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        body = _NDMSG.pack(family, index, NUD_PERMANENT, 0, 0) + attribute(NDA_DST, address.packed) + more
        head = HEADER.pack(HEADER.size + len(body), kind, NLM_F_REQUEST | NLM_F_ACK | flags, last, 0)
        messages.append(head + body)
    if messages:
        requests.send(b"".join(messages), first, last)
