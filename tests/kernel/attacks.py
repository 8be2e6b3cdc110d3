# SPDX-License-Identifier: BSD-2-Clause
"""What a guest may try and must not get through, and what it must: as data, for test_attacks.py and for tools/attacks."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from .forging import (
    AH,
    ALERT,
    BROADCAST,
    DESTINATION,
    ESP,
    HOP_BY_HOP,
    ICMP,
    ICMP6,
    IGMP,
    NONCE,
    OPTIONS,
    ROUTER_ADVERTISEMENT,
    ROUTING,
    SHIM6,
    TCP,
    UDP,
    Extension,
    advertisement,
    arp_packet,
    ether,
    fragment,
    group_mac,
    icmp6,
    ip4,
    ip6,
    ipv4_group_mac,
    llc,
    octets,
    option,
    solicitation,
    solicited_node,
    source_mac,
    target_mac,
    udp,
)

JUNK = b"attack" * 8
FOREIGN_MAC = "aa:00:00:00:00:63"
FOREIGN, FOREIGN6, FOREIGN_LINK_LOCAL = "203.0.113.99", "2001:db8:f::99", "fe80::99"


@dataclass(frozen=True, kw_only=True)
class Cast:
    """Who takes part: the attacker, its neighbour, their gateway, and the MAC that leads on from the attacker."""

    mac: str
    ip: str
    ip6: str
    link_local: str
    other_mac: str
    other: str
    other6: str
    other_link_local: str
    gateway: str
    gateway6: str
    node: str
    to: str

    def v4(self, source: str, data: bytes = b"attack", *, ports: tuple[int, int] = (4000, 4001), **given: str) -> bytes:
        """A frame with a UDP packet from SOURCE to the neighbour."""
        target = given.get("target", self.other)
        payload = udp(source, target, *ports, data)
        return ether(given.get("mac", self.mac), given.get("to", self.to), 0x0800, ip4(source, target, UDP, payload))

    def v6(self, source: str, data: bytes = b"attack", *extensions: Extension, **given: str) -> bytes:
        target = given.get("target", self.other6)
        payload = udp(source, target, 4000, 4001, data)
        return ether(self.mac, given.get("to", self.to), 0x86DD, ip6(source, target, UDP, payload, *extensions))

    def arp(self, operation: int, sender: str, target: str, *, mac: str | None = None, **given: str) -> bytes:
        packet = arp_packet(operation, mac or self.mac, sender, target)
        return ether(self.mac, given.get("to", BROADCAST), 0x0806, packet)

    def icmp6(
        self, kind: int, rest: bytes, *extensions: Extension, source: str | None = None, target: str = "ff02::1"
    ) -> bytes:
        source = source or self.link_local
        message = icmp6(source, target, kind, rest)
        to = group_mac(target) if target.startswith("ff") else self.to
        return ether(self.mac, to, 0x86DD, ip6(source, target, ICMP6, message, *extensions))


def asked(chaddr: str) -> bytes:
    """The fixed part of a DHCP client's message (RFC 2131, 2)."""
    return struct.pack("!BBBBIHH16x", 1, 1, 6, 0, 7, 0, 0) + octets(chaddr).ljust(16, b"\0") + bytes(192)


Build = Callable[[Cast], bytes]
ATTACKS: dict[str, tuple[Build, str]] = {}
"""What is tried: by its name, how, and the reason for which it is dropped."""
LEGITIMATE: dict[str, Build] = {}


VIRTUAL_ROUTER = "UDP to a virtual router's MAC"


def attack(name: str, reason: str, build: Build) -> None:
    assert name not in ATTACKS
    ATTACKS[name] = build, reason


def legitimate(name: str, build: Build) -> None:
    assert name not in LEGITIMATE
    LEGITIMATE[name] = build


MAC = "foreign MAC"
attack("a MAC that nobody has", MAC, lambda c: c.v4(c.ip, mac=FOREIGN_MAC))
attack("the neighbour's MAC", MAC, lambda c: c.v4(c.ip, mac=c.other_mac))
attack("the MAC of the node's end", MAC, lambda c: c.v4(c.ip, mac=c.to))
attack("the broadcast address as source MAC", MAC, lambda c: c.v4(c.ip, mac=BROADCAST))
attack("a group address as source MAC", MAC, lambda c: c.v4(c.ip, mac="33:33:00:00:00:01"))
attack("no source MAC", MAC, lambda c: c.v4(c.ip, mac="00:00:00:00:00:00"))
attack(
    "ARP from the neighbour's MAC",
    MAC,
    lambda c: ether(c.other_mac, BROADCAST, 0x0806, arp_packet(1, c.mac, c.ip, c.gateway)),
)

CONTROL = "bridge control (spanning tree, LACP, LLDP)"
BPDU = bytes.fromhex("424203") + b"attack" * 6
attack("spanning tree", CONTROL, lambda c: llc(c.mac, "01:80:c2:00:00:00", BPDU))
attack("flow control", CONTROL, lambda c: ether(c.mac, "01:80:c2:00:00:01", 0x8808, b"\0\1\xff\xff"))
attack("LACP", CONTROL, lambda c: ether(c.mac, "01:80:c2:00:00:02", 0x8809, b"\1\1" + JUNK))
attack("802.1X", CONTROL, lambda c: ether(c.mac, "01:80:c2:00:00:03", 0x888E, JUNK))
attack("LLDP", CONTROL, lambda c: ether(c.mac, "01:80:c2:00:00:0e", 0x88CC, JUNK))
attack("GVRP", CONTROL, lambda c: llc(c.mac, "01:80:c2:00:00:21", BPDU))
attack("IPv4 to the bridges' group", CONTROL, lambda c: c.v4(c.ip, to="01:80:c2:00:00:00"))

TAG = "VLAN tag"


def tagged(cast: Cast, *tags: tuple[int, int]) -> bytes:
    packet = ip4(cast.ip, cast.other, UDP, udp(cast.ip, cast.other, 4000, 4001, b"attack"))
    return ether(cast.mac, cast.to, 0x0800, packet, *tags)


attack("a VLAN tag", TAG, lambda c: tagged(c, (0x8100, 10)))
attack("a priority tag (VID 0)", TAG, lambda c: tagged(c, (0x8100, 0x6000)))
attack("a service tag", TAG, lambda c: tagged(c, (0x88A8, 10)))
attack("a VLAN tag in a service tag (QinQ)", TAG, lambda c: tagged(c, (0x88A8, 10), (0x8100, 20)))
attack("a VLAN tag in a VLAN tag", TAG, lambda c: tagged(c, (0x8100, 10), (0x8100, 20)))
attack(
    "ARP in a VLAN", TAG, lambda c: ether(c.mac, BROADCAST, 0x0806, arp_packet(1, c.mac, c.ip, c.gateway), (0x8100, 10))
)

OTHER = "neither IP nor ARP"
SNAP = bytes.fromhex("aaaa030000000800")
attack("IPv4 in LLC and SNAP", OTHER, lambda c: llc(c.mac, c.to, SNAP + ip4(c.ip, c.other, UDP, bytes(8))))
attack(
    "CDP",
    "group that is not IP's (CDP, PTP)",
    lambda c: llc(c.mac, "01:00:0c:cc:cc:cc", bytes.fromhex("aaaa0300000c2000") + JUNK),
)
attack("PPPoE discovery", OTHER, lambda c: ether(c.mac, BROADCAST, 0x8863, JUNK))
attack("MPLS", OTHER, lambda c: ether(c.mac, c.to, 0x8847, JUNK))
attack("IPX", OTHER, lambda c: ether(c.mac, BROADCAST, 0x8137, JUNK))
attack("MAC-in-MAC", OTHER, lambda c: ether(c.mac, c.to, 0x88E7, JUNK))
attack("a third VLAN tag type", OTHER, lambda c: ether(c.mac, c.to, 0x9100, JUNK))
attack(
    "RARP for the neighbour's MAC",
    OTHER,
    lambda c: ether(c.mac, BROADCAST, 0x8035, arp_packet(3, c.other_mac, "0.0.0.0", "0.0.0.0")),
)
attack("a RARP answer", OTHER, lambda c: ether(c.mac, BROADCAST, 0x8035, arp_packet(4, c.mac, "0.0.0.0", "0.0.0.0")))

V4 = "foreign IPv4 address"
attack("an IPv4 address that nobody has", V4, lambda c: c.v4(FOREIGN))
attack("the neighbour's IPv4 address", V4, lambda c: c.v4(c.other, target=c.gateway))
attack("the gateway's IPv4 address", V4, lambda c: c.v4(c.gateway))
attack("the node's IPv4 address", V4, lambda c: c.v4(c.node))
attack("the broadcast address as IPv4 source", V4, lambda c: c.v4("255.255.255.255"))
attack("no IPv4 address, and not for DHCP", V4, lambda c: c.v4("0.0.0.0", target="255.255.255.255", to=BROADCAST))
attack("DHCP without address, to one host", V4, lambda c: c.v4("0.0.0.0", ports=(68, 67)))
attack("a loopback address", V4, lambda c: c.v4("127.0.0.1"))
attack("an IPv4 link-local address", V4, lambda c: c.v4("169.254.7.7"))
attack("a group address as IPv4 source", V4, lambda c: c.v4("224.0.0.1"))
attack(
    "a later fragment of a foreign address",
    V4,
    lambda c: ether(c.mac, c.to, 0x0800, ip4(FOREIGN, c.other, UDP, bytes(64), offset=64)),
)
DHCP = "DHCP server"
attack("a DHCP server's offer", DHCP, lambda c: c.v4(c.ip, target="255.255.255.255", to=BROADCAST, ports=(67, 68)))
attack("a DHCP server's offer to one host", DHCP, lambda c: c.v4(c.ip, ports=(67, 68)))
attack("a DHCP server's offer from another port", DHCP, lambda c: c.v4(c.ip, ports=(4000, 68)))
attack(
    "a DHCP server's offer in fragments",
    DHCP,
    lambda c: ether(c.mac, c.to, 0x0800, ip4(c.ip, c.other, UDP, udp(c.ip, c.other, 67, 68, bytes(56)), more=True)),
)
for name, to in (("all", BROADCAST), ("one host", "")):
    attack(
        f"a DHCP client's question of another MAC, to {name}",
        "DHCP of another MAC",
        lambda c, to=to: ether(  # type: ignore[misc]
            c.mac, to or c.to, 0x0800, ip4(c.ip, c.other, UDP, udp(c.ip, c.other, 68, 67, asked(c.other_mac)))
        ),
    )
for name, to in (("all", BROADCAST), ("one host", "")):
    attack(
        f"a DHCP client's question in fragments, its MAC not in the first, to {name}",
        "DHCP in fragments",
        lambda c, to=to: ether(  # type: ignore[misc]
            c.mac,
            to or c.to,
            0x0800,
            ip4(c.ip, c.other, UDP, udp(c.ip, c.other, 68, 67, asked(c.other_mac))[:24], more=True),
        ),
    )
QUERIER = "multicast router or querier"
attack(
    "an IGMP query",
    QUERIER,
    lambda c: ether(
        c.mac, "01:00:5e:00:00:01", 0x0800, ip4(c.ip, "224.0.0.1", IGMP, bytes([0x11, 100, 0xEE, 0x9B, 0, 0, 0, 0]))
    ),
)

SENDER, SENDER_MAC, STRANGE = "foreign ARP sender address", "foreign ARP sender MAC", "ARP of something else"
attack("ARP with the neighbour's address as sender", SENDER, lambda c: c.arp(1, c.other, c.gateway))
attack("an ARP answer for the gateway", SENDER, lambda c: c.arp(2, c.gateway, c.other, to=c.to))
attack("an ARP announcement of the neighbour's address", SENDER, lambda c: c.arp(1, c.other, c.other))
attack("an ARP answer of the neighbour's address to all", SENDER, lambda c: c.arp(2, c.other, c.other))
attack("an ARP probe for the neighbour's address", SENDER, lambda c: c.arp(1, "0.0.0.0", c.other))
attack("an ARP answer without address", SENDER, lambda c: c.arp(2, "0.0.0.0", c.ip))
attack("inverse ARP", SENDER, lambda c: c.arp(8, c.ip, c.ip))
attack("ARP with a foreign sender MAC", SENDER_MAC, lambda c: c.arp(1, c.ip, c.gateway, mac=FOREIGN_MAC))
attack("an ARP answer with the neighbour's MAC", SENDER_MAC, lambda c: c.arp(2, c.ip, c.other, mac=c.other_mac))
attack(
    "ARP with hardware addresses of eight bytes",
    STRANGE,
    lambda c: ether(c.mac, BROADCAST, 0x0806, arp_packet(1, c.mac, c.ip, c.other, header=(1, 0x0800, 8, 4))),
)
attack(
    "ARP of another protocol",
    STRANGE,
    lambda c: ether(c.mac, BROADCAST, 0x0806, arp_packet(1, c.mac, c.ip, c.other, header=(1, 0x86DD, 6, 4))),
)
attack(
    "ARP of another hardware",
    STRANGE,
    lambda c: ether(c.mac, BROADCAST, 0x0806, arp_packet(1, c.mac, c.ip, c.other, header=(6, 0x0800, 6, 4))),
)

V6 = "foreign IPv6 address"
DAD = "duplicate address detection of a foreign address"
attack("an IPv6 address that nobody has", V6, lambda c: c.v6(FOREIGN6))
attack("the neighbour's IPv6 address", V6, lambda c: c.v6(c.other6, target=c.gateway6))
attack("the gateway's IPv6 address", V6, lambda c: c.v6(c.gateway6))
attack("another link-local address", V6, lambda c: c.v6(FOREIGN_LINK_LOCAL))
attack("the neighbour's link-local address", V6, lambda c: c.v6(c.other_link_local))
attack("no IPv6 address", V6, lambda c: c.v6("::"))
attack("the IPv6 loopback address", V6, lambda c: c.v6("::1"))
attack("a group address as IPv6 source", V6, lambda c: c.v6("ff02::1"))
attack("an IPv4 address in IPv6", V6, lambda c: c.v6("::ffff:192.0.2.5"))
attack(
    "a membership report without address, to one host",
    V6,
    lambda c: c.icmp6(143, bytes(4), source="::", target=c.other6),
)
attack(
    "a router solicitation without address, to one host",
    V6,
    lambda c: c.icmp6(133, bytes(4), source="::", target=c.other6),
)
attack(
    "duplicate detection of the neighbour's address",
    DAD,
    lambda c: c.icmp6(135, solicitation(c.other6), source="::", target=solicited_node(c.other6)),
)
attack(
    "duplicate detection of the neighbour's link-local address",
    DAD,
    lambda c: c.icmp6(135, solicitation(c.other_link_local), source="::", target=solicited_node(c.other_link_local)),
)
attack(
    "duplicate detection of the gateway's address",
    DAD,
    lambda c: c.icmp6(135, solicitation(c.gateway6), source="::", target=solicited_node(c.gateway6)),
)

RA = "router advertisement"
attack("a router advertisement", RA, lambda c: c.icmp6(134, ROUTER_ADVERTISEMENT))
attack(
    "a router advertisement to one host", RA, lambda c: c.icmp6(134, ROUTER_ADVERTISEMENT, target=c.other_link_local)
)
attack("a router advertisement of a global address", RA, lambda c: c.icmp6(134, ROUTER_ADVERTISEMENT, source=c.ip6))
attack(
    "a router advertisement behind hop-by-hop options",
    RA,
    lambda c: c.icmp6(134, ROUTER_ADVERTISEMENT, (HOP_BY_HOP, OPTIONS)),
)
attack(
    "a router advertisement behind destination options",
    RA,
    lambda c: c.icmp6(134, ROUTER_ADVERTISEMENT, (DESTINATION, OPTIONS)),
)
attack(
    "a router advertisement behind a routing header",
    RA,
    lambda c: c.icmp6(134, ROUTER_ADVERTISEMENT, (ROUTING, b"\0\4\0" + bytes(4))),
)
attack(
    "a router advertisement behind an authentication header",
    "header that may hide what it is",
    lambda c: c.icmp6(134, ROUTER_ADVERTISEMENT, (AH, b"\4" + bytes(22))),
)
attack(
    "a router advertisement behind three kinds of headers",
    RA,
    lambda c: c.icmp6(
        134,
        ROUTER_ADVERTISEMENT,
        (HOP_BY_HOP, OPTIONS),
        (DESTINATION, OPTIONS),
        (ROUTING, b"\0\4\0" + bytes(4)),
        (DESTINATION, OPTIONS),
    ),
)
attack(
    "a router advertisement behind twenty headers",
    RA,
    lambda c: c.icmp6(134, ROUTER_ADVERTISEMENT, *[(DESTINATION, OPTIONS)] * 20),
)
HIDDEN = "fragment that may hide what it is"
attack(
    "a router advertisement in a fragment", HIDDEN, lambda c: c.icmp6(134, ROUTER_ADVERTISEMENT, fragment(more=True))
)
attack("a router advertisement in the only fragment", HIDDEN, lambda c: c.icmp6(134, ROUTER_ADVERTISEMENT, fragment()))
attack(
    "a first fragment of nothing but headers",
    HIDDEN,
    lambda c: c.icmp6(134, b"", fragment(more=True), (DESTINATION, OPTIONS)),
)
attack("the rest of a router advertisement", HIDDEN, lambda c: c.icmp6(134, ROUTER_ADVERTISEMENT, fragment(8)))
attack(
    "a fragment to all nodes from a global address",
    HIDDEN,
    lambda c: c.v6(c.ip6, b"attack", fragment(8), target="ff02::1", to=group_mac("ff02::1")),
)
attack(
    "a fragment to a link-local address",
    HIDDEN,
    lambda c: c.v6(c.ip6, b"attack", fragment(more=True), target=c.other_link_local),
)
attack(
    "a router advertisement behind Shim6",
    "header that may hide what it is",
    lambda c: c.icmp6(134, ROUTER_ADVERTISEMENT, (SHIM6, OPTIONS)),
)
attack("a redirect", "redirect", lambda c: c.icmp6(137, bytes(4) + bytes(32), target=c.other_link_local))
attack("a redirect behind destination options", "redirect", lambda c: c.icmp6(137, bytes(36), (DESTINATION, OPTIONS)))
attack("an MLD query", QUERIER, lambda c: c.icmp6(130, bytes(20), (HOP_BY_HOP, ALERT)))
DHCP6 = "DHCPv6 server"


def dhcp6(cast: Cast, sport: int, *extensions: Extension) -> bytes:
    payload = udp(cast.link_local, cast.other_link_local, sport, 546, b"\x02attack")
    packet = ip6(cast.link_local, cast.other_link_local, UDP, payload, *extensions)
    return ether(cast.mac, cast.to, 0x86DD, packet)


attack("a DHCPv6 server's answer", DHCP6, lambda c: dhcp6(c, 547))
attack("a DHCPv6 server's answer from another port", DHCP6, lambda c: dhcp6(c, 4000))
attack("a DHCPv6 server's answer behind hop-by-hop options", DHCP6, lambda c: dhcp6(c, 547, (HOP_BY_HOP, OPTIONS)))
attack("a DHCPv6 server's answer in the only fragment", DHCP6, lambda c: dhcp6(c, 547, fragment()))

CLAIM = "advertisement of a foreign address"
attack(
    "an advertisement of the neighbour's address",
    CLAIM,
    lambda c: c.icmp6(136, advertisement(c.other6, target_mac(c.mac))),
)
attack(
    "an advertisement of the gateway's address",
    CLAIM,
    lambda c: c.icmp6(136, advertisement(c.gateway6, target_mac(c.mac)), target=c.other6),
)
attack(
    "an advertisement without MAC of the gateway's address",
    CLAIM,
    lambda c: c.icmp6(136, advertisement(c.gateway6), source=c.ip6),
)
attack(
    "an advertisement of another link-local address",
    CLAIM,
    lambda c: c.icmp6(136, advertisement(FOREIGN_LINK_LOCAL, target_mac(c.mac))),
)
attack(
    "an advertisement of the neighbour's link-local address",
    CLAIM,
    lambda c: c.icmp6(136, advertisement(c.other_link_local, target_mac(c.mac))),
)
ND_MAC = "neighbour discovery with a foreign MAC"
attack(
    "an advertisement of its own address with a foreign MAC",
    ND_MAC,
    lambda c: c.icmp6(136, advertisement(c.ip6, target_mac(FOREIGN_MAC))),
)
attack(
    "a solicitation with the neighbour's MAC",
    ND_MAC,
    lambda c: c.icmp6(
        135, solicitation(c.other6, source_mac(c.other_mac)), source=c.ip6, target=solicited_node(c.other6)
    ),
)
attack(
    "a router solicitation with a foreign MAC",
    ND_MAC,
    lambda c: c.icmp6(133, bytes(4) + source_mac(FOREIGN_MAC), target="ff02::2"),
)
LONG = "neighbour discovery of more than one option"
attack(
    "a solicitation with a second MAC",
    LONG,
    lambda c: c.icmp6(135, solicitation(c.other6, source_mac(c.mac), source_mac(FOREIGN_MAC)), source=c.ip6),
)
attack(
    "an advertisement with a second MAC",
    LONG,
    lambda c: c.icmp6(136, advertisement(c.ip6, target_mac(c.mac), target_mac(FOREIGN_MAC))),
)
attack(
    "a foreign MAC behind a long option",
    LONG,
    lambda c: c.icmp6(135, solicitation(c.other6, option(14, bytes(14)), source_mac(FOREIGN_MAC)), source=c.ip6),
)
attack(
    "an advertisement with a MAC behind destination options",
    LONG,
    lambda c: c.icmp6(136, advertisement(c.gateway6, target_mac(c.mac)), (DESTINATION, OPTIONS)),
)
attack(
    "a router solicitation with a second MAC",
    LONG,
    lambda c: c.icmp6(133, bytes(4) + source_mac(c.mac) + source_mac(FOREIGN_MAC), target="ff02::2"),
)

# Control protocols of the segment


def _spoken(c: Cast, protocol: int, group: str, payload: bytes) -> bytes:
    """What a router says of itself to a GROUP of IPv4."""
    return ether(c.mac, ipv4_group_mac(group), 0x0800, ip4(c.ip, group, protocol, payload))


def _spoken6(c: Cast, protocol: int, group: str, payload: bytes) -> bytes:
    return ether(c.mac, group_mac(group), 0x86DD, ip6(c.link_local, group, protocol, payload))


def _to_port(c: Cast, group: str, port: int) -> bytes:
    return _spoken(c, UDP, group, udp(c.ip, group, port, port, b"attack"))


PIM, OSPF, EIGRP, VRRP = 103, 89, 88, 112
HELLO = bytes([0x20, 0, 0xDF, 0xFF]) + bytes(30)
REDUNDANCY, ROUTES, TIME = "redundancy protocol (VRRP, HSRP)", "routing protocol (OSPF, RIP)", "time protocol (PTP)"
attack("a PIM hello", QUERIER, lambda c: _spoken(c, PIM, "224.0.0.13", HELLO))
attack("a PIM hello over IPv6", QUERIER, lambda c: _spoken6(c, PIM, "ff02::d", HELLO))
for name, kind in (
    ("DVMRP", 0x13),
    ("PIM version 1", 0x14),
    ("MRD over IPv4", 0x30),
    ("an end of MRD over IPv4", 0x32),
):
    attack(name, QUERIER, lambda c, kind=kind: _spoken(c, IGMP, "224.0.0.106", bytes([kind]) + bytes(31)))  # type: ignore[misc]
for name, kind in (("MRD over IPv6", 151), ("an end of MRD over IPv6", 153)):
    attack(name, QUERIER, lambda c, kind=kind: c.icmp6(kind, bytes(4), target="ff02::6a"))  # type: ignore[misc]
attack("VRRP", REDUNDANCY, lambda c: _spoken(c, VRRP, "224.0.0.18", b"\x21\x01\xfe\x01" + bytes(28)))
attack("VRRP over IPv6", REDUNDANCY, lambda c: _spoken6(c, VRRP, "ff02::12", b"\x31\x01\xfe\x01" + bytes(28)))
attack("HSRP", REDUNDANCY, lambda c: _to_port(c, "224.0.0.2", 1985))
attack(
    "HSRP in a frame to one host",
    REDUNDANCY,
    lambda c: c.v4(c.ip, target="224.0.0.2", ports=(1985, 1985)),
)
attack("GLBP", REDUNDANCY, lambda c: _to_port(c, "224.0.0.102", 3222))
attack("OSPF", ROUTES, lambda c: _spoken(c, OSPF, "224.0.0.5", bytes(44)))
attack("OSPF over IPv6", ROUTES, lambda c: _spoken6(c, OSPF, "ff02::5", bytes(36)))
attack("EIGRP", ROUTES, lambda c: _spoken(c, EIGRP, "224.0.0.10", bytes(40)))
attack("RIP", ROUTES, lambda c: _to_port(c, "224.0.0.9", 520))
attack("PTP over IPv4", TIME, lambda c: _to_port(c, "224.0.1.129", 319))
GROUPS = "group that is not IP's (CDP, PTP)"
attack("IPv4 to the group of CDP", GROUPS, lambda c: c.v4(c.ip, to="01:00:0c:cc:cc:cc"))
attack("IPv4 to the group of PTP", GROUPS, lambda c: c.v4(c.ip, to="01:1b:19:00:00:00"))
attack(
    "an advertisement with a second MAC, and no length",
    "header that may hide what it is",
    lambda c: _without_length(
        c.icmp6(
            136, advertisement(c.link_local, option(14, octets(c.mac)), target_mac(FOREIGN_MAC)), (HOP_BY_HOP, OPTIONS)
        )
    ),
)


def _without_length(frame: bytes) -> bytes:
    """FRAME, an IPv6 packet, with a length of 0: what a jumbogram has (RFC 2675)."""
    return frame[:18] + bytes(2) + frame[20:]


legitimate("an ARP request", lambda c: c.arp(1, c.ip, c.gateway))
legitimate("an ARP answer", lambda c: c.arp(2, c.ip, c.other, to=c.to))
legitimate("an ARP announcement", lambda c: c.arp(1, c.ip, c.ip))
legitimate("an ARP probe for its own address", lambda c: c.arp(1, "0.0.0.0", c.ip))
legitimate("a DHCP request", lambda c: c.v4("0.0.0.0", target="255.255.255.255", to=BROADCAST, ports=(68, 67)))
legitimate("a DHCP renewal", lambda c: c.v4(c.ip, target=c.gateway, ports=(68, 67)))
legitimate("UDP over IPv4", lambda c: c.v4(c.ip))
# The gateway may have such a MAC. As the guest's own, it is a foreign one.
legitimate(VIRTUAL_ROUTER, lambda c: c.v4(c.ip, to="00:00:5e:00:01:07"))
attack("a virtual router's MAC", MAC, lambda c: c.v4(c.ip, mac="00:00:5e:00:01:07"))
legitimate(
    "TCP over IPv4",
    lambda c: ether(
        c.mac, c.to, 0x0800, ip4(c.ip, c.other, TCP, struct.pack("!HHIIHHHH", 4000, 80, 1, 0, 0x5002, 512, 0, 0))
    ),
)
legitimate("a ping", lambda c: ether(c.mac, c.to, 0x0800, ip4(c.ip, c.other, ICMP, b"\x08\0\xf7\xff\0\0\0\0")))
legitimate(
    "a first IPv4 fragment",
    lambda c: ether(
        c.mac, c.to, 0x0800, ip4(c.ip, c.other, UDP, udp(c.ip, c.other, 4000, 4001, bytes(1464)), more=True)
    ),
)
legitimate(
    "a later IPv4 fragment that looks like DHCP",
    lambda c: ether(c.mac, c.to, 0x0800, ip4(c.ip, c.other, UDP, struct.pack("!HH", 67, 68) * 20, offset=1472)),
)
legitimate(
    "a DHCP client's renewal",
    lambda c: ether(c.mac, c.to, 0x0800, ip4(c.ip, c.other, UDP, udp(c.ip, c.other, 68, 67, asked(c.mac)))),
)
legitimate(
    "multicast DNS over IPv4", lambda c: c.v4(c.ip, target="224.0.0.251", to="01:00:5e:00:00:fb", ports=(5353, 5353))
)
legitimate(
    "an IGMP report",
    lambda c: ether(
        c.mac, "01:00:5e:00:00:16", 0x0800, ip4(c.ip, "224.0.0.22", IGMP, bytes([0x22, 0, 0xDD, 0xFF, 0, 0, 0, 0]))
    ),
)
legitimate("a jumbo frame", lambda c: c.v4(c.ip, bytes(8900)))
legitimate(
    "duplicate detection of its link-local address",
    lambda c: c.icmp6(135, solicitation(c.link_local), source="::", target=solicited_node(c.link_local)),
)
legitimate(
    "duplicate detection with a nonce",
    lambda c: c.icmp6(135, solicitation(c.ip6, NONCE), source="::", target=solicited_node(c.ip6)),
)
legitimate("a router solicitation", lambda c: c.icmp6(133, bytes(4) + source_mac(c.mac), target="ff02::2"))
legitimate("a router solicitation without address", lambda c: c.icmp6(133, bytes(4), source="::", target="ff02::2"))
legitimate(
    "a neighbour solicitation",
    lambda c: c.icmp6(
        135, solicitation(c.gateway6, source_mac(c.mac)), source=c.ip6, target=solicited_node(c.gateway6)
    ),
)
legitimate(
    "a neighbour solicitation without MAC",
    lambda c: c.icmp6(135, solicitation(c.other6), source=c.ip6, target=c.other6),
)
legitimate(
    "a neighbour advertisement",
    lambda c: c.icmp6(136, advertisement(c.ip6, target_mac(c.mac)), source=c.ip6, target=c.other6),
)
legitimate(
    "a neighbour advertisement of its link-local address",
    lambda c: c.icmp6(136, advertisement(c.link_local, target_mac(c.mac))),
)
legitimate(
    "a neighbour advertisement without MAC", lambda c: c.icmp6(136, advertisement(c.ip6), source=c.ip6, target=c.other6)
)
legitimate("a membership report", lambda c: c.icmp6(143, bytes(4), (HOP_BY_HOP, ALERT), target="ff02::16"))
legitimate(
    "a membership report without address",
    lambda c: c.icmp6(143, bytes(4), (HOP_BY_HOP, ALERT), source="::", target="ff02::16"),
)
legitimate("an MLDv1 report", lambda c: c.icmp6(131, bytes(20), (HOP_BY_HOP, ALERT), target="ff02::fb"))
legitimate(
    "a DHCPv6 request",
    lambda c: ether(
        c.mac,
        group_mac("ff02::1:2"),
        0x86DD,
        ip6(c.link_local, "ff02::1:2", UDP, udp(c.link_local, "ff02::1:2", 546, 547, b"\x01legit")),
    ),
)
legitimate("multicast DNS over IPv6", lambda c: c.v6(c.link_local, target="ff02::fb", to=group_mac("ff02::fb")))
legitimate("UDP over IPv6", lambda c: c.v6(c.ip6))
legitimate("UDP behind destination options", lambda c: c.v6(c.ip6, b"legit", (DESTINATION, OPTIONS)))
legitimate("ESP over IPv6", lambda c: ether(c.mac, c.to, 0x86DD, ip6(c.ip6, c.other6, ESP, bytes(32))))
legitimate("a first IPv6 fragment", lambda c: c.v6(c.ip6, bytes(1200), fragment(more=True)))
legitimate(
    "a later IPv6 fragment that looks like DHCPv6",
    lambda c: ether(
        c.mac,
        c.to,
        0x86DD,
        ip6(c.ip6, c.other6, UDP, struct.pack("!HH", 547, 546) * 20, fragment(1208)),
    ),
)
legitimate(
    "a later IPv6 fragment that looks like a router advertisement",
    lambda c: ether(
        c.mac,
        c.to,
        0x86DD,
        ip6(c.ip6, c.other6, ICMP6, bytes([134]) * 40, fragment(1208)),
    ),
)
legitimate("a later IPv6 fragment", lambda c: c.v6(c.ip6, bytes(1200), fragment(1208)))
legitimate(
    "QEMU's announcement",
    lambda c: ether(c.mac, BROADCAST, 0x8035, arp_packet(3, c.mac, "0.0.0.0", "0.0.0.0", target_mac=c.mac)),
)
