# SPDX-License-Identifier: BSD-2-Clause
"""The life of a NIC: the table as it is written down, each event in each state, and two nodes between which a guest
moves, in any order of events."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ganeti_vif.nic import life
from ganeti_vif.nic.life import ANSWERS, RECORDED, TABLE, Effect, Event, State, now, step

E, S = Effect, State

CHANGES = {E.KEEP, E.KEEP_IN_STEP, E.ANSWER, E.ATTACH, E.REPAIR, E.RELEASE, E.DETACH, E.FORGET}
"""The effects that change the node."""
SAID = {E.SAY_HERE, E.SAY_RELEASED, E.ANNOUNCE, E.ANNOUNCE_SOON, E.REPEAT}
"""The effects by which others hear of the NIC."""


def written() -> dict[tuple[State, Event], tuple[State, tuple[Effect, ...]]]:
    """The table of the docstring."""
    assert life.__doc__
    found = {}
    for line in life.__doc__.splitlines():
        if line.startswith("    "):
            state, event, new, effects = line.split(maxsplit=3)
            asked = tuple(Effect(word.strip()) for word in effects.split(",")) if effects != "-" else ()
            key = (State(state), Event(event))
            assert key not in found, key
            found[key] = (State(new), asked)
    return found


def test_the_table_is_the_one_that_the_docstring_shows() -> None:
    assert written() == dict(TABLE)


@pytest.mark.parametrize("event", Event)
@pytest.mark.parametrize("state", State)
def test_an_event_that_means_nothing_in_a_state_changes_nothing(state: State, event: Event) -> None:
    if (state, event) not in TABLE:
        assert step(state, event) == (state, ())


IMPOSSIBLE = {
    S.UNKNOWN: {Event.SPOKE, Event.RELEASED, Event.CLAIMED, Event.DEPARTS, Event.CHANGED, Event.ENDED, Event.FAILED},
    S.EXPECTED: {Event.SPOKE, Event.RELEASED, Event.CLAIMED, Event.DEPARTS, Event.CHANGED, Event.COMING},
    S.STANDBY: {Event.RELEASED, Event.DEPARTS, Event.COMING, Event.CAME, Event.ENDED},
    S.CLAIMING: {Event.SPOKE, Event.DEPARTS, Event.COMING, Event.CAME, Event.ENDED},
    S.ATTACHED: {Event.SPOKE, Event.RELEASED, Event.CLAIMED, Event.COMING, Event.CAME, Event.ENDED},
    S.LEAVING: {Event.SPOKE, Event.RELEASED, Event.COMING, Event.CAME},
    S.PENDING: {Event.SPOKE, Event.RELEASED, Event.DEPARTS, Event.COMING, Event.CAME, Event.ENDED},
}


@pytest.mark.parametrize("state", State)
def test_each_event_is_in_the_table_or_means_nothing(state: State) -> None:
    """What is left out is left out on purpose."""
    assert {event for event in Event if (state, event) not in TABLE} == IMPOSSIBLE[state]


@pytest.mark.parametrize("state", State)
def test_an_address_is_never_taken_from_a_guest_that_stays(state: State) -> None:
    """Only a node that was told of a migration, or could not attach the NIC, believes that it is elsewhere."""
    new, effects = step(state, Event.CLAIMED)
    if state not in (S.LEAVING, S.PENDING):
        assert RECORDED[new] is RECORDED[state]
        assert not {E.RELEASE, E.DETACH, E.FORGET} & set(effects)


@pytest.mark.parametrize(("key", "then"), TABLE.items(), ids=lambda pair: str(pair))
def test_what_a_transition_does_is_what_its_states_say(
    key: tuple[State, Event], then: tuple[State, tuple[Effect, ...]]
) -> None:
    (state, event), (new, effects) = key, then
    told = event in (Event.ORDERED, Event.REFUSED)  # then the record says it already
    if not told and RECORDED[state] is not RECORDED[new]:
        assert CHANGES & set(effects) or state is S.UNKNOWN, "a record changes by an effect that changes the node"
    if new in ANSWERS and state not in ANSWERS and not told:
        assert {E.ANSWER, E.ATTACH} & set(effects)
        assert E.ANNOUNCE in effects, "who answers anew says so"
        assert effects.index(E.ANNOUNCE) > min(effects.index(e) for e in (E.ANSWER, E.ATTACH) if e in effects)
    if state in ANSWERS and new not in (*ANSWERS, S.PENDING):
        assert {E.RELEASE, E.FORGET} & set(effects)
    if E.SAY_RELEASED in effects:
        done = [effects.index(e) for e in (E.RELEASE, E.DETACH) if e in effects]
        assert all(place < effects.index(E.SAY_RELEASED) for place in done), "first it lets go, then it says so"
    if E.RELEASE in effects:
        assert effects.index(E.LISTEN) < effects.index(E.RELEASE), "or the guest's only frame comes between"
    if new is S.STANDBY and event is not Event.FAILED:
        assert {E.KEEP, E.KEEP_IN_STEP} & set(effects), "whatever happened to it, it is filtered"
    if new not in (S.STANDBY, S.CLAIMING) and state in (S.STANDBY, S.CLAIMING):
        assert E.STOP_LISTENING in effects, "nothing is captured for a guest that nobody waits for"
    if event in (Event.FAILED, Event.REFUSED):
        assert E.RETRY in effects or new is S.UNKNOWN
        assert not CHANGES & set(effects)
    if event is Event.GONE:
        assert new is S.UNKNOWN
        assert E.FORGET in effects or RECORDED[state] is S.UNKNOWN


PATHS: dict[str, tuple[State, list[tuple[Event, State]]]] = {
    "a guest comes": (
        S.UNKNOWN,
        [(Event.COMING, S.EXPECTED), (Event.CAME, S.STANDBY), (Event.SPOKE, S.CLAIMING), (Event.RELEASED, S.ATTACHED)],
    ),
    "a guest leaves": (S.ATTACHED, [(Event.DEPARTS, S.LEAVING), (Event.CLAIMED, S.STANDBY), (Event.GONE, S.UNKNOWN)]),
    "a guest comes back": (S.STANDBY, [(Event.SPOKE, S.CLAIMING), (Event.RELEASED, S.ATTACHED)]),
    "a guest stays": (S.ATTACHED, [(Event.DEPARTS, S.LEAVING), (Event.ENDED, S.ATTACHED)]),
    "a guest that never comes": (S.UNKNOWN, [(Event.COMING, S.EXPECTED), (Event.ENDED, S.UNKNOWN)]),
    "a guest that cannot be answered for": (
        S.CLAIMING,
        [(Event.REFUSED, S.PENDING), (Event.FAILED, S.PENDING), (Event.CHANGED, S.ATTACHED)],
    ),
    "a pending guest leaves": (S.PENDING, [(Event.DEPARTS, S.PENDING), (Event.CLAIMED, S.STANDBY)]),
    "a repair fails": (S.ATTACHED, [(Event.FAILED, S.ATTACHED), (Event.CHANGED, S.ATTACHED)]),
}


@pytest.mark.parametrize(("state", "path"), PATHS.values(), ids=PATHS)
def test_the_ways_that_nics_go(state: State, path: list[tuple[Event, State]]) -> None:
    """Random orders may come by these seldom: so they are gone one by one."""
    for event, then in path:
        state, _ = step(state, event)
        assert state is then


@pytest.mark.parametrize("recorded", dict.fromkeys(RECORDED.values()), ids=lambda state: state.value)
@pytest.mark.parametrize("remembered", State)
def test_the_record_is_right_where_it_says_another_thing(remembered: State, recorded: State) -> None:
    assert RECORDED[now(remembered, recorded)] is recorded
    if RECORDED[remembered] is recorded:
        assert now(remembered, recorded) is remembered


@dataclass
class Host:
    """A node as far as one NIC is concerned, and its daemon."""

    state: State = S.UNKNOWN
    tap: bool = False
    watches: bool = False
    listens: bool = False
    filtered: bool = False
    routed: bool = False
    waits: bool = False
    said: list[str] = field(default_factory=list)

    @property
    def answers(self) -> bool:
        """The kernel takes the routes away with the tap."""
        return self.routed and self.tap

    def happen(self, event: Event, fails: bool = False) -> None:
        new, effects = step(self.state, event)
        for effect in effects:
            if fails and effect in CHANGES:
                self.happen(Event.FAILED)
                return
            self._do(effect)
        self.state = new
        self.waits = self.waits and new is S.CLAIMING

    def _do(self, effect: Effect) -> None:
        match effect:
            case E.LISTEN:
                self.listens = True
            case E.STOP_LISTENING:
                self.listens = self.waits = False
            case E.KEEP | E.KEEP_IN_STEP:
                self.filtered, self.routed = True, False
            case E.ANSWER | E.ATTACH | E.REPAIR:
                self.filtered = self.routed = True
            case E.RELEASE:
                self.routed = False
            case E.DETACH | E.FORGET:
                self.filtered = self.routed = False
            case E.SAY_HERE:
                self.said.append("here")
            case E.SAY_RELEASED:
                self.said.append("released")
            case E.ANNOUNCE:
                self.said.append("announced")
            case E.AWAIT_RELEASE:
                self.waits = True


class Moves(RuleBasedStateMachine):
    """A guest moves from the source to the target, or does not, while everything comes in any order.

    What is taken for granted: the guest runs at one place (QEMU), it runs on the source again only when the target's
    QEMU is dead, and a frame on the uplink arrives within the time that the target waits. A frame is never lost; what
    a lost one costs is the next class.
    """

    lossy = False

    @initialize()
    def start(self) -> None:
        self.source = Host(S.ATTACHED, tap=True, filtered=True, routed=True)
        self.target = Host()
        self.guest = self.source
        self.over = False

    # Ganeti, QEMU and the guest

    @rule()
    def the_hook_comes(self) -> None:
        if not self.target.tap and self.source.tap and not self.over:
            self.source.happen(Event.DEPARTS)
            self.source.watches = True
            self.target.happen(Event.COMING)

    @precondition(lambda self: not self.target.tap and not self.over and self.source.watches)
    @rule()
    def the_targets_qemu_starts(self) -> None:
        self.target.tap = True

    @precondition(lambda self: self.target.tap and self.target.state in (S.UNKNOWN, S.EXPECTED))
    @rule()
    def the_target_sees_its_tap(self) -> None:
        self.target.happen(Event.CAME)

    @precondition(lambda self: self.target.tap and self.source.tap and self.guest is self.source)
    @rule()
    def the_guest_moves(self) -> None:
        self.guest = self.target

    @rule()
    def the_guest_speaks(self) -> None:
        if self.guest.tap and self.guest.listens:
            self.guest.happen(Event.SPOKE)

    @precondition(lambda self: self.target.tap and self.source.tap)
    @rule()
    def the_targets_qemu_dies(self) -> None:
        self.target.tap = False
        self.guest = self.source

    @precondition(lambda self: self.guest is self.target and self.source.tap)
    @rule()
    def the_sources_qemu_ends(self) -> None:
        self.source.tap = False

    @precondition(lambda self: not self.source.tap and self.target.tap)
    @rule()
    def ganeti_calls_the_target(self) -> None:
        self.target.filtered = self.target.routed = True
        self.target.happen(Event.ORDERED)

    @rule()
    def the_hook_ends_it(self) -> None:
        for host in (self.source, self.target):
            host.happen(Event.ENDED)
        self.source.watches = False

    # The daemons

    @rule()
    def a_daemon_hears_that_a_tap_is_gone(self) -> None:
        for host in (self.source, self.target):
            if not host.tap and host.state is not S.EXPECTED:
                host.happen(Event.GONE)

    @rule()
    def everything_is_surveyed(self) -> None:
        for host in (self.source, self.target):
            if host.tap:
                host.happen(Event.CHANGED)

    @precondition(lambda self: self.target.said)
    @rule()
    def the_source_hears(self) -> None:
        self.target.said.pop(0)
        if self.source.watches:
            self.source.happen(Event.CLAIMED)

    @precondition(lambda self: "released" in self.source.said)
    @rule()
    def the_target_hears(self) -> None:
        self.source.said.remove("released")
        if self.target.waits:
            self.target.happen(Event.RELEASED)

    @rule()
    def waiting_ends(self) -> None:
        """A frame that is on its way arrives before that."""
        for host, other in ((self.source, self.target), (self.target, self.source)):
            if host.waits and "here" not in host.said and "released" not in other.said:
                host.happen(Event.RELEASED)

    # What must be true

    @invariant()
    def one_node_answers(self) -> None:
        if not self.lossy:
            assert not (self.source.answers and self.target.answers)

    @invariant()
    def no_tap_is_connected_without_a_filter(self) -> None:
        for host in (self.source, self.target):
            if RECORDED[host.state] in (S.STANDBY, S.ATTACHED):
                assert host.filtered

    def teardown(self) -> None:
        """Ganeti ends it, the guest speaks, all is heard: one node answers for it, and nothing is left on the other."""
        self.guest.tap = True
        other = self.target if self.guest is self.source else self.source
        other.tap = False
        other.happen(Event.GONE)
        if self.guest is self.target:
            self.ganeti_calls_the_target()
        for _ in range(3):
            self.the_guest_speaks()
            while self.target.said:
                self.the_source_hears()
            while "released" in self.source.said:
                self.the_target_hears()
            self.waiting_ends()
        self.the_hook_ends_it()
        assert self.guest.answers
        assert self.guest.state is S.ATTACHED
        assert not self.guest.listens
        assert (other.state, other.listens, other.filtered, other.routed) == (S.UNKNOWN, False, False, False)


class LossyMoves(Moves):
    """The same, and frames on the uplink are lost: two may answer meanwhile, and in the end one does."""

    lossy = True

    @rule()
    def a_frame_is_lost(self) -> None:
        for host in (self.source, self.target):
            if host.said:
                host.said.pop(0)


TestMoves = Moves.TestCase
TestLossyMoves = LossyMoves.TestCase
TestMoves.settings = TestLossyMoves.settings = settings(stateful_step_count=40)
