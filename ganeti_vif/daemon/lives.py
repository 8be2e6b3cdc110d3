# SPDX-License-Identifier: BSD-2-Clause
"""The lives of this node's NICs: nic/life.py says what an event means, and here the daemon does it.

Each NIC of which something is known beyond its record has one entry. All of it may be lost: a daemon that starts anew
reads the records, and Ganeti's own call attaches what was on its way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from ganeti_vif.config.model import Config
from ganeti_vif.daemon.tasks import AGAIN, CALM, HANDOVER, Announce, Happen, Task, retry_after
from ganeti_vif.daemon.timers import Timers
from ganeti_vif.daemon.uplink import say_here, say_released
from ganeti_vif.engine.difference import Change
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.naming import finding
from ganeti_vif.kernel.capture import Capture
from ganeti_vif.lifecycle.announce import announce
from ganeti_vif.lifecycle.attach import Plan, attach, attach_plan
from ganeti_vif.lifecycle.detach import detach, forget
from ganeti_vif.lifecycle.order import say_attached, up
from ganeti_vif.lifecycle.pending import remembered
from ganeti_vif.lifecycle.recorded import recorded_state
from ganeti_vif.lifecycle.standby import let_go, let_go_plan
from ganeti_vif.nic.announcement import departed
from ganeti_vif.nic.identity import has_tap, is_same
from ganeti_vif.nic.life import Effect, Event, State, now, step
from ganeti_vif.nic.nic import Mode, Nic
from ganeti_vif.system import lock, log, records
from ganeti_vif.system.node import Node

UNLOCKED = frozenset({Event.SPOKE, Event.DEPARTS, Event.COMING, Event.ENDED, Event.ORDERED})
"""The events that change nothing on the node: they do not wait for whoever changes it now."""
TOLD = frozenset({Event.ORDERED, Event.REFUSED})
"""The events that tell what the record says by now: they begin in the state that the NIC had before."""
SETTLED = frozenset({Event.ORDERED, Event.CHANGED, Event.GONE})
"""The events after which nothing is wrong with a NIC, if all that they ask for was done."""


@dataclass(slots=True)
class Life:
    """What the daemon knows of one NIC. NIC is None as long as nothing says which one it is.

    GUEST captures what its guest sends, RELEASE what the other node says of it. ANSWER and LETTING_GO are what was
    planned, each for the very NIC that it was planned for. SAID is the failure that was logged last, ATTEMPTS how often
    in a row the NIC was tried in vain. MIGRATION is its migration's id, the same on both nodes.
    """

    nic: Nic | None = None
    state: State = State.UNKNOWN
    guest: Capture | None = None
    release: Capture | None = None
    answer: tuple[Nic, Plan] | None = None
    letting_go: tuple[Nic, tuple[Change, ...]] | None = None
    done: tuple[Change, ...] = ()
    said: str = ""
    attempts: int = 0
    migration: str = ""

    @property
    def moves(self) -> bool:
        """Whether something is captured or planned for it."""
        return bool(self.guest or self.release or self.answer or self.letting_go)

    def close(self) -> None:
        """Capture nothing any more, and drop what was planned."""
        self.drop_plans()
        self.stop_waiting()
        if self.guest:
            self.guest.close()
            self.guest = None

    def stop_waiting(self) -> None:
        """Do not wait for the other node's release any more."""
        if self.release:
            self.release.close()
            self.release = None

    def let_go_by_the_other(self) -> bool:
        """Whether the other node has said meanwhile that it answers for the NIC no more."""
        frames = self.release.frames() if self.release else ()
        return self.nic is not None and self.nic.mac in {departed(frame) for frame in frames}

    def drop_plans(self) -> None:
        """What was planned may be wrong by now."""
        self.answer = self.letting_go = None


class Lives:
    """The one dictionary of what the daemon knows of NICs, by tap. A NIC that is expected has no tap: it is there by
    its UUID."""

    def __init__(self, config: Config, node: Node, timers: Timers[Task]) -> None:
        self._config = config
        self._node = node
        self._timers = timers
        self._lives: dict[str, Life] = {}
        self._moving: set[str] = set()
        self._do: Mapping[Effect, Callable[[Life, Nic, Node], None]] = {
            Effect.LISTEN: self._listen,
            Effect.STOP_LISTENING: lambda life, nic, node: life.close(),
            Effect.KEEP: self._keep,
            Effect.KEEP_IN_STEP: self._repair,
            Effect.PLAN_ANSWER: self._plan_answer,
            Effect.SAY_HERE: self._say_here,
            Effect.AWAIT_RELEASE: lambda life, nic, node: self._later(HANDOVER, Happen(nic.tap, Event.RELEASED)),
            Effect.ANSWER: self._answer,
            Effect.ATTACH: lambda life, nic, node: _discard(up(nic, self._config, node)),
            Effect.REPAIR: self._repair,
            Effect.ANNOUNCE: self._announce_now,
            Effect.ANNOUNCE_SOON: self._announce_soon,
            Effect.REPEAT: lambda life, nic, node: self._repeat(nic),
            Effect.REVIEW: lambda life, nic, node: self._later(CALM, Happen(nic.tap, Event.CHANGED)),
            Effect.PLAN_RELEASE: self._plan_release,
            Effect.RELEASE: self._release,
            Effect.DETACH: self._detach,
            Effect.SAY_RELEASED: lambda life, nic, node: say_released(nic, self._config, node),
            Effect.RETRY: self._retry,
            Effect.FORGET: lambda life, nic, node: forget(nic, self._config, node),
        }

    @property
    def config(self) -> Config:
        """The configuration in force. With another one, what was planned is void."""
        return self._config

    @config.setter
    def config(self, config: Config) -> None:
        self._config = config
        for tap in self._moving:
            self._lives[tap].drop_plans()

    @property
    def retrying(self) -> dict[str, str]:
        """The taps whose NICs are tried again, and what was wrong the last time."""
        return {tap: life.said for tap, life in sorted(self._lives.items()) if life.attempts}

    @property
    def states(self) -> dict[str, str]:
        """The states of the NICs of which more is known than their records say, by tap or, if expected, by UUID."""
        return {key: life.state.value for key, life in sorted(self._lives.items()) if life.state is not State.UNKNOWN}

    @property
    def descriptors(self) -> list[int]:
        """What to poll for reading.

        What a guest sends while its node claims it says nothing new, and may be a flood: the daemon does not wake up
        for that.
        """
        moving = [self._lives[tap] for tap in self._moving]
        captures = [life.release if life.state is State.CLAIMING else life.guest for life in moving]
        return [capture.fileno() for capture in captures if capture]

    @property
    def urgent(self) -> bool:
        """Whether a guest may arrive here at any moment, or has just arrived."""
        return any(self._lives[tap].answer or self._lives[tap].state is State.CLAIMING for tap in self._moving)

    def state(self, tap: str) -> State:
        """Where the NIC of TAP is in its life, as far as the daemon remembers."""
        life = self._lives.get(tap)
        return life.state if life else State.UNKNOWN

    def knows(self, tap: str) -> bool:
        """Whether something is captured or planned for the NIC of TAP."""
        return tap in self._moving

    def expected(self, instance: str) -> list[str]:
        """The UUIDs of the NICs of INSTANCE that are expected."""
        return [
            key
            for key, life in self._lives.items()
            if life.state is State.EXPECTED and life.nic and life.nic.instance == instance
        ]

    def heard(self) -> Iterator[Happen]:
        """What the frames that came meanwhile mean."""
        for tap in list(self._moving):
            life = self._lives[tap]
            if life.state is State.STANDBY and life.guest and any(True for _ in life.guest.frames()):
                yield Happen(tap, Event.SPOKE)
            elif life.state is State.CLAIMING and life.let_go_by_the_other():
                yield Happen(tap, Event.RELEASED)

    @contextmanager
    def locked(self) -> Iterator[Node]:
        """The node, to be changed. Names may mean other devices than the last time. Raises Held."""
        with lock.held("nics", wait=0.0):
            self._node.forget()
            yield self._node

    def happen(self, tap: str, event: Event, nic: Nic | None = None, migration: str = "") -> None:
        """EVENT happens to the NIC of TAP: do what that asks for. NIC is that NIC if it has no record yet; MIGRATION is
        the id of the migration that the event is about.

        What cannot be done is logged, and tried again where the table says so. Raises Held if somebody else is at work;
        then nothing was done.
        """
        try:
            if event in UNLOCKED:
                self._node.forget()
                self._go(tap, event, nic, self._node, migration)
            else:
                with self.locked() as node:
                    self._go(tap, event, nic, node, migration)
        except lock.Held:
            raise
        except Failure as failure:
            self.failed(tap, failure)

    def soon(self, tap: str, event: Event) -> None:
        """EVENT happens to the NIC of TAP as soon as what is at work now is done."""
        self._later(0.0, Happen(tap, event))

    def failed(self, tap: str, failure: Failure) -> None:
        """What was asked for the NIC of TAP could not be done: log FAILURE, unless that was logged, and go on by the
        table."""
        life = self._lives.setdefault(tap, Life())
        if life.said != failure.what:
            level = log.Level.WARNING if life.state in (State.UNKNOWN, State.EXPECTED) else log.Level.ERROR
            log.say(failure.what, level)
        life.said = failure.what
        on_record, nic = life.state, life.nic
        with suppress(Failure):  # a record that cannot be read: what was remembered has to do
            on_record, nic = recorded_state(tap)
        refused = on_record is State.PENDING
        state = life.state if refused else now(life.state, on_record)
        event = Event.REFUSED if refused else Event.FAILED
        new, effects = step(state, event)
        self._effects(effects, life, nic or life.nic, self._node)
        self._settle(tap, life, new, event, nic or life.nic)

    def _go(self, tap: str, event: Event, given: Nic | None, node: Node, migration: str) -> None:
        on_record, nic = recorded_state(tap)
        nic = nic or given
        life = self._life(tap, nic)
        life.migration = migration or life.migration
        if event not in TOLD:
            state = now(life.state, on_record)
            if state is not life.state:
                life.close()  # somebody else changed it
                self._settle(tap, life, state, None, nic)
        if event is Event.CHANGED and not (nic and has_tap(nic, node.link(tap))):
            event = Event.GONE
        life.nic = nic
        new, effects = step(life.state, event)
        try:
            self._effects(effects, life, nic, node)
        finally:
            self._note(tap, life)
        if event in SETTLED:
            life.said, life.attempts = "", 0
        self._settle(tap, life, new, event, nic)

    def _life(self, tap: str, nic: Nic | None) -> Life:
        """What is known of NIC, which has TAP. What was known of another NIC with that tap's name is over."""
        life = self._lives.get(tap)
        if life and nic and life.nic and not is_same(life.nic, nic):
            life.close()
            life = None
        if life is None:
            life = self._lives.pop(nic.uuid, None) if nic else None
            life = self._lives[tap] = life or Life()
        return life

    def _effects(self, effects: tuple[Effect, ...], life: Life, nic: Nic | None, node: Node) -> None:
        for effect in effects:
            if nic:
                self._do[effect](life, nic, node)
            elif effect is Effect.STOP_LISTENING:
                life.close()

    def _settle(self, tap: str, life: Life, state: State, event: Event | None, nic: Nic | None) -> None:
        """LIFE is in STATE now, after EVENT; after none if somebody else did that."""
        if state is not life.state:
            why = event.value if event else "its record says so"
            whom = nic.whom if nic else tap
            which = f"; migration {life.migration}" if life.migration else ""
            log.say(f"{whom}: {life.state.value} -> {state.value}: {why}{which}", log.Level.DEBUG)
        life.state = state
        if state is State.UNKNOWN and not life.said:
            life.close()
            self._lives.pop(tap, None)
        else:
            self._lives[tap] = life
        if state is State.ATTACHED:
            life.migration = ""
        self._note(tap, life)

    def _note(self, tap: str, life: Life) -> None:
        if life.moves and self._lives.get(tap) is life:
            self._moving.add(tap)
        else:
            self._moving.discard(tap)

    # The effects: the docstring of each is that of nic/life.py's Effect.

    def _listen(self, life: Life, nic: Nic, _: Node) -> None:
        if life.guest and life.guest.deaf:
            life.close()  # a tap of that name went, and this one came before the daemon heard of it
        if life.guest is None:
            life.guest = Capture(nic.tap)

    def _keep(self, life: Life, nic: Nic, node: Node) -> None:
        changes = (*life.done, *attach(replace(nic, standby=True), self._config, node))
        life.done = ()
        if changes:
            log.say(f"{nic.whom}: its guest is on another node, {len(changes)} changes; NIC {nic.uuid}")

    def _plan_answer(self, life: Life, nic: Nic, node: Node) -> None:
        here = replace(nic, standby=False)
        with suppress(Failure):  # then it is planned when the guest is here, and that says what is wrong
            life.answer = here, attach_plan(here, self._config, node)

    def _say_here(self, life: Life, nic: Nic, node: Node) -> None:
        life.stop_waiting()
        life.release = say_here(nic, self._config, node)

    def _answer(self, life: Life, nic: Nic, node: Node) -> None:
        here = replace(nic, standby=False)
        with remembered(here, self._config, node):
            say_attached(here, self._config, self._attach(life, here, node))

    def _attach(self, life: Life, nic: Nic, node: Node) -> tuple[Change, ...]:
        if life.answer and life.answer[0] == nic:
            with suppress(Failure):  # it is old; or there is a reason, which looking at the node tells better
                return attach(nic, self._config, node, plan=life.answer[1])
        return attach(nic, self._config, node)

    def _repair(self, _: Life, nic: Nic, node: Node) -> None:
        for change in attach(nic, self._config, node):
            log.say(f"{nic.whom}: repaired: {finding(change)}", log.Level.WARNING)

    def _plan_release(self, life: Life, nic: Nic, node: Node) -> None:
        with suppress(Failure):  # then it is planned when the guest has left
            life.letting_go = nic, let_go_plan(nic, self._config, node)

    def _release(self, life: Life, nic: Nic, node: Node) -> None:
        planned = life.letting_go[1] if life.letting_go and life.letting_go[0] == nic else None
        life.done = let_go(nic, self._config, node, plan=planned)
        life.drop_plans()

    def _detach(self, life: Life, nic: Nic, node: Node) -> None:
        life.done = detach(nic, self._config, node)

    def _retry(self, life: Life, nic: Nic, _: Node) -> None:
        self._later(retry_after(life.attempts), Happen(nic.tap, Event.CHANGED))
        life.attempts += 1

    # Announcing

    def announce(self, nic: Nic) -> None:
        """Tell the neighbours where NIC lives, if it is attached by now and its guest has not moved."""
        if here := self.attached(nic):
            announce(here, self._config, self._node)

    def attached(self, nic: Nic) -> Nic | None:
        """NIC as its record says it is now, if it is attached and its guest has not moved."""
        self._node.forget()
        with suppress(Failure):
            state, known = recorded_state(nic.tap)
            attached = state is State.ATTACHED and known is not None and is_same(nic, known)
            if known and attached and has_tap(known, self._node.link(nic.tap)):
                return known
        return None

    def _announce_now(self, life: Life, nic: Nic, node: Node) -> None:
        here = replace(nic, standby=False)
        if life.state is State.PENDING:
            self._announce_soon(life, here, node)  # nobody has asked yet whether others have its addresses
            return
        announce(here, self._config, node)
        if here.shared:
            self._later(0.0, Announce(here, 0.0))  # its guest is asked which of them it has
        self._repeat(here, arrived=True)

    def _announce_soon(self, life: Life, nic: Nic, _: Node) -> None:
        if nic.mode is Mode.ROUTED:
            new = life.state in (State.UNKNOWN, State.PENDING) and records.age(nic.tap) < AGAIN[-1]
            self._later(0.0, Announce(nic, 0.0, first=new))
        self._repeat(nic)

    def _repeat(self, nic: Nic, *, arrived: bool = False) -> None:
        """Repeat NIC's announcement while it is young."""
        age = records.age(nic.tap) if nic.mode is Mode.ROUTED and not nic.standby else AGAIN[-1]
        for after in AGAIN:
            if age < after:
                self._later(after - age, Announce(nic, after, arrived=arrived))

    def _later(self, seconds: float, task: Task) -> None:
        self._timers.at(time.monotonic() + seconds, task)


def _discard(_: tuple[Change, ...]) -> None:
    """`up` has said in the log what it did."""
