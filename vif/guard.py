"""The filter of a NIC: what its guest may send, and what reaches it. As rules in nft's words.

One netdev chain on the tap's ingress, closed by default, the same for every mode: it sees each frame before bridge and
routing do. For NICs of a public link it also sets the packet mark by which the link's routing table is chosen.

No rule uses an anonymous set: with a thousand NICs, sets make libnftables take seconds where it takes a millisecond.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

from engine.objects import Address, Chain, FilterRule
from vif.nic import Mode, Nic

ARP = "arp htype 1 arp ptype ip arp hlen 6 arp plen 4"
UNFRAGMENTED = "ip frag-off & 0x1fff == 0"
"""A later fragment has no UDP header, but nft looks for one in it all the same."""
ND_TARGET = "@th,64,128"
"""The target address of a neighbour solicitation or advertisement (RFC 4861, 4.3 and 4.4)."""
LINK_LOCAL_TARGET = "@th,64,10"
LINK_LOCAL = "0x3fa"
"""The ten bits of fe80::/10."""


def ingress(nic: Nic, mark: int | None = None) -> Chain:
    """What NIC's guest may send. All of it gets MARK."""
    rules = [*_never(nic)]
    if mark is not None:
        rules.append(FilterRule(f"meta mark set {mark:#010x}", "routed by its public link"))
    rules += [*_ipv4(nic), *_ipv6(nic)]
    # QEMU's announcement after a migration (net/announce.c): bridges learn from it where the guest lives.
    rules.append(FilterRule("ether type 0x8035 counter accept", "RARP announcement"))
    rules.append(FilterRule("counter drop", "everything else"))
    return _chain(nic, "in", "ingress", "drop", *rules)


def _chain(nic: Nic, suffix: str, hook: str, policy: str, *rules: FilterRule) -> Chain:
    # Always in this order, whatever their values: a rule of two NICs has one shape (outside/compiled_rules.py).
    own = [nic.mac, *(str(address) for address in (nic.address, nic.address6) if address)]
    if nic.address6:
        own.append(_hexadecimal(nic.address6))
    return Chain(
        family="netdev",
        name=f"{nic.tap}-{suffix}",
        hook=hook,
        device=nic.tap,
        priority=0,
        policy=policy,
        rules=tuple(replace(rule, own=tuple(word for word in own if word in rule.text.split())) for rule in rules),
    )


def _never(nic: Nic) -> Iterator[FilterRule]:
    """What no guest sends, whatever its addresses."""
    yield FilterRule(f"ether saddr != {nic.mac} counter drop", "foreign MAC")
    if not nic.vlans.tagged:
        # The tag is off before this hook sees the frame, and `ip saddr` looks at what was in it: so by its own name.
        yield FilterRule("ether type 8021q counter drop", "VLAN tag")
        yield FilterRule("ether type 8021ad counter drop", "VLAN tag")
    yield FilterRule(f"{UNFRAGMENTED} udp sport 67 udp dport 68 counter drop", "DHCP server")
    yield FilterRule("udp sport 547 udp dport 546 counter drop", "DHCPv6 server")
    # RFC 7113: the rest of a fragmented advertisement is not looked at.
    yield FilterRule("ip6 saddr fe80::/10 exthdr frag exists counter drop", "fragment that may hide an advertisement")
    yield FilterRule("icmpv6 type nd-router-advert counter drop", "router advertisement")
    yield FilterRule("icmpv6 type nd-redirect counter drop", "redirect")
    yield FilterRule("icmpv6 type mld-listener-query counter drop", "multicast querier")


def _ipv4(nic: Nic) -> Iterator[FilterRule]:
    if nic.address:
        sender = f"{ARP} arp saddr ether {nic.mac}"
        yield FilterRule(f"ip saddr {nic.address} counter accept", "IPv4")
        yield FilterRule(
            f"ip saddr 0.0.0.0 ip daddr 255.255.255.255 {UNFRAGMENTED} udp sport 68 udp dport 67 counter accept",
            "DHCP client",
        )
        yield FilterRule(f"arp operation 1-2 {sender} arp saddr ip {nic.address} counter accept", "ARP")
        yield FilterRule(
            f"arp operation request {sender} arp saddr ip 0.0.0.0 arp daddr ip {nic.address} counter accept",
            "ARP probe for its own address",
        )
    elif _any(nic):
        yield FilterRule(f"arp saddr ether != {nic.mac} counter drop", "foreign ARP sender MAC")
        yield FilterRule("ether type arp counter accept", "ARP")
        yield FilterRule("ether type ip counter accept", "IPv4 of any address")


def _ipv6(nic: Nic) -> Iterator[FilterRule]:
    if nic.address6:
        own = _hexadecimal(nic.address6)
        advertisement = "icmpv6 type nd-neighbor-advert"
        yield FilterRule(
            f"{advertisement} {LINK_LOCAL_TARGET} != {LINK_LOCAL} {ND_TARGET} != {own} counter drop",
            "advertisement of a foreign address",
        )
        yield FilterRule("ip6 saddr fe80::/10 counter accept", "IPv6 link-local")
        yield FilterRule(f"ip6 saddr {nic.address6} counter accept", "IPv6")
        solicitation = "ip6 saddr :: icmpv6 type nd-neighbor-solicit"
        for target in (f"{LINK_LOCAL_TARGET} {LINK_LOCAL}", f"{ND_TARGET} {own}"):
            yield FilterRule(f"{solicitation} {target} counter accept", "duplicate address detection")
        for types in ("131-133", "143"):
            yield FilterRule(
                f"ip6 saddr :: ip6 daddr ff02::/16 icmpv6 type {types} counter accept",
                "multicast listener or router solicitation",
            )
    elif _any(nic):
        yield FilterRule("ether type ip6 counter accept", "IPv6 of any address")


def _hexadecimal(address: IPv6Address) -> str:
    return f"{int(address):#034x}"


def _any(nic: Nic) -> bool:
    """Whether NIC may use addresses that nobody gave it, of an IP version of which it has none.

    A private network without address management is common with Ganeti: there addresses are the tenant's affair.
    A NIC that has an address of a version has that and no other; a routed NIC never has another.
    """
    return nic.mode is not Mode.ROUTED


def requests_from(nic: Nic, gateway: Address) -> Chain:
    """The node's ARP requests to a routed guest come from its gateway, the one neighbour that it knows."""
    assert isinstance(gateway, IPv4Address)
    rule = FilterRule(f"arp operation request arp saddr ip set {gateway}", "ARP requests come from the gateway")
    return _chain(nic, "out", "egress", "accept", rule)


def same_prefix_only(nic: Nic, bridge_mac: str | None) -> Chain:
    """`private-filtered`: many networks share a bridge, and each has its MAC prefix. Only its own reaches the tap.

    The prefix is the NIC's own: Ganeti makes its MAC from the network's, or else from the cluster's. NFDHCPD answers
    from BRIDGE_MAC, which no guest can send from.
    """
    rules = [FilterRule(f"ether saddr & ff:ff:ff:00:00:00 == {nic.mac[:8]}:00:00:00 accept", "same MAC prefix")]
    if bridge_mac:
        rules.append(FilterRule(f"ether saddr {bridge_mac} accept", "answers of NFDHCPD"))
    rules.append(FilterRule("counter drop", "another network's MAC prefix"))
    return _chain(nic, "out", "egress", "drop", *rules)
