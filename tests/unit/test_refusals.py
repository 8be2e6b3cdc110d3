# SPDX-License-Identifier: BSD-2-Clause
"""What the daemon remembers of refused addresses: one for each tap, for a while."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address

import pytest
from samples import ROUTED, nic_of

from ganeti_vif.daemon import refusals as module
from ganeti_vif.daemon.refusals import FORGOTTEN, Refusals
from ganeti_vif.engine.failure import Failure
from ganeti_vif.system import log

NIC = nic_of(ROUTED)
ONE, OTHER = IPv6Address("2001:db8::1"), IPv6Address("2001:db8::2")


def note(address: IPv6Address) -> Failure:
    return Failure(f"it may not have {address}", "note: take it away")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, log.Level]]:
    found: list[tuple[str, log.Level]] = []
    monkeypatch.setattr(log, "say", lambda line, level=log.Level.INFO: found.append((line, level)))
    return found


def test_the_last_refusal_is_told_until_the_guest_has_the_address_or_is_silent_for_long(
    clock: list[float], said: list[tuple[str, log.Level]]
) -> None:
    refusals = Refusals()
    refusals.say(NIC, ONE, note(ONE))
    refusals.say(NIC, OTHER, note(OTHER))
    assert refusals.told == {NIC.tap: {"what": note(OTHER).what, "do": "note: take it away"}}
    refusals.over(NIC.tap, ONE)
    assert refusals.told
    refusals.over(NIC.tap, OTHER)
    assert refusals.told == {}
    refusals.say(NIC, ONE, note(ONE))
    clock[0] += FORGOTTEN - 1
    assert refusals.told
    refusals.say(NIC, ONE, note(ONE))
    clock[0] += FORGOTTEN - 1
    assert refusals.told
    clock[0] += 1
    assert refusals.told == {}


def test_it_is_a_warning_once_and_takes_no_more_memory_than_there_are_taps(
    clock: list[float], said: list[tuple[str, log.Level]]
) -> None:
    refusals = Refusals()
    for _ in range(3):
        refusals.say(NIC, ONE, note(ONE))
    for number in range(1000):
        refusals.say(NIC, IPv6Address(number), note(IPv6Address(number)))
    assert [level for _, level in said].count(log.Level.WARNING) == 1
    assert len(refusals.told) == 1
    refusals.say(replace(NIC, tap="tap9"), ONE, note(ONE))
    refusals.keep({"tap9"})
    assert [*refusals.told] == ["tap9"]
