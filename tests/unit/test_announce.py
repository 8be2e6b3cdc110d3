# SPDX-License-Identifier: BSD-2-Clause
"""The frames that tell the neighbours where a VM lives now, as dpkt (an independent decoder) reads them."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

import dpkt
from hypothesis import given
from hypothesis import strategies as st

from ganeti_vif.nic.announcement import (
    Solicitation,
    announced,
    announcements,
    arp_answer,
    arp_probe,
    arrival,
    arrived,
    departed,
    departure,
    neighbour_answer,
    neighbour_solicitation,
    solicitation,
)

MACS = st.binary(min_size=6, max_size=6).map(lambda octets: octets.hex(":"))
BROADCAST = b"\xff" * 6


def raw(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


@given(st.ip_addresses(v=4), MACS)
def test_an_ipv4_address_is_announced_by_an_arp_request_and_a_reply(address: IPv4Address, mac: str) -> None:
    frames = list(announcements([address], mac))
    operations = []
    for frame in frames:
        assert len(frame) == 60, "the shortest frame of Ethernet"
        ethernet = dpkt.ethernet.Ethernet(frame)
        arp = ethernet.data
        assert (ethernet.dst, ethernet.src, ethernet.type) == (
            BROADCAST,
            raw(mac),
            dpkt.ethernet.ETH_TYPE_ARP,
        )
        assert (arp.hrd, arp.pro, arp.hln, arp.pln) == (1, 0x0800, 6, 4)
        assert arp.sha == raw(mac)
        assert arp.spa == arp.tpa == address.packed
        assert arp.tha == (bytes(6) if arp.op == dpkt.arp.ARP_OP_REQUEST else raw(mac))
        operations.append(arp.op)
    assert operations == [dpkt.arp.ARP_OP_REQUEST, dpkt.arp.ARP_OP_REPLY]


@given(st.ip_addresses(v=6), MACS)
def test_an_ipv6_address_is_announced_by_an_overriding_advertisement(address: IPv6Address, mac: str) -> None:
    (frame,) = announcements([address], mac)
    ethernet = dpkt.ethernet.Ethernet(frame)
    assert (ethernet.dst, ethernet.src, ethernet.type) == (bytes.fromhex("333300000001"), raw(mac), 0x86DD)
    assert len(frame) == 14 + 40 + 32
    ip6 = dpkt.ip6.IP6(frame[14:])
    assert (ip6.v, ip6.fc, ip6.flow, ip6.nxt, ip6.hlim) == (6, 0, 0, 58, 255)
    assert ip6.plen == 32
    assert (ip6.src, ip6.dst) == (address.packed, IPv6Address("ff02::1").packed)
    icmp = frame[54:]
    kind, code, _, flags = struct.unpack("!BBHI", icmp[:8])
    assert (kind, code, flags) == (136, 0, 0x20000000), "override, neither solicited nor from a router"
    assert icmp[8:24] == address.packed
    assert icmp[24:] == b"\x02\x01" + raw(mac), "the target's link-layer address"


@given(st.ip_addresses(v=6), MACS)
def test_the_checksum_of_an_advertisement_is_right(address: IPv6Address, mac: str) -> None:
    (frame,) = announcements([address], mac)
    pseudo = frame[22:54] + struct.pack("!II", 32, 58)
    assert dpkt.in_cksum(pseudo + frame[54:]) == 0


def test_each_address_is_announced_in_turn() -> None:
    four, six = IPv4Address("192.0.2.1"), IPv6Address("2001:db8::1")
    frames = list(announcements([four, six], "02:00:00:00:00:01"))
    assert [dpkt.ethernet.Ethernet(frame).type for frame in frames] == [0x0806, 0x0806, 0x86DD]
    assert list(announcements([], "02:00:00:00:00:01")) == []


@given(st.ip_addresses(), MACS)
def test_what_is_announced_is_understood(address: IPv4Address | IPv6Address, mac: str) -> None:
    assert {announced(frame) for frame in announcements([address], mac)} == {address}


@given(st.ip_addresses(v=4), st.ip_addresses(v=4), MACS)
def test_an_ordinary_question_announces_nothing(sender: IPv4Address, target: IPv4Address, mac: str) -> None:
    packet = dpkt.arp.ARP(op=1, sha=raw(mac), spa=sender.packed, tpa=target.packed)
    frame = bytes(dpkt.ethernet.Ethernet(dst=BROADCAST, src=raw(mac), type=0x0806, data=packet))
    assert announced(frame) == (sender if sender == target else None)


@given(st.ip_addresses(v=6), MACS)
def test_an_answer_to_somebodys_solicitation_announces_nothing(address: IPv6Address, mac: str) -> None:
    (frame,) = announcements([address], mac)
    assert announced(frame[:58] + bytes([frame[58] | 0x40]) + frame[59:]) is None


@given(st.binary(max_size=200), st.ip_addresses(), MACS, st.integers(0, 90))
def test_anything_may_come(junk: bytes, address: IPv4Address | IPv6Address, mac: str, length: int) -> None:
    whole = next(announcements([address], mac))
    assert announced(whole[:length]) in (None, address)
    announced(whole[:14] + junk)
    assert announced(junk[:12] + b"\x86\x00" + junk) is None


@given(MACS, MACS)
def test_an_arrival_and_its_answer_name_the_guest_and_claim_no_address(guest: str, mac: str) -> None:
    frame = arrival(guest, mac)
    assert (frame[:6], frame[6:12], len(frame)) == (BROADCAST, raw(mac), 60)
    assert (arrived(frame), departed(frame), announced(frame)) == (guest, None, None)
    assert arrived(frame[:30]) is None
    answer = departure(guest, mac)
    assert (answer[:6], answer[6:12], len(answer)) == (BROADCAST, raw(mac), 60)
    assert (arrived(answer), departed(answer), announced(answer)) == (None, guest, None)
    assert {arrived(one) for one in announcements([IPv4Address("192.0.2.5"), IPv6Address("2001:db8::5")], mac)} == {
        None
    }


@given(st.ip_addresses(v=4), MACS, MACS, st.integers(0, 41))
def test_a_probe_is_answered_as_the_kernel_answers_for_its_own(
    address: IPv4Address, mac: str, asker: str, length: int
) -> None:
    arp = dpkt.arp.ARP(op=1, sha=raw(asker), spa=bytes(4), tha=bytes(6), tpa=address.packed)
    frame = bytes(dpkt.ethernet.Ethernet(dst=BROADCAST, src=raw(asker), type=0x0806, data=arp))
    assert arp_probe(frame) == (address, asker)
    assert arp_probe(frame[:length]) is None
    answer = dpkt.ethernet.Ethernet(arp_answer(address, mac, asker))
    assert (answer.dst, answer.src) == (raw(asker), raw(mac))
    found = answer.data
    assert (found.op, found.sha, found.spa) == (2, raw(mac), address.packed)
    assert (found.tha, found.tpa) == (raw(asker), bytes(4))
    assert arp_probe(bytes(answer)) is None


@given(st.ip_addresses(v=4), st.ip_addresses(v=4), MACS, st.integers(1, 4))
def test_only_a_question_without_a_sender_is_a_probe(
    sender: IPv4Address, target: IPv4Address, mac: str, operation: int
) -> None:
    arp = dpkt.arp.ARP(op=operation, sha=raw(mac), spa=sender.packed, tha=bytes(6), tpa=target.packed)
    frame = bytes(dpkt.ethernet.Ethernet(dst=BROADCAST, src=raw(mac), type=0x0806, data=arp))
    assert (arp_probe(frame) is not None) == (operation == 1 and int(sender) == 0)


@given(
    st.ip_addresses(v=6).filter(lambda address: not address.is_multicast), st.sampled_from(["0e:00:00:00:00:01"]), MACS
)
def test_a_solicitation_is_answered_to_the_asker(target: IPv6Address, asker: str, mac: str) -> None:
    question = solicitation(neighbour_solicitation(target, asker))
    assert question == Solicitation(target, IPv6Address("fe80::c00:ff:fe00:1"), asker, to_group=True)
    alone = solicitation(neighbour_solicitation(target, asker, guest=mac))
    assert alone and alone.to_group == bool(raw(mac)[0] & 1)
    ethernet = dpkt.ethernet.Ethernet(neighbour_answer(question, mac))
    assert (ethernet.dst, ethernet.src, ethernet.type) == (raw(asker), raw(mac), 0x86DD)
    assert (ethernet.data.src, ethernet.data.dst) == (target.packed, question.asker.packed)
    message = bytes(ethernet.data.data)
    assert (message[0], message[4] & 0xE0, message[8:24]) == (136, 0x60, target.packed), "solicited, and it overrides"
    assert message[24:32] == bytes([2, 1]) + raw(mac)
    assert announced(bytes(ethernet)) is None


def test_who_looks_for_duplicates_is_answered_by_an_advertisement_to_all() -> None:
    target, mac = IPv6Address("2001:db8::5"), "0e:00:00:00:00:02"
    question = Solicitation(target, IPv6Address("::"), "0e:00:00:00:00:01", to_group=True)
    assert [neighbour_answer(question, mac)] == [*announcements([target], mac)]


def test_no_other_frame_is_a_solicitation_that_is_answered() -> None:
    good = neighbour_solicitation(IPv6Address("2001:db8::5"), "0e:00:00:00:00:01")
    group = IPv6Address("ff02::1").packed
    wrong = {
        "an advertisement": good[:54] + bytes([136]) + good[55:],
        "a code": good[:55] + bytes([1]) + good[56:],
        "a group as target": good[:62] + group + good[78:],
        "a group as asker": good[:22] + group + good[38:],
        "a group's MAC as asker": good[:6] + bytes([0x33]) + good[7:],
        "from beyond a router": good[:21] + bytes([64]) + good[22:],
        "short": good[:70],
    }
    assert solicitation(good)
    assert [name for name, frame in wrong.items() if solicitation(frame)] == []
