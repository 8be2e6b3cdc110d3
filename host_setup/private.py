# SPDX-License-Identifier: BSD-2-Clause
"""A private network on a node: a bridge of its own, perhaps with an uplink, and no path to the node.

Pure: the node's devices come in as data, and desired objects go out as data.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b

from ganeti_vif.config.model import VXLAN_PORT, Private, Uplink, VlanUplink, VxlanUplink, vxlan_overhead
from ganeti_vif.engine.chains import Chain, FilterRule
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.marks import ADOPTED_GROUP, GROUP, LEAVING_GROUP
from ganeti_vif.engine.naming import in_order
from ganeti_vif.engine.objects import ETHERNET_MTU, Address, BridgeNetfilter, BridgePort, Link, Peers, Sysctl, Up
from ganeti_vif.engine.state import Object
from host_setup.nfdhcpd import heard, left_alone

_FACTS = ("kind", "lower", "vlan", "vni")
_TUNNEL = ("vxlan_group", "vxlan_local", "vxlan_port")
MADE = (GROUP, LEAVING_GROUP)
OURS = (*MADE, ADOPTED_GROUP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Underlay:
    """The ends of the tunnels of a cluster: the address HERE of this node, and those of its PEERS, the other nodes."""

    here: Address
    peers: frozenset[Address]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateNetwork:
    """One network of a family: its bridge, and its uplink port if it has one. UNDERLAY if that leads to the cluster's
    other nodes."""

    bridge: str
    uplink: Uplink
    number: int
    mtu: int
    underlay: Underlay | None = None

    @property
    def port(self) -> str | None:
        return self.uplink.port(self.number) if self.uplink else None


def networks(
    private: Private, links: Mapping[str, Link], underlay: Underlay | Failure | None = None
) -> Iterator[PrivateNetwork]:
    """The networks of PRIVATE. UNDERLAY is this cluster's, or why it is not known.

    Raises Failure if the device under the uplink is missing, if its MTU is too small, or if the uplink leads to the
    cluster's nodes and they are not known.
    """
    ends = _ends(private, underlay) if private.follows_cluster else None
    mtu = _mtu(private, links, ends)
    for number in private.numbers:
        bridge = f"{private.prefix}{number}"
        yield PrivateNetwork(bridge=bridge, uplink=private.uplink, number=number, mtu=mtu, underlay=ends)


def _ends(private: Private, underlay: Underlay | Failure | None) -> Underlay:
    assert isinstance(private.uplink, VxlanUplink) and underlay, "who reads the node asks for its cluster, too"
    if isinstance(underlay, Failure):
        raise underlay.about(f"private networks {private.prefix}*")
    if private.uplink.group and private.uplink.group.version != underlay.here.version:
        raise Failure(
            f"private networks {private.prefix}*: the group {private.uplink.group} and this node's address "
            f"{underlay.here} are of two IP versions",
            f"note: give [private {private.prefix}] another group",
        )
    return underlay


def nowhere(underlay: Underlay) -> Failure:
    """What is wrong if this node does not have its own address of UNDERLAY."""
    return Failure(
        f"no device of this node has the address {underlay.here}, by which the cluster knows its tunnels",
        "see: ip address && cat /var/lib/ganeti/ssconf_node_secondary_ips",
    )


def _mtu(private: Private, links: Mapping[str, Link], underlay: Underlay | None) -> int:
    if private.uplink is None:
        return private.mtu or ETHERNET_MTU
    lower = links.get(private.uplink.device)
    if lower is None:
        raise Failure(
            f"private networks {private.prefix}*: the uplink device {private.uplink.device} does not exist",
            f"note: make it first, or mend the uplink of [private {private.prefix}]: ip link shows what there is",
        )
    largest = lower.mtu or ETHERNET_MTU
    if isinstance(private.uplink, VxlanUplink):
        # A larger MTU works too, in fragments. The administrator may choose VXLAN over a path with a smaller MTU.
        end = underlay.here if underlay else private.uplink.group
        assert end, "an uplink without a group leads to the cluster's nodes"
        return private.mtu or largest - vxlan_overhead(end)
    if (private.mtu or 0) > largest:
        raise Failure(
            f"private networks {private.prefix}*: mtu {private.mtu} does not fit {lower.name}, which has {largest}",
            f"ip link set {lower.name} mtu {private.mtu}",
        )
    return private.mtu or largest


def desired(
    network: PrivateNetwork,
    links: Mapping[str, Link],
    node: str,
    *,
    queued: bool = False,
    netfilter: BridgeNetfilter | None = None,
) -> Iterator[Object]:
    """The objects that NETWORK needs. NODE identifies this node: the bridge's MAC comes from it. QUEUED: a real NFDHCPD
    must hear the guests. If not QUEUED and NETFILTER (the bridge's present setting, if the kernel tells) is on, our own
    bridge is set back."""
    yield Link(
        name=network.bridge,
        kind="bridge",
        group=_group(links.get(network.bridge)),
        # A MAC that is set stays. Otherwise a bridge takes the lowest MAC of its ports, and the node's neighbours lose
        # it whenever a VM comes or goes (ganeti issue 273).
        mac=own_mac(node, network.bridge),
        mtu=network.mtu,
        stp=False,
        forward_delay=0,
        # Multicast goes to all ports, like broadcast. Nobody asks for memberships here, and a snooping bridge joins a
        # group of its own: its timers walk all devices of the node.
        mcast_snooping=False,
    )
    if queued:
        yield heard(network.bridge)
    elif netfilter and (netfilter.iptables or netfilter.ip6tables) and links[network.bridge].group in MADE:
        yield left_alone(network.bridge)
    yield Sysctl(path=f"net/ipv6/conf/{network.bridge}/disable_ipv6", value="1")
    # 8: answer no ARP request for any address of this node (kernel doc ip-sysctl).
    yield Sysctl(path=f"net/ipv4/conf/{network.bridge}/arp_ignore", value="8")
    # 2: and name no such address in its own requests.
    yield Sysctl(path=f"net/ipv4/conf/{network.bridge}/arp_announce", value="2")
    yield Up(device=network.bridge)
    if network.port:
        yield _port(network, links)
        yield from _peers(network)
        yield Sysctl(path=f"net/ipv6/conf/{network.port}/disable_ipv6", value="1")
        yield BridgePort(device=network.port, bridge=network.bridge)
        yield Up(device=network.port)


def _peers(network: PrivateNetwork) -> Iterator[Peers]:
    match network.uplink:
        case VxlanUplink(device=lower, group=group) if network.underlay and network.port:
            # With a group as well, the kernel's own entry for it stays: nodes that have only the group hear it.
            addresses = network.underlay.peers | ({group} if group else set())
            yield Peers(device=network.port, lower=lower, addresses=addresses)


def _port(network: PrivateNetwork, links: Mapping[str, Link]) -> Link:
    assert network.port
    group = _group(links.get(network.port))
    match network.uplink:
        case VlanUplink(device=lower, offset=offset):
            return Link(
                name=network.port, kind="vlan", group=group, mtu=network.mtu, lower=lower, vlan=offset + network.number
            )
        case VxlanUplink(device=lower, offset=offset, group=multicast):
            return Link(
                name=network.port,
                kind="vxlan",
                group=group,
                mtu=network.mtu,
                lower=lower,
                vni=offset + network.number,
                vxlan_group=multicast,
                # Peers take frames from this address only.
                vxlan_local=network.underlay.here if network.underlay else None,
                vxlan_port=VXLAN_PORT,
            )
    raise ValueError(network)


def _group(existing: Link | None) -> int:
    """GROUP for a device that we make, for as long as it exists. ADOPTED_GROUP for one that was there before us."""
    return GROUP if existing is None or existing.group in MADE else ADOPTED_GROUP


def own_mac(node: str, bridge: str) -> str:
    """A locally administered unicast MAC for BRIDGE: the same at every start, and different on every node."""
    return "02:" + blake2b(f"{node} {bridge}".encode(), digest_size=5).digest().hex(":")


def obstacle(
    network: PrivateNetwork,
    links: Mapping[str, Link],
    ports: Mapping[str, Iterable[Link]],
    masters: Mapping[str, str],
) -> Failure | None:
    """Why NETWORK cannot be set up here, because something on this node belongs to somebody else. None if it can.

    PORTS are by bridge, MASTERS by port.
    """
    bridge = links.get(network.bridge)
    if bridge and bridge.kind != "bridge":
        return Failure(
            f"{network.bridge} exists and is no bridge but a {bridge.kind or 'device'}",
            f"note: rename or remove it, or leave {network.bridge} out of the ranges",
        )
    if bridge and bridge.group not in (0, *OURS):
        return Failure(
            f"{network.bridge} is of the device group {bridge.group}: somebody else takes care of it",
            f"ip link set {network.bridge} group 0",
        )
    for port in ports.get(network.bridge, ()):
        if port.name != network.port and not port.is_tap and not is_our_uplink(port):
            return Failure(
                f"{network.bridge} has the port {port.name} ({port.kind or 'device'}), which is neither a VM's tap "
                f"nor its uplink {network.port or '(it has none)'}, and which ganeti-vif did not make",
                f"ip link set {port.name} nomaster",
            )
    if network.port and (existing := links.get(network.port)):
        return _port_obstacle(network, existing, links, masters)
    return None


def is_our_uplink(port: Link) -> bool:
    """Whether PORT is an uplink that we made, for the present configuration or for an earlier one."""
    return port.kind in ("vlan", "vxlan") and port.group in MADE


def leaving(
    network: PrivateNetwork, links: Mapping[str, Link], ports: Mapping[str, Iterable[Link]]
) -> Iterator[Object]:
    """The uplinks that we made for NETWORK and that the configuration no longer has, or has with other values.

    Bridge and taps stay. An uplink cannot be changed into another: it is removed, and the next one is made at once.
    """
    for port in ports.get(network.bridge, ()):
        if is_our_uplink(port) and (port.name != network.port or _differs(network, port, links)):
            yield from (port, BridgePort(device=port.name, bridge=network.bridge), Up(device=port.name))


def _differs(network: PrivateNetwork, existing: Link, links: Mapping[str, Link]) -> bool:
    """Whether EXISTING differs from what NETWORK's uplink should be."""
    wanted = _port(network, links)
    return any(getattr(existing, fact) != getattr(wanted, fact) for fact in (*_FACTS, *_TUNNEL))


def _port_obstacle(
    network: PrivateNetwork, existing: Link, links: Mapping[str, Link], masters: Mapping[str, str]
) -> Failure | None:
    wanted, master = _port(network, links), masters.get(existing.name)
    if is_our_uplink(existing) and master == network.bridge:
        return None  # leaving() replaces it if necessary
    if any(getattr(existing, fact) != getattr(wanted, fact) for fact in _FACTS):
        is_, should = (
            " ".join(f"{f} {getattr(link, f)}" for f in _FACTS if getattr(link, f)) for link in (existing, wanted)
        )
        return Failure(
            f"{network.bridge}: its uplink {wanted.name} exists and is something else ({is_}, not {should})",
            f"note: if nothing uses it: ip link del {wanted.name}",
        )
    if network.underlay and existing.group not in MADE:
        return Failure(
            f"{network.bridge}: its uplink {wanted.name} exists, and ganeti-vif did not make it: so its peers are "
            "somebody else's",
            f"note: if nothing uses it: ip link del {wanted.name}",
        )
    if master not in (None, network.bridge):
        return Failure(
            f"{network.bridge}: its uplink {wanted.name} is a port of {master}",
            f"note: if it does not belong there: ip link set {wanted.name} nomaster",
        )
    return None


def tunnels(private: Iterable[Private], underlay: Underlay | Failure | None = None) -> Chain:
    """Frames for private networks come in by the device of their own uplink, and by no other. If the uplink leads to
    the cluster's nodes, they come from PEERS of UNDERLAY only; from nobody while these are not known.

    The kernel takes VXLAN from any device, and learns the sender as a tunnel end. The rules name VNIs, because somebody
    else on this node may have tunnels of his own. Without VXLAN uplinks the chain has no rules, and is not needed.
    """
    vnis: dict[str, set[int]] = {}
    of_cluster: set[int] = set()
    for family in private:
        if isinstance(family.uplink, VxlanUplink):
            known = vnis.setdefault(family.uplink.device, set())
            numbers = {family.uplink.offset + number for number in family.numbers}
            known |= numbers
            of_cluster |= numbers if family.follows_cluster else set()
    rules = []
    for device, known in sorted(vnis.items()):
        for first, last in _spans(known):
            match = f'iifname != "{device}" {_tunnel(first, last)}'
            rules.append(FilterRule(f"{match} counter drop", "a tunnel by another device than its uplink"))
    for first, last in _spans(of_cluster):
        for stranger in _strangers(underlay):
            match = f"{_tunnel(first, last)}{stranger}"
            rules.append(FilterRule(f"{match} counter drop", "a tunnel from no other node of this cluster"))
    return Chain(
        family="inet", name="tunnels", hook="input", device=None, priority=-300, policy="accept", rules=tuple(rules)
    )


def _tunnel(first: int, last: int) -> str:
    """What matches frames for the VNIs FIRST to LAST: 96 bits after the start of the UDP header (RFC 7348, 5)."""
    return f"udp dport {VXLAN_PORT} @th,96,24 {first}-{last}"


def _strangers(underlay: Underlay | Failure | None) -> list[str]:
    """What matches packets from no peer, each with a blank before it."""
    if not isinstance(underlay, Underlay) or not underlay.peers:
        return [""]
    words = []
    for version, family, address in ((4, "ipv4", "ip"), (6, "ipv6", "ip6")):
        peers = ", ".join(str(one) for one in in_order(underlay.peers) if one.version == version)
        words.append(f" {address} saddr != {{ {peers} }}" if peers else f" meta nfproto {family}")
    return words


def _spans(numbers: Collection[int]) -> Iterator[tuple[int, int]]:
    """The spans without a gap in NUMBERS: the first and the last of each."""
    first = None
    for number in sorted(numbers):
        first = number if first is None else first
        if number + 1 not in numbers:
            yield first, number
            first = None


def seclusion() -> Iterator[Object]:
    """No packet from a private bridge reaches the node itself, and none is routed in or out.

    The rules match the device group, so a few rules serve any number of bridges, and work before any bridge is up. With
    br_netfilter, frames between two ports of a bridge pass the forward hook too: they leave by the same group.
    """
    ours = f"{min(OURS)}-{max(OURS)}"
    for family, hook, priority, matches in (
        ("inet", "input", -300, [f"iifgroup {ours}"]),
        ("inet", "forward", -300, [f"iifgroup {ours} oifgroup != {ours}", f"oifgroup {ours} iifgroup != {ours}"]),
        ("arp", "input", 0, [f"iifgroup {ours}"]),
    ):
        yield Chain(
            family=family,
            name=f"seclusion-{hook}",
            hook=hook,
            device=None,
            priority=priority,
            policy="accept",
            rules=tuple(FilterRule(f"{match} counter drop", "private networks end here") for match in matches),
        )
