# SPDX-License-Identifier: BSD-2-Clause
"""A private network on a node: a bridge of its own, perhaps with an uplink, and no path to the node.

Pure: the node's devices come in as data, and desired objects go out as data.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b

from ganeti_vif.config.model import VXLAN_PORT, Private, Uplink, VlanUplink, VxlanUplink
from ganeti_vif.engine.chains import Chain, FilterRule
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.marks import ADOPTED_GROUP, GROUP, LEAVING_GROUP
from ganeti_vif.engine.objects import ETHERNET_MTU, BridgeNetfilter, BridgePort, Link, Sysctl, Up
from ganeti_vif.engine.state import Object
from host_setup.nfdhcpd import heard, left_alone

_FACTS = ("kind", "lower", "vlan", "vni")
MADE = (GROUP, LEAVING_GROUP)
OURS = (*MADE, ADOPTED_GROUP)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateNetwork:
    """One network of a family: its bridge, and its uplink port if it has one."""

    bridge: str
    uplink: Uplink
    number: int
    mtu: int

    @property
    def port(self) -> str | None:
        return self.uplink.port(self.number) if self.uplink else None


def networks(private: Private, links: Mapping[str, Link]) -> Iterator[PrivateNetwork]:
    """The networks of PRIVATE. Raises Failure if the device under the uplink is missing, or its MTU is too small."""
    mtu = _mtu(private, links)
    for number in private.numbers:
        yield PrivateNetwork(bridge=f"{private.prefix}{number}", uplink=private.uplink, number=number, mtu=mtu)


def _mtu(private: Private, links: Mapping[str, Link]) -> int:
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
        return private.mtu or largest - private.uplink.overhead
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
        yield Sysctl(path=f"net/ipv6/conf/{network.port}/disable_ipv6", value="1")
        yield BridgePort(device=network.port, bridge=network.bridge)
        yield Up(device=network.port)


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
    return any(getattr(existing, fact) != getattr(wanted, fact) for fact in (*_FACTS, "vxlan_group", "vxlan_port"))


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
    if master not in (None, network.bridge):
        return Failure(
            f"{network.bridge}: its uplink {wanted.name} is a port of {master}",
            f"note: if it does not belong there: ip link set {wanted.name} nomaster",
        )
    return None


def tunnels(private: Iterable[Private]) -> Chain:
    """Frames for private networks come in by the device of their own uplink, and by no other.

    The kernel takes VXLAN from any device, and learns the sender as a tunnel end. The rules name VNIs, because somebody
    else on this node may have tunnels of his own. Without VXLAN uplinks the chain has no rules, and is not needed.
    """
    vnis: dict[str, set[int]] = {}
    for family in private:
        if isinstance(family.uplink, VxlanUplink):
            known = vnis.setdefault(family.uplink.device, set())
            known.update((family.uplink.offset + number) for number in family.numbers)
    rules = []
    for device, known in sorted(vnis.items()):
        for first, last in _spans(known):
            match = f'iifname != "{device}" udp dport {VXLAN_PORT} @th,96,24 {first}-{last}'
            rules.append(FilterRule(f"{match} counter drop", "a tunnel by another device than its uplink"))
    return Chain(
        family="inet", name="tunnels", hook="input", device=None, priority=-300, policy="accept", rules=tuple(rules)
    )


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
