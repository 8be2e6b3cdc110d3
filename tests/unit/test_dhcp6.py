# SPDX-License-Identifier: BSD-2-Clause
"""DHCPv6: information for whoever asks, and the one address of the guest where that is configured."""

from __future__ import annotations

import struct
from dataclasses import replace
from ipaddress import IPv6Address

import dpkt
import pytest
from guest_frames import GUEST, LINK_LOCAL, ROUTER, TAP, TOLD, dhcp6, packed, serving
from hypothesis import given
from hypothesis import strategies as st

from ganeti_vif.config.model import Dhcpv6
from ganeti_vif.responder.answer import answer
from ganeti_vif.responder.packet import Malformed

SOLICIT, ADVERTISE, REQUEST, CONFIRM, RENEW, REBIND, REPLY, RELEASE, DECLINE = range(1, 10)
INFORMATION_REQUEST = 11
CLIENT = (1, struct.pack("!HH", 3, 1) + GUEST)
SERVER = (2, struct.pack("!HH", 3, 1) + TAP)
OTHER_SERVER = (2, struct.pack("!HH", 3, 1) + GUEST)
OWN = packed("2001:db8::a800:ff:fe00:5")
IA = (3, b"\0\0\0\7" + bytes(8))
STATEFUL = serving(told=replace(TOLD, dhcpv6=Dhcpv6.STATEFUL))
STATELESS = serving()


def with_address(address: bytes) -> tuple[int, bytes]:
    return 3, IA[1] + struct.pack("!HH", 5, 24) + address + bytes(8)


def options(data: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while at < len(data):
        code, length = struct.unpack_from("!HH", data, at)
        found.append((code, data[at + 4 : at + 4 + length]))
        assert len(found[-1][1]) == length
        at += 4 + length
    return found


def payload(frame: bytes) -> bytes:
    """The DHCPv6 message in a frame of ours, which goes to the guest."""
    assert (frame[:6], frame[6:12]) == (GUEST, TAP)
    assert (frame[22:38], frame[38:54]) == (packed(ROUTER), packed(LINK_LOCAL))
    datagram = frame[54 : 54 + int.from_bytes(frame[18:20], "big")]
    pseudo = frame[22:54] + struct.pack("!II", len(datagram), 17)
    assert dpkt.in_cksum(pseudo + datagram) == 0
    assert struct.unpack_from("!HHH", datagram) == (547, 546, len(datagram))
    return datagram[8:]


def told(frame: bytes, service: object = STATEFUL) -> tuple[int, dict[int, bytes]] | None:
    out = answer(frame, service).frame  # type: ignore[arg-type]
    if out is None:
        return None
    message = payload(out)
    assert message[1:4] == b"\1\2\3"
    found = dict(options(message[4:]))
    assert found.get(2) == SERVER[1]
    return message[0], found


def test_information_is_given() -> None:
    found = told(dhcp6(INFORMATION_REQUEST, CLIENT, (6, struct.pack("!HHH", 23, 24, 32))), STATELESS)
    assert found
    kind, values = found
    assert (kind, values[1]) == (REPLY, CLIENT[1])
    assert values[23] == packed("2001:db8::53")
    assert values[24] == b"\7example\3org\0\3sub\7example\3org\0"
    assert values[32] == struct.pack("!I", 3600)


def test_only_information_that_is_asked_for() -> None:
    found = told(dhcp6(INFORMATION_REQUEST, (6, struct.pack("!H", 24))), STATELESS)
    assert found and set(found[1]) == {2, 24}


@pytest.mark.parametrize("source", ["fe80::1", LINK_LOCAL])
def test_the_answer_goes_to_whoever_asked(source: str) -> None:
    out = answer(dhcp6(INFORMATION_REQUEST, CLIENT, source=source), STATELESS).frame
    assert out and out[38:54] == packed(source)


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (dhcp6(SOLICIT, CLIENT, IA), ADVERTISE),
        (dhcp6(SOLICIT, CLIENT, IA, (14, b"")), REPLY),
        (dhcp6(REQUEST, CLIENT, SERVER, IA), REPLY),
        (dhcp6(RENEW, CLIENT, SERVER, with_address(OWN)), REPLY),
        (dhcp6(REBIND, CLIENT, with_address(OWN)), REPLY),
    ],
)
def test_the_guests_address_is_given(request_: bytes, expected: int) -> None:
    found = told(request_)
    assert found
    assert found[0] == expected
    identity, renew, rebind = struct.unpack_from("!4sII", found[1][3])
    assert (identity, renew, rebind) == (b"\0\0\0\7", 3600, 529200)
    assert options(found[1][3][12:]) == [(5, OWN + struct.pack("!II", 604800, 604800))]
    assert found[1][23] == packed("2001:db8::53")
    assert (14 in found[1]) == (14 in dict(options(request_[66:])))


def test_an_address_that_the_binding_gives() -> None:
    service = serving(told=replace(TOLD, dhcpv6=Dhcpv6.STATEFUL), IP6="2001:db8::5")
    found = told(dhcp6(SOLICIT, CLIENT, IA), service)
    assert found and found[1][3][16:32] == packed("2001:db8::5")


def test_an_address_that_was_the_guests_is_taken_back() -> None:
    old = packed("2001:db8::99")
    found = told(dhcp6(RENEW, CLIENT, SERVER, with_address(old)))
    assert found
    given_, taken = options(found[1][3][12:])
    assert given_[1][:16] == OWN
    assert taken == (5, old + bytes(8))


@pytest.mark.parametrize(("code", "status"), [(25, 6), (4, 2)])
def test_there_are_no_prefixes_and_no_temporary_addresses(code: int, status: int) -> None:
    body = b"\0\0\0\7" + (b"" if code == 4 else bytes(8))
    found = told(dhcp6(SOLICIT, CLIENT, (code, body)))
    assert found and options(found[1][code][len(body) :]) == [(13, struct.pack("!H", status))]


@pytest.mark.parametrize(("address", "status"), [(OWN, 0), (packed("2001:db8:9::1"), 4)])
def test_a_guest_that_moved_learns_whether_it_may_keep_its_address(address: bytes, status: int) -> None:
    found = told(dhcp6(CONFIRM, CLIENT, with_address(address)))
    assert found and found[1][13] == struct.pack("!H", status)


@pytest.mark.parametrize("kind", [RELEASE, DECLINE])
def test_a_release_is_confirmed(kind: int) -> None:
    found = told(dhcp6(kind, CLIENT, SERVER, with_address(OWN)))
    assert found and (found[0], found[1][13]) == (REPLY, b"\0\0")


@pytest.mark.parametrize(
    "frame",
    [
        dhcp6(REQUEST, CLIENT, OTHER_SERVER, IA),
        dhcp6(RENEW, CLIENT, OTHER_SERVER, IA),
        dhcp6(INFORMATION_REQUEST, CLIENT, OTHER_SERVER),
        dhcp6(CONFIRM, CLIENT, IA),
    ],
)
def test_what_is_meant_for_another_server_is_left_alone(frame: bytes) -> None:
    assert told(frame) is None


@pytest.mark.parametrize(
    ("frame", "expected", "statuses"),
    [
        (dhcp6(SOLICIT, CLIENT, IA), ADVERTISE, {3: 2}),
        (dhcp6(SOLICIT, CLIENT, IA, (14, b"")), ADVERTISE, {3: 2}),
        (dhcp6(SOLICIT, CLIENT, IA, (25, IA[1])), ADVERTISE, {3: 2, 25: 6}),
        (dhcp6(SOLICIT, CLIENT, (4, b"\0\0\0\7")), ADVERTISE, {4: 2}),
        (dhcp6(REQUEST, CLIENT, SERVER, IA), REPLY, {3: 2}),
        (dhcp6(RENEW, CLIENT, SERVER, with_address(OWN)), REPLY, {3: 3}),
        (dhcp6(RELEASE, CLIENT, SERVER, with_address(OWN)), REPLY, {}),
    ],
)
def test_without_addresses_to_give_that_is_said(frame: bytes, expected: int, statuses: dict[int, int]) -> None:
    found = told(frame, STATELESS)
    assert found
    assert (found[0], found[1][1]) == (expected, CLIENT[1])
    assert 14 not in found[1]
    for code in (3, 4, 25):
        assert (code in found[1]) == (code in statuses)
        if code in statuses:
            head = 4 if code == 4 else 12
            assert found[1][code][:4] == IA[1][:4]
            assert options(found[1][code][head:]) == [(13, struct.pack("!H", statuses[code]))]
    assert found[1][23] == packed("2001:db8::53")


@pytest.mark.parametrize("kind", [CONFIRM, REBIND])
def test_without_addresses_nobody_is_told_to_give_up_one(kind: int) -> None:
    assert told(dhcp6(kind, CLIENT, with_address(OWN)), STATELESS) is None


@pytest.mark.parametrize("mode", list(Dhcpv6))
def test_an_address_that_slaac_does_not_make_is_given_in_each_mode(mode: Dhcpv6) -> None:
    service = serving(told=replace(TOLD, dhcpv6=mode), IP6="2001:db8::77")
    found = told(dhcp6(SOLICIT, CLIENT, IA), service)
    assert found and options(found[1][3][12:])[0] == (5, packed("2001:db8::77") + struct.pack("!II", 604800, 604800))


@pytest.mark.parametrize(
    ("routed", "changes", "expected"),
    [
        (True, {}, ["2001:db8::53", "2001:db8:ffff::53"]),
        (True, {"GATEWAY6": None}, ["2001:db8::53", "2001:db8:ffff::53"]),
        (False, {}, ["2001:db8::53", "2001:db8:ffff::53"]),
        (False, {"GATEWAY6": None}, ["2001:db8::53"]),
        (False, {"GATEWAY6": None, "SUBNET6": "fd00::/64"}, []),
    ],
)
def test_no_name_server_is_told_where_it_cannot_be_reached(
    routed: bool, changes: dict[str, str | None], expected: list[str]
) -> None:
    settings = replace(TOLD, nameservers=(*TOLD.nameservers, IPv6Address("2001:db8:ffff::53")))
    service = serving(told=settings, routed=routed, **changes)  # type: ignore[arg-type]
    found = told(dhcp6(INFORMATION_REQUEST, CLIENT), service)
    assert found and found[1].get(23, b"") == b"".join(packed(one) for one in expected)
    assert service.router6 and (packed("2001:db8:ffff::53") in service.router6.advertisement) == (len(expected) == 2)


def test_switched_off_nothing_is_answered() -> None:
    service = serving(told=replace(TOLD, dhcpv6=Dhcpv6.OFF))
    assert answer(dhcp6(INFORMATION_REQUEST, CLIENT), service) == ("ignored", None, None, None, False)


@pytest.mark.parametrize(
    "frame",
    [
        dhcp6(SOLICIT, IA),
        dhcp6(SOLICIT, CLIENT, SERVER, IA),
        dhcp6(REQUEST, CLIENT, IA),
        dhcp6(INFORMATION_REQUEST, CLIENT, IA),
        dhcp6(REPLY, CLIENT, SERVER),
        dhcp6(12, CLIENT),
        dhcp6(SOLICIT, CLIENT, (3, b"\0\0")),
        dhcp6(SOLICIT, (1, b"\0"), IA),
        dhcp6(SOLICIT, CLIENT, (3, IA[1] + b"\0\5\0\1\0")),
        dhcp6(SOLICIT, CLIENT, (3, IA[1] + b"\0\5\0\xff")),
    ],
)
def test_a_flawed_message_is_not_answered(frame: bytes) -> None:
    with pytest.raises(Malformed):
        answer(frame, STATEFUL)


@given(
    kind=st.integers(0, 255),
    body=st.binary(max_size=200),
    parts=st.lists(st.tuples(st.integers(0, 40), st.binary(max_size=40)), max_size=6),
)
def test_whatever_comes_is_answered_or_refused(kind: int, body: bytes, parts: list[tuple[int, bytes]]) -> None:
    for frame in (dhcp6(kind, *parts), dhcp6(kind, CLIENT, IA, *parts), dhcp6(kind, CLIENT, SERVER, (3, body))):
        try:
            out = answer(frame, STATEFUL).frame
        except Malformed:
            continue
        if out:
            payload(out)


PREFIX, OTHER_PREFIX = b"\x38" + packed("2001:db8:0:100::"), b"\x40" + packed("2001:db8:0:200::")
DELEGATING = serving(GANETI_VIF_DELEGATED="2001:db8:0:100::/56 2001:db8:0:200::/64")
IA_PD = (25, b"\0\0\0\x09" + bytes(8))
LASTING, OVER = struct.pack("!II", 604800, 604800), bytes(8)


def with_prefix(prefix: bytes) -> tuple[int, bytes]:
    return 25, IA_PD[1] + struct.pack("!HH", 26, 25) + OVER + prefix


@pytest.mark.parametrize(
    ("request_", "expected", "more"),
    [
        (dhcp6(SOLICIT, CLIENT, IA_PD), ADVERTISE, []),
        (dhcp6(SOLICIT, CLIENT, IA_PD, (14, b"")), REPLY, []),
        (dhcp6(REQUEST, CLIENT, SERVER, IA_PD), REPLY, []),
        (dhcp6(RENEW, CLIENT, SERVER, with_prefix(PREFIX)), REPLY, []),
        (dhcp6(REBIND, CLIENT, with_prefix(PREFIX)), REPLY, []),
        (
            dhcp6(RENEW, CLIENT, SERVER, with_prefix(b"\x38" + packed("2001:db8:0:900::"))),
            REPLY,
            [(26, OVER + b"\x38" + packed("2001:db8:0:900::"))],
        ),
    ],
)
def test_prefixes_are_delegated(request_: bytes, expected: int, more: list[tuple[int, bytes]]) -> None:
    found = told(request_, DELEGATING)
    assert found
    assert found[0] == expected
    assert struct.unpack_from("!4sII", found[1][25]) == (b"\0\0\0\x09", 3600, 529200)
    assert options(found[1][25][12:]) == [(26, LASTING + PREFIX), (26, LASTING + OTHER_PREFIX), *more]


def test_a_second_association_gets_no_prefix_and_an_address_only_where_there_is_one() -> None:
    second = (25, b"\0\0\0\x0a" + bytes(8))
    out = answer(dhcp6(SOLICIT, CLIENT, IA, IA_PD, second), DELEGATING).frame
    assert out
    given = [(code, value) for code, value in options(payload(out)[4:]) if code in (3, 25)]
    assert [(code, value[:4]) for code, value in given] == [(3, IA[1][:4]), (25, IA_PD[1][:4]), (25, second[1][:4])]
    assert options(given[0][1][12:]) == [(13, b"\0\2")], "NoAddrsAvail"
    assert [code for code, _ in options(given[1][1][12:])] == [26, 26]
    assert options(given[2][1][12:]) == [(13, b"\0\6")], "NoPrefixAvail"


def test_without_the_tag_there_is_no_prefix() -> None:
    for service in (STATEFUL, STATELESS):
        found = told(dhcp6(SOLICIT, CLIENT, IA_PD), service)
        assert found and options(found[1][25][12:]) == [(13, b"\0\6")]


def test_who_asks_for_no_prefix_is_told_of_none() -> None:
    frames = [dhcp6(SOLICIT, CLIENT, IA), dhcp6(INFORMATION_REQUEST, CLIENT), dhcp6(REBIND, CLIENT, with_address(OWN))]
    assert [told(frame, DELEGATING) for frame in frames] == [told(frame, STATELESS) for frame in frames]


def test_prefixes_can_be_given_back_and_are_no_addresses() -> None:
    found = told(dhcp6(RELEASE, CLIENT, SERVER, with_prefix(PREFIX)), DELEGATING)
    assert found and (found[0], found[1][13]) == (REPLY, b"\0\0")
    assert told(dhcp6(CONFIRM, CLIENT, with_prefix(PREFIX)), DELEGATING) is None


@pytest.mark.parametrize("cut", range(1, 25))
def test_a_cut_prefix_is_malformed(cut: int) -> None:
    part = struct.pack("!HH", 26, cut) + bytes(cut)
    with pytest.raises(Malformed):
        answer(dhcp6(SOLICIT, CLIENT, (25, IA_PD[1] + part)), DELEGATING)
