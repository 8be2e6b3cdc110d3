"""What a NIC's needs depend on, on the node around it; and what there keeps a NIC from being attached."""

from __future__ import annotations

from dataclasses import dataclass

from config.model import Private, Profile, Public
from engine.failure import Failure
from engine.objects import Link, Route
from host_setup import public as public_links
from vif import profile as profiles
from vif import tap
from vif.nic import Mode, Nic

MAIN = 254
CONFIGURATION = "/etc/ganeti-vif/ganeti-vif.conf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """The node as one NIC sees it. A missing thing is None: for a NIC that goes away that is no trouble."""

    tap: Link | None = None
    bridge: Link | None = None
    configured: bool = False
    """Whether its bridge is one of a configured family."""
    family: Private | None = None
    """The family of private networks whose prefix its bridge has, whether it is one of them or not."""
    trunks: tuple[str, ...] = ()
    public: Public | None = None
    uplink: Link | None = None
    table: int | None = None
    switch: bool = False
    any_link_local: bool = False
    overlapping: tuple[Route, ...] = ()
    profile: Profile | None = None
    force_forwarding: bool = False
    advertised: frozenset[str] = frozenset()


def obstacle(nic: Nic, around: Surroundings) -> Failure | None:
    """Why NIC cannot be attached here, or None."""
    found = _tap(nic, around) or profiles.obstacle(nic, around.profile)
    if found is None:
        match nic.mode:
            case Mode.BRIDGED:
                found = _bridged(nic, around)
            case Mode.ROUTED:
                found = _routed(nic, around)
            case Mode.OPENVSWITCH:
                found = _openvswitch(nic, around)
    return found.about(nic.whom) if found else None


def _tap(nic: Nic, around: Surroundings) -> Failure | None:
    if around.tap is None:
        return tap.missing(nic.tap)
    if around.tap.index != nic.index:
        return Failure(
            f"{nic.tap} is another device by now (ifindex {around.tap.index}, not {nic.index})",
            f"gnt-instance startup {nic.instance}",
        )
    if nic.tap == nic.link or (around.uplink and nic.tap == around.uplink.name):
        return Failure(f"{nic.tap} cannot be its tap: it is its link", f"see: {tap.LIST}")
    return tap.refusal(around.tap)


def _bridged(nic: Nic, around: Surroundings) -> Failure | None:
    if failure := bridge_obstacle(nic.link, around.bridge, around.family):
        return failure
    assert around.bridge
    if "private-filtered" in nic.network_tags and (foreign := [m for m in nic.macs if m[:8] != nic.mac[:8]]):
        return Failure(
            f"a tag grants it the MAC {foreign[0]}, which is of another network on {nic.link} (private-filtered)",
            f"note: a MAC that begins with {nic.mac[:8]}, or: gnt-instance remove-tags {nic.instance}",
        )
    if (nic.vlans.untagged is not None or nic.vlans.tagged) and not around.bridge.vlan_filtering:
        return Failure(
            f"the NIC has VLANs, but the bridge {nic.link} knows none",
            f"ip link set {nic.link} type bridge vlan_filtering 1",
        )
    return None


def _routed(nic: Nic, around: Surroundings) -> Failure | None:
    if failure := table_obstacle(nic.link, around.table):
        return failure
    if around.public:
        links = {around.uplink.name: around.uplink} if around.uplink else {}
        if failure := public_links.obstacle(around.public, links, around.advertised):
            return failure
    if around.public and (failure := _addresses(nic, around.public, around.overlapping)):
        return failure
    if not nic.networks(4) and not nic.networks(6):
        return Failure(
            "a routed NIC without an address",
            "note: give it one: gnt-instance modify --net N:modify,ip=ADDRESS, or its network a network6",
        )
    return None


def _addresses(nic: Nic, public: Public, overlapping: tuple[Route, ...]) -> Failure | None:
    """Why NIC cannot have its addresses on this link, or None."""
    networks = (*nic.networks(4), *nic.networks(6))
    for network in networks:
        shown = network.network_address if network.num_addresses == 1 else network
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


def _openvswitch(nic: Nic, around: Surroundings) -> Failure | None:
    return switch_obstacle(nic.link, exists=around.switch)


def bridge_obstacle(link: str, found: Link | None, family: Private | None) -> Failure | None:
    """Why no NIC can be bridged to LINK, which the node was FOUND to have; None if it can. FAMILY is that of its
    prefix."""
    if found is None:
        return Failure(f"the bridge {link} does not exist", _makes(link, family))
    if found.kind != "bridge":
        what = f"{link} is no bridge but a {found.kind or 'device'}"
        return Failure(what, "note: give the NIC another link: gnt-instance modify --net, or gnt-network connect -N")
    return None


def _makes(bridge: str, family: Private | None) -> str:
    """What makes BRIDGE: setup makes one that is in the ranges of its FAMILY, and no other."""
    if family is None:
        return f"ip link add {bridge} type bridge && ip link set {bridge} up"
    if family.has(bridge):
        return "ganeti-vif setup"
    number = bridge.removeprefix(family.prefix)
    return f"note: add {number} to the bridges of [private {family.prefix}] of {CONFIGURATION}, then: ganeti-vif setup"


def table_obstacle(link: str, table: int | None) -> Failure | None:
    """Why no NIC can be routed by LINK, which means this TABLE; None if it can."""
    if table is not None:
        return None
    do = f"note: add [public {link}] to {CONFIGURATION}, or the table to /etc/iproute2/rt_tables"
    return Failure(f"the link {link} is no routing table", do)


def switch_obstacle(link: str, *, exists: bool) -> Failure | None:
    """Why no NIC can be a port of LINK, an Open vSwitch bridge; None if it can."""
    return None if exists else Failure(f"Open vSwitch has no bridge {link}", f"ovs-vsctl add-br {link}")
