# SPDX-License-Identifier: BSD-2-Clause
"""Packets from addresses that a guest may not have: which of them are heard, and how the guest is told."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from types import SimpleNamespace
from typing import Any

import dpkt
import pytest
from guest_frames import BINDING, GUEST, ROUTER, TAP, icmp6, ip6, neighbour_solicitation, packed, serving
from hypothesis import given
from hypothesis import strategies as st

from ganeti_vif.kernel.guest_socket import LARGEST, NOTHING_ELSE, interesting, refused
from ganeti_vif.nic.announcement import gratuitous_arp
from ganeti_vif.responder import refusal
from ganeti_vif.responder.lease import SERVER
from ganeti_vif.responder.limit import Bucket
from ganeti_vif.responder.server import guests, refusals
from ganeti_vif.responder.server.refusals import Refusals

OWN, FOREIGN, CHOSEN = "2001:db8::a800:ff:fe00:5", "2001:db8:1::5", "2001:db8::77"
BEYOND = "2001:db8:ffff::1"
SOURCES = f"{OWN}/128 2001:db8:5::/48 2001:db8:77:10::/60"
SERVICE = serving(BINDING, GANETI_VIF_SOURCES6=SOURCES)
PROGRAM = interesting(int(SERVER)) + refused(GUEST, SERVICE.sources6 or ())
addresses = st.one_of(
    st.ip_addresses(v=6),
    st.sampled_from([packed(one) for one in (OWN, FOREIGN, CHOSEN)]).map(IPv6Address),
    st.sampled_from(SERVICE.sources6 or ()).flatmap(
        lambda net: st.integers(0, 127).map(lambda bit: IPv6Address(int(net.network_address) ^ 1 << bit))
    ),
)


def taken(program: bytes, frame: bytes) -> int:
    """How many bytes of FRAME the socket filter PROGRAM takes: a small interpreter of classic BPF."""
    lines = list(struct.iter_unpack("=HBBI", program))
    at = value = x = 0
    while True:
        code, if_true, if_false, number = lines[at]
        at += 1
        if code == 0x28 and number >= 0xFFFFF000:  # what the kernel knows of the frame: it came in, and has no VLAN tag
            value = 0
        elif code == 0x06:
            return int(number)
        elif code in (0x15, 0x45):
            at += if_true if (value == number if code == 0x15 else value & number) else if_false
        elif code == 0x54:
            value &= number
        elif code == 0xB1:
            x = 4 * (frame[number] & 15)
        else:
            size = {0x20: 4, 0x28: 2, 0x30: 1, 0x48: 2}[code]
            place = number + (x if code == 0x48 else 0)
            if place + size > len(frame):
                return 0
            value = int.from_bytes(frame[place : place + size], "big")


def tcp(source: str, destination: str = BEYOND, **changes: Any) -> bytes:
    """The first packet of a connection, to the router's MAC."""
    head = struct.pack("!HHIIBBHHH", 40000, 443, 1, 0, 0x50, 2, 65535, 0, 0)
    frame = ip6(head, source, destination, 6, 16, hops=64, **changes)
    return TAP + frame[6:]


def udp(source: str, destination: str = BEYOND, port: int = 53, size: int = 20) -> bytes:
    datagram = struct.pack("!HHHH", 40000, port, 8 + size, 0) + bytes(size)
    return TAP + ip6(datagram, source, destination, 17, 6, hops=64)[6:]


def ping(source: str, kind: int = 128) -> bytes:
    return TAP + icmp6(kind, bytes(4), source, BEYOND, hops=64)[6:]


@pytest.mark.parametrize(
    "frame", [tcp(FOREIGN), udp(FOREIGN), ping(FOREIGN), tcp(CHOSEN)], ids=["TCP", "UDP", "ping", "own prefix"]
)
def test_a_packet_from_an_address_that_is_not_the_guest_s_is_heard_and_answered(frame: bytes) -> None:
    assert taken(PROGRAM, frame) >= len(frame)
    assert not taken(interesting(int(SERVER)) + NOTHING_ELSE, frame)
    assert refusal.is_own(frame)
    assert refusal.refused(frame, SERVICE) == frame[22:38]


@pytest.mark.parametrize(
    "frame",
    [
        tcp(OWN),
        udp("2001:db8:5:1::9"),
        tcp("2001:db8:77:1f::9"),
        tcp("::"),
        tcp("fe80::77"),
        udp(FOREIGN, "ff0e::5"),
        tcp(FOREIGN, sender=bytes.fromhex("aa0000000006")),
        ping(FOREIGN, 1),
        ping(FOREIGN, 129),
        b"\x33\x33\0\0\0\1" + tcp(FOREIGN)[6:],
    ],
    ids=["own", "granted", "in a /60", "no address", "link-local", "group", "MAC", "error", "answer", "group's MAC"],
)
def test_no_other_packet_is_heard_or_answered(frame: bytes) -> None:
    assert not taken(PROGRAM, frame)
    assert not refusal.is_own(frame) or refusal.refused(frame, SERVICE) is None


@given(source=addresses)
def test_filter_and_answer_agree_about_every_source(source: IPv6Address) -> None:
    frame = tcp(str(source))
    heard, answered = taken(PROGRAM, frame) > 0, refusal.refused(frame, SERVICE) is not None
    if source.packed[0] != 0xFF:
        allowed = any(source in prefix for prefix in SERVICE.sources6 or ())
        assert heard == (not allowed and not source.is_link_local and int(source) >> 96 != 0)
        assert answered or not heard


@given(noise=st.binary(max_size=200))
def test_no_frame_of_a_guest_is_an_error(noise: bytes) -> None:
    for frame in (TAP + GUEST + b"\x86\xdd" + noise, noise):
        if refusal.is_own(frame) and refusal.refused(frame, SERVICE):
            refusal.error(frame, SERVICE)


def test_seventeen_addresses_and_more_fit_into_a_filter_and_are_all_allowed() -> None:
    """Its own, and as many as a guest may claim by default."""
    allowed = [IPv6Network((int(IPv6Address("2001:db8::")) + number * 0x10001, 128)) for number in range(1, 41)]
    fits = interesting(int(SERVER)) + refused(GUEST, allowed[:25])
    assert len(fits) <= LARGEST
    program = interesting(int(SERVER)) + refused(GUEST, allowed)
    for one in allowed:
        assert not taken(program, tcp(str(one.network_address)))
        assert taken(program, tcp(str(one.network_address + 1)))


def test_requests_are_heard_as_before() -> None:
    for program in (PROGRAM, interesting(int(SERVER)) + NOTHING_ELSE):
        assert taken(program, neighbour_solicitation("2001:db8::1", FOREIGN))
        assert taken(program, udp("fe80::5", "ff02::1:2", 547))
        assert not taken(program, udp(OWN))


@pytest.mark.parametrize("size", [20, 1400])
def test_the_answer_is_an_error_from_the_guest_s_router_with_what_was_refused_in_it(size: int) -> None:
    frame = udp(FOREIGN, size=size)
    told = dpkt.ethernet.Ethernet(refusal.error(frame, SERVICE))
    assert (told.dst, told.src) == (GUEST, TAP)
    assert (told.data.src, told.data.dst, told.data.p) == (packed(ROUTER), packed(FOREIGN), 58)
    message = bytes(told.data)[40 : 40 + told.data.plen]
    assert message[:2] == bytes([1, 5])
    assert message[8:] == frame[14:][: 1280 - 48]
    assert 40 + len(message) <= 1280
    pseudo = told.data.src + told.data.dst + struct.pack("!II", len(message), 58)
    assert dpkt.in_cksum(pseudo + message) == 0


def test_a_guest_that_may_send_from_anywhere_is_told_nothing() -> None:
    assert refusal.refused(tcp(FOREIGN), serving()) is None
    assert refusal.refused(tcp(FOREIGN), serving(GANETI_VIF_SOURCES6=SOURCES, SUBNET6=None, GATEWAY6=None)) is None


class Told:
    """What a guest and the daemon are told."""

    def __init__(self) -> None:
        self.service, self.listens, self.filters = SERVICE, True, [True]
        self.refusals: Bucket | None = None
        self.used: dict[bytes, float] = {}
        self.tally = dict.fromkeys(["refusals_limited", "refusal_delayed"], 0)
        self.frames: list[bytes] = []
        self.claims: list[bytes] = []

    def send(self, frame: bytes, _: str) -> None:
        self.frames.append(frame)

    def listen(self, *, own: bool) -> None:
        self.listens = own
        self.filters.append(own)

    def say(self, _: object, address: bytes, __: float) -> None:
        self.claims.append(address)


def heard(told: Told, frames: Sequence[bytes], now: float, on: Refusals | None = None) -> Refusals:
    one: Any = told
    found = on or Refusals(SimpleNamespace(say=told.say))  # type: ignore[arg-type]
    for frame in frames:
        found.hear(one, frame, now)
    return found


def test_a_foreign_address_is_refused_at_once_and_one_of_the_prefix_when_the_daemon_had_its_time() -> None:
    told = Told()
    on = heard(told, [tcp(FOREIGN), tcp(CHOSEN)], 100.0)
    assert [one[38:54] for one in told.frames] == [packed(FOREIGN)]
    assert told.claims == [packed(FOREIGN), packed(CHOSEN)]
    heard(told, [tcp(CHOSEN)], 101.0, on)
    assert [one[38:54] for one in told.frames] == [packed(FOREIGN), packed(CHOSEN)]


def test_a_flood_is_not_even_captured_and_later_the_guest_is_heard_again() -> None:
    told = Told()
    on = heard(told, [tcp(FOREIGN)] * 1000, 100.0)
    assert len(told.frames) == refusals.BURST
    assert told.filters == [True, False]
    on.resume(100.0)
    assert told.filters == [True, False]
    on.resume(on.due)
    assert told.filters == [True, False, True]
    assert on.due == float("inf")


def test_many_addresses_take_no_more_memory() -> None:
    told = Told()
    on = Refusals(SimpleNamespace(say=told.say))  # type: ignore[arg-type]
    for number in range(1000):
        heard(told, [tcp(str(IPv6Network("2001:db8::/64")[number + 2]))], 100.0 + number, on)
    assert len(told.used) <= refusals.MOST


def test_a_guest_that_sends_from_groups_is_not_listened_to_for_long() -> None:
    told = Told()
    heard(told, [tcp("ff02::1")] * 1000, 100.0)
    assert (told.filters, told.frames, told.claims) == ([True, False], [], [])


def test_a_take_over_of_a_shared_address_is_heard_while_the_guest_is_not_listened_to() -> None:
    service = serving(BINDING, GANETI_VIF_SOURCES6=SOURCES, GANETI_VIF_SHARED="192.0.2.100")
    taken_over = gratuitous_arp(2, IPv4Address("192.0.2.100"), GUEST)
    for own in (True, False):
        program = guests._program(service, own=own)
        assert taken(program, taken_over)
        assert bool(taken(program, tcp(FOREIGN))) is own
