# SPDX-License-Identifier: BSD-2-Clause
"""How a public link gets another table or uplink while guests use it, without a moment in which they have none. Pure.

The new way is complete before any packet takes it: routes and rules first, then the chains whose marks lead there, and
what is left of the old way goes last, when nothing carries its mark any more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ganeti_vif.config.model import Public
from ganeti_vif.engine.chains import Chain
from ganeti_vif.engine.difference import Change, Make, Remove
from ganeti_vif.engine.objects import Route, Rule
from ganeti_vif.engine.state import State
from ganeti_vif.kernel.netlink.links import Devices


def without_a_gap(changes: Iterable[Change], dead: Collection[object], ready: Collection[str]) -> tuple[Change, ...]:
    """CHANGES of the whole node, in that order. Nothing that is among the DEAD, the keys of what NICs without a tap
    left, is kept for longer; and no way leads to a device that is not READY."""
    first: list[Change] = []
    then: list[Change] = []
    last: list[Change] = []
    for change in changes:
        match change:
            case Make(Route() | Rule() as way) if way.device is None or way.device in ready:
                first.append(change)
            case Remove(thing) if thing.key not in dead:
                last.append(change)
            case _:
                then.append(change)
    return (*first, *then, *last)


def ready(devices: Devices, actual: State) -> frozenset[str]:
    """The devices that are up and, if they are taps, filtered, by what was read as ACTUAL."""
    return frozenset(
        name
        for name, device in devices.by_name.items()
        if device.up and (not device.link.is_tap or ("chain", "netdev", f"{name}-in") in actual)
    )


def moved(public: Iterable[Public], changes: Iterable[Change]) -> frozenset[str]:
    """The names of the links of PUBLIC that get another table, or another uplink, by CHANGES."""
    made = [change.wanted for change in changes if isinstance(change, Make)]
    marks = {thing.mark for thing in made if isinstance(thing, Rule)}
    uplinks = {thing.name for thing in made if isinstance(thing, Chain)}
    return frozenset(link.name for link in public if link.mark in marks or f"{link.uplink}-in" in uplinks)
