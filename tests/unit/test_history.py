# SPDX-License-Identifier: BSD-2-Clause
"""What is remembered of a guest's requests, and what the log has of them."""

from __future__ import annotations

import struct

import pytest
from guest_frames import GUEST, TAP, TOLD, dhcp, dhcp6, packed, router_solicitation, serving

from ganeti_vif.config.model import Told
from ganeti_vif.responder.answer import answer
from ganeti_vif.responder.server import history
from ganeti_vif.responder.server.history import HELD, History
from ganeti_vif.responder.service import Service
from ganeti_vif.responder.visit import Event, Visit, legible
from ganeti_vif.system import log

DISCOVER, REQUEST, DECLINE, RELEASE, INFORM = 1, 3, 4, 7, 8
ADDRESS, SERVER = (50, packed("192.0.2.5")), (54, packed("192.0.2.1"))
UDHCP = (60, b"udhcp 1.35.0")
CLIENT6 = (1, struct.pack("!HH", 3, 1) + GUEST)
SERVER6 = (2, struct.pack("!HH", 3, 1) + TAP)
IA = (3, b"\0\0\0\7" + bytes(8))
RENEWAL = dhcp(REQUEST, [], client="192.0.2.5", source="192.0.2.5")


def visit(frame: bytes, service: Service | None = None) -> Visit:
    found = answer(frame, service or serving()).visit
    assert found
    return found


@pytest.mark.parametrize(
    ("frame", "event"),
    [
        (dhcp(DISCOVER), Event.ASKED),
        (dhcp(DISCOVER, [(80, b"")]), Event.LEASED),
        (dhcp(REQUEST, [ADDRESS, SERVER]), Event.LEASED),
        (dhcp(REQUEST, [(50, packed("192.0.2.6")), SERVER]), Event.ASKED),
        (dhcp(REQUEST, [ADDRESS, (54, packed("192.0.2.77"))]), Event.ASKED),
        (dhcp(REQUEST, [], client="192.0.2.5", source="192.0.2.5"), Event.RENEWED),
        (dhcp(INFORM, [], client="192.0.2.5", source="192.0.2.5"), Event.ASKED),
        (dhcp(DECLINE, [ADDRESS, SERVER]), Event.DECLINED),
        (dhcp(RELEASE, [SERVER], client="192.0.2.5", source="192.0.2.5"), Event.RELEASED),
    ],
)
def test_what_a_request_led_to(frame: bytes, event: Event) -> None:
    assert visit(frame)[:2] == (4, event)


@pytest.mark.parametrize(
    ("frame", "given", "stateless"),
    [
        (dhcp6(1, CLIENT6, IA), Event.ASKED, Event.ASKED),
        (dhcp6(1, CLIENT6, IA, (14, b"")), Event.LEASED, Event.ASKED),
        (dhcp6(3, CLIENT6, SERVER6, IA), Event.LEASED, Event.ASKED),
        (dhcp6(5, CLIENT6, SERVER6, IA), Event.RENEWED, Event.ASKED),
        (dhcp6(6, CLIENT6, IA), Event.RENEWED, Event.ASKED),
        (dhcp6(8, CLIENT6, SERVER6, IA), Event.RELEASED, Event.RELEASED),
        (dhcp6(9, CLIENT6, SERVER6, IA), Event.DECLINED, Event.DECLINED),
        (dhcp6(11, CLIENT6), Event.ASKED, Event.ASKED),
        (router_solicitation(), Event.ASKED, Event.ASKED),
    ],
)
def test_what_a_request_by_ipv6_led_to(frame: bytes, given: Event, stateless: Event) -> None:
    assert visit(frame, serving(IP6="2001:db8::77"))[:2] == (6, given)
    assert visit(frame)[:2] == (6, stateless)


def test_a_client_says_its_vendor_class_and_host_name() -> None:
    assert visit(dhcp(DISCOVER, [UDHCP, (12, b"web")]))[2:] == (b"udhcp 1.35.0", b"web")
    assert visit(dhcp(DISCOVER, [(81, b"\0\0\0web.example.com")]))[2:] == (b"", b"web.example.com")
    assert visit(dhcp(DISCOVER, [(81, b"\4\0\0\3web\7example\0")]))[2:] == (b"", b"web.example")
    six = (16, struct.pack("!IH", 40712, 12) + b"dhcpcd-9.4.1"), (39, b"\1\3web\7example\0")
    assert visit(dhcp6(11, CLIENT6, *six))[2:] == (b"dhcpcd-9.4.1", b"web.example")
    assert visit(router_solicitation())[2:] == (None, None)


def test_what_a_guest_says_of_itself_is_made_legible_and_short() -> None:
    found = visit(dhcp(DISCOVER, [(60, b"\x1b[31m\n" + b"v" * 200), (12, b"\xff\0h")]))
    shown = [legible(text or b"") for text in (found.vendor, found.host)]
    assert shown == ["?[31m?" + "v" * 58, "??h"]
    assert legible(b"") is None


class Clock:
    """Seconds, which pass when a test says so."""

    now = 1000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(history, "time", clock)
    return clock


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, log.Level]]:
    lines: list[tuple[str, log.Level]] = []
    monkeypatch.setattr(log, "say", lambda line, level: lines.append((line, level)))
    return lines


def test_the_last_requests_are_remembered(clock: Clock, said: list[tuple[str, log.Level]]) -> None:
    found, service = History("tap0"), serving()
    assert found.shown() == {}
    found.note(visit(dhcp(DISCOVER, [UDHCP])), service, clock.now)
    clock.now += 1
    found.note(visit(dhcp(REQUEST, [UDHCP, (12, b"web"), ADDRESS, SERVER])), service, clock.now)
    clock.now += 1
    found.note(visit(dhcp(INFORM, [UDHCP, (12, b"web")], client="192.0.2.5")), service, clock.now)
    past = {"asked": 1002, "leased": 1001, "declined": None, "vendor_class": "udhcp 1.35.0", "hostname": "web"}
    assert found.shown() == {"ipv4": past}
    assert said == [("responder: tap0 (vm5.example.com): leased 192.0.2.5 to udhcp 1.35.0, web", log.Level.INFO)]
    found.note(visit(router_solicitation()), service, clock.now)
    assert found.shown()["ipv6"]["leased"] is None
    found.note(visit(dhcp(RELEASE, [SERVER], client="192.0.2.5")), service, clock.now)
    assert found.shown()["ipv4"]["leased"] is None
    found.forget(4)
    assert found.shown().keys() == {"ipv6"}


@pytest.mark.parametrize("verbose", [True, False])
def test_a_renewal_is_logged_for_the_curious_only(
    clock: Clock, said: list[tuple[str, log.Level]], monkeypatch: pytest.MonkeyPatch, verbose: bool
) -> None:
    monkeypatch.setattr(log, "verbose", verbose)
    found = History("tap0")
    found.note(visit(RENEWAL), serving(), clock.now)
    assert [level for _, level in said] == [log.Level.DEBUG] * verbose
    assert found.shown()["ipv4"]["leased"] == 1000


def test_one_guest_fills_no_log(clock: Clock, said: list[tuple[str, log.Level]]) -> None:
    found, lease = History("tap0"), visit(dhcp(REQUEST, [ADDRESS, SERVER]))
    for _ in range(24 * 3600):
        clock.now += 1
        found.note(lease, serving(), clock.now)
    assert 1 <= len(said) <= 160


def test_a_declined_address_is_trouble_until_the_guest_kept_it_for_a_while(
    clock: Clock, said: list[tuple[str, log.Level]]
) -> None:
    found = History("tap0")
    lease, decline = visit(dhcp(REQUEST, [ADDRESS, SERVER])), visit(dhcp(DECLINE, [ADDRESS, SERVER]))

    def declined() -> bool:
        return found.shown()["ipv4"]["declined"] is not None

    for _ in range(5):
        found.note(lease, serving(), clock.now)
        clock.now += 3
        found.note(decline, serving(), clock.now)
        assert declined()
        assert found.shown()["ipv4"]["leased"] is None
        clock.now += HELD
        assert declined()
    found.note(lease, serving(), clock.now)
    clock.now += HELD - 1
    assert declined()
    clock.now += 1
    assert not declined()
    found.note(visit(RENEWAL), serving(), clock.now)
    assert not declined()


def test_ipv6_has_its_own_lease(clock: Clock, said: list[tuple[str, log.Level]]) -> None:
    found, service = History("tap0"), serving(told=Told(nameservers=TOLD.nameservers), IP6="2001:db8::77")
    found.note(visit(dhcp6(3, CLIENT6, SERVER6, IA), service), service, clock.now)
    assert found.shown()["ipv6"]["leased"] == 1000
    assert said[0][0] == "responder: tap0 (vm5.example.com): leased 2001:db8::77"
