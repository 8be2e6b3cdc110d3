# SPDX-License-Identifier: BSD-2-Clause
"""Reading routes, policy rules and proxy neighbours."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from ganeti_vif.engine.failure import Failure, Gone
from ganeti_vif.engine.marks import PROTOCOL
from ganeti_vif.engine.objects import ProxyNeighbour, Route, Rule
from ganeti_vif.kernel.netlink.query import Query, attribute, attributes, number, text

RTM_GETROUTE, RTM_GETNEIGH, RTM_GETRULE = 26, 30, 34
RTN_UNICAST, RTN_UNREACHABLE = 1, 7
RTPROT_KERNEL, RTPROT_RA = 2, 9
RT_TABLE_MAIN = 254
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_TABLE, RTA_MARK = 1, 4, 5, 6, 15, 16
RTM_F_CLONED, RTM_F_LOOKUP_TABLE, RTM_F_FIB_MATCH = 0x200, 0x1000, 0x2000
FRA_IIFNAME, FRA_PRIORITY, FRA_FWMARK, FRA_SUPPRESS_PREFIXLEN, FRA_TABLE, FRA_PROTOCOL = 3, 6, 10, 14, 15, 21
FR_ACT_TO_TBL = 1
FIB_RULE_PERMANENT, FIB_RULE_INVERT = 1, 2
NDA_DST, NDA_PROTOCOL = 1, 12
NTF_PROXY = 8
IP6_RT_PRIO_USER = 1024
"""The metric that the kernel gives an IPv6 route without one (include/uapi/linux/ipv6_route.h)."""
FAMILIES = (socket.AF_INET, socket.AF_INET6)
_RTMSG = struct.Struct("=BBBBBBBBI")
_NDMSG = struct.Struct("=BxxxiHBB")
_FIBMSG = struct.Struct("=BBBBBxxBI")


def family_of(version: int) -> int:
    """4 or 6 as the kernel's address family."""
    return socket.AF_INET6 if version == 6 else socket.AF_INET


def routes(query: Query, wanted: Iterable[Route]) -> Iterator[Route]:
    """The existing routes with the keys of WANTED, also those that another program made.

    It takes one filtered dump for each table and device: a node's main table may hold all routes of the Internet, and
    the table of a public link a route for each of a thousand NICs.
    """
    keys = {route.key for route in wanted}
    places = {(route.destination.version, route.table, route.device, route.kind) for route in wanted}
    for version, table, device, kind in places:
        yield from (route for route in _routes(query, version, table, device, kind) if route.key in keys)


def routes_of_ours(query: Query) -> Iterator[Route]:
    """Every route that carries our protocol number."""
    for family in FAMILIES:
        for payload in _dump(query, _RTMSG.pack(family, 0, 0, 0, 0, PROTOCOL, 0, 0, 0)):
            if route := _route(payload):
                yield route


def advertised_default_routes(query: Query) -> set[str]:
    """The devices that have an IPv6 default route from router advertisements."""
    payloads = _dump(query, _RTMSG.pack(socket.AF_INET6, 0, 0, 0, 0, RTPROT_RA, 0, 0, 0))
    found = (route for payload in payloads if (route := _route(payload)))
    return {route.device for route in found if route.device and route.destination.prefixlen == 0}


def route_to(query: Query, address: IPv4Address | IPv6Address, mark: int) -> Route | None:
    """The route that a packet with MARK to ADDRESS takes; None if there is no route or an unreachable one."""
    # IPv6 always names the table, and refuses a request for it.
    flags = RTM_F_FIB_MATCH | (RTM_F_LOOKUP_TABLE if address.version == 4 else 0)
    body = _RTMSG.pack(family_of(address.version), 8 * len(address.packed), 0, 0, 0, 0, 0, 0, flags)
    body += attribute(RTA_DST, address.packed) + attribute(RTA_MARK, struct.pack("=I", mark))
    try:
        return _route(query.get(RTM_GETROUTE, body))
    except Failure:  # unreachable, prohibited, or no route
        return None


def on_link(query: Query, device: str) -> Iterator[Route]:
    """The routes of the main table to destinations on the link of DEVICE that other programs or the admin made.

    It leaves out our own routes, and those that the kernel made for the node's addresses or a router advertisement.
    """
    for version in (4, 6):
        for route in _routes(query, version, RT_TABLE_MAIN, device, "unicast"):
            if route.gateway is None and route.protocol not in (RTPROT_KERNEL, RTPROT_RA, PROTOCOL):
                yield route


def table(query: Query, version: int, number_of_table: int) -> list[Route]:
    """All unicast routes of a table."""
    return list(_routes(query, version, number_of_table, None, "unicast"))


def _routes(query: Query, version: int, table: int, device: str | None, kind: str) -> Iterator[Route]:
    number_of_kind = RTN_UNREACHABLE if kind == "unreachable" else 0
    body = _RTMSG.pack(family_of(version), 0, 0, 0, 0, 0, 0, number_of_kind, 0)
    body += attribute(RTA_TABLE, struct.pack("=I", table))
    if device is not None:
        try:
            body += attribute(RTA_OIF, struct.pack("=I", socket.if_nametoindex(device)))
        except OSError:
            return
    with suppress(Gone):  # a table that does not exist yet
        yield from (route for payload in _dump(query, body) if (route := _route(payload)))


def _dump(query: Query, body: bytes) -> Iterator[bytes]:
    """The routes that BODY asks for. A kernel without IPv6 answers with those of IPv4 (rtnl_dump_all): left out."""
    return (payload for payload in query.dump(RTM_GETROUTE, body) if payload[0] == body[0])


def _route(payload: bytes) -> Route | None:
    family, length, _, _, table, protocol, _, kind, flags = _RTMSG.unpack_from(payload)
    if kind not in (RTN_UNICAST, RTN_UNREACHABLE) or flags & RTM_F_CLONED:
        return None
    found = attributes(payload, _RTMSG.size)
    any_address = bytes(16 if family == socket.AF_INET6 else 4)
    metric = number(found.get(RTA_PRIORITY, b"\0"))
    return Route(
        table=number(found[RTA_TABLE]) if RTA_TABLE in found else table,
        destination=ip_network((found.get(RTA_DST, any_address), length)),
        device=_name(number(found[RTA_OIF])) if RTA_OIF in found and kind == RTN_UNICAST else None,
        gateway=ip_address(found[RTA_GATEWAY]) if RTA_GATEWAY in found else None,
        kind="unicast" if kind == RTN_UNICAST else "unreachable",
        metric=0 if family == socket.AF_INET6 and metric == IP6_RT_PRIO_USER else metric,
        protocol=protocol,
    )


def rules(query: Query) -> Iterator[Rule]:
    """Every policy rule that carries our protocol number."""
    for family in FAMILIES:
        for payload in query.dump(RTM_GETRULE, _FIBMSG.pack(family, 0, 0, 0, 0, 0, 0)):
            found = attributes(payload, _FIBMSG.size)
            if number(found.get(FRA_PROTOCOL, b"\0")) == PROTOCOL:
                yield _rule(family, found)


def foreign_rules(query: Query, device: str) -> Iterator[Rule]:
    """Other programs' policy rules that lead all incoming packets of DEVICE to a table, and have no other condition."""
    for family in FAMILIES:
        for payload in query.dump(RTM_GETRULE, _FIBMSG.pack(family, 0, 0, 0, 0, 0, 0)):
            _, to, source, tos, _, action, flags = _FIBMSG.unpack_from(payload)
            found = attributes(payload, _FIBMSG.size)
            plain = (to, source, tos, action) == (0, 0, 0, FR_ACT_TO_TBL) and found.keys() <= _PLAIN_RULE
            suppressed = found.get(FRA_SUPPRESS_PREFIXLEN, _NOTHING) != _NOTHING
            if not plain or suppressed or flags & (FIB_RULE_PERMANENT | FIB_RULE_INVERT):
                continue
            rule = _rule(family, found)
            if rule.device == device and rule.protocol != PROTOCOL:
                yield rule


def incoming_rules(query: Query) -> Iterator[tuple[int, str, int]]:
    """IP version, device and priority of other programs' rules for incoming packets of one device."""
    for family in FAMILIES:
        for payload in query.dump(RTM_GETRULE, _FIBMSG.pack(family, 0, 0, 0, 0, 0, 0)):
            found = attributes(payload, _FIBMSG.size)
            if FRA_IIFNAME in found and number(found.get(FRA_PROTOCOL, b"\0")) != PROTOCOL:
                version = 6 if family == socket.AF_INET6 else 4
                yield version, text(found[FRA_IIFNAME]), number(found.get(FRA_PRIORITY, b"\0"))


_PLAIN_RULE = {FRA_IIFNAME, FRA_PRIORITY, FRA_TABLE, FRA_PROTOCOL, FRA_SUPPRESS_PREFIXLEN}
_NOTHING = b"\xff" * 4
"""The value for `suppress nothing`: the kernel gives it with every rule."""


def _rule(family: int, found: Mapping[int, bytes]) -> Rule:
    return Rule(
        family=6 if family == socket.AF_INET6 else 4,
        priority=number(found.get(FRA_PRIORITY, b"\0")),
        table=number(found[FRA_TABLE]),
        mark=number(found[FRA_FWMARK]) if FRA_FWMARK in found else None,
        device=text(found[FRA_IIFNAME]) if FRA_IIFNAME in found else None,
        protocol=number(found.get(FRA_PROTOCOL, b"\0")),
    )


def proxies(query: Query, wanted: Iterable[ProxyNeighbour]) -> Iterator[ProxyNeighbour]:
    """Those of WANTED that exist, also other programs' ones. Reads one by one: an uplink has one for each NIC."""
    for proxy in wanted:
        try:
            index = socket.if_nametoindex(proxy.device)
        except OSError:
            continue
        family = socket.AF_INET6 if isinstance(proxy.address, IPv6Address) else socket.AF_INET
        body = _NDMSG.pack(family, index, 0, NTF_PROXY, 0) + attribute(NDA_DST, proxy.address.packed)
        with suppress(Gone):
            query.get(RTM_GETNEIGH, body)
            yield proxy


def proxies_of_ours(query: Query) -> Iterator[ProxyNeighbour]:
    """Every proxy neighbour that carries our protocol number."""
    for family in FAMILIES:
        for payload in query.dump(RTM_GETNEIGH, _NDMSG.pack(family, 0, 0, NTF_PROXY, 0)):
            _, index, _, flags, _ = _NDMSG.unpack_from(payload)
            found = attributes(payload, _NDMSG.size)
            name = _name(index)
            if flags & NTF_PROXY and name and number(found.get(NDA_PROTOCOL, b"\0")) == PROTOCOL:
                yield ProxyNeighbour(device=name, address=ip_address(found[NDA_DST]))


def _name(index: int) -> str | None:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return None
