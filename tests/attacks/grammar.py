# SPDX-License-Identifier: BSD-2-Clause
"""Frames from a grammar: each is made from a seed and its number, so it can be made again.

They are near to what is allowed: a frame that is wrong in ten places says nothing about any of them.
"""

from __future__ import annotations

import functools
import random
import struct
from ipaddress import IPv4Address, IPv6Address

from tests.kernel.attacks import Cast, asked
from tests.kernel.forging import (
    AH,
    BROADCAST,
    DESTINATION,
    FRAGMENT,
    HOP_BY_HOP,
    ICMP,
    ICMP6,
    IGMP,
    OPTIONS,
    ROUTING,
    TCP,
    UDP,
    Extension,
    arp_packet,
    checksum,
    ether,
    fragment,
    group_mac,
    icmp6,
    ip6,
    option,
    solicited_node,
    udp,
)
from tests.kernel.unfinished import HIDDEN, hidden
from tests.lab.tap import VNET_HEADER

FOREIGN_MAC = "aa:00:00:00:00:63"
DHCP_MAGIC = b"\x63\x82\x53\x63"
Sent = tuple[bytes, bytes]
"""A frame, and what the card says beside it (struct virtio_net_hdr)."""


def frame(seed: int, number: int, cast: Cast) -> Sent:
    """The frame NUMBER of the run SEED, sent by the attacker of CAST."""
    return _Grammar(random.Random(f"{seed}/{number}"), cast).frame()


@functools.cache
def hideable(cast: Cast) -> list[tuple[bytes, bytes]]:
    """What is shown and what is meant, where it is another frame by 16 bits only: not for MACs of two networks."""
    pairs = [build(cast) for build in HIDDEN.values()]
    return [
        (shown, meant)
        for shown, meant in pairs
        if len({at // 2 for at, (one, other) in enumerate(zip(shown, meant, strict=True)) if one != other}) == 1
    ]


class _Grammar:
    """One frame: CHANCE decides at each alternative."""

    def __init__(self, chance: random.Random, cast: Cast) -> None:
        self.chance = chance
        self.cast = cast

    def frame(self) -> Sent:
        if self._seldom(0.03):
            return self._hidden()
        made = self.chance.choice([self._arp, self._ipv4, self._ipv6, self._ipv6, self._discovery, self._dhcp])()
        if self._seldom(0.06):
            made = self._damaged(made)
        return made[:65000], self._beside(made)

    def _hidden(self) -> Sent:
        """A frame that is honest until the node has finished its sum. The sum may begin anywhere before that place."""
        shown, meant = self.chance.choice(hideable(self.cast))
        start = self.chance.choice([None, self.chance.randrange(0, 22, 2), 14])
        return hidden(shown, meant, start)

    def _seldom(self, share: float = 0.1) -> bool:
        return self.chance.random() < share

    def _mac(self) -> str:
        cast = self.cast
        return self.chance.choice([cast.mac] * 12 + [cast.other_mac, FOREIGN_MAC, cast.to])

    def _to(self) -> str:
        return self.chance.choice([BROADCAST, self.cast.to, self.cast.other_mac, "33:33:00:00:00:01"])

    def _four(self) -> str:
        cast = self.cast
        return self.chance.choice([cast.ip] * 4 + [cast.other, cast.gateway, "0.0.0.0", cast.node, "224.0.0.1"])

    def _six(self) -> str:
        cast = self.cast
        own = [cast.ip6, cast.link_local] * 3
        return self.chance.choice([*own, cast.other6, cast.other_link_local, cast.gateway6, "fe80::1", "::", "ff02::1"])

    def _ether(self, to: str, kind: int, payload: bytes) -> bytes:
        tags = []
        if self._seldom(0.04):
            kinds = [0x8100, 0x88A8]
            tags = [
                (self.chance.choice(kinds), self.chance.choice([0, 1, 7])) for _ in range(self.chance.choice([1, 2]))
            ]
        return ether(self._mac(), to, kind, payload, *tags)

    def _arp(self) -> bytes:
        header = (
            (1, 0x0800, 6, 4) if not self._seldom(0.08) else self.chance.choice([(6, 0x0800, 6, 4), (1, 0x0800, 8, 4)])
        )
        target_mac = self.chance.choice(["00:00:00:00:00:00", self.cast.mac, self.cast.other_mac, BROADCAST])
        operation = self.chance.choice([1, 1, 2, 2, 3, 4, 8, 9])
        packet = arp_packet(operation, self._mac(), self._four(), self._four(), target_mac=target_mac, header=header)
        return self._ether(self._to(), 0x8035 if operation in (3, 4) else 0x0806, packet)

    def _ipv4(self) -> bytes:
        source, target = self._four(), self._four()
        protocol, payload = self._upper4(source, target)
        return self._ether(self._to(), 0x0800, self._packet4(source, target, protocol, payload))

    def _packet4(self, source: str, target: str, protocol: int, payload: bytes) -> bytes:
        """An IPv4 packet with options and as a fragment, now and then; its lengths may be wrong."""
        options = (
            b""
            if not self._seldom(0.2)
            else self.chance.choice(
                [
                    b"\1\1\1\1",
                    b"\x94\4\0\0",
                    b"\x83\7\4" + IPv4Address(self.cast.other).packed + b"\0",
                    b"\x07\7\4" + bytes(5),
                ]
            )
        )
        flags = 0 if not self._seldom(0.15) else self.chance.choice([0x2000, 1, 3, 0x2003])
        words = 5 + len(options) // 4 if not self._seldom(0.02) else self.chance.choice([4, 5, 6, 15])
        length = 20 + len(options) + len(payload) if not self._seldom(0.04) else self.chance.choice([0, 20, 28, 1500])
        head = struct.pack(
            "!BBHHHBBH", 0x40 | words, 0, length, 7, flags, self.chance.choice([1, 64, 255]), protocol, 0
        )
        head += IPv4Address(source).packed + IPv4Address(target).packed + options
        return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload

    def _upper4(self, source: str, target: str) -> tuple[int, bytes]:
        match self.chance.choice([UDP, UDP, TCP, ICMP, IGMP, 103, 112]):
            case 17:
                ports = self.chance.choice([(4000, 4001), (67, 68), (68, 67), (520, 520), (1985, 1985), (5353, 5353)])
                return UDP, udp(source, target, *ports, bytes(20))
            case 1:
                kind = self.chance.choice([0, 3, 5, 5, 8, 9, 11, 13])
                inner = self._packet4(target, source, UDP, bytes(8))
                body = IPv4Address(self.chance.choice([self.cast.ip, self.cast.other])).packed + inner
                message = bytes([kind, 1, 0, 0]) + body
                return ICMP, message[:2] + struct.pack("!H", checksum(message)) + body
            case 2:
                message = bytes([self.chance.choice([0x11, 0x16, 0x22, 0x13, 0x14, 0x30]), 0, 0, 0]) + bytes(8)
                return IGMP, message[:2] + struct.pack("!H", checksum(message)) + message[4:]
            case other:
                return other, bytes(24)

    def _chain(self) -> list[Extension]:
        """A chain of IPv6 extension headers, which is empty most times."""
        if not self._seldom(0.35):
            return []
        kinds: list[Extension] = [
            (HOP_BY_HOP, OPTIONS),
            (HOP_BY_HOP, b"\0" + b"\xc2\4" + struct.pack("!I", 70000)),
            (DESTINATION, OPTIONS),
            (ROUTING, b"\0\0\0" + bytes(4)),
            (ROUTING, b"\2\0\1" + bytes(4) + IPv6Address(self.cast.other6).packed),
            (AH, b"\4" + bytes(22)),
            fragment(),
            fragment(more=True),
            fragment(8),
            (FRAGMENT, struct.pack("!BHI", 0, 1280, 9)),
        ]
        return [self.chance.choice(kinds) for _ in range(self.chance.choice([1, 1, 1, 2, 3, 8]))]

    def _ipv6(self) -> bytes:
        source, target = self._six(), self._six()
        kind = self.chance.choice([128, 130, 131, 132, 133, 134, 135, 136, 137, 143, 151, 153])
        match self.chance.choice([UDP, ICMP6, ICMP6, 103, 89]):
            case 17:
                ports = self.chance.choice([(4000, 4001), (547, 546), (546, 547), (521, 521)])
                return self._packet6(source, target, UDP, udp(source, target, *ports, bytes(12)))
            case 58:
                return self._packet6(source, target, ICMP6, icmp6(source, target, kind, bytes(20) + self._options()))
            case other:
                return self._packet6(source, target, other, bytes(24))

    def _packet6(self, source: str, target: str, upper: int, payload: bytes) -> bytes:
        hops = 255 if not self._seldom(0.1) else self.chance.choice([1, 64])
        packet = ip6(source, target, upper, payload, *self._chain(), hops=hops)
        if self._seldom(0.04):
            packet = packet[:4] + struct.pack("!H", self.chance.choice([0, 8, 24, 1400])) + packet[6:]
        to = group_mac(target) if target.startswith("ff") else self._to()
        return self._ether(to, 0x86DD, packet)

    def _options(self) -> bytes:
        """Options of neighbour discovery: none, one or several, of any length."""
        made = b""
        for _ in range(self.chance.choice([0, 1, 1, 1, 2, 3])):
            mac = bytes.fromhex(
                self.chance.choice([self.cast.mac, self.cast.mac, FOREIGN_MAC, self.cast.other_mac]).replace(":", "")
            )
            prefix = struct.pack("!BBIII", 64, 0xC0, 86400, 14400, 0) + IPv6Address("2001:db8:bad::").packed
            made += self.chance.choice(
                [
                    option(1, mac),
                    option(2, mac),
                    option(14, mac),
                    option(3, prefix),
                    option(5, b"\0\0" + struct.pack("!I", 1280)),
                    option(24, b"\0\0" + struct.pack("!I", 9999) + bytes(8)),
                    b"\2\0" + mac,
                    option(2, mac + bytes(8)),
                ]
            )
        return made

    def _discovery(self) -> bytes:
        """Neighbour and router discovery, and redirects, as they should be but for one thing or two."""
        cast = self.cast
        kind = self.chance.choice([133, 134, 135, 136, 136, 136, 137])
        about = self.chance.choice(
            [cast.ip6, cast.link_local, cast.ip6, cast.other6, cast.gateway6, "fe80::1", cast.other_link_local]
        )
        source = self._six()
        target = self.chance.choice(
            ["ff02::1", cast.other6, cast.other_link_local, solicited_node(cast.other6), "ff02::2"]
        )
        flags = self.chance.choice([b"\x20\0\0\0", b"\x60\0\0\0", b"\xa0\0\0\0", bytes(4)])
        rest = {
            133: bytes(4),
            134: struct.pack("!BBHII", 64, self.chance.choice([0, 8, 0xC0]), 1800, 0, 0),
            135: bytes(4) + IPv6Address(about).packed,
            136: flags + IPv6Address(about).packed,
            137: bytes(4) + IPv6Address(cast.link_local).packed + IPv6Address(cast.gateway6).packed,
        }[kind]
        return self._packet6(source, target, ICMP6, icmp6(source, target, kind, rest + self._options()))

    def _dhcp(self) -> bytes:
        operation = self.chance.choice([1, 2])
        head = bytes([operation]) + asked(self._mac())[1:]
        options = (
            bytes([53, 1, self.chance.choice([1, 2, 3, 5, 6])]) + b"\x36\4" + IPv4Address(self.cast.ip).packed + b"\xff"
        )
        ports = (68, 67) if operation == 1 else (67, 68)
        source = self._four()
        target = self.chance.choice(["255.255.255.255", self.cast.other])
        packet = self._packet4(source, target, UDP, udp(source, target, *ports, head + DHCP_MAGIC + options))
        return self._ether(self._to(), 0x0800, packet)

    def _damaged(self, made: bytes) -> bytes:
        """MADE with a byte that is another one, cut off, or with something behind it."""
        match self.chance.choice(["byte", "cut", "more"]):
            case "byte":
                at = self.chance.randrange(12, len(made))
                return made[:at] + bytes([self.chance.randrange(256)]) + made[at + 1 :]
            case "cut":
                return made[: self.chance.randrange(14, len(made))]
            case _:
                return made + self.chance.randbytes(self.chance.choice([1, 2, 8, 64]))

    def _beside(self, made: bytes) -> bytes:
        """What the card says: nothing most times, or where a checksum goes, or that this is several segments."""
        if not self._seldom(0.25):
            return VNET_HEADER
        start = self.chance.choice([14, 20, 22, 34, 38, 54, 62, self.chance.randrange(0, len(made) + 2)])
        offset = self.chance.choice([0, 2, 6, 8, 14, 16, self.chance.randrange(64)])
        segments = self.chance.choice([0, 0, 0, 1, 3, 4, 5, 0x81])
        return struct.pack(
            "<BBHHHH",
            self.chance.choice([0, 1, 1, 1, 2]),
            segments,
            self.chance.choice([0, 54, 74, len(made)]),
            self.chance.choice([0, 8, 100, 1400]),
            start,
            offset,
        )
