# SPDX-License-Identifier: BSD-2-Clause
"""The daemon's loop. It does one thing at a time: it answers a question, does what an event means for one NIC, or
starts a survey of the whole node.

A child process surveys the node. So hundreds of NICs never keep a VM waiting.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from ganeti_vif.daemon.answers import Answers
from ganeti_vif.daemon.claims import Claims
from ganeti_vif.daemon.defence import Defence
from ganeti_vif.daemon.duplicates import DuplicateAddresses
from ganeti_vif.daemon.lives import Lives
from ganeti_vif.daemon.migrations import Migrations
from ganeti_vif.daemon.names import Names
from ganeti_vif.daemon.rounds import Rounds
from ganeti_vif.daemon.share import share
from ganeti_vif.daemon.shared import SharedAddresses
from ganeti_vif.daemon.solicitations import Solicitations
from ganeti_vif.daemon.survey import look
from ganeti_vif.daemon.tasks import (
    AFTER_ROUTED,
    AGAIN,
    CALM,
    HELD,
    PERIOD,
    SHARE,
    TURN,
    Admit,
    AgeClaims,
    Announce,
    AnnounceAll,
    AskAgain,
    Defend,
    Expect,
    Happen,
    KeepNames,
    Lead,
    LeadAway,
    ListenAgain,
    Look,
    Proceed,
    RecallShared,
    Reconsider,
    SettleClaim,
    Share,
    Solicit,
    Survey,
    Task,
)
from ganeti_vif.daemon.timers import Timers
from ganeti_vif.daemon.trouble import Trouble
from ganeti_vif.engine.failure import Failure
from ganeti_vif.kernel import scheduling
from ganeti_vif.kernel.netlink import links
from ganeti_vif.kernel.netlink.events import Changed, DeviceGone, Rewired, Unfiltered
from ganeti_vif.kernel.netlink.events import Event as Heard
from ganeti_vif.lifecycle.announce import moved_places
from ganeti_vif.lifecycle.recorded import answering, is_routed
from ganeti_vif.nic.life import Event
from ganeti_vif.reconcile.in_force import InForce
from ganeti_vif.system import lock, log, records
from ganeti_vif.system.child import Child
from ganeti_vif.system.claim_socket import ClaimSocket
from ganeti_vif.system.control import Question
from ganeti_vif.system.node import Node


class Loop:
    """The daemon's state. None of it matters when it dies: all is read again from the node and its records."""

    def __init__(self, known: InForce, node: Node, claim_socket: ClaimSocket) -> None:
        self._timers: Timers[Task] = Timers()
        self._known = known
        self._node = node
        self._told = Trouble()
        self._lives = Lives(known.config, node, self._timers)
        self._defence = Defence(node, self._timers)
        self._solicitations = Solicitations(node, self._timers)
        self._shared = SharedAddresses(self._lives, node, self._timers)
        self._duplicates = DuplicateAddresses(self._lives, node, self._timers, self._told, self._shared)
        self._rounds = Rounds(self._timers, answering, self._lives.announce)
        self._migrations = Migrations(self._lives, node, self._timers, self._told)
        self._claims = Claims(
            claim_socket, self._lives, node, self._timers, self._solicitations, self._shared.announced
        )
        self._names = Names(self._timers, self._told)
        self._answers = Answers(self._lives, self._migrations, self._claims, self._names, self._told)
        self._questions: deque[Question] = deque()
        self._trouble: frozenset[str] = frozenset()
        self._child: Child | None = None
        self._began = self._earliest = self._held = 0.0
        self._first = True
        self.configure(known)

    def configure(self, known: InForce) -> None:
        """From now on it is the configuration KNOWN that says what the node should be."""
        self._known = known
        config = self._lives.config = known.config
        uplinks = {public.uplink for public in config.public}
        self._devices = frozenset(name for private in config.private for name in private.devices) | uplinks
        self._timers.at(_now(), Survey())
        self._names.configure(config)

    @property
    def descriptors(self) -> list[int]:
        """What to poll for reading."""
        child = [self._child.descriptor] if self._child else []
        return [
            *child,
            *self._migrations.descriptors,
            *self._claims.descriptors,
            *self._defence.descriptors,
            *self._solicitations.descriptors,
            *self._names.descriptors,
            *self._duplicates.descriptors,
        ]

    def patience(self) -> float:
        """Seconds until there is something to do although nothing was heard."""
        due = _now() if self._questions else self._timers.next()
        return max(0.0, max(due, self._held) - _now())

    def hear(self, event: Heard) -> None:
        """Plan what EVENT asks for."""
        match event:
            case DeviceGone(name=name):
                if records.exists(name) or self._lives.knows(name):
                    self._timers.at(_now(), Happen(name, Event.CHANGED))
                    self._try_again()
                if name in self._devices:
                    self._survey_soon()
            case Rewired(device=name, master=master):
                self._rewired(name, master)
            case Changed(device=None):
                self._survey_soon()
            case Changed(device=str(name)):
                self._changed(name)
            case Unfiltered(device=device):
                self._unfiltered(device)

    def _changed(self, device: str) -> None:
        if device in self._lives.retrying:
            return  # most likely our own attempt; it has its turn
        if records.exists(device):
            self._timers.at(_now() + CALM, Happen(device, Event.CHANGED))
            return
        if device in self._devices:
            self._survey_soon()
        self._try_again()

    def _rewired(self, device: str, master: int) -> None:
        uplinks = {device, links.name_of(master)}
        for public in self._known.config.public:
            if public.uplink in uplinks:
                self._timers.at(_now() + CALM, AnnounceAll(public.name))

    def _announce_all(self, link: str) -> None:
        """Nobody hears it while the uplink has no carrier; when that comes back, the event comes again."""
        self._announce_moved()
        public = self._known.config.public_link(link)
        uplink = self._node.devices([public.uplink]).by_name.get(public.uplink) if public else None
        if uplink and uplink.carrier:
            self._rounds.begin(link, _now())

    def _defend(self) -> None:
        try:
            self._defence.hear()
            self._told.over("ARP probes")
        except Failure as failure:
            self._told.say("ARP probes", failure)
        try:
            self._solicitations.hear()
            self._told.over("neighbour solicitations")
        except Failure as failure:
            self._told.say("neighbour solicitations", failure)

    def _hear_owners(self) -> None:
        try:
            self._duplicates.hear()
            self._told.over("duplicate addresses")
        except Failure as failure:
            self._told.say("duplicate addresses", failure)

    def _announce(self, task: Announce) -> None:
        early = task.arrived and task.after < AGAIN[-1]
        if early or not self._duplicates.ask(task.nic, first=task.first):
            self._lives.announce(task.nic)
        self._shared.ask(task.nic)

    def _announce_moved(self) -> None:
        """Events may be lost, and nobody hears them while no daemon runs."""
        self._told.say("the ears for ARP probes", *self._defence.listen(self._known.config))
        self._told.say("the ears for neighbour solicitations", *self._solicitations.listen(self._known.config))
        self._told.say("the ears for duplicates", *self._duplicates.listen(self._known.config))
        try:
            self._node.forget()
            for link in moved_places(self._known.config, self._node):
                self._rounds.begin(link, _now())
        except Failure as failure:
            self._told.say("uplinks", failure)
        else:
            self._told.over("uplinks")

    def _unfiltered(self, device: str | None) -> None:
        """Somebody most likely flushed the ruleset. That does not wait for calm: guests are cut off by it, or open."""
        if device and records.exists(device):
            if device not in self._lives.retrying:
                after = 0.0 if is_routed(device) else AFTER_ROUTED
                self._timers.at(_now() + after, Happen(device, Event.CHANGED))
        elif device is None or device in self._devices:
            self._timers.at(_now(), Share())
            self._survey_soon()

    def _try_again(self) -> None:
        """A device came or went. A pending NIC may have waited for that: try each of them soon."""
        for tap in self._lives.retrying:
            self._timers.at(_now() + CALM, Happen(tap, Event.CHANGED))

    def ask(self, question: Question) -> None:
        """Answer QUESTION when its turn comes."""
        self._questions.append(question)

    def work(self) -> None:
        """Do what is due, questions and tasks in turn, until nothing is or the TURN is over."""
        if self._child and self._child.done():
            self._surveyed(self._child)
        for heard in set(self._migrations.heard()):
            self._timers.at(_now(), heard)
        self._hear_bravely(self._claims.hear)
        self._hear_bravely(self._names.hear)
        self._hear_bravely(self._defend)
        self._hear_bravely(self._hear_owners)
        end = _now() + TURN
        try:
            while self._held <= _now() < end:
                task = self._timers.take(_now())
                if task:
                    self._do(task)
                if self._questions:
                    self._duplicates.forget_gone()
                    self._answers.answer(self._questions[0])
                    self._questions.popleft()
                elif not task:
                    break
        except lock.Held:
            self._held = _now() + HELD
        try:
            scheduling.ensure_urgent(urgent=self._migrations.under_way)
        except Failure as failure:
            self._told.say("real time", failure)

    def _hear_bravely(self, hear: Callable[[], None]) -> None:
        """Guests and files cause what is done there. A bug of ours in it must not cost all NICs their daemon."""
        try:
            hear()
        except Exception as error:
            log.say(f"bug: {hear.__qualname__}: {error!r}", log.Level.ERROR)

    def _do(self, task: Task) -> None:
        """Raises Held; then the task stays to be done."""
        try:
            match task:
                case Happen(tap=tap, event=event, nic=nic):
                    self._lives.happen(tap, event, nic)
                case Announce():
                    self._announce(task)
                case AnnounceAll(link=link):
                    self._announce_all(link)
                case Proceed(link=link):
                    self._rounds.proceed(link, _now())
                case Defend():
                    self._defence.resume()
                case Solicit():
                    self._solicitations.resume()
                case Admit(tap=tap):
                    self._duplicates.admit(tap)
                case AskAgain():
                    self._duplicates.ask_again()
                case ListenAgain():
                    self._duplicates.resume()
                case Lead(tap=tap, address=shared):
                    self._shared.lead(tap, shared)
                case LeadAway(tap=tap, address=shared):
                    self._shared.lead_away(tap, shared)
                case Reconsider(tap=tap, address=shared):
                    self._shared.reconsider(tap, shared)
                case RecallShared():
                    self._shared.recall()
                case Expect():
                    self._migrations.expect()
                case SettleClaim(tap=tap, address=address):
                    self._claims.settle(tap, address)
                case AgeClaims(tap=tap):
                    self._claims.age(tap)
                case KeepNames():
                    self._names.keep()
                case Look():
                    for happen in self._migrations.look():
                        self._timers.at(_now(), happen)
                case Share():
                    share(self._known, self._node)
                case Survey():
                    self._survey()
        except lock.Held:
            self._timers.at(_now(), task)
            raise
        except Exception as error:  # a bug of ours must not cost the other NICs their daemon
            log.say(f"bug: {task}: {error!r}", log.Level.ERROR)

    def _survey_soon(self) -> None:
        self._timers.at(max(_now() + CALM, self._earliest), Survey())

    def _survey(self) -> None:
        if self._child:
            self._timers.at(_now() + CALM, Survey())
            return
        self._announce_moved()
        known, first = self._known, self._first
        self._began, self._first = _now(), False
        self._child = Child(lambda: look(known, at_once=first))

    def _surveyed(self, child: Child) -> None:
        self._child = None
        now = _now()
        self._earliest = now + SHARE * (now - self._began)
        self._timers.at(now + PERIOD, Survey())
        answer = child.answer()
        if answer is None:
            died = Failure("the process that looked at the node died", "see: systemctl status ganeti-vifd")
            self._told.say("the survey", died)
            return
        self._told.say("the survey", *(Failure(what, do) for what, do in answer["unable"]))
        for line in answer["repaired"]:
            log.say(f"repaired: {line}", log.Level.WARNING)
        trouble = frozenset(answer["trouble"])
        for line in sorted(trouble - self._trouble):
            log.say(line, log.Level.ERROR)
        self._trouble = trouble
        for tap in answer["tend"]:
            self._timers.at(now, Happen(tap, Event.CHANGED))


def _now() -> float:
    return time.monotonic()
