# SPDX-License-Identifier: BSD-2-Clause
"""Objects as netlink messages. This is the only module that imports pyroute2.

It uses pyroute2's message classes and not its `link()`/`route()` shorthands: those set defaults and filters of their
own, which differ between 0.7.2 and 0.7.7. Messages name devices by ifindex.
"""

from __future__ import annotations

import socket
from ipaddress import IPv6Address
from typing import TypeAlias

from pyroute2.netlink import nlmsg
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from ganeti_vif.engine.failure import Gone
from ganeti_vif.engine.marks import PROTOCOL
from ganeti_vif.engine.objects import Link, ProxyNeighbour, Route, Rule

IFF_UP, AF_BRIDGE, NTF_PROXY, NUD_PERMANENT = 1, 7, 8, 0x80
RTN_UNICAST, RTN_UNREACHABLE, RTNH_F_ONLINK = 1, 7, 4
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK = 0, 253
FR_ACT_TO_TBL = 1

Attributes = list[tuple[str, object]]
Message: TypeAlias = nlmsg

PLAIN = {"mac": "IFLA_ADDRESS", "mtu": "IFLA_MTU", "group": "IFLA_GROUP"}
BRIDGE = {
    "stp": "IFLA_BR_STP_STATE",
    "forward_delay": "IFLA_BR_FORWARD_DELAY",
    "mcast_snooping": "IFLA_BR_MCAST_SNOOPING",
    "vlan_filtering": "IFLA_BR_VLAN_FILTERING",
}
"""The netlink attribute of each field of a link: PLAIN for any device, BRIDGE for bridges only."""
BRIDGE_NETFILTER = {"iptables": "IFLA_BR_NF_CALL_IPTABLES", "ip6tables": "IFLA_BR_NF_CALL_IP6TABLES"}


def encoded(message: Message, kind: int, flags: int, number: int) -> bytearray:
    """The bytes of MESSAGE, with this KIND (RTM_...), these FLAGS and this sequence NUMBER."""
    header = message["header"]
    header["type"], header["flags"], header["sequence_number"] = kind, flags, number
    message.encode()
    data: bytearray = message.data
    return data


def new_link(wanted: Link, lower: int) -> Message:
    """Makes a device which is down and has all its properties from the start. LOWER is the ifindex below it, or 0.

    Raises Gone for a kind that we never make.
    """
    message = ifinfmsg()
    attributes: Attributes = [("IFLA_IFNAME", wanted.name)]
    plain = [field for field in PLAIN if not (field == "mtu" and wanted.kind == "bridge")]
    attributes += [(PLAIN[field], getattr(wanted, field)) for field in plain if getattr(wanted, field) is not None]
    data: Attributes = []
    match wanted.kind:
        case "bridge":
            data = [(n, int(getattr(wanted, f))) for f, n in BRIDGE.items() if getattr(wanted, f) is not None]
        case "vlan":
            attributes.append(("IFLA_LINK", lower))
            data = [("IFLA_VLAN_ID", wanted.vlan)]
        case "vxlan":
            data = [("IFLA_VXLAN_ID", wanted.vni), ("IFLA_VXLAN_LINK", lower), ("IFLA_VXLAN_PORT", wanted.vxlan_port)]
            for end, address in (("GROUP", wanted.vxlan_group), ("LOCAL", wanted.vxlan_local)):
                if address:
                    six = "6" if isinstance(address, IPv6Address) else ""
                    data.append((f"IFLA_VXLAN_{end}{six}", str(address)))
        case _:
            raise Gone(f"there is no device {wanted.name}", "see: ip link show")
    attributes.append(("IFLA_LINKINFO", _info(wanted.kind, data)))
    message["attrs"] = attributes
    return message


def link(index: int, attributes: Attributes, up: bool | None = None) -> Message:
    """Sets attributes of the device with this INDEX (0: of the devices that ATTRIBUTES name), and UP or down."""
    message = ifinfmsg()
    message["index"] = index
    if up is not None:
        message["flags"], message["change"] = IFF_UP if up else 0, IFF_UP
    message["attrs"] = attributes
    return message


def bridge_option(option: tuple[str, object]) -> Attributes:
    """An option of a bridge, as an attribute of its link."""
    return [("IFLA_LINKINFO", _info("bridge", [option]))]


def port_vlans(index: int, vlans: list[tuple[int, int]]) -> Message:
    """VLANS, as (flags, VLAN ID), of the bridge port with this INDEX."""
    message = ifinfmsg()
    message["family"], message["index"] = AF_BRIDGE, index
    entries = [("IFLA_BRIDGE_VLAN_INFO", {"flags": flags, "vid": vid}) for flags, vid in vlans]
    message["attrs"] = [("IFLA_AF_SPEC", {"attrs": entries})]
    return message


def rule(wanted: Rule) -> Message:
    """A whole policy rule, to make it or to remove it."""
    message = fibmsg()
    message["family"] = _family(wanted.family)
    message["action"] = FR_ACT_TO_TBL
    message["table"] = wanted.table if wanted.table < 256 else 0
    attributes: Attributes = [("FRA_TABLE", wanted.table), ("FRA_PRIORITY", wanted.priority)]
    if wanted.mark is not None:
        attributes += [("FRA_FWMARK", wanted.mark), ("FRA_FWMASK", 0xFFFFFFFF)]
    if wanted.device is not None:
        attributes.append(("FRA_IIFNAME", wanted.device))
    attributes.append(("FRA_PROTOCOL", wanted.protocol))
    message["attrs"] = attributes
    return message


def route(wanted: Route, device: int) -> Message:
    """A whole route, over the device with the ifindex DEVICE (0: no device)."""
    message = rtmsg()
    message["family"] = _family(wanted.destination.version)
    message["dst_len"] = wanted.destination.prefixlen
    message["proto"] = wanted.protocol
    message["type"] = RTN_UNREACHABLE if wanted.kind == "unreachable" else RTN_UNICAST
    on_link = wanted.kind == "unicast" and wanted.gateway is None
    message["scope"] = RT_SCOPE_LINK if on_link else RT_SCOPE_UNIVERSE
    message["flags"] = RTNH_F_ONLINK if wanted.gateway else 0
    attributes: Attributes = [("RTA_TABLE", wanted.table)]
    if wanted.destination.prefixlen:
        attributes.append(("RTA_DST", str(wanted.destination.network_address)))
    if wanted.gateway:
        attributes.append(("RTA_GATEWAY", str(wanted.gateway)))
    if device:
        attributes.append(("RTA_OIF", device))
    if wanted.metric:
        attributes.append(("RTA_PRIORITY", wanted.metric))
    message["attrs"] = attributes
    return message


def proxy(wanted: ProxyNeighbour, device: int) -> Message:
    """A proxy neighbour on the device with the ifindex DEVICE."""
    message = _proxy_ndmsg()
    message["family"] = _family(6 if isinstance(wanted.address, IPv6Address) else 4)
    message["ifindex"], message["flags"] = device, NTF_PROXY
    # Permanent: the kernel removes an entry without this state when the uplink loses its carrier.
    message["state"] = NUD_PERMANENT
    message["attrs"] = [("NDA_DST", str(wanted.address)), ("NDA_PROTOCOL", PROTOCOL)]
    return message


class _proxy_ndmsg(ndmsg):  # type: ignore[misc]  # noqa: N801
    """ndmsg with the attributes of linux/neighbour.h that pyroute2 0.7.2 lacks. NDA_PROTOCOL marks an entry as ours."""

    __slots__ = ()
    nla_map = (
        *ndmsg.nla_map[:10],
        ("NDA_LINK_NETNSID", "int32"),
        ("NDA_SRC_VNI", "uint32"),
        ("NDA_PROTOCOL", "uint8"),
    )


def _family(version: int) -> int:
    return socket.AF_INET6 if version == 6 else socket.AF_INET


def _info(kind: str, data: Attributes) -> dict[str, object]:
    return {"attrs": [("IFLA_INFO_KIND", kind), ("IFLA_INFO_DATA", {"attrs": data})]}
