# SPDX-License-Identifier: BSD-2-Clause
"""What the daemon plans when it hears of something, and in which order it is due."""

from __future__ import annotations

import pytest

from ganeti_vif.config.model import Config
from ganeti_vif.daemon import loop
from ganeti_vif.daemon.tasks import AFTER_ROUTED, CALM, Look, Share, Task, Tend
from ganeti_vif.kernel.netlink.events import Changed, Event, Unfiltered
from ganeti_vif.reconcile.in_force import InForce
from ganeti_vif.system.node import Node

NOW = 100.0
ROUTED, BRIDGED = "tap1", "tap0"


@pytest.fixture
def duties(monkeypatch: pytest.MonkeyPatch) -> loop.Duties:
    """The daemon of a node with two NICs, at rest: its first look has begun."""
    monkeypatch.setattr(loop, "_now", lambda: NOW)
    monkeypatch.setattr(loop.records, "exists", lambda tap: tap in (ROUTED, BRIDGED))
    one = loop.Duties(InForce(Config(), None), Node())
    monkeypatch.setattr(one._tending, "is_routed", lambda tap: tap == ROUTED)
    assert due(one, NOW) == [Look()]
    return one


def due(duties: loop.Duties, moment: float) -> list[Task]:
    """What is to be done until MOMENT, in its order."""
    found = []
    while (task := duties._agenda.take(moment)) is not None:
        found.append(task)
    return found


@pytest.mark.parametrize(
    ("event", "first", "then"),
    [
        (Unfiltered(ROUTED), [Tend(ROUTED)], []),
        (Changed(ROUTED), [], [Tend(ROUTED)]),
        (Unfiltered(None), [Share()], [Look()]),
        (Changed(None), [], [Look()]),
        (Unfiltered("tap9"), [], []),
    ],
)
def test_filters_that_are_gone_do_not_wait_for_calm(
    duties: loop.Duties, event: Event, first: list[Task], then: list[Task]
) -> None:
    duties.hear(event)
    assert (due(duties, NOW), due(duties, NOW + CALM)) == (first, then)


def test_routed_guests_whose_filters_are_gone_come_first(duties: loop.Duties) -> None:
    """Nothing reaches them without, and a bridged one's network goes on."""
    for event in (Unfiltered(None), Unfiltered(BRIDGED), Unfiltered(ROUTED)):
        duties.hear(event)
    assert due(duties, NOW + AFTER_ROUTED) == [Share(), Tend(ROUTED), Tend(BRIDGED)]
