# SPDX-License-Identifier: BSD-2-Clause
"""A DISCOVER by hand, and the address in the OFFER that comes."""

from __future__ import annotations

import time
from ipaddress import ip_address

import dpkt

from tests.lab import Tap

from .actions import BROADCAST, ethernet, octets
from .environment import mac

ASKED = bytes([1, 3, 6, 12, 15, 26, 28, 119, 121])


def asks(number: int, *, hardware: str | None = None) -> bytes:
    """A DISCOVER of the guest of that number."""
    message = dpkt.dhcp.DHCP(op=1, xid=number, chaddr=octets(hardware or mac(number)), opts=[(53, b"\1"), (55, ASKED)])
    datagram = dpkt.udp.UDP(sport=68, dport=67, data=bytes(message))
    datagram.ulen = len(datagram)
    packet = dpkt.ip.IP(p=17, ttl=64, src=bytes(4), dst=b"\xff" * 4, data=datagram)
    packet.len = len(packet)
    return ethernet(mac(number), BROADCAST, 0x0800, bytes(packet))


class Offer:
    """An OFFER, if FRAME is one."""

    def __init__(self, frame: bytes) -> None:
        self.frame = frame
        self.source = frame[6:12].hex(":")
        packet = dpkt.ethernet.Ethernet(frame).data
        self.message = dpkt.dhcp.DHCP(packet.data.data)
        self.address = str(ip_address(self.message.yiaddr))


def offers(frame: bytes) -> bool:
    return frame[12:14] == b"\x08\0" and frame[23] == 17 and frame[36:38] == b"\0\x44" and frame[282:285] == b"\x35\1\2"


def offered(tap: Tap, question: bytes, patience: float) -> Offer:
    """What is offered to a QUESTION that is asked again and again; what was offered before does not count."""
    tap.clear()
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        tap.send(question)
        for frame in tap.frames(time.monotonic() + 0.2):
            if offers(frame):
                return Offer(frame)
    raise TimeoutError(f"{tap}: nothing is offered within {patience} s")
