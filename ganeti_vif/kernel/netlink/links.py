# SPDX-License-Identifier: BSD-2-Clause
"""Reading network devices: their kind, their bridge, whether they are up."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from types import MappingProxyType
from typing import Any

from ganeti_vif.engine.failure import Gone
from ganeti_vif.engine.objects import BridgeNetfilter, BridgePort, BridgeVlan, Link, Up
from ganeti_vif.engine.state import Object
from ganeti_vif.kernel.netlink.query import Query, attribute, attributes, nested, number, text

RTM_GETLINK = 18
AF_BRIDGE = 7
IFF_UP, IFF_LOWER_UP = 1, 1 << 16
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_QDISC, IFLA_MASTER, IFLA_LINKINFO = 1, 3, 4, 5, 6, 10, 18
IFLA_AF_SPEC, IFLA_GROUP, IFLA_EXT_MASK = 26, 27, 29
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
IFLA_BRPORT_ISOLATED = 33
IFLA_BR_FORWARD_DELAY, IFLA_BR_STP_STATE, IFLA_BR_VLAN_FILTERING, IFLA_BR_MCAST_SNOOPING = 1, 5, 7, 23
IFLA_BR_NF_CALL_IPTABLES, IFLA_BR_NF_CALL_IP6TABLES = 36, 37
IFLA_VXLAN_ID, IFLA_VXLAN_GROUP, IFLA_VXLAN_LINK, IFLA_VXLAN_LOCAL = 1, 2, 3, 4
IFLA_VXLAN_PORT, IFLA_VXLAN_GROUP6, IFLA_VXLAN_LOCAL6 = 15, 16, 17
IFLA_VLAN_ID = 1
IFLA_TUN_TYPE = 3
IFF_TUN, IFF_TAP = 1, 2
IFLA_BRIDGE_VLAN_INFO = 2
BRIDGE_VLAN_INFO_PVID, BRIDGE_VLAN_INFO_UNTAGGED = 2, 4
BRIDGE_VLAN_INFO_RANGE_BEGIN, BRIDGE_VLAN_INFO_RANGE_END = 8, 16
_SKIP_STATS = attribute(IFLA_EXT_MASK, struct.pack("=I", 1 << 3))
_BRIDGE_VLANS = attribute(IFLA_EXT_MASK, struct.pack("=I", 1 << 1))
_IFINFO = struct.Struct("=BxHiII")

TAP_KIND = "tun"
"""The kernel's name for the kind of a tap (IFLA_INFO_KIND)."""

LONGEST_NAME = 15
"""IFNAMSIZ less the closing NUL (linux/if.h)."""

FEW = 32
"""Up to this many devices are read one by one; for more, a dump of all is faster."""


@dataclass(frozen=True, slots=True)
class Device:
    """An actual network device. MASTER is the name of its bridge (or bond). NETFILTER has the br_netfilter settings of
    a bridge, or is None where the kernel has none. CARRIER: it is up and connected. ISOLATED: an isolated port of its
    bridge. QDISC is the kind of its queueing discipline."""

    link: Link
    up: bool
    master: str | None
    netfilter: BridgeNetfilter | None = None
    carrier: bool = False
    isolated: bool = False
    qdisc: str = ""

    @property
    def name(self) -> str:
        return self.link.name

    @property
    def index(self) -> int:
        assert self.link.index is not None
        return self.link.index

    def objects(self) -> Iterator[Object]:
        """This device as objects of the engine."""
        yield self.link
        if self.netfilter:
            yield self.netfilter
        if self.up:
            yield Up(device=self.name)
        if self.master:
            yield BridgePort(device=self.name, bridge=self.master, isolated=self.isolated)


@dataclass(slots=True)
class Devices:
    """The devices of this network namespace, as read at one moment."""

    by_name: Mapping[str, Device] = field(default_factory=dict)

    def link(self, name: str) -> Link | None:
        """The device NAME, or None."""
        found = self.by_name.get(name)
        return found.link if found else None

    def ports(self) -> dict[str, list[Device]]:
        """The devices by the name of their master."""
        ports: dict[str, list[Device]] = {}
        for device in self.by_name.values():
            if device.master:
                ports.setdefault(device.master, []).append(device)
        return ports


def all_devices(query: Query) -> Devices:
    """Every device, in one dump."""
    found = [_decode(payload) for payload in query.dump(RTM_GETLINK, _IFINFO.pack(0, 0, 0, 0, 0) + _SKIP_STATS)]
    names = {raw.index: raw.name for raw in found}
    return Devices({raw.name: _device(raw, names) for raw in found})


def taps(query: Query) -> dict[str, int]:
    """The ifindex of every tun device, taps included, by name. The kernel filters: there may be thousands of others."""
    wanted = attribute(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, TAP_KIND.encode() + b"\0"))
    found = [_decode(one) for one in query.dump(RTM_GETLINK, _IFINFO.pack(0, 0, 0, 0, 0) + _SKIP_STATS + wanted)]
    return {
        raw.name: raw.index for raw in found if raw.kind == TAP_KIND
    }  # the kernel does not filter while the driver is not loaded


def device(query: Query, name: str) -> Device | None:
    """The device NAME, or None. NAME may be too long for a device: a link can be the name of a routing table."""
    if len(name.encode()) > LONGEST_NAME:
        return None
    body = _IFINFO.pack(0, 0, 0, 0, 0) + attribute(IFLA_IFNAME, name.encode() + b"\0") + _SKIP_STATS
    try:
        raw = _decode(query.get(RTM_GETLINK, body))
    except Gone:
        return None
    return _device(raw, {})


def devices(query: Query, names: Iterable[str]) -> Devices:
    """Those of NAMES that exist."""
    wanted = set(names)
    if len(wanted) > FEW:
        every = all_devices(query)
        return Devices({name: found for name, found in every.by_name.items() if name in wanted})
    return Devices({name: found for name in wanted if (found := device(query, name))})


@dataclass(slots=True)
class _Raw:
    index: int
    name: str
    flags: int
    kind: str | None
    attributes: dict[int, bytes]
    data: dict[int, bytes]
    isolated: bool


def _decode(payload: bytes) -> _Raw:
    _, _, index, flags, _ = _IFINFO.unpack_from(payload)
    found = attributes(payload, _IFINFO.size)
    info = attributes(found.get(IFLA_LINKINFO, b""))
    kind = text(info[IFLA_INFO_KIND]) if IFLA_INFO_KIND in info else None
    data = attributes(info.get(IFLA_INFO_DATA, b"")) if kind in ("bridge", "vxlan", "vlan", "tun") else {}
    return _Raw(index, text(found[IFLA_IFNAME]), flags, kind, found, data, _isolated(info))


def _isolated(info: dict[int, bytes]) -> bool:
    if text(info.get(IFLA_INFO_SLAVE_KIND, b"")) != "bridge":
        return False
    return attributes(info.get(IFLA_INFO_SLAVE_DATA, b"")).get(IFLA_BRPORT_ISOLATED, b"\0") != b"\0"


def _device(raw: _Raw, names: Mapping[int, str]) -> Device:
    found, data = raw.attributes, raw.data
    master = number(found[IFLA_MASTER]) if IFLA_MASTER in found else 0
    mac = found.get(IFLA_ADDRESS, b"")
    link = Link(
        name=raw.name,
        kind=raw.kind,
        index=raw.index,
        group=number(found[IFLA_GROUP]) if IFLA_GROUP in found else 0,
        mac=mac.hex(":") if len(mac) == 6 else None,
        mtu=number(found[IFLA_MTU]),
        **_details(raw, data, names),
    )
    up, carrier = (bool(raw.flags & flag) for flag in (IFF_UP, IFF_LOWER_UP))
    qdisc = text(found.get(IFLA_QDISC, b""))
    return Device(link, up, name_of(master, names), _netfilter(raw.name, data), carrier, raw.isolated, qdisc)


def _netfilter(bridge: str, data: dict[int, bytes]) -> BridgeNetfilter | None:
    if IFLA_BR_NF_CALL_IPTABLES not in data:
        return None
    four, six = (bool(number(data[one])) for one in (IFLA_BR_NF_CALL_IPTABLES, IFLA_BR_NF_CALL_IP6TABLES))
    return BridgeNetfilter(bridge=bridge, iptables=four, ip6tables=six)


def _details(raw: _Raw, data: dict[int, bytes], names: Mapping[int, str]) -> dict[str, Any]:
    """The properties that only a bridge, a VLAN, a VXLAN or a tun device has."""
    match raw.kind:
        case "bridge":
            return {
                "stp": bool(number(data[IFLA_BR_STP_STATE])),
                "forward_delay": number(data[IFLA_BR_FORWARD_DELAY]),
                "mcast_snooping": bool(number(data.get(IFLA_BR_MCAST_SNOOPING, b"\0"))),
                "vlan_filtering": bool(number(data.get(IFLA_BR_VLAN_FILTERING, b"\0"))),
            }
        case "vlan":
            return {"vlan": number(data[IFLA_VLAN_ID]), "lower": name_of(number(raw.attributes[IFLA_LINK]), names)}
        case "vxlan":
            group = data.get(IFLA_VXLAN_GROUP) or data.get(IFLA_VXLAN_GROUP6)
            local = data.get(IFLA_VXLAN_LOCAL) or data.get(IFLA_VXLAN_LOCAL6)
            return {
                "vni": number(data[IFLA_VXLAN_ID]),
                "vxlan_group": ip_address(group) if group else None,
                "vxlan_local": ip_address(local) if local else None,
                "vxlan_port": int.from_bytes(data[IFLA_VXLAN_PORT], "big"),
                "lower": name_of(number(data[IFLA_VXLAN_LINK]) if IFLA_VXLAN_LINK in data else 0, names),
            }
        case "tun":
            # linux drivers/net/tun.c, tun_fill_info(). A device without this attribute is no tap.
            kinds = {IFF_TUN: "tun", IFF_TAP: "tap"}
            return {"tun": kinds.get(number(data[IFLA_TUN_TYPE])) if IFLA_TUN_TYPE in data else None}
    return {}


def name_of(index: int, names: Mapping[int, str] = MappingProxyType({})) -> str | None:
    """The name of the device with this INDEX, by NAMES or else by the kernel. None if there is none."""
    if index == 0:
        return None
    if index in names:
        return names[index]
    try:
        return socket.if_indextoname(index)
    except OSError:
        return None


def bridge_vlans(query: Query) -> dict[int, BridgeVlan]:
    """The VLANs of every bridge port, by the port's ifindex."""
    result = {}
    for payload in query.dump(RTM_GETLINK, _IFINFO.pack(AF_BRIDGE, 0, 0, 0, 0) + _BRIDGE_VLANS):
        _, _, index, _, _ = _IFINFO.unpack_from(payload)
        found = attributes(payload, _IFINFO.size)
        if IFLA_AF_SPEC in found and IFLA_MASTER in found:
            result[index] = _vlans(text(found[IFLA_IFNAME]), found[IFLA_AF_SPEC])
    return result


def _vlans(name: str, spec: bytes) -> BridgeVlan:
    untagged: int | None = None
    tagged: set[int] = set()
    begin = 0
    for kind, value in nested(spec):
        if kind != IFLA_BRIDGE_VLAN_INFO:
            continue
        flags, vid = struct.unpack_from("=HH", value)
        if flags & BRIDGE_VLAN_INFO_RANGE_BEGIN:
            begin = vid
            continue
        first = begin if flags & BRIDGE_VLAN_INFO_RANGE_END else vid
        if flags & BRIDGE_VLAN_INFO_PVID and flags & BRIDGE_VLAN_INFO_UNTAGGED:
            untagged = vid
        else:
            tagged.update(range(first, vid + 1))
    return BridgeVlan(device=name, untagged=untagged, tagged=frozenset(tagged))
