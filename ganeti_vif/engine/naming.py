# SPDX-License-Identifier: BSD-2-Clause
"""Names of objects and changes: in the field's words, on one line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv6Address, IPv6Network
from typing import TypeGuard, assert_never

from ganeti_vif.engine.chains import Chain, MapElement, VerdictMap
from ganeti_vif.engine.difference import Alter, Change, Make, Remove, subject
from ganeti_vif.engine.marks import PROTOCOL
from ganeti_vif.engine.objects import (
    Address,
    Binding,
    BridgeNetfilter,
    BridgePort,
    BridgeVlan,
    Link,
    Module,
    Neighbours,
    OffloadCheck,
    Origin,
    OvsPort,
    Peers,
    ProxyNeighbour,
    Record,
    Route,
    Rule,
    Shaper,
    Sysctl,
    TrunkVlan,
    Up,
)
from ganeti_vif.engine.state import Object, unmet

MOST = 5
"""How many peers, and how many tunnels, are named in one line. The rest is counted."""


def place(file: Binding | Record | Origin) -> str:
    """The path of the file of a binding, a record or an origin."""
    if isinstance(file, Binding):
        return f"{file.directory}/{file.tap}"
    return f"/run/ganeti-vif/nics/{file.tap}.{'json' if isinstance(file, Record) else 'origin'}"


def dotted(path: str) -> str:
    """A sysctl's PATH as sysctl(8) expects it: `.` between the parts, and `/` for a dot in a name (eth1.2991)."""
    return path.replace(".", "\0").replace("/", ".").replace("\0", "/")


def ip(thing: Rule | Route | ProxyNeighbour) -> str:
    """The command for THING: `ip`, or `ip -6` if it belongs to IPv6."""
    match thing:
        case Rule():
            six = thing.family == 6
        case Route():
            six = isinstance(thing.destination, IPv6Network)
        case ProxyNeighbour():
            six = isinstance(thing.address, IPv6Address)
        case _:
            assert_never(thing)
    return "ip -6" if six else "ip"


def rule_words(rule: Rule) -> str:
    """The arguments of ip-rule(8) that identify RULE."""
    match = f"iif {rule.device}" if rule.device else f"fwmark {rule.mark:#x}"
    return f"pref {rule.priority} {match} lookup {rule.table} protocol {rule.protocol}"


def route_words(route: Route) -> str:
    """The arguments of ip-route(8) that describe ROUTE."""
    words = "unreachable " if route.kind == "unreachable" else ""
    words += "default" if route.destination.prefixlen == 0 else str(route.destination)
    words += f" via {route.gateway}" if route.gateway else ""
    words += f" dev {route.device}" if route.device else ""
    words += " onlink" if route.gateway else ""
    words += f" table {route.table} proto {PROTOCOL}"
    return words + (f" metric {route.metric}" if route.metric else "")


def addresses(neighbours: Neighbours) -> str:
    """The addresses of NEIGHBOURS in one order, IPv4 first."""
    return " ".join(map(str, in_order(neighbours.addresses)))


def in_order(found: Iterable[Address]) -> list[Address]:
    """FOUND by version and number."""
    return sorted(found, key=lambda one: (one.version, int(one)))


def finding(change: Change) -> str:
    """CHANGE as `check` prints it: an object is missing, different or left over."""
    thing = subject(change)
    match change:
        case Make():
            return f"missing: {name(thing)}"
        case Remove():
            return f"left over: {name(thing)}"
        case Alter(_, Chain() | Binding() | Record() | Origin() | OffloadCheck()):
            return f"different: {name(thing)}"
        case Alter(Peers() as actual, Peers() as wanted):
            return f"different: {name(thing)}: {_unlike(actual, wanted)}"
        case Alter(actual, wanted):
            fields = unmet(wanted, actual)
            details = ", ".join(f"{field} is {_value(old)}, should be {_value(new)}" for field, old, new in fields)
            return f"different: {name(thing)}: {details}"
        case _:
            assert_never(change)


def findings(changes: Iterable[Change]) -> list[str]:
    """CHANGES as finding() names them. Thousands of tunnels that lack the same node are one line."""
    found: dict[str, list[str]] = {}
    for change in changes:
        match change:
            case Alter(Peers() as actual, Peers() as wanted):
                found.setdefault(f"different: peers of {{}}: {_unlike(actual, wanted)}", []).append(wanted.device)
            case _:
                found.setdefault(finding(change).replace("{", "{{").replace("}", "}}"), [])
    return [line.format(_few(devices)) for line, devices in found.items()]


def _unlike(actual: Peers, wanted: Peers) -> str:
    gone, extra = wanted.addresses - actual.addresses, actual.addresses - wanted.addresses
    parts = [f"{_few(in_order(some))} {what}" for some, what in ((gone, "missing"), (extra, "left over")) if some]
    return "; ".join(parts)


def _few(found: Sequence[object]) -> str:
    """The first of FOUND, and how many more there are."""
    named = ", ".join(map(str, found[:MOST]))
    return named + (f" and {len(found) - MOST} more" if len(found) > MOST else "")


def _value(value: object) -> str:
    """The value of a field as people read it."""
    match value:
        case None:
            return "none"
        case bool():
            return "on" if value else "off"
        case frozenset():
            return ",".join(map(str, in_order(value) if _are_addresses(value) else sorted(value))) or "none"
    return str(value)


def _are_addresses(values: frozenset[object]) -> TypeGuard[frozenset[Address]]:
    return all(isinstance(value, Address) for value in values)


def name(thing: Object) -> str:
    """The name of THING, in the field's words, on one line."""
    match thing:
        case Link():
            return f"{thing.kind or 'device'} {thing.name}"
        case Chain():
            return f"filter chain {thing.family} {thing.name}"
        case VerdictMap():
            return f"verdict map {thing.family} {thing.name}"
        case MapElement():
            return f"{thing.device} in the verdict map {thing.family} {thing.map}"
        case Peers():
            return f"peers of {thing.device}"
        case Module():
            return f"kernel module {thing.name}"
        case BridgeNetfilter():
            return f"br_netfilter on {thing.bridge}"
        case OffloadCheck():
            return f"check of checksum offload on {thing.device}"
        case Shaper():
            return f"shaper of {thing.device}"
        case Sysctl():
            return f"sysctl {dotted(thing.path)}"
        case BridgePort():
            return f"{thing.device} as a port of {thing.bridge}"
        case BridgeVlan():
            return f"VLANs of port {thing.device}"
        case TrunkVlan():
            return f"VLAN {thing.vid} on port {thing.device}"
        case OvsPort():
            return f"{thing.device} as an Open vSwitch port of {thing.bridge}"
        case Up():
            return f"{thing.device} up"
        case Rule():
            return f"{ip(thing)} rule {rule_words(thing)}"
        case Route():
            return f"{ip(thing)} route {route_words(thing)}"
        case Neighbours():
            return f"permanent neighbours {addresses(thing)} lladdr {thing.mac} dev {thing.device}"
        case ProxyNeighbour():
            return f"neighbour proxy {thing.address} dev {thing.device}"
        case Binding() | Record() | Origin():
            return f"{type(thing).__name__.lower()} {place(thing)}"
        case _:
            assert_never(thing)
