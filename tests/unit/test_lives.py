# SPDX-License-Identifier: BSD-2-Clause
"""The daemon's dictionary of NICs, on a node in memory: what it does at each event, what it tries again, and that the
records are right where it remembers another thing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from memory_node import MemoryNode, memory_node
from samples import CONFIG, ROUTED, nic_of

from ganeti_vif.daemon import lives as module
from ganeti_vif.daemon.lives import Lives
from ganeti_vif.daemon.tasks import Happen, Task
from ganeti_vif.daemon.timers import Timers
from ganeti_vif.engine.objects import Route
from ganeti_vif.lifecycle.attach import attach
from ganeti_vif.lifecycle.detach import detach
from ganeti_vif.nic.life import Event
from ganeti_vif.nic.nic import Nic
from ganeti_vif.nic.record import record_of
from ganeti_vif.reconcile.survey import reconcile
from ganeti_vif.system import log, records

NEVER = 1e12


class Ear:
    """A capture in which nothing is heard."""

    deaf = False
    open = 0

    def __init__(self, device: str) -> None:
        Ear.open += 1

    def fileno(self) -> int:
        return 7

    def frames(self) -> Iterator[bytes]:
        return iter(())

    def close(self) -> None:
        Ear.open -= 1


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the daemon says on the uplink and in the log."""
    found: list[str] = []
    monkeypatch.setattr(log, "say", lambda line, level=log.Level.INFO: found.append(line))
    monkeypatch.setattr(module, "say_here", lambda *_: found.append("here"))
    monkeypatch.setattr(module, "say_released", lambda *_: found.append("released"))
    monkeypatch.setattr(module, "announce", lambda *_: found.append("announced"))
    return found


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryNode]:
    found = memory_node(tmp_path, monkeypatch)
    reconcile(CONFIG, found)
    monkeypatch.setattr(module, "Capture", Ear)
    monkeypatch.setattr(module.lock, "held", lambda *_, **__: nullcontext())
    monkeypatch.setattr(found, "forget", lambda: None)
    Ear.open = 0
    yield found
    assert found.exposed == set()


@pytest.fixture
def nic(node: MemoryNode) -> Nic:
    return node.plug(nic_of(ROUTED))


@pytest.fixture
def lives(node: MemoryNode, said: list[str]) -> Lives:
    return Lives(CONFIG, node, Timers[Task]())


def planned(lives: Lives) -> list[Task]:
    """The tasks that are planned, in the order in which they are due."""
    found = []
    while task := lives._timers.take(NEVER):
        found.append(task)
    return found


def answers(node: MemoryNode, nic: Nic) -> bool:
    return any(isinstance(thing, Route) and thing.device == nic.tap for thing in node.has(Route))


def test_a_nic_that_cannot_be_attached_is_tried_again_after_longer_times_and_forgotten_when_it_can(
    lives: Lives, node: MemoryNode, nic: Nic, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    attach(nic, CONFIG, node)
    waits: list[float] = []
    monkeypatch.setattr(lives, "_later", lambda seconds, task: waits.append(seconds))
    for _ in range(4):
        node.things.pop(("up", nic.tap), None)
        with node.failing(0):
            lives.happen(nic.tap, Event.CHANGED)
    assert waits == [1, 2, 4, 8]
    assert lives.retrying == {nic.tap: f"{nic.whom}: it is broken"}
    assert said.count(f"{nic.whom}: it is broken") == 1, "it is logged once"
    lives.happen(nic.tap, Event.CHANGED)
    assert lives.retrying == {}
    assert attach(nic, CONFIG, node) == ()


def test_a_guest_that_comes_is_answered_for_when_the_other_node_let_go(
    lives: Lives, node: MemoryNode, nic: Nic, said: list[str]
) -> None:
    lives.happen(nic.uuid, Event.COMING, nic, "id")
    assert lives.expected(nic.instance) == [nic.uuid]
    lives.happen(nic.tap, Event.CAME, nic)
    assert (lives.states, lives.expected(nic.instance)) == ({nic.tap: "standby"}, [])
    assert not answers(node, nic)
    assert lives.urgent and Ear.open == 1
    lives.happen(nic.tap, Event.SPOKE)
    assert "here" in said and not answers(node, nic)
    assert Happen(nic.tap, Event.RELEASED) in planned(lives)
    lives.happen(nic.tap, Event.RELEASED)
    assert answers(node, nic) and "announced" in said
    assert (lives.states, lives.urgent, Ear.open) == ({nic.tap: "attached"}, False, 0)
    assert records.read_record(nic.tap) == record_of(nic)


def test_a_guest_that_leaves_is_let_go_before_that_is_said(
    lives: Lives, node: MemoryNode, nic: Nic, monkeypatch: pytest.MonkeyPatch
) -> None:
    attach(nic, CONFIG, node)
    then: list[bool] = []
    monkeypatch.setattr(module, "say_released", lambda *_: then.append(answers(node, nic)))
    lives.happen(nic.tap, Event.DEPARTS, migration="id")
    assert lives.states == {nic.tap: "leaving"} and answers(node, nic)
    lives.happen(nic.tap, Event.CLAIMED)
    assert then == [False]
    assert lives.states == {nic.tap: "standby"} and Ear.open == 1
    node.unplug(nic.tap)
    lives.happen(nic.tap, Event.CHANGED)
    assert (lives.states, Ear.open, node.of(nic.tap)) == ({}, 0, set())


def test_a_guest_that_stays_is_not_let_go(lives: Lives, node: MemoryNode, nic: Nic) -> None:
    attach(nic, CONFIG, node)
    before = node.snapshot()
    lives.happen(nic.tap, Event.CLAIMED)
    assert node.snapshot() == before


def test_a_guest_that_came_and_cannot_be_answered_for_is_pending_and_answered_for_when_it_can(
    lives: Lives, node: MemoryNode, nic: Nic
) -> None:
    lives.happen(nic.tap, Event.CAME, nic)
    lives.happen(nic.tap, Event.SPOKE)
    node.fail(0)
    node.fail(1)  # the plan, and what is seen anew
    lives.happen(nic.tap, Event.RELEASED)
    assert records.read_record(nic.tap) == record_of(nic, pending=True)
    assert (lives.states, Ear.open) == ({nic.tap: "pending"}, 0)
    assert lives.retrying
    lives.happen(nic.tap, Event.CHANGED)
    assert answers(node, nic) and lives.retrying == {}


def test_a_plan_is_not_followed_with_another_configuration(lives: Lives, node: MemoryNode, nic: Nic) -> None:
    lives.happen(nic.tap, Event.CAME, nic)
    assert lives.urgent
    lives.config = CONFIG
    assert not lives.urgent


def test_what_another_process_did_counts(lives: Lives, node: MemoryNode, nic: Nic) -> None:
    """The daemon remembers a guest on its way, and somebody detached it and attached it by hand."""
    lives.happen(nic.tap, Event.CAME, nic)
    detach(replace(nic, standby=True), CONFIG, node)
    attach(nic, CONFIG, node)
    lives.happen(nic.tap, Event.SPOKE)
    assert (lives.states, Ear.open) == ({nic.tap: "attached"}, 0)


def test_a_guest_that_is_expected_again_after_it_was_detached_by_hand_is_known(
    lives: Lives, node: MemoryNode, nic: Nic
) -> None:
    """What was remembered of it is over in that moment, and what is known from then on must not be lost with it."""
    attach(nic, CONFIG, node)
    lives.happen(nic.tap, Event.CHANGED)
    detach(nic, CONFIG, node)
    lives.happen(nic.tap, Event.CAME, nic)
    assert lives.states == {nic.tap: "standby"}
    assert lives.descriptors == [7] and Ear.open == 1
    lives.happen(nic.tap, Event.SPOKE)
    assert lives.states == {nic.tap: "claiming"}


def test_the_next_owner_of_a_taps_name_inherits_nothing(lives: Lives, node: MemoryNode, nic: Nic) -> None:
    lives.happen(nic.tap, Event.CAME, nic)
    node.unplug(nic.tap)
    reconcile(CONFIG, node)
    other = node.plug(replace(nic, uuid="2261b892-74ab-4e0a-8f25-e1c0c5a7b202"))
    attach(other, CONFIG, node)
    lives.happen(other.tap, Event.CHANGED)
    assert (lives.states, lives.urgent, Ear.open) == ({other.tap: "attached"}, False, 0)
