# SPDX-License-Identifier: BSD-2-Clause
"""How a public link gets another table or uplink while guests use it, without an interruption. Pure.

The new path is complete before any packet takes it. Routes and rules come first, then the chains whose marks lead to
them. What is left of the old path goes last, when no packet carries its mark any more.
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
    """CHANGES of the whole node in that order.

    DEAD are the keys of what NICs without a tap left: their removal is not delayed. READY are device names: a route or
    rule to a device that is not READY is not made first.
    """
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
    """The devices that are up. A tap counts only if ACTUAL, what was read from the node, has its filter too."""
    return frozenset(
        name
        for name, device in devices.by_name.items()
        if device.up and (not device.link.is_tap or ("chain", "netdev", f"{name}-in") in actual)
    )


def moved(public: Iterable[Public], changes: Iterable[Change]) -> frozenset[str]:
    """The names of the links in PUBLIC that get another table or uplink through CHANGES."""
    made = [change.wanted for change in changes if isinstance(change, Make)]
    marks = {thing.mark for thing in made if isinstance(thing, Rule)}
    uplinks = {thing.name for thing in made if isinstance(thing, Chain)}
    return frozenset(link.name for link in public if link.mark in marks or f"{link.uplink}-in" in uplinks)
