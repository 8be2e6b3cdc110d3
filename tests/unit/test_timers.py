# SPDX-License-Identifier: BSD-2-Clause
"""The timers: the earliest first, nothing twice, nothing lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ganeti_vif.daemon.timers import Timers

PLANS = st.lists(st.tuples(st.integers(0, 20), st.sampled_from("abcd")))


def taken(timers: Timers[str], now: float) -> list[str]:
    found = []
    while task := timers.take(now):
        found.append(task)
    return found


def test_nothing_is_due_on_an_empty_agenda() -> None:
    timers: Timers[str] = Timers()
    assert timers.next() == float("inf")
    assert timers.take(1e9) is None


@given(PLANS)
def test_each_task_is_taken_once_at_the_earliest_moment_it_was_planned_for(plans: list[tuple[int, str]]) -> None:
    timers: Timers[str] = Timers()
    earliest: dict[str, int] = {}
    for when, task in plans:
        timers.at(when, task)
        earliest[task] = min(when, earliest.get(task, when))
    for now in range(21):
        assert timers.next() == min((when for when in earliest.values()), default=float("inf"))
        assert sorted(taken(timers, now)) == sorted(task for task, when in earliest.items() if when == now)
        earliest = {task: when for task, when in earliest.items() if when > now}


@given(PLANS)
def test_what_is_due_longest_comes_first(plans: list[tuple[int, str]]) -> None:
    timers: Timers[str] = Timers()
    earliest: dict[str, int] = {}
    for when, task in plans:
        timers.at(when, task)
        earliest[task] = min(when, earliest.get(task, when))
    moments = [earliest[task] for task in taken(timers, 20)]
    assert moments == sorted(moments)


def test_a_task_that_was_taken_can_be_planned_again() -> None:
    timers: Timers[str] = Timers()
    for when in (5, 1, 3):
        timers.at(when, "look")
    assert taken(timers, 2) == ["look"]
    timers.at(4, "look")
    assert timers.next() == 4
    assert taken(timers, 9) == ["look"]
    assert timers.next() == float("inf")
