# SPDX-License-Identifier: BSD-2-Clause
"""Ethernet, IPv4, IPv6 and UDP, as far as a guest's requests need them. Reading is strict.

It accepts no IPv4 fragments, no IPv6 extension headers and no VLAN tags: requests do not have them, and the socket's
filter drops most of them. All addresses are bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ganeti_vif.nic.announcement import ETH_P_ARP, ETH_P_IPV6, IPPROTO_ICMPV6

ETH_P_IP, IPPROTO_UDP = 0x0800, 17
BROADCAST = b"\xff" * 6
ANY4, ANY6 = bytes(4), bytes(16)
EVERYBODY4 = b"\xff" * 4
ALL_NODES6 = bytes.fromhex("ff02" + "00" * 13 + "01")
LINK_LOCAL = b"\xfe\x80" + bytes(6)
"""The only prefix of link-local addresses that is in use (RFC 4291, 2.5.6)."""

_IP = struct.Struct("!BBHHHBBH4s4s")
_IP6 = struct.Struct("!IHBB16s16s")
_UDP = struct.Struct("!HHHH")
_ETHERNET, _LEAST = 14, 60
HOPS = 64
"""The time to live of our IPv4 packets (RFC 1700)."""
ND_HOPS = 255
"""The hop limit of all neighbour discovery (RFC 4861). A sender beyond the link cannot forge it."""


class Malformed(Exception):
    """A frame that is no well-formed request. The text has the reason."""


@dataclass(frozen=True, slots=True)
class Datagram:
    """A guest's packet. PROTOCOL is UDP or ICMPv6, PORT the UDP destination or 0, HOPS the TTL or hop limit."""

    source: bytes
    destination: bytes
    protocol: int
    port: int
    hops: int
    payload: bytes


def kind(frame: bytes) -> int:
    """The EtherType. Raises Malformed if the frame is too short."""
    if len(frame) < _ETHERNET:
        raise Malformed("shorter than an Ethernet header")
    return frame[12] << 8 | frame[13]


def datagram(frame: bytes) -> Datagram:
    """The UDP datagram in an IPv4 frame. Raises Malformed if a header or a checksum is wrong."""
    if len(frame) < _ETHERNET + 28:
        raise Malformed("shorter than its headers")
    version, _, length, _, fragment, hops, protocol, _, source, destination = _IP.unpack_from(frame, _ETHERNET)
    header = (version & 15) * 4
    if version >> 4 != 4 or header < 20 or length < header + 8 or _ETHERNET + length > len(frame):
        raise Malformed("wrong length in its IPv4 header")
    if protocol != IPPROTO_UDP or fragment & 0x3FFF:
        raise Malformed("a fragment, or no UDP")
    if _sum(frame[_ETHERNET : _ETHERNET + header]) != 0xFFFF:
        raise Malformed("wrong IPv4 checksum")
    return _udp(frame, _ETHERNET + header, _ETHERNET + length, source, destination, hops)


def datagram6(frame: bytes) -> Datagram:
    """The UDP datagram or ICMPv6 message in an IPv6 frame. Raises Malformed if a header or a checksum is wrong."""
    if len(frame) < _ETHERNET + 48:
        raise Malformed("shorter than its headers")
    first, length, protocol, hops, source, destination = _IP6.unpack_from(frame, _ETHERNET)
    start = _ETHERNET + 40
    if first >> 28 != 6 or length < 8 or start + length > len(frame):
        raise Malformed("wrong length in its IPv6 header")
    if protocol == IPPROTO_UDP:
        return _udp(frame, start, start + length, source, destination, hops)
    if protocol != IPPROTO_ICMPV6:
        raise Malformed("neither UDP nor ICMPv6")
    payload = frame[start : start + length]
    if _sum(_pseudo(source, destination, length, protocol) + payload) != 0xFFFF:
        raise Malformed("wrong ICMPv6 checksum")
    return Datagram(source, destination, protocol, 0, hops, payload)


def _udp(frame: bytes, start: int, end: int, source: bytes, destination: bytes, hops: int) -> Datagram:
    _, port, length, checksum = _UDP.unpack_from(frame, start)
    if length < 8 or start + length > end:
        raise Malformed("wrong length in its UDP header")
    if checksum or len(source) == 16:
        pseudo = _pseudo(source, destination, length, IPPROTO_UDP)
        # A guest's kernel lets its network card finish the checksum, and a tap does not (CHECKSUM_PARTIAL). Then the
        # field has the sum of the pseudo header only.
        if _sum(pseudo + frame[start : start + length]) != 0xFFFF and checksum != _sum(pseudo):
            raise Malformed("wrong UDP checksum")
    return Datagram(source, destination, IPPROTO_UDP, port, hops, frame[start + 8 : start + length])


def _pseudo(source: bytes, destination: bytes, length: int, protocol: int) -> bytes:
    return source + destination + struct.pack("!II", length, protocol)


def _sum(data: bytes) -> int:
    """The ones' complement sum of DATA's 16-bit words, not complemented (RFC 1071). 0xFFFF if DATA's checksum is right.

    2**16 is 1 modulo 0xFFFF, so the sum of the words is the whole number modulo 0xFFFF, and 0 stands for 0xFFFF.
    """
    if len(data) % 2:
        data += b"\0"
    return int.from_bytes(data, "big") % 0xFFFF or (0xFFFF if any(data) else 0)


def udp4(
    ethernet: tuple[bytes, bytes], addresses: tuple[bytes, bytes], ports: tuple[int, int], payload: bytes
) -> bytes:
    """A frame with a UDP datagram over IPv4. Each pair is (source, destination)."""
    source, destination = addresses
    length = 8 + len(payload)
    udp = _UDP.pack(*ports, length, 0) + payload
    checksum = ~_sum(_pseudo(source, destination, length, IPPROTO_UDP) + udp) & 0xFFFF or 0xFFFF
    head = _IP.pack(0x45, 0, 20 + length, 0, 0x4000, HOPS, IPPROTO_UDP, 0, source, destination)
    head = head[:10] + (~_sum(head) & 0xFFFF).to_bytes(2, "big") + head[12:]
    return _ethernet(ethernet, ETH_P_IP, head + udp[:6] + checksum.to_bytes(2, "big") + payload)


def udp6(
    ethernet: tuple[bytes, bytes], addresses: tuple[bytes, bytes], ports: tuple[int, int], payload: bytes
) -> bytes:
    """A frame with a UDP datagram over IPv6. Each pair is (source, destination)."""
    udp = _UDP.pack(*ports, 8 + len(payload), 0) + payload
    return _ip6(ethernet, addresses, IPPROTO_UDP, HOPS, udp, 6)


def icmp6(ethernet: tuple[bytes, bytes], addresses: tuple[bytes, bytes], message: bytes) -> bytes:
    """A frame with a message of neighbour discovery. The checksum field of MESSAGE is zero; it is filled in here."""
    return _ip6(ethernet, addresses, IPPROTO_ICMPV6, ND_HOPS, message, 2)


def _ip6(
    ethernet: tuple[bytes, bytes], addresses: tuple[bytes, bytes], protocol: int, hops: int, payload: bytes, at: int
) -> bytes:
    source, destination = addresses
    checksum = ~_sum(_pseudo(source, destination, len(payload), protocol) + payload) & 0xFFFF or 0xFFFF
    payload = payload[:at] + checksum.to_bytes(2, "big") + payload[at + 2 :]
    return _ethernet(ethernet, ETH_P_IPV6, _IP6.pack(6 << 28, len(payload), protocol, hops, *addresses) + payload)


def arp_target(frame: bytes) -> tuple[bytes, bytes] | None:
    """The sender's and the target's IPv4 address if FRAME is an ARP request; else None."""
    if len(frame) < 42 or frame[14:22] != _ARP_REQUEST:
        return None
    return frame[28:32], frame[38:42]


_ARP_REQUEST = struct.pack("!HHBBH", 1, ETH_P_IP, 6, 4, 1)


def arp_reply(ethernet: tuple[bytes, bytes], addresses: tuple[bytes, bytes]) -> bytes:
    """A frame with an ARP reply. Each pair is (source, destination)."""
    source, destination = addresses
    packet = _ARP_REQUEST[:7] + b"\2" + ethernet[0] + source + ethernet[1] + destination
    return _ethernet(ethernet, ETH_P_ARP, packet)


def _ethernet(ethernet: tuple[bytes, bytes], number: int, payload: bytes) -> bytes:
    source, destination = ethernet
    return (destination + source + number.to_bytes(2, "big") + payload).ljust(_LEAST, b"\0")


def multicast6(address: bytes) -> bytes:
    """The Ethernet address of an IPv6 group (RFC 2464, 7)."""
    return b"\x33\x33" + address[-4:]
