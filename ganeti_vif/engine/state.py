# SPDX-License-Identifier: BSD-2-Clause
"""The desired or actual state of a node, or of a part of it: objects by their keys. And the order of making them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import get_args

from ganeti_vif.engine.chains import Chain, MapElement, Subchain, VerdictMap
from ganeti_vif.engine.objects import (
    Binding,
    BridgeNetfilter,
    BridgePort,
    BridgeVlan,
    Key,
    Link,
    Module,
    Neighbours,
    OffloadCheck,
    Origin,
    OvsPort,
    Peers,
    ProxyNeighbour,
    Record,
    Route,
    Rule,
    Shaper,
    Sysctl,
    TrunkVlan,
    Up,
)

Object = (
    Origin
    | Record
    | Module
    | Link
    | OffloadCheck
    | VerdictMap
    | Subchain
    | Chain
    | MapElement
    | Peers
    | Sysctl
    | BridgeNetfilter
    | OvsPort
    | BridgePort
    | BridgeVlan
    | TrunkVlan
    | Shaper
    | Up
    | Neighbours
    | Rule
    | Route
    | ProxyNeighbour
    | Binding
)
"""Every kind of object, in the order in which objects are made. docs/architecture.md says how to add one.

The origin and the record come first, because a crash must leave them. The filter comes before the port, and the port
before the device is up. The filter also comes before the peers of a tunnel: who is sent to is let in already. The
shaper comes after the port, because Open vSwitch removes the queueing discipline of a device that it gets. The
neighbours come before the route that leads to them. The binding comes last, when its tap can carry the answer. Removal
uses the reverse order.
"""

ORDER: tuple[type, ...] = get_args(Object)
"""The same kinds, as a sequence."""

State = Mapping[Key, Object]


def state(objects: Iterable[Object]) -> dict[Key, Object]:
    """OBJECTS by their keys.

    Raises ValueError if two different objects have one key. That is a bug: nobody can desire both.
    """
    result: dict[Key, Object] = {}
    for thing in objects:
        other = result.setdefault(thing.key, thing)
        if other != thing:
            raise ValueError(f"two different wishes for {thing.key}: {other} and {thing}")
    return result


def unmet(wanted: Object, actual: Object) -> tuple[tuple[str, object, object], ...]:
    """The fields in which ACTUAL differs from WANTED: (field, actual value, wanted value).

    A field of a wanted Link that is None never differs.
    """
    if wanted == actual:
        return ()
    names = (one.name for one in fields(wanted) if one.compare)
    pairs = ((name, getattr(actual, name), getattr(wanted, name)) for name in names)
    some = isinstance(wanted, Link)
    return tuple(pair for pair in pairs if pair[1] != pair[2] and not (some and pair[2] is None))
