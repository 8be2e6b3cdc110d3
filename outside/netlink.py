"""Changing devices, ports, routes, policy rules and proxy neighbours: the only module that imports pyroute2.

Messages are built from pyroute2's message classes and not by its `link()`/`route()` shorthands: those set defaults
and filters of their own, which differ between 0.7.2 and 0.7.7. They are sent by outside/requests.py: what pyroute2
does for a request and its answer takes longer than the kernel's part of it. Devices are named by ifindex on the wire,
as they were when this run first saw them: a tap's name may belong to somebody else a moment later.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable, Sequence
from ipaddress import IPv6Address

from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, nlmsg
from pyroute2.netlink.rtnl import (
    RTM_DELLINK,
    RTM_DELNEIGH,
    RTM_DELROUTE,
    RTM_DELRULE,
    RTM_NEWLINK,
    RTM_NEWNEIGH,
    RTM_NEWROUTE,
    RTM_NEWRULE,
    RTM_SETLINK,
)
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from engine.difference import Alter, Change, Make, Remove, subject
from engine.failure import Failure, Gone
from engine.objects import (
    ETHERNET_MTU,
    LEAVING_GROUP,
    PROTOCOL,
    BridgePort,
    BridgeVlan,
    Link,
    ProxyNeighbour,
    Route,
    Rule,
    TrunkVlan,
    Up,
    unmet,
)
from engine.words import commands, name
from outside.requests import Requests

IFF_UP, AF_BRIDGE, NTF_PROXY, NUD_PERMANENT = 1, 7, 8, 0x80
RTN_UNICAST, RTN_UNREACHABLE, RTNH_F_ONLINK = 1, 7, 4
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK = 0, 253
FR_ACT_TO_TBL = 1
BRIDGE_VLAN_INFO_PVID_UNTAGGED = 2 | 4
_NEW = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL
_REPLACE = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE
_SET = NLM_F_REQUEST | NLM_F_ACK

Attributes = list[tuple[str, object]]


class _proxy_ndmsg(ndmsg):  # type: ignore[misc]  # noqa: N801
    """ndmsg with the attributes of linux/neighbour.h that pyroute2 0.7.2 lacks: the last one marks an entry as ours."""

    __slots__ = ()
    nla_map = (
        *ndmsg.nla_map[:10],
        ("NDA_LINK_NETNSID", "int32"),
        ("NDA_SRC_VNI", "uint32"),
        ("NDA_PROTOCOL", "uint8"),
    )


class Netlink:
    """A socket for changes. `seen` tells it the ifindex of the devices that this run has read."""

    def __init__(self) -> None:
        self._requests = Requests(socket.NETLINK_ROUTE)
        self._indexes: dict[str, int] = {}

    def close(self) -> None:
        self._requests.close()

    def seen(self, indexes: Iterable[tuple[str, int]]) -> None:
        """These device names mean these devices, even if another takes the name meanwhile."""
        self._indexes.update(indexes)

    def forget(self) -> None:
        """Names may mean other devices from now on."""
        self._indexes.clear()

    def perform(self, change: Change) -> None:
        """Make CHANGE. Raises Gone if its device is not there (any more), Failure if the kernel refuses."""
        try:
            self._perform(change)
        except OSError as error:
            raise _refused(change, error) from error

    def _perform(self, change: Change) -> None:
        match change:
            case Make(Link() as link):
                self._send(RTM_NEWLINK, _NEW, _link_message(link, self._index(link.lower) if link.lower else 0))
                self._indexes[link.name] = socket.if_nametoindex(link.name)
                if link.kind == "bridge" and link.mtu not in (None, ETHERNET_MTU):
                    # A bridge keeps only an MTU that was set when it existed (BROPT_MTU_SET_BY_USER); else it takes
                    # its smallest port's, and 1500 when the last one goes.
                    self._set_link(link.name, [("IFLA_MTU", link.mtu)])
            case Alter(Link() as actual, Link() as wanted):
                self._alter_link(actual, wanted)
            case Remove(Link() as link):
                self._send(RTM_DELLINK, _SET, _link(self._index(link.name)))
                self._indexes.pop(link.name, None)
            case Make(BridgePort() as port) | Alter(BridgePort(), BridgePort() as port):
                self._set_link(port.device, [("IFLA_MASTER", self._index(port.bridge))])
            case Remove(BridgePort() as port):
                self._set_link(port.device, [("IFLA_MASTER", 0)])
            case Make(Up(device=device)) | Alter(Up(), Up(device=device)):
                self._set_link(device, [], up=True)
            case Remove(Up(device=device)):
                self._set_link(device, [], up=False)
            case Make(BridgeVlan() as port):
                self._bridge_vlans(BridgeVlan(device=port.device, untagged=1, tagged=frozenset()), port)
            case Alter(BridgeVlan() as before, BridgeVlan() as port):
                self._bridge_vlans(before, port)
            case Remove(BridgeVlan() as port):
                self._bridge_vlans(port, BridgeVlan(device=port.device, untagged=None, tagged=frozenset()))
            case Make(TrunkVlan(device=device, vid=vid)):
                self._vlan_message(RTM_SETLINK, device, [(0, vid)])
            case Remove(TrunkVlan(device=device, vid=vid)):
                self._vlan_message(RTM_DELLINK, device, [(0, vid)])
            case Make(Route() as route):
                # Never take a NIC's route, which leads elsewhere. Those of a link are equal whoever makes them, and
                # an attach may make them at the same moment as a setup.
                flags = _REPLACE if route.shared else _NEW
                self._send(RTM_NEWROUTE, flags, self._route_message(route))
            case Alter(Route(), Route() as route):
                self._send(RTM_NEWROUTE, _REPLACE, self._route_message(route))
            case Remove(Route() as route):
                self._send(RTM_DELROUTE, _SET, self._route_message(route))
            case Make(Rule() as rule):
                self._add_rule(rule)
            case Remove(Rule() as rule):
                self._send(RTM_DELRULE, _SET, _rule_message(rule))
            case Make(ProxyNeighbour() as proxy):
                self._send(RTM_NEWNEIGH, _REPLACE, self._proxy_message(proxy))
            case Remove(ProxyNeighbour() as proxy):
                self._send(RTM_DELNEIGH, _SET, self._proxy_message(proxy))
            case _:
                raise NotImplementedError(change)

    def remove_devices(self, names: Sequence[str]) -> None:
        """Remove these devices of ours, in one request. Raises Failure.

        A bridge that goes waits for all CPUs to pass a grace period, 17 ms of a lock that the whole kernel shares;
        removed together (by their group, the only way to name several) they wait three times less.
        """
        try:
            for name in names:
                self._set_link(name, [("IFLA_GROUP", LEAVING_GROUP)])
            message = ifinfmsg()
            message["attrs"] = [("IFLA_GROUP", LEAVING_GROUP)]
            self._send(RTM_DELLINK, _SET, message)
        except OSError as error:
            raise _refused(Remove(Link(name=names[0])), error) from error

    def _send(self, kind: int, flags: int, message: nlmsg) -> None:
        number = self._requests.number()
        message["header"]["type"], message["header"]["flags"] = kind, flags
        message["header"]["sequence_number"] = number
        message.encode()
        self._requests.send(message.data, number, number)

    def _index(self, device: str) -> int:
        if device not in self._indexes:
            try:
                self._indexes[device] = socket.if_nametoindex(device)
            except OSError as error:
                raise Gone(f"there is no device {device}", "ip link show") from error
        return self._indexes[device]

    def _set_link(self, device: str, attributes: Attributes, up: bool | None = None) -> None:
        message = _link(self._index(device))
        if up is not None:
            message["flags"], message["change"] = IFF_UP if up else 0, IFF_UP
        message["attrs"] = attributes
        self._send(RTM_NEWLINK, _SET, message)

    def _alter_link(self, actual: Link, wanted: Link) -> None:
        plain: Attributes = []
        data: Attributes = []
        for field, _, value in unmet(wanted, actual):
            if field in _PLAIN:
                plain.append((_PLAIN[field], value))
            elif field in _BRIDGE:
                data.append((_BRIDGE[field], int(value)))  # type: ignore[call-overload]
            else:
                raise Failure(
                    f"{wanted.kind} {wanted.name} has another {field} ({getattr(actual, field)}), and the kernel "
                    f"cannot change it to {value}",
                    f"remove it when nothing uses it: ip link del {wanted.name}",
                )
        if plain:
            self._set_link(wanted.name, plain)
        for option in data:
            # One by one, in our order: the kernel takes no forward delay of 0 while spanning tree is on, and looks at
            # the delay first (br_changelink).
            self._set_link(wanted.name, [("IFLA_LINKINFO", _info("bridge", [option]))])

    def _add_rule(self, rule: Rule) -> None:
        try:
            self._send(RTM_NEWRULE, _NEW, _rule_message(rule))
        except OSError as error:
            # The very same rule: an attach and a setup made it at the same moment.
            if error.errno != errno.EEXIST:
                raise

    def _bridge_vlans(self, before: BridgeVlan, after: BridgeVlan) -> None:
        """Take away what AFTER lacks, then add what BEFORE lacks: never more VLANs than wanted at any moment."""
        gone = before.tagged - after.tagged
        if before.untagged is not None and before.untagged != after.untagged:
            gone |= {before.untagged}
        if gone:
            self._vlan_message(RTM_DELLINK, after.device, [(0, vid) for vid in sorted(gone)])
        new = [(0, vid) for vid in sorted(after.tagged - before.tagged)]
        if after.untagged is not None and after.untagged != before.untagged:
            new.append((BRIDGE_VLAN_INFO_PVID_UNTAGGED, after.untagged))
        if new:
            self._vlan_message(RTM_SETLINK, after.device, new)

    def _vlan_message(self, kind: int, device: str, vlans: list[tuple[int, int]]) -> None:
        message = ifinfmsg()
        message["family"], message["index"] = AF_BRIDGE, self._index(device)
        entries = [("IFLA_BRIDGE_VLAN_INFO", {"flags": flags, "vid": vid}) for flags, vid in vlans]
        message["attrs"] = [("IFLA_AF_SPEC", {"attrs": entries})]
        self._send(kind, _SET, message)

    def _route_message(self, route: Route) -> rtmsg:
        message = rtmsg()
        message["family"] = _family(route.destination.version)
        message["dst_len"] = route.destination.prefixlen
        message["proto"] = route.protocol
        message["type"] = RTN_UNREACHABLE if route.kind == "unreachable" else RTN_UNICAST
        on_link = route.kind == "unicast" and route.gateway is None
        message["scope"] = RT_SCOPE_LINK if on_link else RT_SCOPE_UNIVERSE
        message["flags"] = RTNH_F_ONLINK if route.gateway else 0
        attributes: Attributes = [("RTA_TABLE", route.table)]
        if route.destination.prefixlen:
            attributes.append(("RTA_DST", str(route.destination.network_address)))
        if route.gateway:
            attributes.append(("RTA_GATEWAY", str(route.gateway)))
        if route.device:
            attributes.append(("RTA_OIF", self._index(route.device)))
        if route.metric:
            attributes.append(("RTA_PRIORITY", route.metric))
        message["attrs"] = attributes
        return message

    def _proxy_message(self, proxy: ProxyNeighbour) -> _proxy_ndmsg:
        message = _proxy_ndmsg()
        message["family"] = _family(6 if isinstance(proxy.address, IPv6Address) else 4)
        message["ifindex"], message["flags"] = self._index(proxy.device), NTF_PROXY
        # Permanent: an entry without this state is lost when the uplink's carrier goes.
        message["state"] = NUD_PERMANENT
        message["attrs"] = [("NDA_DST", str(proxy.address)), ("NDA_PROTOCOL", PROTOCOL)]
        return message


_PLAIN = {"mac": "IFLA_ADDRESS", "mtu": "IFLA_MTU", "group": "IFLA_GROUP"}
_BRIDGE = {
    "stp": "IFLA_BR_STP_STATE",
    "forward_delay": "IFLA_BR_FORWARD_DELAY",
    "mcast_snooping": "IFLA_BR_MCAST_SNOOPING",
    "call_iptables": "IFLA_BR_NF_CALL_IPTABLES",
    "call_ip6tables": "IFLA_BR_NF_CALL_IP6TABLES",
    "vlan_filtering": "IFLA_BR_VLAN_FILTERING",
}


def _family(version: int) -> int:
    return socket.AF_INET6 if version == 6 else socket.AF_INET


def _link(index: int) -> ifinfmsg:
    message = ifinfmsg()
    message["index"] = index
    return message


def _info(kind: str, data: Attributes) -> dict[str, object]:
    return {"attrs": [("IFLA_INFO_KIND", kind), ("IFLA_INFO_DATA", {"attrs": data})]}


def _link_message(link: Link, lower: int) -> ifinfmsg:
    """A new device, with all its properties from the first moment on, and down."""
    message = ifinfmsg()
    attributes: Attributes = [("IFLA_IFNAME", link.name)]
    plain = [field for field in _PLAIN if not (field == "mtu" and link.kind == "bridge")]
    attributes += [(_PLAIN[field], getattr(link, field)) for field in plain if getattr(link, field) is not None]
    data: Attributes = []
    match link.kind:
        case "bridge":
            data = [(n, int(getattr(link, f))) for f, n in _BRIDGE.items() if getattr(link, f) is not None]
        case "vlan":
            attributes.append(("IFLA_LINK", lower))
            data = [("IFLA_VLAN_ID", link.vlan)]
        case "vxlan":
            group = "IFLA_VXLAN_GROUP6" if isinstance(link.vxlan_group, IPv6Address) else "IFLA_VXLAN_GROUP"
            data = [
                ("IFLA_VXLAN_ID", link.vni),
                ("IFLA_VXLAN_LINK", lower),
                (group, str(link.vxlan_group)),
                ("IFLA_VXLAN_PORT", link.vxlan_port),
            ]
        case _:
            raise Gone(f"there is no device {link.name}", "ip link show")
    attributes.append(("IFLA_LINKINFO", _info(link.kind, data)))
    message["attrs"] = attributes
    return message


def _rule_message(rule: Rule) -> fibmsg:
    message = fibmsg()
    message["family"] = _family(rule.family)
    message["action"] = FR_ACT_TO_TBL
    message["table"] = rule.table if rule.table < 256 else 0
    attributes: Attributes = [("FRA_TABLE", rule.table), ("FRA_PRIORITY", rule.priority)]
    if rule.mark is not None:
        attributes += [("FRA_FWMARK", rule.mark), ("FRA_FWMASK", 0xFFFFFFFF)]
    if rule.device is not None:
        attributes.append(("FRA_IIFNAME", rule.device))
    attributes.append(("FRA_PROTOCOL", rule.protocol))
    message["attrs"] = attributes
    return message


def _refused(change: Change, error: OSError) -> Failure:
    thing = name(subject(change))
    if error.errno in (errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.ENXIO, errno.EADDRNOTAVAIL):
        return Gone(f"{thing}: it or its device is not there (any more)", "ip link show")
    if error.errno in (errno.EPERM, errno.EACCES):
        return Failure(f"{thing}: no permission to change the node's network", "run it as root, with CAP_NET_ADMIN")
    if error.errno == errno.EEXIST and isinstance(change, Make) and isinstance(change.wanted, Route):
        route = change.wanted
        return Failure(
            f"the address {route.destination.network_address} leads to another device of this node",
            f"see whose it is: ganeti-vif status, and: ip route show table {route.table}",
        )
    reason = os.strerror(error.errno or 0)
    return Failure(f"{thing}: the kernel refuses: {reason}", f"see what it says to: {next(commands(change))}")
