"""How the daemon hands a routed NIC over to another node, or takes one: daemon/migrations.py tells what it goes by.

From the guest's first frame on the target to this node's answers for it, its packets are lost. So what either side
will have to do is seen before, when there is time, and whether that was right is looked at afterwards.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import replace

from ganeti_vif.daemon.migrations import depart
from ganeti_vif.daemon.tasks import CALM, EXPECTED, HANDOVER, Expect, Move, Prepare, Task, Tend
from ganeti_vif.daemon.tending import Tending
from ganeti_vif.daemon.timers import Agenda
from ganeti_vif.engine.difference import Change
from ganeti_vif.engine.failure import Failure
from ganeti_vif.ganeti.hook import Migration
from ganeti_vif.lifecycle.announce import announce
from ganeti_vif.lifecycle.attach import attach, attach_plan
from ganeti_vif.lifecycle.detach import detach
from ganeti_vif.lifecycle.order import say_attached
from ganeti_vif.lifecycle.pending import remembered
from ganeti_vif.lifecycle.recorded import recorded
from ganeti_vif.lifecycle.standby import let_go, let_go_plan
from ganeti_vif.nic.nic import Nic
from ganeti_vif.nic.record import is_pending
from ganeti_vif.system import lock, log, records
from ganeti_vif.system.node import Node


class HandOver:
    """The steps of it. What it knows is in TENDING's migrations; a failure is retried as TENDING does it."""

    def __init__(self, tending: Tending, node: Node, agenda: Agenda[Task]) -> None:
        self._tending = tending
        self._migrations = tending.migrations
        self._node = node
        self._agenda = agenda

    def begin(self, migration: Migration) -> None:
        """Ganeti is about to migrate an instance."""
        self._node.forget()
        here, config = os.uname().nodename, self._tending.config
        for nic in self._migrations.begin(migration, here, config, self._node, _now()):
            with suppress(Failure):
                self._migrations.to_let_go[nic] = let_go_plan(nic, config, self._node)
        self._agenda.at(_now(), Expect())

    def end(self, instance: str) -> None:
        """Ganeti does something else with INSTANCE, and one thing at a time: nothing of it is on its way any more."""
        self._migrations.end(instance)

    def expect(self) -> None:
        """See whether the taps of a guest are here that is on its way."""
        arrivals = self._migrations.arrivals
        for nic in arrivals.come(self._node, _now()):
            self._agenda.at(_now(), Prepare(nic))
        if arrivals.expected:
            self._agenda.at(_now() + EXPECTED, Expect())

    def prepare(self, nic: Nic) -> None:
        """Make ready for NIC's guest. Not to be able to is no failure: Ganeti's script attaches it a second later."""
        config = self._tending.config
        try:
            with self._tending.locked() as node:
                self._migrations.listen(nic.tap)
                self._keep_elsewhere(nic, node)
                with suppress(Failure):
                    self._migrations.to_answer[nic] = attach_plan(nic, config, node)
        except lock.Held:
            raise
        except Failure as failure:
            log.say(f"{nic.whom}: not prepared for its guest: {failure.what}", log.Level.WARNING)

    def claim(self, tap: str) -> None:
        """The guest behind TAP runs here: say so, and answer for it when nobody else does."""
        try:
            nic = recorded(tap)
            if nic and nic.elsewhere:
                self._node.forget()
                self._migrations.claim(nic, self._tending.config, self._node)
                self._agenda.at(_now() + HANDOVER, Move(tap, here=True))
            else:
                self._migrations.forget(tap)
        except Failure as failure:
            self._tending.failed(tap, failure)

    def move(self, tap: str, *, here: bool) -> None:
        """The guest behind TAP is HERE now, or elsewhere."""
        try:
            with self._tending.locked() as node:
                nic = recorded(tap)
                if nic and here and nic.elsewhere:
                    self._answer(replace(nic, elsewhere=False), node)
                elif nic and not here:
                    self._let_go(nic, node)
            if here:
                self._migrations.forget(tap)
        except lock.Held:
            raise
        except Failure as failure:
            self._migrations.forget_claim(tap)
            self._tending.failed(tap, failure)

    def _answer(self, nic: Nic, node: Node) -> None:
        with remembered(nic, self._tending.config, node):
            changes = self._attach(nic, node)
        announce(nic, self._tending.config, node)
        say_attached(nic, changes)
        self._tending.plan_announcements(nic)
        self._agenda.at(_now() + CALM, Tend(nic.tap))  # the plan may be old

    def _attach(self, nic: Nic, node: Node) -> tuple[Change, ...]:
        plan = self._migrations.to_answer.pop(nic, None)
        if plan:
            with suppress(Failure):  # it is old; or there is a reason, which looking at the node tells better
                return attach(nic, self._tending.config, node, plan=plan)
        return attach(nic, self._tending.config, node)

    def _let_go(self, nic: Nic, node: Node) -> None:
        config = self._tending.config
        changes: tuple[Change, ...] = ()
        self._migrations.listen(nic.tap)
        record = records.record_of(nic.tap)
        if record and is_pending(record):
            changes = detach(nic, config, node)  # else it would be attached here as soon as it can
        elif not nic.elsewhere:
            changes = let_go(nic, config, node, plan=self._migrations.to_let_go.pop(nic, None))
        depart(nic, config, node)
        self._keep_elsewhere(nic, node, changes)

    def _keep_elsewhere(self, nic: Nic, node: Node, done: tuple[Change, ...] = ()) -> None:
        """Attach NIC as elsewhere, filtered and up and reachable from nowhere; its guest is listened to before that, or
        its only frame might come between. DONE is what was changed to that end before."""
        changes = (*done, *attach(replace(nic, elsewhere=True), self._tending.config, node))
        if changes:
            log.say(f"{nic.whom}: its guest is on another node, {len(changes)} changes; NIC {nic.uuid}")


def _now() -> float:
    return time.monotonic()
