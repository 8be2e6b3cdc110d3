# SPDX-License-Identifier: BSD-2-Clause
"""What prevents an attach of a NIC on this node."""

from __future__ import annotations

from ipaddress import ip_network

from ganeti_vif.config.model import Private, Public
from ganeti_vif.desired import own_prefix
from ganeti_vif.desired.context import Context
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.objects import Link, Prefix, Route
from ganeti_vif.guard import profile as profiles
from ganeti_vif.nic import tap
from ganeti_vif.nic.identity import has_tap
from ganeti_vif.nic.nic import Mode, Nic
from host_setup import public as public_links

MAIN = 254
CONFIGURATION = "/etc/ganeti-vif/ganeti-vif.conf"


def obstacle(nic: Nic, context: Context) -> Failure | None:
    """Why NIC cannot be attached here, or None if it can."""
    found = _tap(nic, context) or profiles.obstacle(nic, context.profile)
    found = found or _granted(nic, context) or _delegation(nic)
    if found is None:
        match nic.mode:
            case Mode.BRIDGED:
                found = _bridged(nic, context)
            case Mode.ROUTED:
                found = _routed(nic, context)
            case Mode.OPENVSWITCH:
                found = _openvswitch(nic, context)
    return found.about(nic.whom) if found else None


def _tap(nic: Nic, context: Context) -> Failure | None:
    if context.tap is None:
        return tap.missing(nic.tap)
    if not has_tap(nic, context.tap):
        return Failure(
            f"{nic.tap} is another device by now (ifindex {context.tap.index}, not {nic.index})",
            f"gnt-instance startup {nic.instance}",
        )
    if nic.tap == nic.link or (context.uplink and nic.tap == context.uplink.name):
        return Failure(f"{nic.tap} cannot be its tap: it is its link", f"see: {tap.LIST}")
    return tap.refusal(context.tap)


def _delegation(nic: Nic) -> Failure | None:
    """A prefix leads to a routed NIC only. And its guest is its router: it needs an address of its own."""
    if not nic.delegated:
        return None
    if nic.mode is not Mode.ROUTED:
        what = f"a tag delegates {nic.delegated[0]} to it, but nothing routes to a NIC that is not routed"
        return Failure(what, "note: give it a public link, or: gnt-instance remove-tags")
    if nic.address6 is None:
        what = f"a tag delegates {nic.delegated[0]} to it, but it has no IPv6 address of its own"
        return Failure(what, "note: give its network an IPv6 prefix (gnt-network modify --network6), or remove the tag")
    return None


def _granted(nic: Nic, context: Context) -> Failure | None:
    """Why no tag can grant what NIC's tags grant, or None."""
    granted = [("address", prefix) for prefix in nic.grants.addresses]
    granted += [("shared-address", ip_network(address)) for address in nic.grants.shared]
    for kind, prefix in granted:
        if taken := sorted(str(one) for one in context.own if one in prefix):
            return Failure(
                f"the tag vif:NIC:{kind}:{_shown(prefix)} grants it {taken[0]}, which is the node's own address",
                f"see: gnt-instance list-tags {nic.instance}, and: gnt-instance remove-tags {nic.instance} TAG",
            )
    return None


def _shown(prefix: Prefix) -> str:
    return str(prefix.network_address if prefix.num_addresses == 1 else prefix)


def _bridged(nic: Nic, context: Context) -> Failure | None:
    if failure := bridge_obstacle(nic.link, context.bridge, context.family):
        return failure
    assert context.bridge
    if "private-filtered" in nic.network_tags and (foreign := [m for m in nic.macs if m[:8] != nic.mac[:8]]):
        return Failure(
            f"a tag grants it the MAC {foreign[0]}, which is of another network on {nic.link} (private-filtered)",
            f"note: a MAC that begins with {nic.mac[:8]}, or: gnt-instance remove-tags {nic.instance}",
        )
    if (nic.vlans.untagged is not None or nic.vlans.tagged) and not context.bridge.vlan_filtering:
        return Failure(
            f"the NIC has VLANs, but the bridge {nic.link} knows none",
            f"ip link set {nic.link} type bridge vlan_filtering 1",
        )
    return None


def _routed(nic: Nic, context: Context) -> Failure | None:
    if failure := table_obstacle(nic.link, context.table):
        return failure
    if context.public:
        links = {context.uplink.name: context.uplink} if context.uplink else {}
        if failure := public_links.obstacle(context.public, links, context.advertised, ipv6=context.ipv6):
            return failure
    if context.public and (failure := own_prefix.obstacle(nic, context.public)):
        return failure
    if context.public and (failure := _addresses(nic, context.public, context.overlapping)):
        return failure
    if nic.networks(6) and not context.ipv6:
        return Failure(
            f"it has the IPv6 address {nic.networks(6)[0].network_address}, and {public_links.NO_IPV6}",
            f"note: {public_links.WITH_IPV6}, or: gnt-instance add-tags {nic.instance} disable_ipv6",
        )
    if not nic.networks(4) and not nic.networks(6):
        return Failure(
            "a routed NIC without an address",
            "note: give it one: gnt-instance modify --net N:modify,ip=ADDRESS, or its network a network6",
        )
    return None


def _addresses(nic: Nic, public: Public, overlapping: tuple[Route, ...]) -> Failure | None:
    """Why NIC cannot have its addresses on this link, or None if it can."""
    networks = (*nic.networks(4), *nic.networks(6))
    for network in networks:
        shown = _shown(network)
        if not public.holds(network):
            return Failure(
                f"its address {shown} is in no subnet of the public link {public.name}",
                f"note: add its subnet to [public {public.name}] in {CONFIGURATION}, then: ganeti-vif setup",
            )
        for router in (*public.gateways, public.arp_source):
            if router and router in network:
                return Failure(
                    f"its address {shown} takes {router} from the public link {public.name}",
                    "note: give it another: gnt-instance modify --net, or mend its tags vif:NIC:address:PREFIX",
                )
    for route in overlapping:
        if route.destination not in networks:
            return Failure(
                f"its addresses overlap with {route.destination}, which leads to {route.device}",
                "see: ganeti-vif status",
            )
    return None


def _openvswitch(nic: Nic, context: Context) -> Failure | None:
    return switch_obstacle(nic.link, exists=context.switch)


def bridge_obstacle(link: str, found: Link | None, family: Private | None) -> Failure | None:
    """Why no NIC can be bridged to LINK, or None if one can. FOUND is the node's device of that name. FAMILY is the
    family of private networks with its prefix."""
    if found is None:
        return Failure(f"the bridge {link} does not exist", _makes(link, family))
    if found.kind != "bridge":
        what = f"{link} is no bridge but a {found.kind or 'device'}"
        return Failure(what, "note: give the NIC another link: gnt-instance modify --net, or gnt-network connect -N")
    return None


def _makes(bridge: str, family: Private | None) -> str:
    """The command or note that leads to BRIDGE. `setup` makes only bridges in the ranges of their FAMILY."""
    if family is None:
        return f"ip link add {bridge} type bridge && ip link set {bridge} up"
    if family.has(bridge):
        return "ganeti-vif setup"
    number = bridge.removeprefix(family.prefix)
    return f"note: add {number} to the bridges of [private {family.prefix}] of {CONFIGURATION}, then: ganeti-vif setup"


def table_obstacle(link: str, table: int | None) -> Failure | None:
    """Why no NIC can be routed by LINK, which stands for TABLE, or None if one can."""
    if table is not None:
        return None
    do = f"note: add [public {link}] to {CONFIGURATION}, or the table to /etc/iproute2/rt_tables"
    return Failure(f"the link {link} is no routing table", do)


def switch_obstacle(link: str, *, exists: bool) -> Failure | None:
    """Why no NIC can be a port of LINK, an Open vSwitch bridge, or None if one can."""
    return None if exists else Failure(f"Open vSwitch has no bridge {link}", f"ovs-vsctl add-br {link}")
