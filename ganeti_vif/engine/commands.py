# SPDX-License-Identifier: BSD-2-Clause
"""Changes as commands of iproute2, sysctl, nft and ovs-vsctl. --dry-run prints them, and they can be run as is."""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote
from typing import assert_never

from ganeti_vif.engine.chains import Chain, MapElement, VerdictMap
from ganeti_vif.engine.difference import Alter, Change, Make, Remove
from ganeti_vif.engine.marks import PROTOCOL, SHAPER, TABLE
from ganeti_vif.engine.naming import dotted, in_order, ip, place, route_words, rule_words
from ganeti_vif.engine.objects import (
    ETHERNET_MTU,
    ZEROED,
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


def commands(change: Change) -> Iterator[str]:
    """The commands that do the same as CHANGE. Below a binding's line its content follows, indented.

    A line that begins with # is a comment: no command does this part.
    """
    match change:
        case Make(wanted):
            yield from _make(wanted)
        case Alter(Sysctl(value=old), Sysctl() as wanted):
            yield f"{next(_make(wanted))}   # was {old}"
        case Alter(actual, Link() as wanted):
            yield from _alter_link(actual, wanted)
        case Alter(Route(), Route() as wanted):
            yield next(_make(wanted)).replace(" add ", " replace ", 1)
        case Alter(Chain(), Chain() as wanted):
            yield f"nft flush chain {wanted.family} {wanted.table} {wanted.name}"
            yield from _make(wanted)
        case Alter(Neighbours() as actual, Neighbours() as wanted):
            gone = in_order(actual.addresses - wanted.addresses)
            yield from (_neighbour("del", actual, address) for address in gone)
            yield from _make(wanted)
        case Alter(Peers() as actual, Peers() as wanted):
            yield from _peers("append", wanted, wanted.addresses - actual.addresses)
            yield from _peers("del", wanted, actual.addresses - wanted.addresses)
        case Alter(BridgeVlan() as actual, BridgeVlan() as wanted):
            yield from _bridge_vlan(actual, wanted)
        case Alter(BridgePort(isolated=True) as actual, BridgePort(isolated=False) as wanted):
            yield f"bridge link set dev {actual.device} isolated off"
            yield from _make(wanted) if actual.bridge != wanted.bridge else ()
        case Alter(MapElement() as actual, MapElement() as wanted):
            yield from (*_remove(actual), *_make(wanted))
        case Alter(_, wanted):
            yield from _make(wanted)
        case Remove(actual):
            yield from _remove(actual)
        case _:
            assert_never(change)


def _make(wanted: Object) -> Iterator[str]:
    match wanted:
        case Link():
            yield _add_link(wanted)
            if wanted.kind == "bridge" and wanted.mtu not in (None, ETHERNET_MTU):
                yield f"ip link set {wanted.name} mtu {wanted.mtu}"
        case Chain():
            yield from _chain(wanted)
        case VerdictMap(family=family, name=map_name, of=of):
            yield f"nft add table {family} {TABLE}"
            yield f"nft add map {family} {TABLE} {map_name} '{{ {of} : verdict; }}'"
        case MapElement():
            yield f"nft add element {_element(wanted)}"
        case Peers():
            yield from _peers("append", wanted, wanted.addresses)
        case Module(name=name):
            yield f"modprobe {name}"
            if zeroed := ZEROED.get(name):
                yield f"sysctl -w {' '.join(f'{dotted(path)}=0' for path in zeroed)}"
        case BridgeNetfilter():
            flags = f"nf_call_iptables {int(wanted.iptables)} nf_call_ip6tables {int(wanted.ip6tables)}"
            yield f"ip link set {wanted.bridge} type bridge {flags}"
        case OffloadCheck(device=device):
            yield f"tc qdisc add dev {device} clsact"
            yield f"# and a program of ours, which tc has no words for: tc filter show dev {device} ingress"
        case Shaper():
            yield from _shape(wanted)
        case Sysctl(path=path, value=value):
            yield f"sysctl -w {dotted(path)}={value}"
        case BridgePort():
            yield from _connect(wanted)
        case BridgeVlan():
            # The kernel gives every new port the VID 1 (vlan_default_pvid).
            yield from _bridge_vlan(BridgeVlan(device=wanted.device, untagged=1, tagged=frozenset()), wanted)
        case TrunkVlan(device=device, vid=vid):
            yield f"bridge vlan add dev {device} vid {vid}"
        case OvsPort():
            tag = "" if wanted.tag is None else f" tag={wanted.tag}"
            trunks = "" if not wanted.trunks else f" trunks={','.join(map(str, sorted(wanted.trunks)))}"
            port = wanted.device
            alone = " other_config:protected=true" if wanted.isolated else ""
            yield f"ovs-vsctl -- --if-exists del-port {port} -- add-port {wanted.bridge} {port}{tag}{trunks}{alone}"
        case Up(device=device):
            yield f"ip link set {device} up"
        case Rule():
            yield f"{ip(wanted)} rule add {rule_words(wanted)}"
        case Route():
            yield f"{ip(wanted)} route add {route_words(wanted)}"
        case Neighbours():
            yield from (_neighbour("replace", wanted, address) for address in in_order(wanted.addresses))
        case ProxyNeighbour(device=device, address=address):
            yield f"{ip(wanted)} neigh add proxy {address} dev {device} protocol {PROTOCOL}"
        case Record() | Origin():
            yield f"write {place(wanted)}"
        case Binding(text=text):
            yield f"write {place(wanted)}:"
            yield from (f"  {line}" for line in text.splitlines())
        case _:
            assert_never(wanted)


def _remove(actual: Object) -> Iterator[str]:
    match actual:
        case Link(name=name):
            yield f"ip link del {name}"
        case Chain(family=family, table=table, name=name):
            yield f"nft delete chain {family} {table} {name}"
        case VerdictMap(family=family, name=map_name):
            yield f"nft delete map {family} {TABLE} {map_name}"
        case MapElement():
            yield f"nft delete element {_element(actual)}"
        case Shaper():
            yield f"tc qdisc del {_shaper(actual)}"
        case BridgePort(device=device):
            yield f"ip link set {device} nomaster"
        case OvsPort(device=device, bridge=bridge):
            yield f"ovs-vsctl --if-exists del-port {bridge} {device}"
        case Up(device=device):
            yield f"ip link set {device} down"
        case Rule():
            yield f"{ip(actual)} rule del {rule_words(actual)}"
        case Route():
            yield f"{ip(actual)} route del {route_words(actual)}"
        case Neighbours():
            yield from (_neighbour("del", actual, address) for address in in_order(actual.addresses))
        case ProxyNeighbour(device=device, address=address):
            yield f"{ip(actual)} neigh del proxy {address} dev {device}"
        case BridgeVlan(device=device):
            yield from _bridge_vlan(actual, BridgeVlan(device=device, untagged=None, tagged=frozenset()))
        case TrunkVlan(device=device, vid=vid):
            yield f"bridge vlan del dev {device} vid {vid}"
        case Binding() | Record() | Origin():
            yield f"rm {place(actual)}"
        case BridgeNetfilter(bridge=bridge):
            yield from _make(BridgeNetfilter(bridge=bridge, iptables=False, ip6tables=False))
        case OffloadCheck(device=device):
            yield f"tc filter del dev {device} ingress pref 1"
        case Peers():
            yield from _peers("del", actual, actual.addresses)
        case Module(name=name):
            yield f"# the module {name} stays loaded"
        case Sysctl(path=path):
            yield f"# {dotted(path)} stays as it is"
        case _:
            assert_never(actual)


def _connect(port: BridgePort) -> Iterator[str]:
    yield f"ip link set {port.device} master {port.bridge}"
    if port.isolated:
        yield f"bridge link set dev {port.device} isolated on"


def _shape(shaper: Shaper) -> Iterator[str]:
    bucket = f"rate {shaper.rate}bps burst {shaper.burst} limit {shaper.limit}"
    yield f"tc qdisc replace {_shaper(shaper)} tbf {bucket}"
    yield f"tc qdisc replace dev {shaper.device} parent {SHAPER:x}:1 fq_codel target {shaper.target}us"


def _shaper(shaper: Shaper) -> str:
    return f"dev {shaper.device} root handle {SHAPER:x}:"


def _neighbour(verb: str, neighbours: Neighbours, address: Address) -> str:
    command = "ip -6" if address.version == 6 else "ip"
    state = f" lladdr {neighbours.mac} nud permanent protocol {PROTOCOL}" if verb == "replace" else ""
    return f"{command} neigh {verb} {address}{state} dev {neighbours.device}"


def _peers(verb: str, peers: Peers, addresses: frozenset[Address]) -> Iterator[str]:
    if not addresses:
        yield f"# {peers.device} gets no peer"
    for address in in_order(addresses):
        via = f" via {peers.lower}" if address.is_multicast else ""
        yield f"bridge fdb {verb} 00:00:00:00:00:00 dev {peers.device} dst {address}{via}"


def _add_link(link: Link) -> str:
    words = ["ip link add", link.name]
    if link.lower is not None:
        words.append(f"link {link.lower}" if link.kind == "vlan" else "")
    words += [f"address {link.mac}"] if link.mac else []
    words += [f"mtu {link.mtu}"] if link.mtu and link.kind != "bridge" else []
    words += [f"group {link.group}"] if link.group else []
    words.append(f"type {link.kind}")
    words += _kind_words(link)
    return " ".join(word for word in words if word)


def _kind_words(link: Link) -> list[str]:
    words = []
    if link.stp is not None:
        words.append(f"stp_state {int(link.stp)}")
    if link.forward_delay is not None:
        words.append(f"forward_delay {link.forward_delay}")
    if link.mcast_snooping is not None:
        words.append(f"mcast_snooping {int(link.mcast_snooping)}")
    if link.vlan_filtering is not None:
        words.append(f"vlan_filtering {int(link.vlan_filtering)}")
    if link.vlan is not None:
        words.append(f"id {link.vlan}")
    if link.vni is not None:
        words.append(f"id {link.vni} dev {link.lower}")
        words += [f"group {link.vxlan_group}"] if link.vxlan_group else []
        words += [f"local {link.vxlan_local}"] if link.vxlan_local else []
        words.append(f"dstport {link.vxlan_port}")
    return words


def _alter_link(actual: Object, wanted: Link) -> Iterator[str]:
    options = {"mac": "address", "mtu": "mtu", "group": "group"}
    for name, old, new in unmet(wanted, actual):
        if name in options:
            yield f"ip link set {wanted.name} {options[name]} {new}   # was {old}"
        else:
            value = int(new) if isinstance(new, bool) else new
            option = {"stp": "stp_state"}.get(name, name)
            yield f"ip link set {wanted.name} type {wanted.kind} {option} {value}   # was {old}"


def _chain(chain: Chain) -> Iterator[str]:
    device = f' device "{chain.device}"' if chain.device else ""
    hook = f" '{{ type filter hook {chain.hook}{device} priority {chain.priority}; policy {chain.policy}; }}'"
    yield f"nft add table {chain.family} {chain.table}"
    yield f"nft add chain {chain.family} {chain.table} {chain.name}{hook if chain.hook else ''}"
    for rule in chain.rules:
        words = f'{rule.text} comment "{rule.comment}"'
        yield f"nft add rule {chain.family} {chain.table} {chain.name} {quote(words)}"


def _element(element: MapElement) -> str:
    return f"{element.family} {TABLE} {element.map} '{{ \"{element.device}\" : jump {element.chain} }}'"


def _bridge_vlan(before: BridgeVlan, after: BridgeVlan) -> Iterator[str]:
    device = after.device
    yield from (f"bridge vlan del dev {device} vid {vid}" for vid in sorted(_vids(before) - _vids(after)))
    if after.untagged is not None and after.untagged != before.untagged:
        yield f"bridge vlan add dev {device} vid {after.untagged} pvid untagged"
    yield from (f"bridge vlan add dev {device} vid {vid}" for vid in sorted(after.tagged - before.tagged))


def _vids(port: BridgeVlan) -> frozenset[int]:
    return port.tagged | ({port.untagged} if port.untagged is not None else set())
