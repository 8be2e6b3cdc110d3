# SPDX-License-Identifier: BSD-2-Clause
"""Routed NICs on their way from one node to another, so that their packets find them the moment their guest moves.

Ganeti configures a routed NIC on the target only when the source's QEMU is gone, a second or more after the guest runs
there (ganeti lib/hypervisor/hv_kvm/__init__.py:2550-2560 at 3.0.2). So its hook, which comes before, names the NICs. On
the target each is put on standby as soon as QEMU has its tap. The guest's first frame, or QEMU's announcement of it,
says that the guest lives there. The target says so on the uplink, the source lets go and says that, and only then the
target answers for the guest: two nodes never answer for it. If the migration fails, the guest's next frame on the
source says that it lives there. What each side does when is the table of nic/life.py.

Everybody on the uplink can say what a node says. So the source believes a word that is signed. At any other word it
looks whether its own guest still runs (daemon/second_look.py).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from ganeti_vif.daemon.arrivals import Arrivals
from ganeti_vif.daemon.departures import Departures
from ganeti_vif.daemon.lives import Lives
from ganeti_vif.daemon.second_look import SecondLook
from ganeti_vif.daemon.tasks import EXPECTED, HURRY, PAUSE, Expect, Happen, Look, Task
from ganeti_vif.daemon.timers import Timers
from ganeti_vif.daemon.trouble import Trouble
from ganeti_vif.daemon.uplink import has_way
from ganeti_vif.ganeti.hook import Migration
from ganeti_vif.lifecycle.recorded import recorded_nics
from ganeti_vif.nic.life import ANSWERS, Event, State
from ganeti_vif.system.node import Node

LONGEST = 3600.0
"""Seconds for which a NIC is expected, or may leave: a guest that writes fast takes long."""


class Migrations:
    """What Ganeti's hooks said of guests that move, as events in the LIVES of their NICs."""

    def __init__(self, lives: Lives, node: Node, timers: Timers[Task], trouble: Trouble) -> None:
        self._lives = lives
        self._node = node
        self._timers = timers
        self._arrivals = Arrivals(trouble)
        self._departures = Departures()
        self._second_look = SecondLook(node)
        self._paused = self._hurry = 0.0

    @property
    def descriptors(self) -> list[int]:
        """What to poll for reading. After a word that nothing proves, uplinks are not polled for a moment: others say
        how many of those come."""
        uplinks = self._departures.descriptors if time.monotonic() >= self._paused else []
        return [*self._lives.descriptors, *uplinks]

    @property
    def under_way(self) -> bool:
        """Whether a guest may arrive at any moment, or has left just now. While a guest may only leave, others say
        what is heard: the daemon must not run before all other processes for that."""
        return self._lives.urgent or time.monotonic() < self._hurry

    def begin(self, migration: Migration) -> None:
        """Ganeti is about to migrate an instance: to this node, from it, or between others."""
        self._node.forget()
        here, until = _short(os.uname().nodename), time.monotonic() + LONGEST
        if _short(migration.target) == here:
            self._expect(migration, until)
        elif _short(migration.source) == here:
            self._watch(migration, until)
        self._timers.at(time.monotonic(), Expect())

    def _expect(self, migration: Migration, until: float) -> None:
        known = {nic.uuid for nic in recorded_nics()}
        nics = [nic for nic in migration.nics if has_way(nic, self._lives.config)]
        if nics:
            self._arrivals.begin(migration, self._node, until)
        for nic in nics:
            if nic.uuid not in known:
                self._lives.happen(nic.uuid, Event.COMING, nic, migration.id)

    def _watch(self, migration: Migration, until: float) -> None:
        config = self._lives.config
        nics = [nic for nic in recorded_nics() if nic.instance == migration.instance and has_way(nic, config)]
        if self._departures.begin(migration.instance, nics, config, until):
            for nic in nics:
                self._lives.happen(nic.tap, Event.DEPARTS, migration=migration.id)

    def end(self, instance: str) -> None:
        """Ganeti does something else with INSTANCE, and one thing at a time: nothing of it is on its way any more."""
        self._arrivals.end(instance)
        taps = self._departures.end(instance)
        for tap in taps:
            self._second_look.forget(tap)
        for key in (*self._lives.expected(instance), *taps):
            self._lives.happen(key, Event.ENDED)

    def expect(self) -> None:
        """See whether the taps of a guest that is on its way are here."""
        before = set(self._arrivals.expected)
        came = list(self._arrivals.come(self._node, time.monotonic()))
        for nic in came:
            self._timers.at(time.monotonic(), Happen(nic.tap, Event.CAME, nic))
        for instance in before - set(self._arrivals.expected) - {nic.instance for nic in came}:
            for uuid in self._lives.expected(instance):
                self._lives.happen(uuid, Event.ENDED)  # Ganeti attaches it, and what was in the way stays told
        if self._arrivals.expected:
            self._timers.at(time.monotonic() + EXPECTED, Expect())

    def heard(self) -> Iterator[Happen]:
        """What the frames that came meanwhile mean. What was waited for long enough is over."""
        yield from self._lives.heard()
        now, words = time.monotonic(), self._departures.words()
        if words.proven:
            self._hurry = now + HURRY
        for tap in words.proven:
            yield Happen(tap, Event.CLAIMED)
        if words.doubtful:
            self._paused = now + PAUSE
        for tap, nic in words.doubtful.items():
            if self._lives.state(tap) in (*ANSWERS, State.PENDING):
                self._second_look.want(nic, now, doubt=True)
        for nic in self._departures.nics:
            state = self._lives.state(nic.tap)
            if state is State.STANDBY:  # it may run here again, and a guest that only listens says nothing
                self._second_look.want(nic, now, doubt=False)
            elif state is State.ATTACHED:  # it came back, and may still leave
                yield Happen(nic.tap, Event.DEPARTS)
        self._plan()
        for instance in self._departures.over(now):
            self.end(instance)

    def look(self) -> Iterator[Happen]:
        """What is seen of guests of which somebody says that they run elsewhere."""
        for tap, runs in self._second_look.go_on(time.monotonic()):
            state = self._lives.state(tap)
            if runs and state is State.STANDBY:
                yield Happen(tap, Event.SPOKE)
            elif not runs and state in (*ANSWERS, State.PENDING):
                yield Happen(tap, Event.CLAIMED)
        self._plan()

    def _plan(self) -> None:
        """Go on when the next look is due, when a pause ends, and when the daemon need not hurry any more."""
        ends = [moment for moment in (self._paused, self._hurry) if moment > time.monotonic()]
        for moment in (*self._second_look.due, *ends):
            self._timers.at(moment, Look())


def _short(name: str) -> str:
    return name.partition(".")[0]
