# SPDX-License-Identifier: BSD-2-Clause
"""Frames that guests send, made with dpkt or by hand: never with the code that takes them apart."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

import dpkt

from ganeti_vif.config.model import Told
from ganeti_vif.responder.service import Service, service
from nfdhcpd_bridge.reading import reading

GUEST, TAP = bytes.fromhex("aa0000000005"), bytes.fromhex("fe0056494601")
BROADCAST = b"\xff" * 6
ALL_ROUTERS = bytes.fromhex("333300000002")
LINK_LOCAL = "fe80::a800:ff:fe00:5"
ROUTER = "fe80::fc00:56ff:fe49:4601"
ASKED = bytes([1, 3, 6, 12, 15, 26, 28, 119, 121])

BINDING = """\
MAC=aa:00:00:00:00:05
HOSTNAME=vm5.example.com
IP=192.0.2.5
SUBNET=192.0.2.0/24
GATEWAY=192.0.2.1
SUBNET6=2001:db8::/64
GATEWAY6=2001:db8::1
MTU=1450
"""
SERVERS = tuple(ip_address(one) for one in ("192.0.2.53", "192.0.2.54", "2001:db8::53"))
TOLD = Told(nameservers=SERVERS, search=("example.org", "sub.example.org"))


def serving(binding: str = BINDING, told: Told = TOLD, *, routed: bool = True, **changes: str | None) -> Service:
    """The service by BINDING; of the CHANGES None takes a key away."""
    values = dict(line.split("=", 1) for line in binding.splitlines())
    merged: dict[str, str | None] = {**values, **changes}
    text = "".join(f"{key}={value}\n" for key, value in merged.items() if value is not None)
    return service(reading(text), told, TAP, routed=routed)


def packed(address: str) -> bytes:
    return ip_address(address).packed


def dhcp(
    kind: int,
    options: Sequence[tuple[int, bytes]] = ((55, ASKED),),
    *,
    client: str = "0.0.0.0",
    source: str = "0.0.0.0",
    destination: str = "255.255.255.255",
    hardware: bytes = GUEST,
    sender: bytes = GUEST,
    flags: int = 0,
    relay: str = "0.0.0.0",
) -> bytes:
    """A frame with a DHCP request."""
    message = dpkt.dhcp.DHCP(
        op=1,
        xid=0x12345678,
        flags=flags,
        ciaddr=int(IPv4Address(client)),
        giaddr=int(IPv4Address(relay)),
        chaddr=hardware,
        opts=[(53, bytes([kind])), *options],
    )
    return udp(bytes(message), source, destination, sender=sender)


def udp(payload: bytes, source: str, destination: str, *, sender: bytes = GUEST, port: int = 67) -> bytes:
    datagram = dpkt.udp.UDP(sport=68, dport=port, data=payload)
    datagram.ulen = len(datagram)
    packet = dpkt.ip.IP(p=17, ttl=64, src=packed(source), dst=packed(destination), data=datagram)
    packet.len = len(packet)
    return bytes(dpkt.ethernet.Ethernet(src=sender, dst=BROADCAST, type=0x0800, data=packet))


def icmp6(
    kind: int,
    body: bytes,
    source: str = LINK_LOCAL,
    destination: str = "ff02::2",
    *,
    hops: int = 255,
    sender: bytes = GUEST,
    code: int = 0,
) -> bytes:
    message = struct.pack("!BBH", kind, code, 0) + body
    return ip6(message, source, destination, 58, 2, hops=hops, sender=sender)


def ip6(
    payload: bytes, source: str, destination: str, protocol: int, at: int, *, hops: int = 255, sender: bytes = GUEST
) -> bytes:
    """A frame with an IPv6 packet whose checksum is at offset AT of its payload."""
    pseudo = packed(source) + packed(destination) + struct.pack("!II", len(payload), protocol)
    checksum = dpkt.in_cksum(pseudo + payload)
    payload = payload[:at] + struct.pack("!H", checksum) + payload[at + 2 :]
    head = struct.pack("!IHBB", 6 << 28, len(payload), protocol, hops) + packed(source) + packed(destination)
    return ALL_ROUTERS + sender + b"\x86\xdd" + head + payload


def router_solicitation(
    source: str = LINK_LOCAL, options: bytes = b"", *, hops: int = 255, sender: bytes = GUEST, code: int = 0
) -> bytes:
    return icmp6(133, bytes(4) + options, source, hops=hops, sender=sender, code=code)


def neighbour_solicitation(target: str, source: str = LINK_LOCAL, *, hops: int = 255, code: int = 0) -> bytes:
    group = IPv6Address(int(IPv6Address("ff02::1:ff00:0")) | int(IPv6Address(target)) & 0xFFFFFF)
    return icmp6(135, bytes(4) + packed(target), source, str(group), hops=hops, code=code)


def dhcp6(kind: int, *options: tuple[int, bytes], source: str = LINK_LOCAL) -> bytes:
    message = bytes([kind]) + b"\1\2\3" + b"".join(struct.pack("!HH", code, len(v)) + v for code, v in options)
    datagram = struct.pack("!HHHH", 546, 547, 8 + len(message), 0) + message
    return ip6(datagram, source, "ff02::1:2", 17, 6, hops=1)


def arp(target: str, sender: str = "192.0.2.5", *, operation: int = 1) -> bytes:
    packet = dpkt.arp.ARP(op=operation, sha=GUEST, spa=packed(sender), tha=bytes(6), tpa=packed(target))
    return bytes(dpkt.ethernet.Ethernet(src=GUEST, dst=BROADCAST, type=0x0806, data=packet)).ljust(60, b"\0")
