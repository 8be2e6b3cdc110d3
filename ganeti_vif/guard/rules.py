# SPDX-License-Identifier: BSD-2-Clause
"""Filter rules as data. One description gives both nft's words for a rule and whether the rule matches a packet.

A match asks for one field of a packet. As in the kernel, a field that the packet does not have never matches, not even
with "other than". So a rule decides nothing about packets of another kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address

from ganeti_vif.engine.chains import FilterRule
from ganeti_vif.engine.objects import Prefix

Packet = Mapping[str, int]
"""A packet: a number for each field that it has, by the field's name."""


class Form(Enum):
    """How nft wants a field's value written."""

    NUMBER = "number"
    ETHERTYPE = "ethertype"
    HEXADECIMAL = "hexadecimal"
    MARK = "mark"
    STATION = "station"
    MAC = "mac"
    IPV4 = "ipv4"
    IPV6 = "ipv6"
    PRESENT = "present"


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a packet: its NAME here, nft's WORDS for it, and its WIDTH in bits.

    nft has no name for a hexadecimal field: its words say where it begins (nft(8), raw payload expression).
    """

    name: str
    words: str
    width: int
    form: Form = Form.NUMBER


# Fields of frequent packets are given by place, not by name: for a name nft first asks what kind of packet it is.
ETHER_SOURCE = Field("ether.source", "@ll,48", 48, Form.HEXADECIMAL)
ETHER_DESTINATION = Field("ether.destination", "@ll,0", 48, Form.HEXADECIMAL)
ETHER_TYPE = Field("ether.type", "@ll,96", 16, Form.HEXADECIMAL)
"""The type in the outermost header: that of a VLAN tag, if there is one."""
ETHER_GROUP = Field("ether.group", "@ll,7", 1, Form.HEXADECIMAL)
"""Whether the frame goes to a group of stations: the lowest bit of the destination's first byte."""
ETHER_SOURCE_AND_TYPE = Field("ether.source.type", "@ll,48", 64, Form.HEXADECIMAL)
"""ETHER_SOURCE and, in the last 16 bits, ETHER_TYPE. Linux before 6.1.61, and before 6.6, takes the type of the content
instead of the tag's (af84f9e447a6, "nft_payload: rebuild vlan header on h_proto access")."""
ETHER_STATION = Field("ether.station", "meta pkttype", 8, Form.STATION)
"""Whom the frame is for, as the kernel sees it from the destination (eth_type_trans()). It costs less than a look at
the frame. No frame to a group is for this or for another station."""
IP_PROTOCOL = Field("ip.protocol", "@nh,72", 8, Form.HEXADECIMAL)
IP_SOURCE_BITS = Field("ip.source", "@nh,96", 32, Form.HEXADECIMAL)
IP_DESTINATION_BITS = Field("ip.destination", "@nh,128", 32, Form.HEXADECIMAL)
IP6_DESTINATION_BITS = Field("ip6.destination", "@nh,192", 128, Form.HEXADECIMAL)
IP6_SOURCE_BITS = Field("ip6.source", "@nh,64", 128, Form.HEXADECIMAL)
IP6_LENGTH_BITS = Field("ip6.length", "@nh,32", 16, Form.HEXADECIMAL)
IP6_NEXT = Field("ip6.next", "@nh,48", 8, Form.HEXADECIMAL)
"""What follows IPv6's first header."""
UDP_DESTINATION_BITS = Field("udp.destination", "@th,16", 16, Form.HEXADECIMAL)
MARK = Field("mark", "meta mark", 32, Form.MARK)
"""What guard/offload.py found. A frame from a tap has this mark or none."""
PROTOCOL = Field("protocol", "meta protocol", 16, Form.ETHERTYPE)
"""What is in the frame, within its VLAN tag."""
ARP_HEADER = Field("arp.header", "@nh,0", 48, Form.HEXADECIMAL)
ARP_OPERATION = Field("arp.operation", "arp operation", 16)
ARP_SENDER_MAC = Field("arp.sender.mac", "arp saddr ether", 48, Form.MAC)
ARP_SENDER = Field("arp.sender", "arp saddr ip", 32, Form.IPV4)
ARP_TARGET = Field("arp.target", "arp daddr ip", 32, Form.IPV4)
RARP_OPERATION = Field("rarp.operation", "@nh,48", 16, Form.HEXADECIMAL)
RARP_SENDER_MAC = Field("rarp.sender.mac", "@nh,64", 48, Form.HEXADECIMAL)
IP_SOURCE = Field("ip.source", "ip saddr", 32, Form.IPV4)
IP_DESTINATION = Field("ip.destination", "ip daddr", 32, Form.IPV4)
IP_OFFSET = Field("ip.offset", "ip frag-off & 0x1fff ==", 13)
"""0 in a whole packet and in a first fragment. A later fragment has no UDP header, but in the family netdev nft looks
for one in it, for IPv4."""
IP_MORE = Field("ip.more", "ip frag-off & 0x2000 ==", 16)
"""0x2000 in each fragment but the last one (RFC 791, 3.1)."""
IGMP_TYPE = Field("igmp.type", "@th,0", 8, Form.HEXADECIMAL)
IP6_SOURCE = Field("ip6.source", "ip6 saddr", 128, Form.IPV6)
IP6_SOURCE_MIDDLE = Field("ip6.source.middle", "@nh,152", 16, Form.HEXADECIMAL)
"""The 16 bits in the middle of an interface identifier: ff:fe if it is made of a MAC (RFC 4291, appendix A)."""
IP6_DESTINATION = Field("ip6.destination", "ip6 daddr", 128, Form.IPV6)
IP6_LENGTH = Field("ip6.length", "ip6 length", 16)
"""The length of what follows the first header, in bytes (RFC 8200, 3)."""
IP6_FRAGMENT = Field("ip6.fragment", "exthdr frag", 1, Form.PRESENT)
UPPER = Field("upper", "meta l4proto", 8)
"""What an IP packet carries, behind the extension headers: hop-by-hop and destination options, routing, fragment."""
UDP_SOURCE = Field("udp.source", "udp sport", 16)
UDP_DESTINATION = Field("udp.destination", "udp dport", 16)
DHCP_CHADDR = Field("dhcp.chaddr", "@th,288", 48, Form.HEXADECIMAL)
"""The MAC that a DHCP client claims to have (RFC 2131, 2), behind the eight bytes of UDP."""
ICMP6_TYPE = Field("icmp6.type", "icmpv6 type", 8)
ND_TARGET = Field("nd.target", "@th,64", 128, Form.HEXADECIMAL)
"""The target of a neighbour solicitation or advertisement (RFC 4861, 4.3 and 4.4)."""
ND_TARGET_MIDDLE = Field("nd.target.middle", "@th,152", 16, Form.HEXADECIMAL)
ND_OPTION_MAC = Field("nd.option.mac", "@th,208", 48, Form.HEXADECIMAL)
"""What the first option of a neighbour solicitation or advertisement carries, after its type and length."""
RS_OPTION_MAC = Field("rs.option.mac", "@th,80", 48, Form.HEXADECIMAL)
"""The same of a router solicitation (RFC 4861, 4.1)."""

HOST, OTHER_HOST = 0, 3
"""Values of ETHER_STATION (linux/if_packet.h): the tap itself, another station."""

_WORD = 32
"""How many bits the kernel compares at the lowest cost, if they begin at a multiple of it."""
_STATIONS = {HOST: "host", OTHER_HOST: "other"}
_ETHERTYPES = {0x0800: "ip", 0x0806: "arp", 0x86DD: "ip6", 0x8100: "8021q", 0x88A8: "8021ad"}


@dataclass(frozen=True, slots=True)
class Match:
    """A packet's FIELD is from LOW to HIGH (NEGATED: it is not). Only its bits in MASK count. TEXT says so in nft's
    words."""

    field: Field
    low: int
    high: int
    text: str
    negated: bool = False
    mask: int = -1

    def holds(self, packet: Packet) -> bool:
        """Whether PACKET has the field with such a value."""
        value = packet.get(self.field.name)
        return value is not None and (self.low <= value & self.mask <= self.high) != self.negated


def equal(field: Field, value: int) -> Match:
    """FIELD is VALUE."""
    return Match(field, value, value, f"{_words(field)} {written(field, value)}")


def unlike(field: Field, value: int) -> Match:
    """FIELD exists and is not VALUE."""
    return Match(field, value, value, f"{_words(field)} != {written(field, value)}", negated=True)


def between(field: Field, low: int, high: int) -> Match:
    """FIELD is from LOW to HIGH."""
    return Match(field, low, high, f"{_words(field)} {low}-{high}")


def masked(field: Field, mask: int, value: int, *, negated: bool = False) -> Match:
    """The bits in MASK of FIELD, a hexadecimal field, are VALUE (NEGATED: they are not).

    nft loads the whole word in which FIELD is: the kernel compares it within the loop over the expressions, and calls a
    function for anything shorter (nft_bitwise_fast_eval() in net/netfilter/nf_tables_core.c).
    """
    base, _, at = field.words.partition(",")
    word, first = divmod(int(at), _WORD)
    shift = _WORD - first - field.width
    assert shift >= 0
    shown = (_hexadecimal(number << shift, _WORD) for number in (mask, value))
    text = f"{base},{word * _WORD},{_WORD} & {next(shown)} {'!=' if negated else '=='} {next(shown)}"
    return Match(field, value, value, text, negated, mask)


def within(field: Field, network: Prefix, *, negated: bool = False) -> Match:
    """FIELD, an address, is in NETWORK (NEGATED: it is not)."""
    low, high = int(network.network_address), int(network.broadcast_address)
    if field.form is Form.HEXADECIMAL:
        return leading(field, low >> (field.width - network.prefixlen), network.prefixlen, negated=negated)
    shown = str(network.network_address) if low == high else str(network)
    return Match(field, low, high, f"{_words(field)} {'!= ' if negated else ''}{shown}", negated)


def leading(field: Field, value: int, bits: int, *, negated: bool = False) -> Match:
    """The first BITS bits of FIELD, a hexadecimal field, are VALUE (NEGATED: they are not)."""
    rest = field.width - bits
    text = f"{field.words},{bits} {'!= ' if negated else ''}{_hexadecimal(value, bits)}"
    return Match(field, value << rest, (value + 1 << rest) - 1, text, negated)


def written(field: Field, value: int) -> str:
    """VALUE in nft's notation for FIELD."""
    match field.form:
        case Form.NUMBER:
            return str(value)
        case Form.ETHERTYPE:
            return _ETHERTYPES.get(value, f"{value:#06x}")
        case Form.MARK:
            return f"{value:#010x}"
        case Form.STATION:
            return _STATIONS[value]
        case Form.HEXADECIMAL:
            return _hexadecimal(value, field.width)
        case Form.MAC:
            return value.to_bytes(6, "big").hex(":")
        case Form.IPV4:
            return str(IPv4Address(value))
        case Form.IPV6:
            return str(IPv6Address(value))
        case Form.PRESENT:
            return "exists"


def _words(field: Field) -> str:
    return f"{field.words},{field.width}" if field.form is Form.HEXADECIMAL else field.words


def _hexadecimal(value: int, bits: int) -> str:
    return f"0x{value:0{(bits + 7) // 8 * 2}x}"


class Verdict(Enum):
    """What happens to a packet that a rule matches. The first verdict counts."""

    ACCEPT = "accept"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Mark:
    """The packet gets this mark, and goes on to the next rule."""

    value: int


@dataclass(frozen=True, slots=True)
class GuardRule:
    """A packet for which all MATCHES hold is accepted, dropped or marked, for REASON.

    ABOVE are nft's words for a limit: only packets above it are dropped. A packet that is alone is never above it.
    """

    matches: tuple[Match, ...]
    verdict: Verdict | Mark
    reason: str
    above: str = ""

    @property
    def text(self) -> str:
        """The rule in nft's words. It counts the packets that it decides on."""
        match self.verdict:
            case Mark(value):
                action = f"meta mark set {value:#010x}"
            case Verdict():
                action = f"{self.above} counter {self.verdict.value}".lstrip()
        return " ".join([*(match.text for match in self.matches), action])

    def holds(self, packet: Packet) -> bool:
        """Whether the rule matches PACKET."""
        return all(match.holds(packet) for match in self.matches)


def decision(rules: Iterable[GuardRule], packet: Packet) -> GuardRule:
    """The rule of RULES that decides on PACKET, if it is alone. The last rule must match every packet."""
    decisive = (rule for rule in rules if isinstance(rule.verdict, Verdict) and not rule.above)
    return next(rule for rule in decisive if rule.holds(packet))


def filter_rule(rule: GuardRule, own: Sequence[str]) -> FilterRule:
    """RULE for the kernel. OWN are the words that differ between NICs."""
    text = rule.text
    words = text.split()
    return FilterRule(text, rule.reason, tuple(word for word in own if word in words))


def mac_number(mac: str) -> int:
    """MAC as a number."""
    return int(mac.replace(":", ""), 16)
