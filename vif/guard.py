"""The filter of a NIC: what its guest may send, and what the node's own ARP looks like to it. As rules in nft's words.

One netdev chain on the tap's ingress, closed by default, the same for every mode: it sees each frame before bridge
and routing do. For NICs of a public link it also sets the packet mark by which the link's routing table is chosen.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address

from engine.objects import Address, Chain, FilterRule
from vif.nic import Mode, Nic

DHCP = "ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67"


def ingress(nic: Nic, mark: int | None = None) -> Chain:
    """What NIC's guest may send. MARK is set on all of it."""
    accept = "accept" if mark is None else f"meta mark set {mark:#010x} accept"
    return Chain(
        family="netdev",
        name=f"{nic.tap}-in",
        hook="ingress",
        device=nic.tap,
        priority=0,
        policy="drop",
        rules=(*_link_layer(nic), *_arp(nic, accept), *_ipv4(nic, accept), *_ipv6(nic, accept)),
    )


def _link_layer(nic: Nic) -> Iterator[FilterRule]:
    yield FilterRule(f"ether saddr != {nic.mac} drop", "foreign MAC")
    # QEMU's announcement after a migration (net/announce.c): bridges learn from it where the guest lives.
    yield FilterRule("ether type 0x8035 accept", "RARP announcement")


def _arp(nic: Nic, accept: str) -> Iterator[FilterRule]:
    yield FilterRule(f"arp saddr ether != {nic.mac} drop", "foreign ARP sender MAC")
    # 0.0.0.0: the probe for a duplicate address (RFC 5227).
    sender = f"arp saddr ip {{ {nic.address}, 0.0.0.0 }}" if nic.address else "ether type arp" if _any(nic, 4) else None
    if sender:
        yield FilterRule(f"{sender} {accept}", "ARP")


def _ipv4(nic: Nic, accept: str) -> Iterator[FilterRule]:
    yield FilterRule("ip protocol udp udp sport 67 udp dport 68 drop", "DHCP server")
    if nic.address:
        yield FilterRule(f"ip saddr {nic.address} {accept}", "IPv4")
        yield FilterRule(f"{DHCP} {accept}", "DHCP client")
    elif _any(nic, 4):
        yield FilterRule(f"ether type ip {accept}", "IPv4 of any address")


def _ipv6(nic: Nic, accept: str) -> Iterator[FilterRule]:
    yield FilterRule("icmpv6 type { nd-router-advert, nd-redirect } drop", "router advertisement or redirect")
    yield FilterRule("ip6 nexthdr udp udp sport 547 udp dport 546 drop", "DHCPv6 server")
    if nic.address6:
        yield FilterRule(f"ip6 saddr {{ {nic.link_local}, {nic.address6} }} {accept}", "IPv6")
        yield FilterRule(
            f"ip6 saddr :: icmpv6 type {{ nd-neighbor-solicit, mld2-listener-report }} {accept}",
            "duplicate address detection",
        )
    elif _any(nic, 6):
        yield FilterRule(f"ether type ip6 {accept}", "IPv6 of any address")


def _any(nic: Nic, version: int) -> bool:
    """Whether NIC may use addresses of VERSION that nobody gave it.

    A private network without address management is common with Ganeti: there the addresses are the tenant's affair.
    A NIC that has an address of a family has that and no other; a routed NIC never has another.
    """
    return nic.mode is not Mode.ROUTED and (nic.address if version == 4 else nic.address6) is None


def requests_from(nic: Nic, gateway: Address) -> Chain:
    """The node's ARP requests to a routed guest come from its gateway, the one neighbour that it knows."""
    assert isinstance(gateway, IPv4Address)
    return Chain(
        family="netdev",
        name=f"{nic.tap}-out",
        hook="egress",
        device=nic.tap,
        priority=0,
        policy="accept",
        rules=(FilterRule(f"arp operation request arp saddr ip set {gateway}", "ARP requests come from the gateway"),),
    )


def same_prefix_only(nic: Nic) -> Chain:
    """`private-filtered`: many networks share a bridge, and each has its MAC prefix. Only its own reaches the tap.

    The prefix is the NIC's own: Ganeti makes its MAC from the network's, or else from the cluster's.
    """
    return Chain(
        family="netdev",
        name=f"{nic.tap}-out",
        hook="egress",
        device=nic.tap,
        priority=0,
        policy="drop",
        rules=(FilterRule(f"ether saddr & ff:ff:ff:00:00:00 == {nic.mac[:8]}:00:00:00 accept", "same MAC prefix"),),
    )
