# SPDX-License-Identifier: BSD-2-Clause
"""The router that a guest sees: advertisements byte by byte, and whose neighbour it plays."""

from __future__ import annotations

import struct
from dataclasses import replace

import dpkt
import pytest
from guest_frames import (
    BINDING,
    GUEST,
    LINK_LOCAL,
    ROUTER,
    TAP,
    TOLD,
    neighbour_solicitation,
    packed,
    router_solicitation,
    serving,
)
from hypothesis import given
from hypothesis import strategies as st

from ganeti_vif.config.model import Dhcpv6, Told
from ganeti_vif.responder.answer import answer
from ganeti_vif.responder.packet import Malformed
from ganeti_vif.responder.service import Service, service
from nfdhcpd_bridge.reading import reading

OWN = "2001:db8::a800:ff:fe00:5"


class Message:
    """An ICMPv6 message in a frame of ours."""

    def __init__(self, frame: bytes) -> None:
        self.destination_mac, self.source_mac = frame[:6], frame[6:12]
        assert frame[12:14] == b"\x86\xdd"
        length, protocol, self.hops = struct.unpack_from("!HBB", frame, 18)
        self.source, self.destination = frame[22:38], frame[38:54]
        self.payload = frame[54 : 54 + length]
        assert (protocol, self.hops) == (58, 255)
        pseudo = self.source + self.destination + struct.pack("!II", length, 58)
        assert dpkt.in_cksum(pseudo + self.payload) == 0

    def options(self, at: int) -> dict[int, bytes]:
        found = {}
        while at < len(self.payload):
            kind, length = self.payload[at : at + 2]
            assert length
            found[kind] = self.payload[at + 2 : at + 8 * length]
            at += 8 * length
        assert at == len(self.payload)
        return found


def heard(frame: bytes, service: Service | None = None) -> Message:
    out = answer(frame, service or serving()).frame
    assert out
    return Message(out)


def test_an_advertisement_of_a_routed_tap() -> None:
    found = heard(router_solicitation())
    assert (found.source_mac, found.destination_mac) == (TAP, GUEST)
    assert (found.source, found.destination) == (packed(ROUTER), packed(LINK_LOCAL))
    kind, code, _, hops, flags, lifetime, reachable, retransmit = struct.unpack_from("!BBHBBHII", found.payload)
    assert (kind, code, hops, flags, lifetime, reachable, retransmit) == (134, 0, 64, 0x40, 900, 0, 0)
    options = found.options(16)
    assert set(options) == {1, 3, 5, 25, 31}
    assert options[1] == TAP
    assert options[5] == struct.pack("!HI", 0, 1450)
    assert options[3] == struct.pack("!BBIII", 64, 0x40, 604800, 604800, 0) + packed("2001:db8::")
    assert options[25] == struct.pack("!HI", 0, 900) + packed("2001:db8::53")
    names = b"\7example\3org\0\3sub\7example\3org\0"
    assert options[31][:6] == struct.pack("!HI", 0, 900)
    assert options[31][6:].rstrip(b"\0") == names.rstrip(b"\0")


def test_in_a_bridge_we_are_no_router_and_neighbours_are_on_link() -> None:
    found = heard(router_solicitation(), serving(routed=False))
    assert struct.unpack_from("!H", found.payload, 6) == (0,)
    assert found.options(16)[3][1] == 0xC0


@pytest.mark.parametrize(
    ("mode", "given6", "flags", "autonomous"),
    [
        (Dhcpv6.OFF, None, 0, True),
        (Dhcpv6.STATELESS, None, 0x40, True),
        (Dhcpv6.STATEFUL, None, 0xC0, False),
        (Dhcpv6.STATELESS, "2001:db8::5", 0xC0, False),
        (Dhcpv6.OFF, "2001:db8::5", 0xC0, False),
        (Dhcpv6.STATELESS, OWN, 0x40, True),
    ],
)
def test_a_guest_is_led_to_the_address_that_it_may_use(
    mode: Dhcpv6, given6: str | None, flags: int, autonomous: bool
) -> None:
    found = heard(router_solicitation(), serving(told=replace(TOLD, dhcpv6=mode), IP6=given6))
    assert found.payload[5] == flags
    assert bool(found.options(16)[3][1] & 0x40) == autonomous


def test_a_prefix_that_is_no_64_makes_no_addresses() -> None:
    assert heard(router_solicitation(), serving(SUBNET6="2001:db8::/48")).options(16)[3][:2] == b"\x30\0"


def test_a_small_mtu_is_none_of_ipv6() -> None:
    assert 5 not in heard(router_solicitation(), serving(MTU="1279")).options(16)


def test_without_name_servers_none_are_told() -> None:
    assert set(heard(router_solicitation(), serving(told=Told(), MTU=None)).options(16)) == {1, 3}


def test_the_last_advertisement_takes_back_router_and_name_servers() -> None:
    router = serving().router6
    assert router
    last = Message(router.farewell(prefix=False))
    assert last.destination == packed("ff02::1") and last.destination_mac == bytes.fromhex("333300000001")
    assert struct.unpack_from("!H", last.payload, 6) == (0,)
    options = last.options(16)
    assert options[25][:6] == options[31][:6] == bytes(6)
    assert 3 not in options


def withdrawn(before: Service, after: Service | None) -> Message | None:
    assert before.router6
    frame = before.router6.changed(after.router6 if after else None)
    return Message(frame) if frame else None


OLD_PREFIX = struct.pack("!BBIII", 64, 0x40, 0, 0, 0) + packed("2001:db8::")


@pytest.mark.parametrize("after", [None, serving(SUBNET6=None, GATEWAY6=None)], ids=["gone", "without IPv6"])
def test_the_prefix_of_a_binding_that_is_gone_is_withdrawn(after: Service | None) -> None:
    found = withdrawn(serving(), after)
    assert found
    assert (found.destination, found.source) == (packed("ff02::1"), packed(ROUTER))
    assert struct.unpack_from("!H", found.payload, 6) == (0,)
    options = found.options(16)
    assert options[3] == OLD_PREFIX
    assert options[25][:6] == options[31][:6] == bytes(6)


def test_another_prefix_withdraws_the_old_one_and_keeps_the_router() -> None:
    found = withdrawn(serving(), serving(SUBNET6="2001:db8:77::/64"))
    assert found
    assert struct.unpack_from("!H", found.payload, 6) == (900,)
    assert found.payload.index(OLD_PREFIX) < found.payload.index(packed("2001:db8:77::"))


def test_another_router_with_the_same_prefix_withdraws_no_prefix() -> None:
    other = service(reading(BINDING), TOLD, bytes.fromhex("020000000001"), routed=True)
    found = withdrawn(serving(), other)
    assert found
    assert struct.unpack_from("!H", found.payload, 6) == (0,)
    assert 3 not in found.options(16)


def test_name_servers_that_are_told_no_longer_are_withdrawn() -> None:
    found = withdrawn(serving(), serving(told=replace(TOLD, nameservers=())))
    assert found
    assert found.options(16)[25] == struct.pack("!HI", 0, 0) + packed("2001:db8::53")
    assert found.options(16)[3] != OLD_PREFIX


def test_an_address_by_slaac_is_withdrawn_when_the_guest_is_given_another() -> None:
    found = withdrawn(serving(), serving(IP6="2001:db8::77"))
    assert found and OLD_PREFIX in found.payload


@pytest.mark.parametrize("after", [serving(), serving(IP="192.0.2.6"), serving(MTU="1400")], ids=["all", "IP", "MTU"])
def test_nothing_is_withdrawn_that_is_still_told(after: Service) -> None:
    assert withdrawn(serving(), after) is None


@pytest.mark.parametrize("source", ["fe80::1", "fe80::f00:ba5e", LINK_LOCAL])
def test_any_link_local_address_is_answered(source: str) -> None:
    assert heard(router_solicitation(source)).destination == packed(source)


def test_a_guest_without_any_address_is_answered_by_multicast() -> None:
    found = heard(router_solicitation("::"))
    assert (found.destination, found.destination_mac) == (packed("ff02::1"), bytes.fromhex("333300000001"))


@pytest.mark.parametrize(
    ("target", "flags"), [(ROUTER, 0xE0), ("2001:db8::1", 0xC0), ("2001:db8::a800:ff:fe00:6", 0x40)]
)
@pytest.mark.parametrize("source", [LINK_LOCAL, OWN])
def test_on_a_routed_tap_the_router_is_everybody(source: str, target: str, flags: int) -> None:
    found = heard(neighbour_solicitation(target, source))
    assert (found.source, found.destination, found.destination_mac) == (packed(target), packed(source), GUEST)
    assert (found.payload[0], found.payload[4], found.payload[8:24]) == (136, flags, packed(target))
    assert found.options(24) == {2: TAP}


def test_what_the_node_answers_itself_is_left_to_it_unless_the_guest_repeats_its_question() -> None:
    assert answer(neighbour_solicitation(ROUTER), serving()).spare
    assert not answer(neighbour_solicitation("2001:db8::1"), serving()).spare
    assert not answer(neighbour_solicitation(ROUTER), serving(routed=False)).spare


@pytest.mark.parametrize("target", [OWN, LINK_LOCAL, "fe80::77", "2001:db8:1::1"])
def test_nobody_is_told_that_the_guests_own_or_a_strange_address_is_elsewhere(target: str) -> None:
    assert answer(neighbour_solicitation(target), serving()).frame is None


@pytest.mark.parametrize("target", [OWN, ROUTER, "2001:db8::1", "2001:db8::a800:ff:fe00:6"])
def test_a_search_for_duplicates_is_left_alone(target: str) -> None:
    assert answer(neighbour_solicitation(target, "::"), serving()).frame is None


@pytest.mark.parametrize("target", ["2001:db8::1", "2001:db8::a800:ff:fe00:6", "2001:db8::a800:ff:fe00:5"])
def test_neighbours_in_a_bridge_are_left_alone(target: str) -> None:
    assert answer(neighbour_solicitation(target), serving(routed=False)).frame is None


def test_in_a_bridge_the_advertising_address_is_answered_for() -> None:
    assert heard(neighbour_solicitation(ROUTER), serving(routed=False)).options(24) == {2: TAP}


@pytest.mark.parametrize(
    "frame",
    [
        router_solicitation(hops=254),
        router_solicitation(code=1),
        router_solicitation(options=b"\1\0" + bytes(6)),
        router_solicitation(options=b"\1\2" + bytes(6)),
        router_solicitation(options=b"\1"),
        router_solicitation("::", b"\1\1" + GUEST),
        router_solicitation()[:-1],
        neighbour_solicitation("2001:db8::1", hops=64),
        neighbour_solicitation("ff02::1"),
        neighbour_solicitation("2001:db8::1")[:70],
        router_solicitation()[:56] + b"\0\0" + router_solicitation()[58:],
    ],
)
def test_a_flawed_solicitation_is_not_answered(frame: bytes) -> None:
    with pytest.raises(Malformed):
        answer(frame, serving())


@pytest.mark.parametrize("source", ["2001:db8::1", "2001:db8:1::1", "ff02::1"])
def test_a_foreign_source_is_spoofed(source: str) -> None:
    assert answer(router_solicitation(source), serving()).heard == "spoofed"


def test_an_address_that_the_guest_chose_in_its_prefix_is_answered() -> None:
    assert answer(router_solicitation("2001:db8::66"), serving()).frame is not None


def test_without_a_prefix_nobody_is_answered() -> None:
    service = serving(SUBNET6=None, GATEWAY6=None)
    for frame in (router_solicitation(), neighbour_solicitation("2001:db8::1")):
        assert answer(frame, service).frame is None


@given(
    at=st.lists(st.tuples(st.integers(54, 200), st.integers(0, 255)), max_size=6),
    cut=st.integers(0, 200),
    options=st.binary(max_size=60),
)
def test_whatever_comes_is_answered_or_refused(at: list[tuple[int, int]], cut: int, options: bytes) -> None:
    for good in (router_solicitation(options=options), neighbour_solicitation("2001:db8::1")):
        frame = bytearray(good)
        for offset, value in at:
            frame[offset % len(frame)] = value
        try:
            found = answer(bytes(frame[: cut or None]), serving())
        except Malformed:
            continue
        if found.frame:
            Message(found.frame)
