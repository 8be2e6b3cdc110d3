"""What the daemon does, one thing at a time: answers questions, tends single NICs, and has the whole node looked at.

A NIC is tended by attaching it again, which changes what is not as it should be, or by clearing up after it. The
whole node is looked at by a child process, so that hundreds of NICs to look at never keep a VM waiting.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from dataclasses import dataclass, replace

from config.model import Config
from doors import ask
from doors.agenda import Agenda
from doors.look import look
from doors.migrations import Migrations, move
from doors.vif_script import announce, forget, lines, obey, order_of, tap_index, up
from engine.failure import Failure
from engine.words import finding
from ganeti.hook import hook_of
from hooks import hook as hooks
from outside import lock, log, records
from outside.child import Child
from outside.control import Question
from outside.events import Changed, Event, Gone
from outside.node import Node
from vif.attach import attach, recorded
from vif.nic import Mode, Nic
from vif.record import is_pending

AGAIN = (1.0, 2.0)
"""Seconds after an attach at which its announcement is repeated: a neighbour that heard of the address less than a
second before takes no notice (kernel doc ip-sysctl, neigh/default/locktime), and a frame may be lost."""
PERIOD = 60.0
"""Seconds between two looks at the whole node when nothing is heard."""
CALM = 0.2
"""Seconds from a change to the look that it causes: changes come in bursts."""
SHARE = 10
"""A look that took t seconds is followed by at least SHARE * t without one, so that a busy node is not kept busier."""
LONGEST = 60.0
"""Seconds between two attempts to attach a NIC, at most; the first follows after one, then twice as many each time."""
EXPECTED = 0.1
"""Seconds between two looks for the taps of a guest that is on its way."""
TURN = 0.05
"""Seconds of work after which signals and events are looked at."""
HELD = 0.01
"""Seconds until a lock that somebody else has is tried again."""


@dataclass(frozen=True, slots=True)
class Tend:
    """See that the NIC of TAP has what it needs; or, if its tap is gone, that it leaves nothing behind."""

    tap: str


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell the neighbours once more where NIC lives, AFTER so many seconds."""

    nic: Nic
    after: float


@dataclass(frozen=True, slots=True)
class Look:
    """Look at the whole node, and mend what is not as it should be."""


@dataclass(frozen=True, slots=True)
class Expect:
    """See whether the taps of a guest are here that is on its way."""


@dataclass(frozen=True, slots=True)
class Move:
    """The guest behind TAP is HERE now, or elsewhere."""

    tap: str
    here: bool


@dataclass(frozen=True, slots=True)
class Prepare:
    """Make ready for the guest of NIC, whose tap is here."""

    nic: Nic


Task = Tend | Announce | Look | Expect | Prepare | Move


class Duties:
    """The daemon's state. None of it matters when it dies: all is read again from the node and its records."""

    def __init__(self, config: Config, node: Node) -> None:
        self._node = node
        self._agenda: Agenda[Task] = Agenda()
        self._questions: deque[Question] = deque()
        self._said: dict[str, str] = {}
        self._attempts: dict[str, int] = {}
        self._child: Child | None = None
        self._migrations = Migrations()
        self._began = self._earliest = self._held = 0.0
        self._first = True
        self.configure(config)

    def configure(self, config: Config) -> None:
        """From now on it is CONFIG that says what the node should be."""
        self._config = config
        uplinks = {public.uplink for public in config.public}
        self._devices = frozenset(name for private in config.private for name in private.devices) | uplinks
        self._agenda.at(_now(), Look())

    @property
    def descriptors(self) -> list[int]:
        """What to poll for reading."""
        return [*([self._child.descriptor] if self._child else []), *self._migrations.descriptors]

    def patience(self) -> float:
        """Seconds until there is something to do although nothing was heard."""
        due = _now() if self._questions else self._agenda.next()
        return max(0.0, max(due, self._held) - _now())

    def hear(self, event: Event) -> None:
        """Plan what EVENT asks for."""
        match event:
            case Gone(name=name):
                if records.exists(name):
                    self._agenda.at(_now(), Tend(name))
                if name in self._devices:
                    self._look_soon()
            case Changed(device=None):
                self._look_soon()
            case Changed(device=str(name)):
                if name in self._attempts:
                    return  # most likely our own attempt; it has its turn
                if records.exists(name):
                    self._agenda.at(_now() + CALM, Tend(name))
                    return
                if name in self._devices:
                    self._look_soon()
                for tap in self._attempts:  # it may be what one of them waits for
                    self._agenda.at(_now() + CALM, Tend(tap))

    def ask(self, question: Question) -> None:
        """Answer QUESTION when its turn comes."""
        self._questions.append(question)

    def work(self) -> None:
        """Do what is due, questions and tasks in turn, until nothing is or the TURN is over."""
        if self._child and self._child.done():
            self._looked(self._child)
        for tap, here in set(self._migrations.heard(_now())):
            self._agenda.at(_now(), Move(tap, here))
        end = _now() + TURN
        try:
            while self._held <= _now() < end:
                task = self._agenda.take(_now())
                if task:
                    self._do(task)
                if self._questions:
                    self._answer(self._questions[0])
                    self._questions.popleft()
                elif not task:
                    return
        except lock.Held:
            self._held = _now() + HELD

    def _do(self, task: Task) -> None:
        try:
            match task:
                case Tend(tap=tap):
                    self._tend(tap)
                case Announce(nic=nic):
                    self._announce(nic)
                case Look():
                    self._look()
                case Expect():
                    self._expect()
                case Prepare(nic=nic):
                    self._prepare(nic)
                case Move(tap=tap, here=here):
                    self._move(tap, here=here)
        except lock.Held:
            self._agenda.at(_now(), task)
            raise
        except Exception as error:  # a bug of ours must not cost the other NICs their daemon
            log.say(f"bug: {task}: {error!r}", log.Level.ERROR)

    # Single NICs

    def _tend(self, tap: str) -> None:
        try:
            with lock.held("nics", wait=0.0):
                self._node.forget()
                nic = recorded(tap)
                if nic:
                    device = self._node.devices([tap]).by_name.get(tap)
                    if device and device.index == nic.index:
                        self._repair(nic)
                    else:
                        self._migrations.forget(tap)
                        forget(nic, self._config, self._node)
            self._done(tap)
        except lock.Held:
            raise
        except Failure as failure:
            self._failed(tap, failure)

    def _repair(self, nic: Nic) -> None:
        record = records.record_of(nic.tap)
        if nic.elsewhere:
            self._migrations.listen(nic.tap)
        if record and is_pending(record):
            up(nic, self._config, self._node)
        else:
            for change in attach(nic, self._config, self._node):
                log.say(f"{nic.whom}: repaired: {finding(change)}", log.Level.WARNING)
        self._plan_announcements(nic)

    def _failed(self, tap: str, failure: Failure) -> None:
        """Say it, unless it was said, and plan another attempt."""
        if self._said.get(tap) != failure.what:
            log.say(failure.what, log.Level.ERROR)
        self._said[tap] = failure.what
        self._try_again(tap)

    def _try_again(self, tap: str) -> None:
        attempts = self._attempts.get(tap, 0)
        self._attempts[tap] = attempts + 1
        self._agenda.at(_now() + min(LONGEST, 2.0**attempts), Tend(tap))

    def _done(self, tap: str) -> None:
        self._said.pop(tap, None)
        self._attempts.pop(tap, None)

    def _plan_announcements(self, nic: Nic) -> None:
        age = records.age(nic.tap) if nic.mode is Mode.ROUTED else AGAIN[-1]
        for after in AGAIN:
            if age < after:
                self._agenda.at(_now() + after - age, Announce(nic, after))

    def _announce(self, nic: Nic) -> None:
        self._node.forget()
        tap = self._node.devices([nic.tap]).by_name.get(nic.tap)
        if tap and tap.index == nic.index:
            announce(nic, self._config, self._node)

    # NICs on their way

    def _expect(self) -> None:
        for nic in self._migrations.arrivals(_now()):
            self._agenda.at(_now(), Prepare(nic))
        if self._migrations.expected:
            self._agenda.at(_now() + EXPECTED, Expect())

    def _prepare(self, nic: Nic) -> None:
        """Not to be able to is no failure: Ganeti's script attaches the NIC a second later."""
        try:
            with lock.held("nics", wait=0.0):
                self._node.forget()
                move(replace(nic, index=tap_index(nic.tap)), self._config, self._node)
            self._migrations.listen(nic.tap)
        except lock.Held:
            raise
        except Failure as failure:
            log.say(f"{nic.whom}: not prepared for its guest: {failure.what}", log.Level.WARNING)

    def _move(self, tap: str, *, here: bool) -> None:
        try:
            with lock.held("nics", wait=0.0):
                self._node.forget()
                nic = recorded(tap)
                if nic and nic.elsewhere and here:
                    nic = replace(nic, elsewhere=False)
                    up(nic, self._config, self._node)
                    self._plan_announcements(nic)
                elif nic and not nic.elsewhere and not here:
                    move(nic, self._config, self._node)
                    self._migrations.listen(tap)
            if here:
                self._migrations.forget(tap)
        except lock.Held:
            raise
        except Failure as failure:
            self._failed(tap, failure)

    # The whole node

    def _look_soon(self) -> None:
        self._agenda.at(max(_now() + CALM, self._earliest), Look())

    def _look(self) -> None:
        if self._child:
            self._agenda.at(_now() + CALM, Look())
            return
        config, first = self._config, self._first
        self._began, self._first = _now(), False
        self._child = Child(lambda: look(config, at_once=first))

    def _looked(self, child: Child) -> None:
        self._child = None
        now = _now()
        self._earliest = now + SHARE * (now - self._began)
        self._agenda.at(now + PERIOD, Look())
        answer = child.answer()
        if answer is None:
            log.say("the process that looked at the node died", log.Level.ERROR)
            return
        for line in answer["repaired"]:
            log.say(f"repaired: {line}", log.Level.WARNING)
        trouble = {f"node: {what}": what for what in answer["trouble"]}
        for what in trouble.keys() - self._said.keys():
            log.say(trouble[what], log.Level.ERROR)
        self._said = {key: what for key, what in self._said.items() if not key.startswith("node: ")} | trouble
        for tap in answer["tend"]:
            self._agenda.at(now, Tend(tap))

    # Questions

    def _answer(self, question: Question) -> None:
        """Raises Held if it has to wait."""
        if question.withdrawn():
            question.client.close()
            return
        protocol, door, *pairs = (*map(os.fsdecode, question.words), "")  # whoever asks may have said one word only
        environment = dict(pair.partition("=")[::2] for pair in pairs if pair)
        try:
            if protocol != ask.PROTOCOL.decode():
                question.answer(ask.ALONE, "")
            elif door == "vif":
                question.answer(*self._serve_ganeti(environment))
            elif door == "hook":
                question.answer(*self._serve_hook(environment))
            elif door == "state":
                question.answer("0", json.dumps(self._state()))
            else:
                question.answer(ask.ALONE, "")
        except lock.Held:
            raise
        except Exception as error:  # who asks finds the same, and says more of it
            log.say(f"bug: {door}: {error!r}", log.Level.ERROR)
            question.answer(ask.ALONE, "")

    def _serve_ganeti(self, environment: dict[str, str]) -> tuple[str, str]:
        order = None
        try:
            order = order_of(environment)
            if order:
                with lock.held("nics", wait=0.0):
                    self._node.forget()
                    obey(order, self._config, self._node)
        except lock.Held:
            raise
        except Failure as failure:
            log.say(failure.what, log.Level.ERROR)
            if isinstance(order, Nic) and records.exists(order.tap):
                self._said[order.tap] = failure.what
                self._try_again(order.tap)
            return "1", lines(failure)
        if isinstance(order, Nic):
            self._done(order.tap)
            self._migrations.forget(order.tap)
            self._plan_announcements(order)
        return "0", ""

    def _serve_hook(self, environment: dict[str, str]) -> tuple[str, str]:
        hook = hook_of(environment)
        if hook.migration:
            self._migrations.begin(hook.migration, os.uname().nodename, self._config, _now())
            self._agenda.at(_now(), Expect())
            return "0", ""
        if hook.instance is None or hooks.ACTIONS.get(hook.name) is not hooks.instance:
            return ask.ALONE, ""
        try:
            with lock.held("nics", wait=0.0):
                self._node.forget()
                hooks.in_step(hook, hook.instance, self._config, self._node)
        except lock.Held:
            raise
        except Failure as failure:
            text = f"{hook.name}: {failure.what} ({failure.do})"
            log.say(text, log.Level.ERROR)
            return "1", hooks.said(text) + "\n"
        return "0", ""

    def _state(self) -> dict[str, object]:
        return {"pid": os.getpid(), "retrying": {tap: self._said.get(tap, "") for tap in sorted(self._attempts)}}


def _now() -> float:
    return time.monotonic()
