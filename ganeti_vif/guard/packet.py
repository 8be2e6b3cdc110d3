# SPDX-License-Identifier: BSD-2-Clause
"""A packet that somebody describes in words, as fields of filter rules. Pure.

`from=192.0.2.7 to=192.0.2.1 proto=udp sport=67 dport=68`, or ARP as tcpdump writes it: `arp who-has 192.0.2.1 tell
192.0.2.7`. Fields that are not given are as the NIC's own guest would send them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address

from ganeti_vif.config.values import integer
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.objects import Address
from ganeti_vif.guard import rules
from ganeti_vif.guard.offload import LIE
from ganeti_vif.guard.protocols import (
    ADVERTISEMENT,
    ARP,
    ARP_OF_IPV4_OVER_ETHERNET,
    IGMP,
    IPV4,
    IPV6,
    MORE_FRAGMENTS,
    RARP,
    SOLICITATION,
    VLAN,
)
from ganeti_vif.guard.rules import Field, Packet, mac_number
from ganeti_vif.guard.usual import station
from ganeti_vif.nic.nic import Nic

KEYS = (
    *("mac", "to-mac", "vlan", "ether", "arp", "rarp", "sender", "sender-mac", "target"),
    *(
        "from",
        "to",
        "proto",
        "sport",
        "dport",
        "type",
        "fragment",
        "nd-mac",
        "nd-target",
        "length",
        "checksum",
        "chaddr",
    ),
)
UDP, FRAGMENT_HEADER, ICMP6 = 17, 44, 58
PROTOCOLS = {"icmp": 1, "igmp": IGMP, "tcp": 6, "udp": UDP, "esp": 50, "ah": 51, "icmp6": ICMP6}
OPERATIONS = {"request": 1, "reply": 2}
FRAGMENTS = ("no", "first", "later")
CHECKSUMS = ("own", "elsewhere")
SOMEBODY = {4: "192.0.2.1", 6: "2001:db8::1"}
"""The destination of a packet if none is given (RFC 5737, RFC 3849)."""

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


def described(text: str, nic: Nic) -> Packet:
    """The packet that TEXT describes, sent by NIC's guest. Raises Failure if TEXT cannot be understood."""
    try:
        return _packet(_Description(_pairs(text.split())), nic)
    except ValueError as error:
        raise Failure(
            f"--packet '{text}': {error}",
            "note: as 'from=192.0.2.7 proto=udp sport=67 dport=68', or 'arp who-has 192.0.2.1 tell 192.0.2.7'",
        ) from error


def ports_of(text: str) -> tuple[int | None, int | None]:
    """The source and destination ports in TEXT, which described() understands; None for one that is not given. The
    guard knows only UDP's: other programs' rules judge TCP's, too."""
    said = _Description(_pairs(text.split()))
    sport, dport = (said.number(key, 0xFFFF, -1) for key in ("sport", "dport"))
    return (sport if sport >= 0 else None), (dport if dport >= 0 else None)


def _pairs(words: list[str]) -> dict[str, str]:
    match words:
        case ["arp", "who-has", target, "tell", sender, *rest]:
            given = {"arp": "request", "target": target, "sender": sender}
        case ["arp", "who-has", target, *rest]:
            given = {"arp": "request", "target": target}
        case ["arp", "reply", sender, "is-at", mac, *rest]:
            given = {"arp": "reply", "sender": sender, "sender-mac": mac}
        case _:
            given, rest = {}, words
    for word in rest:
        key, equals, value = word.partition("=")
        if key not in KEYS or not equals or not value:
            raise ValueError(f"'{word}' is none of: {', '.join(f'{key}=' for key in KEYS)}")
        if key in given:
            raise ValueError(f"{key} comes twice")
        given[key] = value
    return given


class _Description:
    """The words of a description. Each is parsed when somebody asks for it."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self.given = given

    def __contains__(self, key: str) -> bool:
        return key in self.given

    def mac(self, key: str, default: str) -> int:
        text = self.given.get(key, default).lower()
        if not _MAC.fullmatch(text):
            raise ValueError(f"'{text}' is not a MAC address")
        return mac_number(text)

    def address(self, key: str, default: Address | str) -> Address:
        return ip_address(self.given.get(key, default))

    def number(self, key: str, highest: int, default: int, names: Mapping[str, int] | None = None) -> int:
        text = self.given.get(key)
        if text is None:
            return default
        if names and text in names:
            return names[text]
        if re.fullmatch(r"0x[0-9a-f]{1,4}", text):
            return int(text, 16)
        return integer(0, highest)(text)


def _packet(said: _Description, nic: Nic) -> Packet:
    found: dict[Field, int] = {
        rules.ETHER_SOURCE: said.mac("mac", nic.mac),
        rules.ETHER_DESTINATION: said.mac("to-mac", "02:00:00:00:00:01"),
    }
    if "arp" in said or "rarp" in said:
        found |= _arp(said, nic)
    elif "ether" in said:
        found[rules.PROTOCOL] = said.number("ether", 0xFFFF, 0)
    else:
        found |= _ip(said, nic)
    found |= _offload(said)
    found[rules.ETHER_GROUP] = found[rules.ETHER_DESTINATION] >> 40 & 1
    found[rules.ETHER_TYPE] = VLAN if "vlan" in said else found[rules.PROTOCOL]
    found[rules.ETHER_SOURCE_AND_TYPE] = found[rules.ETHER_SOURCE] << 16 | found[rules.ETHER_TYPE]
    if not found[rules.ETHER_GROUP]:
        found[rules.ETHER_STATION] = station(nic)
    return {field.name: value for field, value in found.items()}


def _offload(said: _Description) -> dict[Field, int]:
    """The mark that guard/offload.py gives a packet whose checksum is left to the node."""
    where = said.given.get("checksum", "own")
    if where not in CHECKSUMS:
        raise ValueError(f"checksum={where} is none of: {', '.join(CHECKSUMS)}")
    return {rules.MARK: LIE} if where == "elsewhere" else {}


def _arp(said: _Description, nic: Nic) -> dict[Field, int]:
    sender_mac = said.mac("sender-mac", nic.mac)
    if "rarp" in said:
        operation = said.number("rarp", 0xFFFF, 3)
        return {rules.PROTOCOL: RARP, rules.RARP_OPERATION: operation, rules.RARP_SENDER_MAC: sender_mac}
    return {
        rules.PROTOCOL: ARP,
        rules.ARP_HEADER: ARP_OF_IPV4_OVER_ETHERNET,
        rules.ARP_OPERATION: said.number("arp", 0xFFFF, 1, OPERATIONS),
        rules.ARP_SENDER_MAC: sender_mac,
        rules.ARP_SENDER: int(said.address("sender", nic.address or "0.0.0.0")),
        rules.ARP_TARGET: int(said.address("target", SOMEBODY[4])),
    }


def _ip(said: _Description, nic: Nic) -> dict[Field, int]:
    version = _version(said, nic)
    own = (nic.address if version == 4 else nic.address6) or SOMEBODY[version]
    source, destination = said.address("from", own), said.address("to", SOMEBODY[version])
    if source.version != destination.version:
        raise ValueError(f"{source} and {destination} are of two IP versions")
    protocol = said.number("proto", 255, UDP if {"sport", "dport"} & said.given.keys() else 6, PROTOCOLS)
    fragment = said.given.get("fragment", "no")
    if fragment not in FRAGMENTS:
        raise ValueError(f"fragment={fragment} is none of: {', '.join(FRAGMENTS)}")
    upper = {} if fragment == "later" else _upper(said, protocol)
    if version == 4:
        return upper | {
            rules.PROTOCOL: IPV4,
            rules.IP_SOURCE: int(source),
            rules.IP_DESTINATION: int(destination),
            rules.IP_OFFSET: 1 if fragment == "later" else 0,
            rules.IP_PROTOCOL: protocol,
            rules.IP_MORE: MORE_FRAGMENTS if fragment == "first" else 0,
            rules.UPPER: protocol,
        }
    found = upper | {
        rules.PROTOCOL: IPV6,
        rules.IP6_SOURCE: int(source),
        rules.IP6_SOURCE_MIDDLE: _middle(source),
        rules.IP6_DESTINATION: int(destination),
        rules.UPPER: protocol,
        rules.IP6_LENGTH: said.number("length", 0xFFFF, 32 if rules.ND_OPTION_MAC in upper else 16),
    }
    more = {rules.IP6_NEXT: protocol} if fragment == "no" else {rules.IP6_FRAGMENT: 1, rules.IP6_NEXT: FRAGMENT_HEADER}
    return found | more


def _middle(address: Address) -> int:
    """The 16 bits in the middle of ADDRESS's interface identifier."""
    return int(address) >> 24 & 0xFFFF


def _version(said: _Description, nic: Nic) -> int:
    for key in ("from", "to"):
        if key in said:
            return said.address(key, "").version
    return 6 if said.given.get("proto") == "icmp6" or nic.address is None else 4


def _upper(said: _Description, protocol: int) -> dict[Field, int]:
    """The fields of the transport header."""
    if protocol == UDP:
        ports = {
            rules.UDP_SOURCE: said.number("sport", 0xFFFF, 4000),
            rules.UDP_DESTINATION: said.number("dport", 0xFFFF, 4000),
        }
        return ports | ({rules.DHCP_CHADDR: said.mac("chaddr", "")} if "chaddr" in said else {})
    if protocol == IGMP:
        return {rules.IGMP_TYPE: said.number("type", 255, 0x16)}
    if protocol != ICMP6:
        return {}
    found = {rules.ICMP6_TYPE: said.number("type", 255, 128)}
    if found[rules.ICMP6_TYPE] in (SOLICITATION, ADVERTISEMENT):
        target = said.address("nd-target", IPv6Address(SOMEBODY[6]))
        found[rules.ND_TARGET], found[rules.ND_TARGET_MIDDLE] = int(target), _middle(target)
    if "nd-mac" in said:
        found[rules.ND_OPTION_MAC] = found[rules.RS_OPTION_MAC] = said.mac("nd-mac", "")
    return found
