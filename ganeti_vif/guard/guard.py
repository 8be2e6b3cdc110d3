# SPDX-License-Identifier: BSD-2-Clause
"""What a NIC's guest may send: the rules, closed by default and the same for every mode.

guard/tap_filter.py makes a chain of them.

Each rule that drops has its own reason, and so its own counter. The rules of a family end with one that drops the rest
of the family, so that a packet passes as few rules as possible. Within a rule, the match that costs least and fails
most comes first. No rule uses an anonymous set: with a thousand NICs, sets cost libnftables seconds instead of a
millisecond.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Network

from ganeti_vif.config.limits import Limits
from ganeti_vif.engine.objects import Prefix
from ganeti_vif.guard import control
from ganeti_vif.guard import limits as of_nic
from ganeti_vif.guard.offload import LIE
from ganeti_vif.guard.protocols import (
    ADVERTISEMENT,
    ANY_IPV4,
    ANY_IPV6,
    ARP,
    ARP_OF_IPV4_OVER_ETHERNET,
    AUTHENTICATION,
    BRIDGE_GROUPS,
    DHCP,
    DHCPV6_CLIENT,
    EVERYBODY,
    HIP,
    IPV4,
    IPV4_GROUPS,
    IPV6,
    IPV6_GROUPS,
    LINK_LOCAL,
    LINK_MULTICAST,
    LONGEST_ND,
    LONGEST_RS,
    MADE_OF_A_MAC,
    MLD2_REPORT,
    MLD_REPORT,
    MORE_FRAGMENTS,
    MOST,
    MULTICAST,
    RARP,
    REDIRECT,
    REVERSE_REQUEST,
    ROUTER_ADVERTISEMENT,
    ROUTER_SOLICITATION,
    SERVICE_VLAN,
    SHIM6,
    SOLICITATION,
    UDP,
    VLAN,
)
from ganeti_vif.guard.rules import (
    ARP_HEADER,
    ARP_OPERATION,
    ARP_SENDER,
    ARP_SENDER_MAC,
    ARP_TARGET,
    DHCP_CHADDR,
    ETHER_DESTINATION,
    ETHER_GROUP,
    ETHER_SOURCE,
    ETHER_TYPE,
    ICMP6_TYPE,
    IP6_DESTINATION,
    IP6_FRAGMENT,
    IP6_LENGTH,
    IP6_SOURCE,
    IP6_SOURCE_MIDDLE,
    IP_DESTINATION,
    IP_MORE,
    IP_OFFSET,
    IP_SOURCE,
    MARK,
    ND_OPTION_MAC,
    ND_TARGET,
    ND_TARGET_MIDDLE,
    PROTOCOL,
    RARP_OPERATION,
    RARP_SENDER_MAC,
    RS_OPTION_MAC,
    UDP_DESTINATION,
    UDP_DESTINATION_BITS,
    UDP_SOURCE,
    UPPER,
    Field,
    GuardRule,
    Mark,
    Match,
    Verdict,
    between,
    equal,
    leading,
    mac_number,
    unlike,
    within,
)
from ganeti_vif.guard.usual import any_address, usual
from ganeti_vif.nic.nic import LINK_LOCAL_SUBNET, Nic, eui64


def rules(
    nic: Nic, mark: int | None = None, *, any_link_local: bool = False, limits: Limits | None = None
) -> tuple[GuardRule, ...]:
    """The rules for what NIC's guest may send, in the order of evaluation. The last rule decides on all that is left.

    MARK, if given, is put on every packet: it selects the routing table of a public link. ANY_LINK_LOCAL: the guest may
    choose its IPv6 link-local address, instead of deriving it from its MAC. LIMITS are those of NIC; None if it has
    none. An unguarded NIC has rates only: it may be a router or a bridge for many.
    """
    limits = limits or Limits()
    any_link_local = any_link_local or nic.grants.any_link_local
    marking = [GuardRule((), Mark(mark), "routed by its public link")] if mark is not None else []
    if nic.grants.unguarded:
        kept = _control(), *_own_prefix(nic), *_vlans(nic, ETHER_TYPE)
        return (*of_nic.rates(limits), *kept, *marking, _accept("unguarded: whatever else"))
    return (
        *of_nic.rates(limits),
        _drop("checksum that would change it", equal(MARK, LIE)),
        *marking,
        *usual(nic),
        *_groups(),
        *of_nic.groups(limits),
        *of_nic.requests(limits),
        *_dhcp(nic),
        *control.rules(nic),
        _foreign_mac(nic),
        *_ipv4(nic),
        *_arp(nic),
        *_ipv6(nic, any_link_local),
        *_rarp(nic),
        *_vlans(nic, PROTOCOL),
        _drop("neither IP nor ARP"),
    )


def _accept(reason: str, *matches: Match) -> GuardRule:
    return GuardRule(matches, Verdict.ACCEPT, reason)


def _drop(reason: str, *matches: Match) -> GuardRule:
    return GuardRule(matches, Verdict.DROP, reason)


def _control() -> GuardRule:
    return _drop("bridge control (spanning tree, LACP, LLDP)", leading(ETHER_DESTINATION, BRIDGE_GROUPS, 24))


def _groups() -> Iterator[GuardRule]:
    """Drop all group MACs except broadcast and those of IP (RFC 1112, 6.4; RFC 2464, 7). Switches act on the others
    (CDP, VTP, PTP), whatever the frame contains."""
    group = equal(ETHER_GROUP, 1)
    yield _drop("bridge control (spanning tree, LACP, LLDP)", group, leading(ETHER_DESTINATION, BRIDGE_GROUPS, 24))
    none = (
        leading(ETHER_DESTINATION, prefix, bits, negated=True)
        for prefix, bits in ((IPV4_GROUPS, 24), (IPV6_GROUPS, 16), (EVERYBODY, 48))
    )
    yield _drop("group that is not IP's (CDP, PTP)", group, *none)


def _foreign_mac(nic: Nic) -> GuardRule:
    return _drop("foreign MAC", *_none_of(ETHER_SOURCE, map(mac_number, nic.macs)))


def _own_prefix(nic: Nic) -> Iterator[GuardRule]:
    """On the bridge of a `private-filtered` network, only the MAC tells this network from others."""
    if "private-filtered" in nic.network_tags:
        prefix = int(nic.mac[:8].replace(":", ""), 16)
        yield _drop("another network's MAC prefix", leading(ETHER_SOURCE, prefix, 24, negated=True))


def _dhcp(nic: Nic) -> Iterator[GuardRule]:
    """No guest may be a server, or ask in another MAC's name: a server would give it many leases, or take back those of
    others. The server rule looks only at the destination port: a client ignores the port that an answer comes from. The
    MAC of a question that comes in fragments may be in a later one, where no rule can see it."""
    this = equal(UPPER, UDP), equal(IP_OFFSET, 0)
    server, client = DHCP
    yield _drop("DHCP server", equal(UDP_DESTINATION_BITS, client), *this)
    others = _none_of(DHCP_CHADDR, map(mac_number, nic.macs))
    yield _drop("DHCP of another MAC", equal(UDP_DESTINATION_BITS, server), *this, *others)
    yield _drop("DHCP in fragments", equal(UDP_DESTINATION_BITS, server), *this, equal(IP_MORE, MORE_FRAGMENTS))


def _vlans(nic: Nic, field: Field) -> Iterator[GuardRule]:
    """Drop VLAN tags that NIC's guest must not set itself. FIELD is where the tag's type stands."""
    if not nic.vlans.tagged:
        yield from (_drop("VLAN tag", equal(field, kind)) for kind in (VLAN, SERVICE_VLAN))


def _untagged(nic: Nic, protocol: int) -> Iterator[GuardRule]:
    """The kernel removes the tag before this hook. `meta protocol` then gives the type of the content."""
    if not nic.vlans.tagged:
        yield _drop("VLAN tag", equal(PROTOCOL, protocol), unlike(ETHER_TYPE, protocol))


def _none_of(field: Field, values: Iterable[int]) -> Iterator[Match]:
    return (unlike(field, value) for value in values)


def _ipv4(nic: Nic) -> Iterator[GuardRule]:
    this = equal(PROTOCOL, IPV4)
    yield from _untagged(nic, IPV4)
    networks = nic.networks(4)
    if not networks and any_address(nic):
        yield _accept(ANY_IPV4, this)
        return
    for network in networks:
        yield _accept("IPv4", within(IP_SOURCE, network))
    if networks:
        nobody, everybody = int(IPv4Address("0.0.0.0")), int(IPv4Address("255.255.255.255"))
        client = equal(IP_SOURCE, nobody), equal(IP_DESTINATION, everybody)
        yield _accept("DHCP client", *client, equal(IP_OFFSET, 0), equal(UDP_SOURCE, 68), equal(UDP_DESTINATION, 67))
    yield _drop("foreign IPv4 address", this)


def _arp(nic: Nic) -> Iterator[GuardRule]:
    this = equal(PROTOCOL, ARP)
    yield from _untagged(nic, ARP)
    yield _drop("foreign ARP sender MAC", *_none_of(ARP_SENDER_MAC, map(mac_number, nic.macs)))
    networks = nic.networks(4)
    anything = not networks and any_address(nic)
    if networks or anything:
        # With other address lengths the sender's MAC would be elsewhere.
        yield _drop("ARP of something else", this, unlike(ARP_HEADER, ARP_OF_IPV4_OVER_ETHERNET))
    if anything:
        yield _accept("ARP", this)
        return
    for network in networks:
        yield _accept("ARP", between(ARP_OPERATION, 1, 2), within(ARP_SENDER, network))
    for network in networks:
        probe = equal(ARP_OPERATION, 1), equal(ARP_SENDER, 0)
        yield _accept("ARP probe for its own address", *probe, within(ARP_TARGET, network))
    yield _drop("foreign ARP sender address", this)


def _ipv6(nic: Nic, any_link_local: bool) -> Iterator[GuardRule]:
    networks = nic.networks(6)
    anything = not networks and any_address(nic)
    if networks or anything:
        link_locals = [LINK_LOCAL] if any_link_local else [IPv6Network(address) for address in nic.link_locals]
        own: list[Prefix] = [*link_locals, *networks]
        yield from _untagged(nic, IPV6)
        yield from _never_ipv6()
        if anything or any_link_local:
            yield from _made_of_other_macs(nic)
        yield from _discovery(nic, [] if anything else own)
        if anything:
            yield _accept(ANY_IPV6, equal(PROTOCOL, IPV6))
            return
        for network in networks:
            yield _accept("IPv6", within(IP6_SOURCE, network))
        for link_local in link_locals:
            yield _accept("IPv6 link-local", within(IP6_SOURCE, link_local))
        for low, high in ((MLD_REPORT, ROUTER_SOLICITATION), (MLD2_REPORT, MLD2_REPORT)):
            kind = between(ICMP6_TYPE, low, high) if low < high else equal(ICMP6_TYPE, low)
            nobody = equal(IP6_SOURCE, 0), within(IP6_DESTINATION, LINK_MULTICAST)
            yield _accept("multicast listener or router solicitation", *nobody, kind)
    yield _drop("foreign IPv6 address", equal(PROTOCOL, IPV6))


def _never_ipv6() -> Iterator[GuardRule]:
    """RFC 7113: an advertisement must not pass, whatever headers come before it. What cannot be identified is dropped.

    The kernel walks options, routing and fragment headers (nft_set_pktinfo_ipv6). It stops at AH, HIP and Shim6, and it
    sees nothing of the content of later fragments: both may pass only with real addresses. A length of 0 with
    hop-by-hop options stands for more than 64 KiB, which no frame holds, and Linux accepts such a packet whole
    (RFC 2675).
    """
    yield _drop("DHCPv6 server", equal(UDP_DESTINATION, DHCPV6_CLIENT))
    for where in (
        within(IP6_SOURCE, LINK_LOCAL),
        within(IP6_DESTINATION, LINK_LOCAL),
        within(IP6_DESTINATION, MULTICAST),
    ):
        yield _drop("fragment that may hide what it is", where, equal(IP6_FRAGMENT, 1))
    for kind in (equal(UPPER, AUTHENTICATION), between(UPPER, HIP, SHIM6)):
        yield _drop("header that may hide what it is", within(IP6_SOURCE, LINK_LOCAL), kind)
    yield _drop("router advertisement", equal(ICMP6_TYPE, ROUTER_ADVERTISEMENT))
    yield _drop("redirect", equal(ICMP6_TYPE, REDIRECT))
    yield _drop("header that may hide what it is", equal(IP6_LENGTH, 0))


def _made_of_other_macs(nic: Nic) -> Iterator[GuardRule]:
    """A guest that may choose a link-local address must not choose one made of another's MAC: most neighbours and the
    router have such addresses."""
    macs = [IPv6Network(eui64(LINK_LOCAL_SUBNET, mac)) for mac in nic.macs]

    def foreign(address: Field, middle: Field) -> Iterator[Match]:
        yield from (equal(middle, MADE_OF_A_MAC), within(address, LINK_LOCAL_SUBNET))
        yield from (within(address, mine, negated=True) for mine in macs)

    yield _drop("foreign IPv6 address", *foreign(IP6_SOURCE, IP6_SOURCE_MIDDLE))
    target = [*foreign(ND_TARGET, ND_TARGET_MIDDLE)]
    yield _drop("foreign IPv6 address", equal(IP6_SOURCE, 0), equal(ICMP6_TYPE, SOLICITATION), *target)
    yield _drop("advertisement of a foreign address", equal(ICMP6_TYPE, ADVERTISEMENT), *target)


def _discovery(nic: Nic, own: list[Prefix]) -> Iterator[GuardRule]:
    """Neighbour discovery: only about OWN addresses (any address if OWN is empty) and only with the NIC's own MACs.

    The length limit leaves room for one option, so the first option is the only one. It is a link-layer address, or the
    nonce of a guest that looks for duplicates of its own address (RFC 7527).
    """
    neighbour = between(ICMP6_TYPE, SOLICITATION, ADVERTISEMENT)
    router = equal(ICMP6_TYPE, ROUTER_SOLICITATION)
    for kind, longest in ((neighbour, LONGEST_ND), (router, LONGEST_RS)):
        yield _drop("neighbour discovery of more than one option", kind, between(IP6_LENGTH, longest + 1, MOST))
    searching = equal(IP6_SOURCE, 0), equal(ICMP6_TYPE, SOLICITATION)
    for network in own:
        yield _accept("duplicate address detection", *searching, within(ND_TARGET, network))
    if own:
        yield _drop("duplicate address detection of a foreign address", *searching)
    else:
        yield _accept("duplicate address detection", *searching)
    macs = [mac_number(mac) for mac in nic.macs]
    for kind, option in ((neighbour, ND_OPTION_MAC), (router, RS_OPTION_MAC)):
        yield _drop("neighbour discovery with a foreign MAC", kind, *_none_of(option, macs))
    if own:
        foreign = (within(ND_TARGET, network, negated=True) for network in own)
        yield _drop("advertisement of a foreign address", equal(ICMP6_TYPE, ADVERTISEMENT), *foreign)


def _rarp(nic: Nic) -> Iterator[GuardRule]:
    """QEMU announces a guest like this after a migration (net/announce.c). Bridges learn from it where the guest is."""
    yield from _untagged(nic, RARP)
    for mac in nic.macs:
        request = equal(PROTOCOL, RARP), equal(RARP_OPERATION, REVERSE_REQUEST)
        yield _accept("RARP announcement", *request, equal(RARP_SENDER_MAC, mac_number(mac)))
