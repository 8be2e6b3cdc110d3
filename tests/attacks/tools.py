# SPDX-License-Identifier: BSD-2-Clause
"""Public tools of attackers, from Debian: how each is called, and which frames are its attack."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from tests.kernel.attacks import Cast
from tests.kernel.environment import ARP_SOURCE, BEYOND
from tests.kernel.forging import DESTINATION, FRAGMENT, HOP_BY_HOP, ROUTING

from .site import MODES, NEIGHBOURS

Is = Callable[[bytes, Cast], bool]
"""Whether a frame is of the attack, wherever it is seen."""


def ipv4(frame: bytes) -> tuple[str, str, int, bytes] | None:
    """Source, destination, protocol and payload of an IPv4 packet; None if FRAME is none."""
    if frame[12:14] != b"\x08\0" or len(frame) < 34:
        return None
    start = 14 + 4 * (frame[14] & 15)
    return str(IPv4Address(frame[26:30])), str(IPv4Address(frame[30:34])), frame[23], frame[start:]


def ipv6(frame: bytes) -> tuple[str, int, bytes] | None:
    """Source, upper protocol and payload of an IPv6 packet behind its extension headers; None if FRAME is none."""
    if frame[12:14] != b"\x86\xdd" or len(frame) < 54:
        return None
    kind, at = frame[20], 54
    while kind in (HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION) and len(frame) > at + 1:
        kind, at = frame[at], at + (8 if kind == FRAGMENT else 8 * (frame[at + 1] + 1))
    return str(IPv6Address(frame[22:38])), kind, frame[at:]


def arp_lie(frame: bytes, cast: Cast) -> bool:
    """ARP with the attacker's MAC and somebody else's address as sender, or with a MAC that is nobody's."""
    if frame[12:14] != b"\x08\x06" or len(frame) < 42:
        return False
    mac, sender = frame[22:28].hex(":"), str(IPv4Address(frame[28:32]))
    return mac == cast.mac and sender not in (cast.ip, "0.0.0.0")


def foreign4(frame: bytes, cast: Cast) -> bool:
    """IPv4 with a source that nobody here has who speaks."""
    packet = ipv4(frame)
    honest = (cast.ip, cast.other, cast.gateway, cast.node, "0.0.0.0", ARP_SOURCE, BEYOND)
    return packet is not None and packet[0] not in honest


def icmp6(*types: int) -> Is:
    """ICMPv6 of one of these TYPES."""

    def found(frame: bytes, _: Cast) -> bool:
        packet = ipv6(frame)
        return packet is not None and packet[1] == 58 and packet[2][:1] in [bytes([one]) for one in types]

    return found


def advertised(frame: bytes, cast: Cast) -> bool:
    """An advertisement of an address that is not the attacker's, at the attacker's MAC or at nobody's."""
    packet = ipv6(frame)
    if packet is None or packet[1] != 58 or packet[2][:1] != b"\x88" or len(packet[2]) < 24:
        return False
    macs = {packet[2][26:32].hex(":")} - {cast.other_mac}
    is_own = str(IPv6Address(packet[2][8:24])) in (cast.ip6, cast.link_local)
    return not is_own and bool(macs & {cast.mac, NOBODY})


def fragments(frame: bytes, _: Cast) -> bool:
    """A fragment of an IPv6 packet to a group: what it is cannot be seen."""
    return frame[12:14] == b"\x86\xdd" and frame[38:39] == b"\xff" and FRAGMENT in _headers(frame)


def _headers(frame: bytes) -> set[int]:
    """The numbers of the IPv6 headers of FRAME, up to the first fragment header."""
    kind, at, found = frame[20], 54, set[int]()
    while kind in (HOP_BY_HOP, ROUTING, DESTINATION) and len(frame) > at + 1:
        found.add(kind)
        kind, at = frame[at], at + 8 * (frame[at + 1] + 1)
    return found | {kind}


def to_switches(frame: bytes, _: Cast) -> bool:
    """To a group that switches listen to."""
    return frame[:3] in (b"\x01\x80\xc2", b"\x01\x00\x0c")


def protocol(number: int) -> Is:
    """This PROTOCOL of IPv4 or IPv6."""

    def found(frame: bytes, _: Cast) -> bool:
        four, six = ipv4(frame), ipv6(frame)
        return (four is not None and four[2] == number) or (six is not None and six[1] == number)

    return found


def starves(frame: bytes, cast: Cast) -> bool:
    """A DHCP client's question in the name of a MAC that is not the attacker's."""
    packet = ipv4(frame)
    if packet is None or packet[2] != 17 or struct.unpack_from("!H", packet[3], 2)[0] != 67:
        return False
    return packet[3][36:42].hex(":") not in (cast.mac, cast.other_mac)


def to_the_node(frame: bytes, cast: Cast) -> bool:
    """To the node's own address."""
    packet = ipv4(frame)
    return packet is not None and packet[1] == cast.node


def of_the_node(frame: bytes, cast: Cast) -> bool:
    """From the node's own address."""
    packet = ipv4(frame)
    return packet is not None and packet[0] == cast.node


def nothing(_: bytes, __: Cast) -> bool:
    """No frame."""
    return False


def either(*kinds: Is) -> Is:
    return lambda frame, cast: any(kind(frame, cast) for kind in kinds)


NOBODY = "aa:00:00:00:00:63"


@dataclass(frozen=True)
class Tool:
    """A COMMAND that attacks, with the names of Cast and `neighbour` in braces. It is ended after some seconds."""

    name: str
    command: str
    attack: Is
    modes: tuple[str, ...] = MODES
    """Where it attacks at all: some tools wait for an answer of their victim first."""
    stirred: str = ""
    """What the victim does meanwhile: some tools only answer."""
    seconds: int = 4
    """For which it attacks."""
    short: bool = False
    answer: Is = nothing
    """The frames by which the attack would have success with its sender."""

    def words(self, cast: Cast, mode: str) -> list[str]:
        """The command. `~` is a space within a word."""
        return [word.replace("~", " ") for word in self._filled(self.command, cast, mode).split()]

    def stirring(self, cast: Cast, mode: str) -> list[str]:
        return self._filled(self.stirred, cast, mode).split()

    def _filled(self, text: str, cast: Cast, mode: str) -> str:
        return text.format(c=cast, neighbour=NEIGHBOURS[mode])


NEAR = ("routed", "bridged")
"""Where the victim answers the attacker: some tools ask it for its MAC first."""
KEEPALIVED = """\
global_defs {{
  vrrp_version 3
}}
vrrp_instance take {{
  state MASTER
  interface eth0
  virtual_router_id 51
  priority 254
  advert_int 0.2
  virtual_ipaddress {{
    {neighbour}/32
  }}
}}
"""
TOOLS = (
    Tool("arpspoof", "arpspoof -i eth0 -t {c.other} {neighbour}", arp_lie, short=True),
    Tool("arpspoof -r", "arpspoof -i eth0 -r -t {c.other} {c.gateway}", arp_lie, NEAR),
    Tool("macof", "macof -i eth0 -n 2000", foreign4),
    Tool("ettercap arp", "ettercap -T -q -i eth0 -M arp:remote /{c.other}// /{c.gateway}//", arp_lie, ("routed",)),
    Tool("hping3 -a", "hping3 -q -c 20 -i u20000 -S -p 80 -a {neighbour} {c.other}", foreign4, short=True),
    Tool("hping3 --rand-source", "hping3 -q -c 50 -i u20000 --udp -p 53 --rand-source {c.other}", foreign4),
    Tool("hping3 smurf", "hping3 -q -c 10 -i u20000 -1 -a {neighbour} 255.255.255.255", foreign4),
    Tool(
        "nmap -D",
        "nmap -n -Pn -sS -D {neighbour} -p 80,443 --max-retries 1 --host-timeout 3s {c.other}",
        foreign4,
        NEAR,
    ),
    Tool(
        "nmap of the node",
        "nmap -n -Pn -sU -sS -p T:22,80,U:53,67,123,547 --max-retries 0 --host-timeout 3s {c.node}",
        to_the_node,
        ("routed",),
        short=True,
        answer=of_the_node,
    ),
    Tool("dhcpstarv", "dhcpstarv -i eth0", starves, short=True),
    Tool(
        "keepalived",
        "keepalived -P -n -l -f /run/keepalived.conf -p /run/k.pid -r /run/v.pid",
        either(arp_lie, protocol(112)),
        seconds=12,
    ),
    Tool("yersinia stp", "script -qec yersinia~stp~-attack~2~-interface~eth0 /dev/null", to_switches, short=True),
    Tool("yersinia cdp", "script -qec yersinia~cdp~-attack~1~-interface~eth0 /dev/null", to_switches),
    Tool("yersinia dtp", "script -qec yersinia~dtp~-attack~1~-interface~eth0 /dev/null", to_switches),
    Tool("yersinia dhcp", "script -qec yersinia~dhcp~-attack~1~-interface~eth0 /dev/null", starves),
    Tool("fake_router26", "atk6-fake_router26 -n 3 -i 1 -A 2001:db8:bad::/64 eth0", icmp6(134), short=True),
    Tool("fake_router26 -E HD", "atk6-fake_router26 -E HD -n 3 -i 1 -A 2001:db8:bad::/64 eth0", fragments),
    Tool("flood_router26", "atk6-flood_router26 eth0", icmp6(134)),
    Tool("fake_advertise6", "atk6-fake_advertise6 -n 3 -w 1 eth0 {c.gateway6} ff02::1 {c.mac}", advertised, short=True),
    Tool("parasite6", "atk6-parasite6 -l eth0", advertised, ("bridged",), "ping -6 -n -c 2 -i 0.5 -W 1 {c.gateway6}"),
    Tool("fake_mld6 query", "atk6-fake_mld6 eth0 query", icmp6(130)),
    Tool("fake_mldrouter6", "atk6-fake_mldrouter6 eth0 advertise", icmp6(151), short=True),
    Tool("fake_mldrouter6 terminate", "atk6-fake_mldrouter6 eth0 terminate", icmp6(153)),
    Tool("fake_pim6", "atk6-fake_pim6 eth0 hello", protocol(103)),
)
