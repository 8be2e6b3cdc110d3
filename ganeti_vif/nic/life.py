# SPDX-License-Identifier: BSD-2-Clause
"""A NIC's life on one node: in this state, at this event, it gets that state by these effects. Pure.

The states, and what is true of the node in each:

* unknown: this node has no record of the NIC.
* expected: a migration brings the NIC here. Its QEMU is not here yet.
* standby: the tap is filtered and up. Nothing on this node leads to it or answers for it: its guest runs elsewhere.
* claiming: as standby, and the guest was heard on the tap. The other node may still answer for it.
* attached: the NIC has all that it needs, and this node answers for it.
* leaving: as attached, and a migration may take the guest away at any moment.
* pending: the NIC could not be attached. Its record says so, and the daemon tries again.

A bridged NIC is unknown, attached or pending: a bridge finds its guest without us.

The table. An event that has no line for a state changes nothing in that state; `-` asks for nothing. Effects are done
in their order, before the new state counts. If an effect fails, the old state stays, and the failure is the next event:
refused if the record says by then that the NIC is pending, and else failed.

    unknown   coming    expected  -
    unknown   came      standby   listen, keep, plan answer
    unknown   ordered   attached  stop listening, announce soon
    unknown   refused   pending   retry
    unknown   gone      unknown   stop listening

    expected  came      standby   listen, keep, plan answer
    expected  ordered   attached  stop listening, announce soon
    expected  refused   pending   retry
    expected  failed    unknown   stop listening
    expected  ended     unknown   stop listening
    expected  gone      unknown   stop listening

    standby   spoke     claiming  say here, await release
    standby   changed   standby   listen, keep in step
    standby   claimed   standby   listen, say released, keep
    standby   ordered   attached  stop listening, announce soon
    standby   refused   pending   stop listening, retry
    standby   failed    standby   retry
    standby   gone      unknown   stop listening, forget

    claiming  released  attached  answer, announce, stop listening, review
    claiming  changed   claiming  listen, keep in step
    claiming  claimed   standby   stop listening, listen, say released, keep
    claiming  ordered   attached  stop listening, announce soon
    claiming  refused   pending   stop listening, retry
    claiming  failed    standby   stop listening, retry
    claiming  gone      unknown   stop listening, forget

    attached  changed   attached  repair, repeat
    attached  departs   leaving   plan release
    attached  ordered   attached  stop listening, announce soon
    attached  refused   pending   retry
    attached  failed    attached  retry
    attached  gone      unknown   stop listening, forget

    leaving   claimed   standby   listen, release, say released, keep
    leaving   changed   leaving   repair, repeat
    leaving   departs   leaving   plan release
    leaving   ended     attached  stop listening
    leaving   ordered   leaving   announce soon
    leaving   refused   pending   stop listening, retry
    leaving   failed    leaving   retry
    leaving   gone      unknown   stop listening, forget

    pending   changed   attached  stop listening, attach, announce
    pending   claimed   standby   listen, detach, say released, keep
    pending   ordered   attached  stop listening, announce soon
    pending   refused   pending   retry
    pending   failed    pending   retry
    pending   gone      unknown   stop listening, forget
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class State(Enum):
    """Where a NIC is in its life on this node. `ganeti-vif status` and the log show the values."""

    UNKNOWN = "unknown"
    EXPECTED = "expected"
    STANDBY = "standby"
    CLAIMING = "claiming"
    ATTACHED = "attached"
    LEAVING = "leaving"
    PENDING = "pending"


class Event(Enum):
    """What can happen to a NIC."""

    COMING = "coming"
    """Ganeti's hook says that a migration will bring it here."""
    CAME = "came"
    """Its tap is here, and its QEMU waits for the guest."""
    SPOKE = "spoke"
    """Its guest sent a frame on its tap, or QEMU announced the guest there: the guest runs here."""
    RELEASED = "released"
    """The other node says that it does not answer for the NIC any more, or that node was silent for too long."""
    DEPARTS = "departs"
    """Ganeti's hook says that a migration will take it away from here."""
    CLAIMED = "claimed"
    """The other node says on the uplink that the guest runs there."""
    ENDED = "ended"
    """Its migration is over or has failed: Ganeti does something else with the instance, or an hour has passed."""
    ORDERED = "ordered"
    """Ganeti ordered it to be attached, and it was attached."""
    REFUSED = "refused"
    """It could not be attached, and its record says that it is pending."""
    FAILED = "failed"
    """What an event asks for could not be done."""
    CHANGED = "changed"
    """Its tap or a thing that it needs has changed, or it is time to try again."""
    GONE = "gone"
    """Its tap is gone."""


class Effect(Enum):
    """What an event asks for."""

    LISTEN = "listen"
    """Capture what its guest sends on its tap."""
    STOP_LISTENING = "stop listening"
    """Capture nothing for it any more, and drop what was planned for it."""
    KEEP = "keep"
    """Attach it as a NIC on standby."""
    KEEP_IN_STEP = "keep in step"
    """Attach it as a NIC on standby again, which changes what drifted and nothing else."""
    PLAN_ANSWER = "plan answer"
    """See what it will take to answer for it."""
    SAY_HERE = "say here"
    """Say on the uplink that its guest runs here."""
    AWAIT_RELEASE = "await release"
    """Take it as released soon, if the other node stays silent."""
    ANSWER = "answer"
    """Attach it by what was planned."""
    ATTACH = "attach"
    """Attach it."""
    REPAIR = "repair"
    """Attach it again, which changes what drifted and nothing else."""
    ANNOUNCE = "announce"
    """Announce it on the uplink, now and twice more."""
    ANNOUNCE_SOON = "announce soon"
    """The same, as soon as Ganeti has its answer."""
    REPEAT = "repeat"
    """Repeat the announcement if it was attached only a moment ago."""
    REVIEW = "review"
    """See soon whether it has all it needs: what was planned may have been old."""
    PLAN_RELEASE = "plan release"
    """See what it will take to stop answering for it."""
    RELEASE = "release"
    """Stop answering for it, at once."""
    DETACH = "detach"
    """Take away what it has here: else it would be attached as soon as it can be."""
    SAY_RELEASED = "say released"
    """Say on the uplink that this node does not answer for it any more."""
    RETRY = "retry"
    """Try again later, after twice as long each time."""
    FORGET = "forget"
    """Remove what it left on this node."""


Step = tuple[State, tuple[Effect, ...]]

_STANDBY = (Effect.LISTEN, Effect.KEEP, Effect.PLAN_ANSWER)
_ORDERED = (State.ATTACHED, (Effect.STOP_LISTENING, Effect.ANNOUNCE_SOON))
_GONE = (State.UNKNOWN, (Effect.STOP_LISTENING, Effect.FORGET))
_NEVER_CAME = (State.UNKNOWN, (Effect.STOP_LISTENING,))
_REFUSED = (State.PENDING, (Effect.STOP_LISTENING, Effect.RETRY))

TABLE: Mapping[tuple[State, Event], Step] = {
    (State.UNKNOWN, Event.COMING): (State.EXPECTED, ()),
    (State.UNKNOWN, Event.CAME): (State.STANDBY, _STANDBY),
    (State.UNKNOWN, Event.ORDERED): _ORDERED,
    (State.UNKNOWN, Event.REFUSED): (State.PENDING, (Effect.RETRY,)),
    (State.UNKNOWN, Event.GONE): _NEVER_CAME,
    (State.EXPECTED, Event.CAME): (State.STANDBY, _STANDBY),
    (State.EXPECTED, Event.ORDERED): _ORDERED,
    (State.EXPECTED, Event.REFUSED): (State.PENDING, (Effect.RETRY,)),
    (State.EXPECTED, Event.FAILED): _NEVER_CAME,
    (State.EXPECTED, Event.ENDED): _NEVER_CAME,
    (State.EXPECTED, Event.GONE): _NEVER_CAME,
    (State.STANDBY, Event.SPOKE): (State.CLAIMING, (Effect.SAY_HERE, Effect.AWAIT_RELEASE)),
    (State.STANDBY, Event.CHANGED): (State.STANDBY, (Effect.LISTEN, Effect.KEEP_IN_STEP)),
    (State.STANDBY, Event.CLAIMED): (State.STANDBY, (Effect.LISTEN, Effect.SAY_RELEASED, Effect.KEEP)),
    (State.STANDBY, Event.ORDERED): _ORDERED,
    (State.STANDBY, Event.REFUSED): _REFUSED,
    (State.STANDBY, Event.FAILED): (State.STANDBY, (Effect.RETRY,)),
    (State.STANDBY, Event.GONE): _GONE,
    (State.CLAIMING, Event.RELEASED): (
        State.ATTACHED,
        (Effect.ANSWER, Effect.ANNOUNCE, Effect.STOP_LISTENING, Effect.REVIEW),
    ),
    (State.CLAIMING, Event.CHANGED): (State.CLAIMING, (Effect.LISTEN, Effect.KEEP_IN_STEP)),
    (State.CLAIMING, Event.CLAIMED): (
        State.STANDBY,
        (Effect.STOP_LISTENING, Effect.LISTEN, Effect.SAY_RELEASED, Effect.KEEP),
    ),
    (State.CLAIMING, Event.ORDERED): _ORDERED,
    (State.CLAIMING, Event.REFUSED): _REFUSED,
    (State.CLAIMING, Event.FAILED): (State.STANDBY, (Effect.STOP_LISTENING, Effect.RETRY)),
    (State.CLAIMING, Event.GONE): _GONE,
    (State.ATTACHED, Event.CHANGED): (State.ATTACHED, (Effect.REPAIR, Effect.REPEAT)),
    (State.ATTACHED, Event.DEPARTS): (State.LEAVING, (Effect.PLAN_RELEASE,)),
    (State.ATTACHED, Event.ORDERED): _ORDERED,
    (State.ATTACHED, Event.REFUSED): (State.PENDING, (Effect.RETRY,)),
    (State.ATTACHED, Event.FAILED): (State.ATTACHED, (Effect.RETRY,)),
    (State.ATTACHED, Event.GONE): _GONE,
    (State.LEAVING, Event.CLAIMED): (
        State.STANDBY,
        (Effect.LISTEN, Effect.RELEASE, Effect.SAY_RELEASED, Effect.KEEP),
    ),
    (State.LEAVING, Event.CHANGED): (State.LEAVING, (Effect.REPAIR, Effect.REPEAT)),
    (State.LEAVING, Event.DEPARTS): (State.LEAVING, (Effect.PLAN_RELEASE,)),
    (State.LEAVING, Event.ENDED): (State.ATTACHED, (Effect.STOP_LISTENING,)),
    (State.LEAVING, Event.ORDERED): (State.LEAVING, (Effect.ANNOUNCE_SOON,)),
    (State.LEAVING, Event.REFUSED): _REFUSED,
    (State.LEAVING, Event.FAILED): (State.LEAVING, (Effect.RETRY,)),
    (State.LEAVING, Event.GONE): _GONE,
    (State.PENDING, Event.CHANGED): (State.ATTACHED, (Effect.STOP_LISTENING, Effect.ATTACH, Effect.ANNOUNCE)),
    (State.PENDING, Event.CLAIMED): (
        State.STANDBY,
        (Effect.LISTEN, Effect.DETACH, Effect.SAY_RELEASED, Effect.KEEP),
    ),
    (State.PENDING, Event.ORDERED): _ORDERED,
    (State.PENDING, Event.REFUSED): (State.PENDING, (Effect.RETRY,)),
    (State.PENDING, Event.FAILED): (State.PENDING, (Effect.RETRY,)),
    (State.PENDING, Event.GONE): _GONE,
}
"""The table of the docstring above; tests/unit/test_life.py compares the two."""

RECORDED: Mapping[State, State] = {
    State.UNKNOWN: State.UNKNOWN,
    State.EXPECTED: State.UNKNOWN,
    State.STANDBY: State.STANDBY,
    State.CLAIMING: State.STANDBY,
    State.ATTACHED: State.ATTACHED,
    State.LEAVING: State.ATTACHED,
    State.PENDING: State.PENDING,
}
"""What a NIC's record says of each state. A daemon that starts anew knows no more than that."""

ANSWERS = frozenset({State.ATTACHED, State.LEAVING})
"""The states in which this node answers for the NIC's addresses."""


def step(state: State, event: Event) -> Step:
    """The state of a NIC after EVENT in STATE, and the effects by which it gets there, in their order."""
    return TABLE.get((state, event), (state, ()))


def now(remembered: State, recorded: State) -> State:
    """The state of a NIC of which the daemon REMEMBERED one thing, and its record says the other.

    The record is right: somebody else may have changed it, an administrator or Ganeti's script without the daemon.
    """
    return remembered if RECORDED[remembered] is recorded else recorded
