# SPDX-License-Identifier: BSD-2-Clause
"""The difference between desired and actual: a list of changes, in the order in which they must be made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, assert_never

from ganeti_vif.engine.objects import Key, Link, Peers
from ganeti_vif.engine.state import ORDER, Object, State, unmet


@dataclass(frozen=True, slots=True)
class Make:
    """WANTED does not exist. Make it."""

    wanted: Object


@dataclass(frozen=True, slots=True)
class Alter:
    """ACTUAL exists and differs from WANTED. Both have the same key. Change it."""

    actual: Object
    wanted: Object


@dataclass(frozen=True, slots=True)
class Remove:
    """ACTUAL exists and is ours, and it is not desired. Remove it."""

    actual: Object


Change = Make | Alter | Remove

_RANK = {kind: rank for rank, kind in enumerate(ORDER)}


def difference(desired: State, actual: State, stale: Iterable[Key] = ()) -> tuple[Change, ...]:
    """The changes that turn ACTUAL into DESIRED.

    STALE are keys of objects that carry our mark. Of these, the objects that exist and are not desired are removed.
    Removals come first, in the reverse order of making. So the leftovers of a tap's former owner are gone before the
    new NIC works. Peers that go are left before the filter is closed to them, and peers that come are let in first.
    """
    left: list[Change] = []
    makes: list[Change] = []
    for key in sorted(desired, key=lambda key: _RANK[type(desired[key])]):
        wanted = desired[key]
        found = actual.get(key)
        if found is None:
            makes.append(Make(wanted))
        elif isinstance(wanted, Peers) and isinstance(found, Peers):
            kept = replace(wanted, addresses=found.addresses & wanted.addresses)
            left += [Alter(found, kept)] if kept != found else []
            makes += [Alter(kept, wanted)] if kept != wanted else []
        elif unmet(wanted, found):
            makes.append(Alter(found, wanted))
    leftovers = {key: actual[key] for key in stale if key in actual and key not in desired}
    removes = sorted(leftovers.values(), key=lambda thing: (-_RANK[type(thing)], str(thing.key)))
    return (*(Remove(thing) for thing in removes), *left, *makes)


def inverse(change: Change) -> Change:
    """The change that undoes CHANGE. Of a Link, it restores only the fields that CHANGE sets."""
    match change:
        case Make(wanted):
            return Remove(wanted)
        case Remove(actual):
            return Make(actual)
        case Alter(Link() as actual, Link() as wanted):
            before: dict[str, Any] = {name: value for name, value, _ in unmet(wanted, actual)}
            return Alter(wanted, replace(wanted, **before))
        case Alter(actual, wanted):
            return Alter(wanted, actual)
        case _:
            assert_never(change)


def subject(change: Change) -> Object:
    """The object of CHANGE: the wanted one, or the actual one if CHANGE removes it."""
    return change.actual if isinstance(change, Remove) else change.wanted
