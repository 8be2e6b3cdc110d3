# SPDX-License-Identifier: BSD-2-Clause
"""Detaching one NIC: what it may leave behind goes, and a tap that lives is again what it was before.

The caller holds the lock `nics` (system/lock.py).
"""

from __future__ import annotations

from ganeti_vif.config.model import Config
from ganeti_vif.desired.context import Context
from ganeti_vif.desired.needs import needs
from ganeti_vif.engine.apply import clear
from ganeti_vif.engine.chains import Chain, MapElement
from ganeti_vif.engine.difference import Change, Remove, difference
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.objects import (
    BridgePort,
    BridgeVlan,
    Key,
    Neighbours,
    OffloadCheck,
    Origin,
    OvsPort,
    Peers,
    ProxyNeighbour,
    Record,
    Route,
    Shaper,
    Up,
)
from ganeti_vif.engine.state import Object, State
from ganeti_vif.lifecycle.context import context_of
from ganeti_vif.lifecycle.recorded import former_owner
from ganeti_vif.nic.identity import has_tap, is_tap_of
from ganeti_vif.nic.nic import Nic
from ganeti_vif.nic.origin import before_of, given_back
from ganeti_vif.nic.record import record_of
from ganeti_vif.system import log, records
from ganeti_vif.system.node import Node


def detach(nic: Nic, config: Config, node: Node, *, dry_run: bool = False) -> tuple[Change, ...]:
    """Take away what is NIC's own, as much of it as possible; a tap that lives is again what it was before. Returns the
    changes that were (or would be) made.

    Raises Failure, about this NIC, after everything was tried.
    """
    try:
        own = dict(removable(nic, config, node))
        back = _given_back(nic, own, node)
        changes = _closed_last(difference(back, node.read([*own.values(), *back.values()]), own))
        if not dry_run:
            clear_closed(changes, node)
    except Failure as failure:
        raise failure.about(nic.whom) from failure
    return changes


def clear_closed(changes: tuple[Change, ...], node: Node) -> None:
    """Make CHANGES, which take something away from a tap; its filter goes last, and only if the tap is connected to
    nothing by then. So no tap is open, although something could not be done.

    Raises Failure after everything else was tried. The filter and the record that stayed are for the next attempt.
    """
    ordered = _closed_last(changes)
    last = tuple(change for change in ordered if _closes(change))
    rest = tuple(change for change in ordered if not _closes(change))
    try:
        clear(rest, node)
    except Failure:
        connects = [c.actual for c in rest if isinstance(c, Remove) and isinstance(c.actual, _CONNECTS)]
        if not node.read(connects):
            clear(last, node)
        raise
    clear(last, node)


def forget(nic: Nic, config: Config, node: Node) -> None:
    """Clear what NIC leaves behind, whose tap is gone. Raises Failure."""
    changes = detach(nic, config, node)
    log.say(f"{nic.whom}: its tap is gone, {len(changes)} leftovers removed; NIC {nic.uuid}")


def removable(nic: Nic, config: Config, node: Node, context: Context | None = None) -> State:
    """What NIC may leave behind and nobody else wants: the things that detaching it takes away. CONTEXT is the
    node around it, if it was read a moment ago."""
    record, origin = records.read_record(nic.tap), records.read_origin(nic.tap)
    noted: dict[Key, Object] = {origin.key: origin} if origin else {}
    if record == record_of(nic, pending=True):
        return noted | {record.key: record}
    context = context or context_of(nic, config, node)
    own: dict[Key, Object] = noted | needs(nic, config, context).removable
    if not has_tap(nic, context.tap):
        own = {key: thing for key, thing in own.items() if not _of_the_device(thing, nic.tap)}
    if any(isinstance(thing, ProxyNeighbour) for thing in own.values()):
        # Its address may live behind another tap by now: a restarted VM gets the same address and a new tap. Then the
        # address leads there, since a NIC has its route before its proxy entry.
        for tap in {route.device for route in context.overlapping if route.device}:
            if other := former_owner(tap):
                kept = needs(other, config, context_of(other, config, node)).own
                own = {key: thing for key, thing in own.items() if key not in kept}
    return own


def _given_back(nic: Nic, own: dict[Key, Object], node: Node) -> State:
    """What NIC's tap is to be again, if it lives."""
    device = node.link(nic.tap)
    if device is None or not has_tap(nic, device):
        return {}
    if not device.is_tap:
        own.pop(("up", nic.tap), None)  # an older version took it for a tap: it may be how the node is reached
    before = before_of(own.get(("origin", nic.tap)))
    if before is None or not is_tap_of(nic, nic.tap, before.index):
        return {}
    bridge = node.devices([before.bridge]).by_name.get(before.bridge) if before.bridge else None
    bridges = frozenset({bridge.name}) if bridge and bridge.link.kind == "bridge" else frozenset[str]()
    return {thing.key: thing for thing in given_back(nic.tap, before, bridges)}


def _closed_last(changes: tuple[Change, ...]) -> tuple[Change, ...]:
    """CHANGES with the filter's end after all others but the record's: so a tap is never open in a place of ours, nor
    where it was before until that is complete; and who dies on the way is finished by the same again."""
    last = [change for change in changes if _closes(change)]
    return (*(change for change in changes if change not in last), *last)


_CONNECTS = Up | BridgePort | OvsPort | Route
"""What connects a guest: a tap that is up, a port, a route."""


def _closes(change: Change) -> bool:
    """Whether CHANGE ends what keeps a tap closed, or what tells that it is one of ours."""
    kinds = OffloadCheck | Chain | MapElement | Record | Origin
    return isinstance(change, Remove) and isinstance(change.actual, kinds)


def _of_the_device(thing: Object, tap: str) -> bool:
    """Whether the kernel takes THING away with the tap. Found later, it belongs to the name's next owner."""
    if isinstance(thing, ProxyNeighbour):
        return thing.device == tap
    return isinstance(thing, OffloadCheck | Shaper | Up | BridgePort | BridgeVlan | Peers | Neighbours | Route)
