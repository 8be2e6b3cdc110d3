# SPDX-License-Identifier: BSD-2-Clause
"""The looks at guests of which somebody says that they run elsewhere, with a tap whose frames are counted here."""

from __future__ import annotations

from typing import cast

import pytest
from samples import ROUTED, nic_of

from ganeti_vif.daemon import second_look as module
from ganeti_vif.daemon.second_look import ENOUGH, FRAMES, SecondLook, runs
from ganeti_vif.daemon.tasks import BRAKE, LOOK
from ganeti_vif.engine.failure import Failure
from ganeti_vif.kernel.netlink.traffic import Traffic
from ganeti_vif.system import log
from ganeti_vif.system.node import Node

NIC = nic_of(ROUTED)


class Tap:
    """A tap whose guest READS, or does not."""

    def __init__(self) -> None:
        self.traffic_now: Traffic | None = Traffic(10, 20)
        self.reads = True
        self.asked = 0
        self.broken = False

    def traffic(self, index: int) -> Traffic | None:
        assert index == NIC.index
        if self.broken:
            raise Failure("it is broken", "")
        return self.traffic_now

    def send(self, tap: str, frames: list[bytes], *, waits: bool) -> None:
        assert not waits, "a look takes its time from nobody's queue"
        self.asked += 1
        if self.reads and self.traffic_now:
            self.traffic_now = Traffic(self.traffic_now.sent, self.traffic_now.read + len(frames))


@pytest.fixture
def tap(monkeypatch: pytest.MonkeyPatch) -> Tap:
    tap = Tap()
    monkeypatch.setattr(module.packets, "send", tap.send)
    monkeypatch.setattr(log, "say", lambda *_: None)
    return tap


@pytest.fixture
def looks(tap: Tap) -> SecondLook:
    return SecondLook(cast(Node, tap))


def looked(looks: SecondLook, now: float) -> list[tuple[str, bool]]:
    """What a look says that begins at NOW."""
    assert list(looks.go_on(now)) == []
    assert looks.due == [now + LOOK]
    return list(looks.go_on(now + LOOK))


def test_a_guest_that_reads_is_still_here_and_one_that_does_not_is_not(looks: SecondLook, tap: Tap) -> None:
    looks.want(NIC, 100.0, doubt=True)
    assert looked(looks, 100.0) == []
    tap.reads = False
    looks.want(NIC, 200.0, doubt=True)
    assert looked(looks, 200.0) == [(NIC.tap, False)]


def test_a_guest_that_was_let_go_is_here_again_when_it_reads(looks: SecondLook, tap: Tap) -> None:
    tap.reads = False
    looks.want(NIC, 100.0, doubt=False)
    assert looked(looks, 100.0) == []
    tap.reads = True
    looks.want(NIC, 200.0, doubt=False)
    assert looked(looks, 200.0) == [(NIC.tap, True)]


def test_a_hundred_lies_a_second_are_one_look_a_second(looks: SecondLook, tap: Tap) -> None:
    for number in range(500):
        looks.want(NIC, 100 + number / 100, doubt=True)
        assert list(looks.go_on(100 + number / 100)) == []
    assert tap.asked == 5 / BRAKE


def test_a_word_that_comes_during_a_look_is_not_lost(looks: SecondLook, tap: Tap) -> None:
    """The guest left after it had read what the look sent."""
    looks.want(NIC, 100.0, doubt=True)
    list(looks.go_on(100.0))
    tap.reads = False
    looks.want(NIC, 100.01, doubt=True)
    assert list(looks.go_on(100.0 + LOOK)) == []
    assert looked(looks, 100.0 + BRAKE) == [(NIC.tap, False)]


def test_what_was_doubted_before_a_guest_was_let_go_does_not_take_it_away_when_it_is_back(
    looks: SecondLook, tap: Tap
) -> None:
    tap.reads = False
    looks.want(NIC, 100.0, doubt=True)
    looks.want(NIC, 100.0, doubt=False)
    assert looked(looks, 100.0) == []


def test_of_a_tap_that_is_gone_or_cannot_be_read_nothing_is_said(looks: SecondLook, tap: Tap) -> None:
    for what in ("gone", "broken"):
        for before in (True, False):
            tap.traffic_now, tap.broken = Traffic(1, 1), False
            looks.want(NIC, 100.0, doubt=True)
            if before:
                list(looks.go_on(100.0))
            tap.traffic_now, tap.broken = None, what == "broken"
            assert list(looks.go_on(100.0 + LOOK)) == []
            assert looks.due == []
            looks.forget(NIC.tap)


@pytest.mark.parametrize(
    ("sent", "read", "here"), [(0, 0, False), (1, 0, True), (0, 8, False), (0, ENOUGH - 1, False), (0, ENOUGH, True)]
)
def test_a_guest_that_sent_or_read_enough_runs(sent: int, read: int, here: bool) -> None:
    """A stopped QEMU reads one frame for each of its eight queues, at most."""
    assert runs(Traffic(5, 5), Traffic(5 + sent, 5 + read)) is here
    assert 8 < ENOUGH < FRAMES
