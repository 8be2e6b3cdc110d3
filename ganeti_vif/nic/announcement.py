# SPDX-License-Identifier: BSD-2-Clause
"""Frames by which this node tells neighbours where an address is, and asks them. kernel/packets.py sends them.

For IPv4 a gratuitous ARP request and a reply (some routers learn from one, some from the other; RFC 5944, 4.6). For
IPv6 an unsolicited neighbour advertisement with the override flag (RFC 4861, 7.2.6).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from ganeti_vif.engine.objects import Address
from ganeti_vif.nic.nic import LINK_LOCAL_SUBNET, eui64

ETH_P_ARP, ETH_P_RARP, ETH_P_IPV6, IPPROTO_ICMPV6 = 0x0806, 0x8035, 0x86DD, 58
ARP_REQUEST, ARP_REPLY, REVERSE_REQUEST, REVERSE_REPLY = 1, 2, 3, 4
NEIGHBOUR_SOLICITATION, SOURCE_LINK_LAYER = 135, 1
NEIGHBOUR_ADVERTISEMENT, OVERRIDE, TARGET_LINK_LAYER = 136, 0x20000000, 2
SOLICITED = 0x40
BROADCAST = b"\xff" * 6
ALL_NODES = IPv6Address("ff02::1")
_SOLICITED_NODE = int(IPv6Address("ff02::1:ff00:0"))


def announcements(addresses: Iterable[Address], mac: str) -> Iterator[bytes]:
    """The frames that announce each of ADDRESSES at MAC, the MAC of the uplink."""
    hardware = _octets(mac)
    for address in addresses:
        if isinstance(address, IPv4Address):
            yield gratuitous_arp(ARP_REQUEST, address, hardware)
            yield gratuitous_arp(ARP_REPLY, address, hardware)
        else:
            yield neighbour_advertisement(address, hardware)


def announced(frame: bytes) -> Address | None:
    """The address that FRAME announces: gratuitous ARP or an unsolicited neighbour advertisement. Else None."""
    kind = frame[12:14]
    if kind == b"\x08\x06" and len(frame) >= 42 and frame[14:20] == b"\0\1\x08\0\6\4" and frame[28:32] == frame[38:42]:
        return IPv4Address(frame[28:32])
    if kind != b"\x86\xdd" or len(frame) < 78 or frame[20] != IPPROTO_ICMPV6 or frame[38:54] != ALL_NODES.packed:
        return None
    unsolicited = frame[54] == NEIGHBOUR_ADVERTISEMENT and not frame[58] & SOLICITED
    return IPv6Address(frame[62:78]) if unsolicited else None


def arrival(guest: str, mac: str) -> bytes:
    """The frame that says: the guest with the MAC GUEST now runs on the node whose uplink has MAC.

    It names no address, so nobody takes it for an answer. QEMU sends the same frame (its net/announce.c).
    """
    return _reverse_arp(REVERSE_REQUEST, guest, mac)


def departure(guest: str, mac: str) -> bytes:
    """The answer to arrival(): the node whose uplink has MAC no longer answers for GUEST."""
    return _reverse_arp(REVERSE_REPLY, guest, mac)


def _reverse_arp(operation: int, guest: str, mac: str) -> bytes:
    who = _octets(guest)
    rarp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + who + bytes(4) + who + bytes(4)
    return _ethernet(BROADCAST, _octets(mac), ETH_P_RARP, rarp)


def arrived(frame: bytes) -> str | None:
    """The MAC of the guest that now runs where FRAME comes from. None if FRAME is no arrival()."""
    return _reverse(REVERSE_REQUEST, frame)


def departed(frame: bytes) -> str | None:
    """The MAC of the guest that the sender of FRAME no longer answers for. None if FRAME is no departure()."""
    return _reverse(REVERSE_REPLY, frame)


def _reverse(operation: int, frame: bytes) -> str | None:
    if frame[12:22] != b"\x80\x35\0\1\x08\0\6\4\0" + bytes([operation]) or len(frame) < 42:
        return None
    return frame[22:28].hex(":")


def arp_probe(frame: bytes) -> tuple[IPv4Address, str] | None:
    """The address of which FRAME asks whether it is free, and the MAC of the asker. None if FRAME is no ARP probe."""
    if frame[12:22] != b"\x08\x06\0\1\x08\0\6\4\0\1" or len(frame) < 42 or frame[28:32] != bytes(4):
        return None
    return IPv4Address(frame[38:42]), frame[22:28].hex(":")


def arp_answer(address: IPv4Address, mac: str, asker: str) -> bytes:
    """The answer to the probe of the MAC ASKER: ADDRESS is at MAC. The kernel answers so for its own addresses."""
    arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, ARP_REPLY) + _octets(mac) + address.packed + _octets(asker) + bytes(4)
    return _ethernet(_octets(asker), _octets(mac), ETH_P_ARP, arp)


def owned(frame: bytes) -> tuple[Address, str] | None:
    """The address that the sender of FRAME says it has, and the MAC at which: any ARP but a probe, or a neighbour
    advertisement (RFC 5227, 2.4; RFC 4862, 5.4.4). None for other frames."""
    kind = frame[12:14]
    if kind == b"\x08\x06" and len(frame) >= 42 and frame[14:20] == b"\0\1\x08\0\6\4":
        return None if frame[28:32] == bytes(4) else (IPv4Address(frame[28:32]), frame[22:28].hex(":"))
    found = discovered(frame)
    if found is None or found[0] != NEIGHBOUR_ADVERTISEMENT:
        return None
    stated = frame[78:80] == bytes([TARGET_LINK_LAYER, 1]) and len(frame) >= 86
    return found[1], (frame[80:86] if stated else frame[6:12]).hex(":")


def question(address: Address, mac: str) -> bytes:
    """The question of the MAC that is to have ADDRESS, whether somebody else has it: an ARP probe (RFC 5227, 2.1.1) or
    duplicate address detection (RFC 4862, 5.4.2). It changes nothing that a neighbour knows."""
    hardware = _octets(mac)
    if isinstance(address, IPv4Address):
        arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, ARP_REQUEST) + hardware + bytes(10) + address.packed
        return _ethernet(BROADCAST, hardware, ETH_P_ARP, arp)
    group = IPv6Address(_SOLICITED_NODE | int(address) & 0xFFFFFF)
    packet = _discovery(NEIGHBOUR_SOLICITATION, bytes(4) + address.packed, IPv6Address(0), group)
    return _ethernet(_group_mac(group), hardware, ETH_P_IPV6, packet)


def gratuitous_arp(operation: int, address: IPv4Address, hardware: bytes) -> bytes:
    """An ARP frame whose sender and target protocol addresses are both ADDRESS."""
    target = bytes(6) if operation == ARP_REQUEST else hardware
    arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + hardware + address.packed + target + address.packed
    return _ethernet(BROADCAST, hardware, ETH_P_ARP, arp)


def neighbour_advertisement(address: IPv6Address, hardware: bytes) -> bytes:
    """An unsolicited neighbour advertisement for ADDRESS to all nodes."""
    option = struct.pack("!BB", TARGET_LINK_LAYER, 1) + hardware
    body = struct.pack("!I", OVERRIDE) + address.packed + option
    packet = _discovery(NEIGHBOUR_ADVERTISEMENT, body, address, ALL_NODES)
    return _ethernet(_group_mac(ALL_NODES), hardware, ETH_P_IPV6, packet)


class Solicitation(NamedTuple):
    """ASKER, at MAC, asks who has TARGET. TO_GROUP: all that may have it hear that, and not only the last to have
    it."""

    target: IPv6Address
    asker: IPv6Address
    mac: str
    to_group: bool


def solicitation(frame: bytes) -> Solicitation | None:
    """The neighbour solicitation in FRAME. None for other frames, and for what nobody may answer (RFC 4861, 7.1.1)."""
    found = discovered(frame)
    if found is None or found[0] != NEIGHBOUR_SOLICITATION or frame[55]:
        return None
    asker = IPv6Address(frame[22:38])
    wrong = found[1].is_multicast or asker.is_multicast or frame[6] & 1
    return None if wrong else Solicitation(found[1], asker, frame[6:12].hex(":"), bool(frame[0] & 1))


def neighbour_answer(question: Solicitation, mac: str) -> bytes:
    """The answer to QUESTION: the target is at MAC. Who asks without an address looks for duplicates, and is answered
    by an advertisement to all (RFC 4861, 7.2.4).

    It overrides what the asker knew: only one node has the target, and it may be another node than before.
    """
    hardware = _octets(mac)
    if question.asker.is_unspecified:
        return neighbour_advertisement(question.target, hardware)
    option = struct.pack("!BB", TARGET_LINK_LAYER, 1) + hardware
    body = struct.pack("!I", SOLICITED << 24 | OVERRIDE) + question.target.packed + option
    packet = _discovery(NEIGHBOUR_ADVERTISEMENT, body, question.target, question.asker)
    return _ethernet(_octets(question.mac), hardware, ETH_P_IPV6, packet)


def neighbour_solicitation(address: IPv6Address, mac: str, guest: str | None = None) -> bytes:
    """The question who has ADDRESS, from the link-local address that MAC makes. To all that may have it, or to the
    guest with the MAC GUEST alone.

    It is no duplicate address detection: who only begins to use ADDRESS takes no notice (RFC 4862, 5.4.3).
    """
    hardware, source = _octets(mac), eui64(LINK_LOCAL_SUBNET, mac)
    group = IPv6Address(_SOLICITED_NODE | int(address) & 0xFFFFFF)
    option = struct.pack("!BB", SOURCE_LINK_LAYER, 1) + hardware
    packet = _discovery(NEIGHBOUR_SOLICITATION, bytes(4) + address.packed + option, source, address if guest else group)
    return _ethernet(_octets(guest) if guest else _group_mac(group), hardware, ETH_P_IPV6, packet)


def discovered(frame: bytes) -> tuple[int, IPv6Address] | None:
    """The type of the neighbour discovery message in FRAME, and the address that it is about. None for other frames."""
    if len(frame) < 78 or frame[12:14] != b"\x86\xdd" or frame[20:22] != bytes([IPPROTO_ICMPV6, 255]):
        return None
    known = frame[54] in (NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT)
    return (frame[54], IPv6Address(frame[62:78])) if known else None


def _discovery(kind: int, body: bytes, source: IPv6Address, destination: IPv6Address) -> bytes:
    """An IPv6 packet with a message of neighbour discovery."""
    length = 4 + len(body)
    pseudo = source.packed + destination.packed + struct.pack("!II", length, IPPROTO_ICMPV6)
    checksum = _checksum(pseudo + struct.pack("!BBH", kind, 0, 0) + body)
    head = struct.pack("!IHBB", 6 << 28, length, IPPROTO_ICMPV6, 255) + source.packed + destination.packed
    return head + struct.pack("!BBH", kind, 0, checksum) + body


def _group_mac(group: IPv6Address) -> bytes:
    return b"\x33\x33" + group.packed[-4:]


def _octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _ethernet(destination: bytes, source: bytes, kind: int, payload: bytes) -> bytes:
    return (destination + source + struct.pack("!H", kind) + payload).ljust(60, b"\0")


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
