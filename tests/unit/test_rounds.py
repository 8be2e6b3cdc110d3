# SPDX-License-Identifier: BSD-2-Clause
"""When all NICs of a public link are announced again: never faster than the pace, and the last one too."""

from __future__ import annotations

from dataclasses import replace

import pytest
from samples import ROUTED, nic_of

from ganeti_vif.daemon.rounds import Rounds
from ganeti_vif.daemon.tasks import ROUNDS, Proceed, Task
from ganeti_vif.daemon.timers import Timers
from ganeti_vif.lifecycle.announce import PACE
from ganeti_vif.nic.nic import Nic

NICS = [replace(nic_of(ROUTED), tap=f"tap{number}", index=number) for number in range(1, 4)]
EACH = [nic.tap for nic in NICS]


class Clock:
    """Rounds, and a clock that jumps to the next thing to do."""

    def __init__(self, nics: list[Nic]) -> None:
        self.now = 100.0
        self.told: list[tuple[float, str]] = []
        self.timers: Timers[Task] = Timers()
        self.rounds = Rounds(self.timers, lambda link: nics, lambda nic: self.told.append((self.now, nic.tap)))

    def run(self, until: float = float("inf")) -> None:
        while (when := self.timers.next()) <= until and when != float("inf"):
            self.now = max(self.now, when)
            task = self.timers.take(self.now)
            assert isinstance(task, Proceed)
            self.rounds.proceed(task.link, self.now)
        self.now = max(self.now, until) if until != float("inf") else self.now


def test_each_nic_is_announced_in_each_round() -> None:
    clock = Clock(NICS)
    clock.rounds.begin("public", clock.now)
    clock.run()
    assert [tap for _, tap in clock.told] == EACH * len(ROUNDS)
    starts = [when - 100.0 for when, tap in clock.told if tap == EACH[0]]
    assert starts == pytest.approx(ROUNDS)
    assert clock.timers.next() == float("inf"), "there is an end"


def test_an_uplink_that_flaps_does_not_make_it_faster_and_starves_nobody() -> None:
    clock = Clock(NICS)
    for _ in range(20):
        clock.rounds.begin("public", clock.now)
        clock.run(clock.now + PACE / 2)
    clock.run()
    taps = [tap for _, tap in clock.told]
    assert taps == EACH * (len(taps) // len(EACH)), "each round comes to its end"
    times = [when for when, _ in clock.told]
    assert min(b - a for a, b in zip(times, times[1:], strict=False)) >= PACE * 0.999


def test_a_link_without_nics_has_no_endless_rounds() -> None:
    clock = Clock([])
    clock.rounds.begin("public", clock.now)
    clock.run()
    assert clock.told == []
