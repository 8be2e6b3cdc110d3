# SPDX-License-Identifier: BSD-2-Clause
"""Frames byte by byte: what no stack would send is made here. Checksums are right, so that none is lost for a wrong one.

Nothing here is shared with the filter that it tests.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

BROADCAST = "ff:ff:ff:ff:ff:ff"
HOP_BY_HOP, ROUTING, FRAGMENT, ESP, AH, ICMP6, DESTINATION, SHIM6 = 0, 43, 44, 50, 51, 58, 60, 140
TCP, UDP, ICMP, IGMP = 6, 17, 1, 2
PAD = bytes([1, 4, 0, 0, 0, 0])
"""A PadN option that fills an options header up to eight bytes (RFC 8200, 4.2)."""
ROUTER_ALERT = bytes([5, 2, 0, 0, 1, 0])
Extension = tuple[int, bytes]
"""The number of an extension header, and what follows its next-header field."""
OPTIONS = b"\0" + PAD
ALERT = b"\0" + ROUTER_ALERT


def octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def ether(source: str, destination: str, kind: int, payload: bytes, *tags: tuple[int, int]) -> bytes:
    """An Ethernet frame with VLAN TAGS (type and VID), outermost first."""
    between = b"".join(struct.pack("!HH", *tag) for tag in tags)
    return (octets(destination) + octets(source) + between + struct.pack("!H", kind) + payload).ljust(60, b"\0")


def llc(source: str, destination: str, payload: bytes) -> bytes:
    """An 802.3 frame, which has its length where others have a type."""
    return ether(source, destination, len(payload), payload)


def arp_packet(
    operation: int,
    sender_mac: str,
    sender: str,
    target: str,
    *,
    target_mac: str = "00:00:00:00:00:00",
    header: tuple[int, int, int, int] = (1, 0x0800, 6, 4),
) -> bytes:
    addresses = (octets(sender_mac), IPv4Address(sender).packed, octets(target_mac), IPv4Address(target).packed)
    return struct.pack("!HHBBH", *header, operation) + b"".join(addresses)


def checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip4(source: str, destination: str, protocol: int, payload: bytes, *, offset: int = 0, more: bool = False) -> bytes:
    """An IPv4 packet; OFFSET, in bytes, and MORE make it a fragment."""
    flags = offset // 8 | (0x2000 if more else 0)
    addresses = IPv4Address(source).packed + IPv4Address(destination).packed
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 7, flags, 64, protocol, 0)
    total = checksum(head + addresses)
    return head[:10] + struct.pack("!H", total) + addresses + payload


def ip6(source: str, destination: str, upper: int, payload: bytes, *extensions: Extension, hops: int = 255) -> bytes:
    """An IPv6 packet with EXTENSIONS before its PAYLOAD."""
    kinds = [*(kind for kind, _ in extensions), upper]
    chain = b"".join(bytes([following]) + rest for (_, rest), following in zip(extensions, kinds[1:], strict=True))
    head = struct.pack("!IHBB", 6 << 28, len(chain) + len(payload), kinds[0], hops)
    return head + IPv6Address(source).packed + IPv6Address(destination).packed + chain + payload


def fragment(offset: int = 0, *, more: bool = False) -> Extension:
    return FRAGMENT, struct.pack("!BHI", 0, offset | more, 7)


def udp(source: str, destination: str, sport: int, dport: int, data: bytes) -> bytes:
    """A UDP datagram, for the pseudo header of either IP version."""
    body = struct.pack("!HHHH", sport, dport, 8 + len(data), 0) + data
    total = checksum(_pseudo(source, destination, UDP, len(body)) + body)
    return body[:6] + struct.pack("!H", total or 0xFFFF) + data


def icmp6(source: str, destination: str, kind: int, rest: bytes) -> bytes:
    """An ICMPv6 message: what follows its checksum is REST."""
    body = struct.pack("!BBH", kind, 0, 0) + rest
    total = checksum(_pseudo(source, destination, ICMP6, len(body)) + body)
    return body[:2] + struct.pack("!H", total) + rest


def _pseudo(source: str, destination: str, protocol: int, length: int) -> bytes:
    return ip_address(source).packed + ip_address(destination).packed + struct.pack("!II", length, protocol)


def solicitation(target: str, *options: bytes) -> bytes:
    return bytes(4) + IPv6Address(target).packed + b"".join(options)


def advertisement(target: str, *options: bytes) -> bytes:
    return b"\x60\0\0\0" + IPv6Address(target).packed + b"".join(options)


def option(kind: int, data: bytes) -> bytes:
    """A neighbour discovery option; DATA fills it up to a multiple of eight bytes."""
    assert (len(data) + 2) % 8 == 0
    return bytes([kind, (len(data) + 2) // 8]) + data


def source_mac(mac: str) -> bytes:
    return option(1, octets(mac))


def target_mac(mac: str) -> bytes:
    return option(2, octets(mac))


NONCE = option(14, b"\x01\x02\x03\x04\x05\x06")
ROUTER_ADVERTISEMENT = struct.pack("!BBHII", 64, 0, 1800, 0, 0)


def group_mac(group: str) -> str:
    """Where frames for an IPv6 multicast GROUP go (RFC 2464, 7)."""
    return "33:33:" + IPv6Address(group).packed[-4:].hex(":")


def ipv4_group_mac(group: str) -> str:
    """Where frames for an IPv4 multicast GROUP go (RFC 1112, 6.4)."""
    packed = IPv4Address(group).packed
    return f"01:00:5e:{bytes([packed[1] & 0x7F, *packed[2:]]).hex(':')}"


def solicited_node(address: str) -> str:
    """The group in which a neighbour is asked for (RFC 4291, 2.7.1)."""
    return f"ff02::1:ff{IPv6Address(address).packed[-3:].hex()[:2]}:{IPv6Address(address).packed[-2:].hex()}"
