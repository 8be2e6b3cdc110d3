# SPDX-License-Identifier: BSD-2-Clause
"""What the daemon plans when it hears of something, and in which order it is due."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from samples import CONFIG

from ganeti_vif.config.model import Config
from ganeti_vif.daemon import loop
from ganeti_vif.daemon.tasks import AFTER_ROUTED, CALM, AnnounceAll, Happen, Share, Survey, Task
from ganeti_vif.kernel.netlink.events import Changed, Event, Rewired, Unfiltered
from ganeti_vif.nic.claim import Claimed
from ganeti_vif.nic.life import Event as Happening
from ganeti_vif.reconcile.in_force import InForce
from ganeti_vif.system.claim_socket import ClaimSocket
from ganeti_vif.system.node import Node

NOW = 100.0
ROUTED, BRIDGED = "tap1", "tap0"


class NoClaims(ClaimSocket):
    """A socket on which nothing comes in."""

    def __init__(self) -> None:
        pass

    def fileno(self) -> int:
        return -1

    def read(self) -> Iterator[Claimed]:
        yield from ()


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> loop.Loop:
    """The daemon of a node with two NICs, at rest: its first survey has begun."""
    monkeypatch.setattr(loop, "_now", lambda: NOW)
    monkeypatch.setattr(loop.records, "exists", lambda tap: tap in (ROUTED, BRIDGED))
    one = loop.Loop(InForce(Config(), None), Node(), NoClaims())
    monkeypatch.setattr(loop, "is_routed", lambda tap: tap == ROUTED)
    assert due(one, NOW) == [Survey()]
    return one


def due(daemon: loop.Loop, moment: float) -> list[Task]:
    """What is to be done until MOMENT, in its order."""
    found = []
    while (task := daemon._timers.take(moment)) is not None:
        found.append(task)
    return found


@pytest.mark.parametrize(
    ("event", "first", "then"),
    [
        (Unfiltered(ROUTED), [Happen(ROUTED, Happening.CHANGED)], []),
        (Changed(ROUTED), [], [Happen(ROUTED, Happening.CHANGED)]),
        (Unfiltered(None), [Share()], [Survey()]),
        (Changed(None), [], [Survey()]),
        (Unfiltered("tap9"), [], []),
    ],
)
def test_filters_that_are_gone_do_not_wait_for_calm(
    daemon: loop.Loop, event: Event, first: list[Task], then: list[Task]
) -> None:
    daemon.hear(event)
    assert (due(daemon, NOW), due(daemon, NOW + CALM)) == (first, then)


@pytest.mark.parametrize(
    ("event", "planned"),
    [
        (Rewired("eth1", 0), [AnnounceAll("rt_pub")]),
        (Rewired("eth0", 3), [AnnounceAll("rt_pub")]),
        (Rewired("eth0", 4), []),
        (Rewired("eth0", 0), []),
    ],
    ids=["the uplink", "a port of it", "a port of another bridge", "another device"],
)
def test_all_nics_are_announced_when_their_uplink_is_rewired(
    daemon: loop.Loop, monkeypatch: pytest.MonkeyPatch, event: Event, planned: list[Task]
) -> None:
    daemon._known = InForce(CONFIG, None)
    monkeypatch.setattr(loop.links, "name_of", lambda index: "eth1" if index == 3 else "br9")
    daemon.hear(event)
    assert due(daemon, NOW + CALM) == planned


def test_routed_guests_whose_filters_are_gone_come_first(daemon: loop.Loop) -> None:
    """Nothing reaches them without, and a bridged one's network goes on."""
    for event in (Unfiltered(None), Unfiltered(BRIDGED), Unfiltered(ROUTED)):
        daemon.hear(event)
    assert due(daemon, NOW + AFTER_ROUTED) == [
        Share(),
        Happen(ROUTED, Happening.CHANGED),
        Happen(BRIDGED, Happening.CHANGED),
    ]
