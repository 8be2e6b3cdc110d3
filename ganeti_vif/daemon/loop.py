"""What the daemon does, one thing at a time: answers questions, tends single NICs, and has the whole node looked at.

A NIC is tended by attaching it again, which changes what is not as it should be, or by clearing up after it. The
whole node is looked at by a child process, so that hundreds of NICs to look at never keep a VM waiting.
"""

from __future__ import annotations

import time
from collections import deque

from ganeti_vif.daemon.answers import Answers
from ganeti_vif.daemon.hand_over import HandOver
from ganeti_vif.daemon.look import look
from ganeti_vif.daemon.share import share
from ganeti_vif.daemon.tasks import (
    AFTER_ROUTED,
    CALM,
    HELD,
    PERIOD,
    SHARE,
    TURN,
    Announce,
    Claim,
    Expect,
    Look,
    Move,
    Prepare,
    Share,
    Task,
    Tend,
)
from ganeti_vif.daemon.tending import Tending
from ganeti_vif.daemon.timers import Agenda
from ganeti_vif.engine.failure import Failure
from ganeti_vif.kernel import scheduling
from ganeti_vif.kernel.netlink.events import Changed, Event, Gone, Unfiltered
from ganeti_vif.reconcile.in_force import InForce
from ganeti_vif.system import lock, log, records
from ganeti_vif.system.child import Child
from ganeti_vif.system.control import Question
from ganeti_vif.system.node import Node


class Duties:
    """The daemon's state. None of it matters when it dies: all is read again from the node and its records."""

    def __init__(self, known: InForce, node: Node) -> None:
        self._agenda: Agenda[Task] = Agenda()
        self._known = known
        self._node = node
        self._tending = Tending(known.config, node, self._agenda)
        self._hand_over = HandOver(self._tending, node, self._agenda)
        self._answers = Answers(self._tending, self._hand_over)
        self._questions: deque[Question] = deque()
        self._trouble: frozenset[str] = frozenset()
        self._child: Child | None = None
        self._began = self._earliest = self._held = 0.0
        self._first = True
        self.configure(known)

    def configure(self, known: InForce) -> None:
        """From now on it is the configuration KNOWN that says what the node should be."""
        self._known = known
        config = self._tending.config = known.config
        self._tending.migrations.forget_plans()
        uplinks = {public.uplink for public in config.public}
        self._devices = frozenset(name for private in config.private for name in private.devices) | uplinks
        self._agenda.at(_now(), Look())

    @property
    def descriptors(self) -> list[int]:
        """What to poll for reading."""
        return [*([self._child.descriptor] if self._child else []), *self._tending.migrations.descriptors]

    def patience(self) -> float:
        """Seconds until there is something to do although nothing was heard."""
        due = _now() if self._questions else self._agenda.next()
        return max(0.0, max(due, self._held) - _now())

    def hear(self, event: Event) -> None:
        """Plan what EVENT asks for."""
        match event:
            case Gone(name=name):
                if records.exists(name) or self._tending.migrations.hears(name):
                    self._agenda.at(_now(), Tend(name))
                    self._try_again()
                if name in self._devices:
                    self._look_soon()
            case Changed(device=None):
                self._look_soon()
            case Changed(device=str(name)):
                self._changed(name)
            case Unfiltered(device=device):
                self._unfiltered(device)

    def _changed(self, device: str) -> None:
        if device in self._tending.retrying:
            return  # most likely our own attempt; it has its turn
        if records.exists(device):
            self._agenda.at(_now() + CALM, Tend(device))
            return
        if device in self._devices:
            self._look_soon()
        self._try_again()

    def _unfiltered(self, device: str | None) -> None:
        """Somebody flushed the ruleset, most likely. That does not wait for calm: guests are cut off by it, or open."""
        if device and records.exists(device):
            if device not in self._tending.retrying:
                self._agenda.at(_now() + (0.0 if self._tending.is_routed(device) else AFTER_ROUTED), Tend(device))
        elif device is None or device in self._devices:
            self._agenda.at(_now(), Share())
            self._look_soon()

    def _try_again(self) -> None:
        """Something came or went that may be what a NIC waits for that could not be attached."""
        for tap in self._tending.retrying:
            self._agenda.at(_now() + CALM, Tend(tap))

    def ask(self, question: Question) -> None:
        """Answer QUESTION when its turn comes."""
        self._questions.append(question)

    def work(self) -> None:
        """Do what is due, questions and tasks in turn, until nothing is or the TURN is over."""
        if self._child and self._child.done():
            self._looked(self._child)
        for heard in set(self._tending.migrations.heard(_now())):
            self._agenda.at(_now(), heard)
        end = _now() + TURN
        try:
            while self._held <= _now() < end:
                task = self._agenda.take(_now())
                if task:
                    self._do(task)
                if self._questions:
                    self._answers.answer(self._questions[0])
                    self._questions.popleft()
                elif not task:
                    break
        except lock.Held:
            self._held = _now() + HELD
        try:
            scheduling.ensure_urgent(urgent=self._tending.migrations.under_way)
        except Failure as failure:
            self._tending.trouble.say("real time", failure)

    def _do(self, task: Task) -> None:
        """Raises Held; then the task stays to be done."""
        try:
            match task:
                case Tend(tap=tap):
                    self._tending.tend(tap)
                case Announce(nic=nic):
                    self._tending.announce(nic)
                case Expect():
                    self._hand_over.expect()
                case Prepare(nic=nic):
                    self._hand_over.prepare(nic)
                case Claim(tap=tap):
                    self._hand_over.claim(tap)
                case Move(tap=tap, here=here):
                    self._hand_over.move(tap, here=here)
                case Share():
                    share(self._known, self._node)
                case Look():
                    self._look()
        except lock.Held:
            self._agenda.at(_now(), task)
            raise
        except Exception as error:  # a bug of ours must not cost the other NICs their daemon
            log.say(f"bug: {task}: {error!r}", log.Level.ERROR)

    def _look_soon(self) -> None:
        self._agenda.at(max(_now() + CALM, self._earliest), Look())

    def _look(self) -> None:
        if self._child:
            self._agenda.at(_now() + CALM, Look())
            return
        known, first = self._known, self._first
        self._began, self._first = _now(), False
        self._child = Child(lambda: look(known, at_once=first))

    def _looked(self, child: Child) -> None:
        self._child = None
        now = _now()
        self._earliest = now + SHARE * (now - self._began)
        self._agenda.at(now + PERIOD, Look())
        answer = child.answer()
        if answer is None:
            died = Failure("the process that looked at the node died", "see: systemctl status ganeti-vifd")
            self._tending.trouble.say("the look", died)
            return
        self._tending.trouble.say("the look", *(Failure(what, do) for what, do in answer["unable"]))
        for line in answer["repaired"]:
            log.say(f"repaired: {line}", log.Level.WARNING)
        trouble = frozenset(answer["trouble"])
        for line in sorted(trouble - self._trouble):
            log.say(line, log.Level.ERROR)
        self._trouble = trouble
        for tap in answer["tend"]:
            self._agenda.at(now, Tend(tap))


def _now() -> float:
    return time.monotonic()
