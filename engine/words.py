"""Changes in the words of iproute2, sysctl, nft and ovs-vsctl: what --dry-run prints can be typed in."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Address, IPv6Network

from engine.chains import Chain, MapElement, VerdictMap
from engine.difference import Alter, Change, Make, Remove, subject
from engine.marks import PROTOCOL, TABLE
from engine.objects import (
    ETHERNET_MTU,
    Binding,
    BridgePort,
    BridgeVlan,
    Link,
    OvsPort,
    ProxyNeighbour,
    Record,
    Route,
    Rule,
    Sysctl,
    TrunkVlan,
    Up,
)
from engine.state import Object, unmet


def commands(change: Change) -> Iterator[str]:
    """The commands that do what CHANGE does. A file's content follows as comment lines."""
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
        case Alter(BridgeVlan() as actual, BridgeVlan() as wanted):
            yield from _bridge_vlan(actual, wanted)
        case Alter(MapElement() as actual, MapElement() as wanted):
            yield from (*_remove(actual), *_make(wanted))
        case Alter(_, wanted):
            yield from _make(wanted)
        case Remove(actual):
            yield from _remove(actual)


def _make(wanted: Object) -> Iterator[str]:
    match wanted:
        case Link():
            yield _add_link(wanted)
            if wanted.kind == "bridge" and wanted.mtu not in (None, ETHERNET_MTU):
                yield f"ip link set {wanted.name} mtu {wanted.mtu}"
        case Chain():
            yield from _chain(wanted)
        case VerdictMap(family=family, name=map_name):
            yield f"nft add table {family} {TABLE}"
            yield f"nft add map {family} {TABLE} {map_name} '{{ type ifname : verdict; }}'"
        case MapElement():
            yield f"nft add element {_element(wanted)}"
        case Sysctl(path=path, value=value):
            yield f"sysctl -w {dotted(path)}={value}"
        case BridgePort(device=device, bridge=bridge):
            yield f"ip link set {device} master {bridge}"
        case BridgeVlan():
            # 1 is what the kernel gives every new port (vlan_default_pvid).
            yield from _bridge_vlan(BridgeVlan(device=wanted.device, untagged=1, tagged=frozenset()), wanted)
        case TrunkVlan(device=device, vid=vid):
            yield f"bridge vlan add dev {device} vid {vid}"
        case OvsPort():
            tag = "" if wanted.tag is None else f" tag={wanted.tag}"
            trunks = "" if not wanted.trunks else f" trunks={','.join(map(str, sorted(wanted.trunks)))}"
            port = wanted.device
            yield f"ovs-vsctl -- --if-exists del-port {port} -- add-port {wanted.bridge} {port}{tag}{trunks}"
        case Up(device=device):
            yield f"ip link set {device} up"
        case Rule():
            yield f"{_ip(wanted.family == 6)} rule add {_rule(wanted)}"
        case Route():
            yield f"{_ip(isinstance(wanted.destination, IPv6Network))} route add {_route(wanted)}"
        case ProxyNeighbour(device=device, address=address):
            yield f"{_ip(isinstance(address, IPv6Address))} neigh add proxy {address} dev {device} protocol {PROTOCOL}"
        case Record():
            yield f"write {place(wanted)}"
        case Binding(text=text):
            yield f"write {place(wanted)}:"
            yield from (f"  {line}" for line in text.splitlines())


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
        case BridgePort(device=device):
            yield f"ip link set {device} nomaster"
        case OvsPort(device=device, bridge=bridge):
            yield f"ovs-vsctl --if-exists del-port {bridge} {device}"
        case Up(device=device):
            yield f"ip link set {device} down"
        case Rule():
            yield f"{_ip(actual.family == 6)} rule del {_rule(actual)}"
        case Route():
            yield f"{_ip(isinstance(actual.destination, IPv6Network))} route del {_route(actual)}"
        case ProxyNeighbour(device=device, address=address):
            yield f"{_ip(isinstance(address, IPv6Address))} neigh del proxy {address} dev {device}"
        case BridgeVlan(device=device):
            yield from _bridge_vlan(actual, BridgeVlan(device=device, untagged=None, tagged=frozenset()))
        case TrunkVlan(device=device, vid=vid):
            yield f"bridge vlan del dev {device} vid {vid}"
        case Binding() | Record():
            yield f"rm {place(actual)}"
        case Sysctl(path=path):
            yield f"# {dotted(path)} stays as it is"


def place(file: Binding | Record) -> str:
    """Where the file of a binding or a record lies."""
    return f"{file.directory}/{file.tap}" if isinstance(file, Binding) else f"/run/ganeti-vif/nics/{file.tap}.json"


def dotted(path: str) -> str:
    """A sysctl's PATH as sysctl(8) wants it: `.` between the parts, and `/` for a dot within a name (eth1.2991)."""
    return path.replace(".", "\0").replace("/", ".").replace("\0", "/")


def _ip(six: bool) -> str:
    return "ip -6" if six else "ip"


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
    if link.call_iptables is not None:
        words.append(f"nf_call_iptables {int(link.call_iptables)}")
    if link.call_ip6tables is not None:
        words.append(f"nf_call_ip6tables {int(link.call_ip6tables)}")
    if link.vlan_filtering is not None:
        words.append(f"vlan_filtering {int(link.vlan_filtering)}")
    if link.vlan is not None:
        words.append(f"id {link.vlan}")
    if link.vni is not None:
        words.append(f"id {link.vni} dev {link.lower} group {link.vxlan_group} dstport {link.vxlan_port}")
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
        yield f"nft add rule {chain.family} {chain.table} {chain.name} '{rule.text} comment \"{rule.comment}\"'"


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


def _rule(rule: Rule) -> str:
    match = f"iif {rule.device}" if rule.device else f"fwmark {rule.mark:#x}"
    return f"pref {rule.priority} {match} lookup {rule.table} protocol {rule.protocol}"


def _route(route: Route) -> str:
    words = "unreachable " if route.kind == "unreachable" else ""
    words += "default" if route.destination.prefixlen == 0 else str(route.destination)
    words += f" via {route.gateway}" if route.gateway else ""
    words += f" dev {route.device}" if route.device else ""
    words += " onlink" if route.gateway else ""
    words += f" table {route.table} proto {PROTOCOL}"
    return words + (f" metric {route.metric}" if route.metric else "")


def finding(change: Change) -> str:
    """CHANGE as a difference that `check` reports: what is missing, different or left over."""
    thing = subject(change)
    match change:
        case Make():
            return f"missing: {name(thing)}"
        case Remove():
            return f"left over: {name(thing)}"
        case Alter(_, Chain() | Binding() | Record()):
            return f"different: {name(thing)}"
        case Alter(actual, wanted):
            fields = unmet(wanted, actual)
            details = ", ".join(f"{field} is {_value(old)}, should be {_value(new)}" for field, old, new in fields)
            return f"different: {name(thing)}: {details}"


def _value(value: object) -> str:
    """A field's value for the eye."""
    match value:
        case None:
            return "none"
        case bool():
            return "on" if value else "off"
        case frozenset():
            return ",".join(map(str, sorted(value))) or "none"
    return str(value)


def name(thing: Object) -> str:
    """What THING is, in the field's words, on one line."""
    match thing:
        case Link():
            return f"{thing.kind or 'device'} {thing.name}"
        case Chain():
            return f"filter chain {thing.family} {thing.name}"
        case VerdictMap():
            return f"verdict map {thing.family} {thing.name}"
        case MapElement():
            return f"{thing.device} in the verdict map {thing.family} {thing.map}"
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
            return f"{_ip(thing.family == 6)} rule {_rule(thing)}"
        case Route():
            return f"{_ip(isinstance(thing.destination, IPv6Network))} route {_route(thing)}"
        case ProxyNeighbour():
            return f"neighbour proxy {thing.address} dev {thing.device}"
        case Binding() | Record():
            return f"{'binding' if isinstance(thing, Binding) else 'record'} {place(thing)}"
