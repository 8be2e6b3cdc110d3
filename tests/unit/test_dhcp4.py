# SPDX-License-Identifier: BSD-2-Clause
"""DHCP over IPv4: what each kind of request is answered, checked with dpkt as an independent reader."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import dpkt
import pytest
from guest_frames import ASKED, BINDING, BROADCAST, GUEST, TAP, TOLD, dhcp, packed, serving, udp
from hypothesis import given
from hypothesis import strategies as st

from ganeti_vif.responder.answer import answer
from ganeti_vif.responder.packet import Malformed
from ganeti_vif.responder.service import Service

BOOTP, DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE, INFORM = range(9)
SERVER = "192.0.2.1"
OWN_SERVER = "169.254.86.73"


class Told:
    """An answer, as dpkt reads it."""

    def __init__(self, frame: bytes) -> None:
        self.ethernet = dpkt.ethernet.Ethernet(frame)
        self.ip: Any = self.ethernet.data
        assert isinstance(self.ip, dpkt.ip.IP)
        datagram = self.ip.data
        assert (datagram.sport, datagram.dport) == (67, 68)
        assert dpkt.in_cksum(self.ip.pack_hdr()) == 0
        pseudo = self.ip.src + self.ip.dst + b"\0\x11" + datagram.ulen.to_bytes(2, "big")
        assert dpkt.in_cksum(pseudo + bytes(datagram)) == 0
        self.message = dpkt.dhcp.DHCP(datagram.data)
        assert len(datagram.data) >= 300
        self.order = [code for code, _ in self.message.opts]
        self.options: dict[int, bytes] = {}
        for code, value in self.message.opts:
            self.options[code] = self.options.get(code, b"") + value
        self.type = self.options.get(53, bytes([BOOTP]))[0]
        self.destination = self.ip.dst


def told(frame: bytes, service: Service | None = None) -> Told | None:
    out = answer(frame, service or serving()).frame
    return Told(out) if out else None


def answered(frame: bytes, service: Service | None = None) -> Told:
    found = told(frame, service)
    assert found
    return found


def test_a_discover_is_offered_everything_that_it_asks_for() -> None:
    offer = answered(dhcp(DISCOVER))
    assert (offer.type, offer.message.xid, offer.message.op) == (OFFER, 0x12345678, 2)
    assert offer.message.yiaddr == int.from_bytes(packed("192.0.2.5"), "big")
    assert offer.message.chaddr[:6] == GUEST
    expected = {
        1: packed("255.255.255.0"),
        3: packed(SERVER),
        6: packed("192.0.2.53") + packed("192.0.2.54"),
        12: b"vm5",
        15: b"example.com",
        26: (1450).to_bytes(2, "big"),
        28: packed("192.0.2.255"),
        51: (604800).to_bytes(4, "big"),
        53: bytes([OFFER]),
        54: packed(SERVER),
        58: (3600).to_bytes(4, "big"),
        59: (529200).to_bytes(4, "big"),
        119: b"\7example\3org\0\3sub\7example\3org\0",
    }
    assert offer.options == expected
    assert offer.order[0] == 53
    assert offer.order[-1:] != [53] and len(offer.order) == len(set(offer.order))


def test_it_goes_to_the_guest_alone_from_the_taps_mac() -> None:
    offer = answered(dhcp(DISCOVER))
    assert (offer.ethernet.src, offer.ethernet.dst) == (TAP, GUEST)
    assert (offer.ip.src, offer.destination) == (packed(SERVER), packed("192.0.2.5"))


def test_a_guest_that_cannot_take_that_gets_a_broadcast() -> None:
    offer = answered(dhcp(DISCOVER, flags=0x8000))
    assert (offer.ethernet.dst, offer.destination) == (BROADCAST, b"\xff" * 4)


@pytest.mark.parametrize("asked", [b"", b"\1", b"\3\x79", bytes([12]), bytes([250, 251])])
def test_only_what_is_asked_for_is_told(asked: bytes) -> None:
    offer = answered(dhcp(DISCOVER, [(55, asked)]))
    assert set(offer.options) == {51, 53, 54, 58, 59} | (set(asked) & {1, 3, 6, 12, 15, 26, 28, 119})


def test_who_asks_for_nothing_in_particular_gets_all() -> None:
    assert set(answered(dhcp(DISCOVER, [])).options) >= {1, 3, 6, 12, 15, 26, 28}


@pytest.mark.parametrize(
    ("options", "fields", "expected"),
    [
        ([(50, packed("192.0.2.5")), (54, packed(SERVER))], {}, ACK),
        ([(50, packed("192.0.2.6")), (54, packed(SERVER))], {}, NAK),
        ([(50, packed("192.0.2.5")), (54, packed("192.0.2.77"))], {}, None),
        ([(50, packed("192.0.2.5"))], {}, ACK),
        ([(50, packed("10.0.0.5"))], {}, NAK),
        ([], {"client": "192.0.2.5", "source": "192.0.2.5", "destination": SERVER}, ACK),
        ([], {"client": "192.0.2.5", "source": "192.0.2.5"}, ACK),
        ([], {"client": "192.0.2.6", "source": "192.0.2.6", "destination": SERVER}, NAK),
        ([(50, packed("192.0.2.5")), (54, packed(SERVER))], {"client": "192.0.2.6"}, NAK),
    ],
    ids=["select", "other", "elsewhere", "reboot", "moved", "renew", "rebind", "stale", "foreign"],
)
def test_a_request_by_its_kind(options: list[tuple[int, bytes]], fields: dict[str, str], expected: int | None) -> None:
    found = told(dhcp(REQUEST, options, **fields))  # type: ignore[arg-type]
    assert (found.type if found else None) == expected
    if found and expected == NAK:
        assert (found.ethernet.dst, found.destination) == (BROADCAST, b"\xff" * 4)
        assert (found.message.yiaddr, set(found.options)) == (0, {53, 54})
    elif found and fields:
        assert (found.destination, found.ethernet.dst) == (packed("192.0.2.5"), GUEST)


def test_a_request_for_nothing_is_malformed() -> None:
    with pytest.raises(Malformed):
        told(dhcp(REQUEST))


def test_an_inform_is_told_what_goes_without_a_lease() -> None:
    found = answered(dhcp(INFORM, client="192.0.2.5", source="192.0.2.5"))
    assert (found.type, found.message.yiaddr) == (ACK, 0)
    assert found.destination == packed("192.0.2.5")
    assert not {51, 58, 59} & set(found.options)
    assert found.options[6] == packed("192.0.2.53") + packed("192.0.2.54")


@pytest.mark.parametrize("kind", [INFORM, DISCOVER])
def test_nothing_goes_to_an_address_that_is_not_the_guests(kind: int) -> None:
    found = told(dhcp(kind, client="192.0.2.99", source="192.0.2.99"))
    assert found is None or found.destination == packed("192.0.2.5")
    assert (kind, found is None) in ((INFORM, True), (DISCOVER, False))


def test_a_guest_that_asks_for_it_has_its_lease_after_one_round() -> None:
    found = answered(dhcp(DISCOVER, [(80, b""), (55, ASKED)]))
    assert (found.type, found.options[80], found.options[51]) == (ACK, b"", (604800).to_bytes(4, "big"))
    assert found.message.yiaddr == int.from_bytes(packed("192.0.2.5"), "big")
    assert answered(dhcp(DISCOVER, [(80, b"\0"), (55, ASKED)])).type == OFFER
    assert 80 not in answered(dhcp(REQUEST, [(80, b""), (50, packed("192.0.2.5"))])).options


def test_windows_older_name_of_the_routes() -> None:
    service = serving(SUBNET="192.0.2.5/32")
    found = answered(dhcp(DISCOVER, [(55, bytes([1, 3, 249]))]), service)
    assert found.options[249] == b"\x20" + packed(SERVER) + bytes(4) + b"\0" + packed(SERVER)
    assert 249 not in answered(dhcp(DISCOVER, []), service).options


@pytest.mark.parametrize(
    ("options", "changes", "expected"),
    [
        ([(55, bytes([1, 108]))], {}, (1800).to_bytes(4, "big")),
        ([(55, bytes([1]))], {}, None),
        ([], {}, None),
        ([(55, bytes([1, 108]))], {"SUBNET6": None, "GATEWAY6": None}, None),
        ([(55, bytes([1, 108]))], {"GATEWAY6": None}, None),
    ],
    ids=["asked", "not asked", "no list", "no IPv6", "no IPv6 router"],
)
def test_a_guest_that_can_do_without_ipv4_is_told_so(
    options: list[tuple[int, bytes]], changes: dict[str, None], expected: bytes | None
) -> None:
    service = serving(told=replace(TOLD, ipv6_only=1800), **changes)  # type: ignore[arg-type]
    assert answered(dhcp(DISCOVER, options), service).options.get(108) == expected
    assert 108 not in answered(dhcp(DISCOVER, [(55, bytes([1, 108]))])).options


def bootp(*, cookie: bool = True, client: str = "0.0.0.0", flags: int = 0) -> bytes:
    message = bytes(dpkt.dhcp.DHCP(op=1, xid=7, flags=flags, ciaddr=int(IPv4Address(client)), chaddr=GUEST, opts=[]))
    message = (message if cookie else message[:236]).ljust(300, b"\0")
    return udp(message, "0.0.0.0", "255.255.255.255")


@pytest.mark.parametrize("cookie", [True, False])
def test_a_client_of_plain_bootp_has_its_address(cookie: bool) -> None:
    found = answer(bootp(cookie=cookie), serving())
    assert (found.heard, found.said) == ("bootp_request", "bootp_reply")
    assert found.frame
    reply = Told(found.frame)
    assert (reply.message.op, reply.message.xid) == (2, 7)
    assert (reply.message.yiaddr, reply.destination) == (int(IPv4Address("192.0.2.5")), packed("192.0.2.5"))
    assert reply.options[1] == packed("255.255.255.0") and reply.options[3] == packed(SERVER)
    assert not {51, 53, 54, 58, 59, 249} & set(reply.options)
    assert len(reply.ip.data.data) == 300


def test_a_client_of_plain_bootp_with_an_address() -> None:
    assert answered(bootp(flags=0x8000)).destination == b"\xff" * 4
    assert answered(bootp(client="192.0.2.5")).message.ciaddr == int(IPv4Address("192.0.2.5"))
    assert told(bootp(client="192.0.2.99")) is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ["192.0.2.53", "192.0.2.54", "198.51.100.1"]),
        ({"GATEWAY": None}, ["192.0.2.53", "192.0.2.54"]),
        ({"PRIVATE": "yes"}, ["192.0.2.53", "192.0.2.54"]),
        ({"GATEWAY": None, "IP": "10.0.0.5", "SUBNET": "10.0.0.0/24"}, []),
        ({"SUBNET": "192.0.2.5/32"}, ["192.0.2.53", "192.0.2.54", "198.51.100.1"]),
    ],
    ids=["gateway", "none", "private", "elsewhere", "gateway on the link"],
)
def test_no_name_server_is_told_where_it_cannot_be_reached(changes: dict[str, str | None], expected: list[str]) -> None:
    servers = (*TOLD.nameservers, IPv4Address("198.51.100.1"))
    service = serving(told=replace(TOLD, nameservers=servers), **changes)  # type: ignore[arg-type]
    options = answered(dhcp(DISCOVER), service).options
    assert options.get(6, b"") == b"".join(packed(one) for one in expected)
    assert options[119]


@pytest.mark.parametrize("kind", [DECLINE, RELEASE])
def test_a_release_and_a_decline_are_heard_and_not_answered(kind: int) -> None:
    found = answer(dhcp(kind, [(54, packed(SERVER))], client="192.0.2.5"), serving())
    assert (found.heard, found.frame) == ({DECLINE: "dhcp4_decline", RELEASE: "dhcp4_release"}[kind], None)


def test_the_client_identifier_comes_back() -> None:
    assert answered(dhcp(DISCOVER, [(61, b"\xff\1\2\3")])).options[61] == b"\xff\1\2\3"
    assert answered(dhcp(REQUEST, [(61, b"me"), (50, packed("1.2.3.4"))])).options[61] == b"me"


def test_a_gateway_outside_of_the_subnet_is_reached_on_the_link() -> None:
    found = answered(dhcp(DISCOVER), serving(SUBNET="192.0.2.5/32"))
    assert found.options[1] == packed("255.255.255.255")
    assert found.options[121] == b"\x20" + packed(SERVER) + bytes(4) + b"\0" + packed(SERVER)
    assert found.options[3] == packed(SERVER)
    assert 28 not in found.options


@pytest.mark.parametrize("guest", [serving(GATEWAY=None), serving(PRIVATE="yes")], ids=["none", "private"])
def test_without_a_gateway_the_server_is_an_address_on_the_link(guest: Service) -> None:
    found = answered(dhcp(DISCOVER), guest)
    assert (found.options[54], found.ip.src) == (packed(OWN_SERVER), packed(OWN_SERVER))
    assert found.options[121] == b"\x20" + packed(OWN_SERVER) + bytes(4)
    assert 3 not in found.options


@pytest.mark.parametrize(
    ("hostname", "domain", "expected"),
    [
        ("vm5.example.com", None, (b"vm5", b"example.com")),
        ("vm5", None, (b"vm5", None)),
        ("vm5", "given.org", (b"vm5", b"given.org")),
        ("vm5.example.com", "given.org", (b"vm5", b"given.org")),
        (None, None, (None, None)),
    ],
)
def test_names(hostname: str | None, domain: str | None, expected: tuple[bytes | None, bytes | None]) -> None:
    options = answered(dhcp(DISCOVER), serving(told=replace(TOLD, domain=domain), HOSTNAME=hostname)).options
    assert (options.get(12), options.get(15)) == expected


def test_a_long_search_list_is_told_in_parts_to_who_has_room_and_left_out_for_others() -> None:
    service = serving(told=replace(TOLD, search=tuple(f"d{number}.a-long-name.example.org" for number in range(12))))
    found = answered(dhcp(DISCOVER, [(55, ASKED), (57, (1500).to_bytes(2, "big"))]), service)
    assert len(found.options[119]) > 255
    assert found.order.count(119) == 2
    small = answered(dhcp(DISCOVER), service)
    assert 119 not in small.options
    assert small.options[28] == packed("192.0.2.255")
    assert small.ip.len <= 576


def test_options_in_the_fields_of_file_and_server_name_are_read() -> None:
    frame = bytearray(dhcp(DISCOVER, [(52, b"\3")]))
    at = 14 + 20 + 8
    frame[at + 44 : at + 44 + 4] = bytes([55, 1, 1, 255])
    frame[at + 108 : at + 108 + 5] = bytes([61, 2, 7, 7, 255])
    frame[40:42] = b"\0\0"
    found = answered(bytes(frame))
    assert (found.options[61], 1 in found.options, 3 in found.options) == (b"\7\7", True, False)


def test_a_guest_without_an_ipv4_address_is_not_answered() -> None:
    assert answer(dhcp(DISCOVER), serving(IP=None, SUBNET=None)).frame is None


@pytest.mark.parametrize(
    "frame", [dhcp(DISCOVER, sender=b"\xaa\0\0\0\0\6"), dhcp(DISCOVER, hardware=b"\xaa\0\0\0\0\6")]
)
def test_somebody_elses_address_in_it_is_spoofed(frame: bytes) -> None:
    assert answer(frame, serving()) == ("spoofed", None, None, None, False)


def flawed() -> dict[str, bytes]:
    good = dhcp(DISCOVER)
    at = 14 + 20 + 8

    def changed(offset: int, *values: int) -> bytes:
        frame = bytearray(good)
        frame[offset : offset + len(values)] = values
        frame[40:42] = b"\0\0"  # no UDP checksum, so that only the flaw itself is wrong
        return bytes(frame)

    bad = bytearray(good)
    bad[40] ^= 1
    return {
        "cut": good[:100],
        "header only": good[:42],
        "IP checksum": changed(24, 0, 0),
        "UDP checksum": bytes(bad),
        "UDP length": changed(38, 0xFF, 0xFF),
        "no UDP length": changed(38, 0, 0),
        "IP version": changed(14, 0x65),
        "IP header length": changed(14, 0x41),
        "a reply": changed(at, 2),
        "another hardware": changed(at + 1, 6),
        "hardware length": changed(at + 2, 16),
        "cookie": changed(at + 236, 0),
        "option past the end": changed(at + 240, 55, 255),
        "relayed": dhcp(DISCOVER, relay="10.0.0.1"),
        "type of no length": dhcp(DISCOVER, [])[: at + 240] + b"\x35\0\xff",
        "type 0": dhcp(0),
        "type 99": dhcp(99),
        "short address": dhcp(REQUEST, [(50, b"\1\2")]),
        "short server": dhcp(DISCOVER, [(54, b"")]),
        "nothing": udp(b"", "0.0.0.0", "255.255.255.255"),
    }


@pytest.mark.parametrize("name", flawed())
def test_a_flawed_request_is_not_answered(name: str) -> None:
    with pytest.raises(Malformed):
        answer(flawed()[name], serving())


def test_the_checksum_that_a_guest_leaves_to_its_card_is_right() -> None:
    """With offloading the field holds the sum of the pseudo header (Linux, CHECKSUM_PARTIAL)."""
    frame = bytearray(dhcp(DISCOVER))
    length = len(frame) - 34
    pseudo = bytes(frame[26:34]) + b"\0\x11" + length.to_bytes(2, "big")
    frame[40:42] = (~dpkt.in_cksum(pseudo) & 0xFFFF).to_bytes(2, "big")
    assert answered(bytes(frame)).type == OFFER


@given(
    at=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=8),
    cut=st.integers(0, 400),
    kind=st.integers(0, 9),
)
def test_whatever_comes_is_answered_or_refused(at: list[tuple[int, int]], cut: int, kind: int) -> None:
    frame = bytearray(dhcp(kind, [(55, ASKED), (61, b"me"), (50, packed("192.0.2.5"))]))
    for offset, value in at:
        frame[offset % len(frame)] = value
    frame[40:42] = b"\0\0"
    try:
        found = answer(bytes(frame[: cut or None]), serving(BINDING))
    except Malformed:
        return
    if found.frame:
        assert Told(found.frame).type in (BOOTP, OFFER, ACK, NAK)
