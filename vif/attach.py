"""Attaching and detaching one NIC: what it needs, what there is, the difference, done or undone.

Whoever calls holds the lock `nics` (outside/lock.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from config.model import Config
from engine.apply import apply, clear
from engine.chains import Chain, MapElement
from engine.difference import Alter, Change, Make, Remove, difference
from engine.failure import Failure
from engine.objects import Binding, BridgePort, BridgeVlan, Key, Origin, ProxyNeighbour, Record, Route, Up
from engine.state import Object, State
from nfdhcpd_bridge.binding import is_ours
from outside import records
from outside.node import Node
from vif.look_around import look_around
from vif.needs import needs, only_here
from vif.nic import Nic
from vif.origin import before_of, given_back, kept, origin_of, places
from vif.record import nic_of, record_of
from vif.surroundings import Surroundings, obstacle


@dataclass(frozen=True, slots=True)
class Plan:
    """What an attach will do. LEFTOVERS are of a former owner of the tap's name: they go, and stay gone even if
    the attach fails. CHANGES are all done or all undone."""

    leftovers: tuple[Change, ...]
    changes: tuple[Change, ...]

    @property
    def all(self) -> tuple[Change, ...]:
        return (*self.leftovers, *self.changes)


def attach(
    nic: Nic,
    config: Config,
    node: Node,
    *,
    plan: Plan | None = None,
    adopted: bool = False,
    dry_run: bool = False,
) -> tuple[Change, ...]:
    """Give NIC all that it needs, or nothing. Returns the changes that were (or would be) made. PLAN is what it takes,
    if there was time to see that before. ADOPTED if somebody else had attached it.

    Raises Failure, about this NIC, with the node as it was before.
    """
    try:
        if plan is None or not _has_its_tap(nic, node):
            plan = attach_plan(nic, config, node, adopted=adopted)
        if not dry_run:
            clear(plan.leftovers, node)
            apply(plan.changes, node)
    except Failure as failure:
        raise failure.about(nic.whom) from failure
    return plan.all


def attach_plan(nic: Nic, config: Config, node: Node, *, adopted: bool = False) -> Plan:
    """What attaching NIC takes. Raises Failure if something on this node stands against it."""
    around = look_around(nic, config, node)
    if failure := obstacle(nic, around):
        raise failure
    wanted = needs(nic, config, around).all
    former = _former(nic.tap)
    unmoved = former is not None and replace(former, elsewhere=nic.elsewhere) == nic
    before = dict(removable(former, config, node, around if unmoved else None)) if former else {}
    if former and (former.uuid, former.index) == (nic.uuid, nic.index):
        actual = node.read([*wanted.values(), *before.values(), *places(nic.tap)])
        wanted |= _origin(nic, former, wanted, actual, closed=adopted)
        return Plan((), difference(wanted, actual, before))
    known = wanted.keys() | before.keys()
    unrecorded = {thing.key: thing for thing in _places(nic.tap, config) if thing.key not in known}
    actual = node.read([*wanted.values(), *before.values(), *unrecorded.values(), *places(nic.tap)])
    wanted |= _origin(nic, former, wanted, actual, closed=adopted)
    stale = [*before, *(key for key in unrecorded if _ours(actual.get(key)))]
    leftovers = difference({}, actual, stale)
    return Plan(leftovers, difference(wanted, {key: actual[key] for key in actual.keys() - set(stale)}))


def _origin(nic: Nic, former: Nic | None, wanted: State, actual: State, *, closed: bool) -> State:
    """What NIC's tap was before it was attached the first time, if that is known."""
    known, now = actual.get(("origin", nic.tap)), origin_of(nic.tap, wanted, actual, closed=closed)
    before = before_of(known)
    if before and before.index == nic.index and isinstance(known, Origin) and now:
        now = kept(known, now)
    elif former and former.index == nic.index and records.record_of(nic.tap) == record_of(former):
        return {}  # attached by a version that noted nothing: what it is now is our own work
    elif former is None and any(_filters(thing, nic.tap) for thing in actual.values()):
        return {}  # the same, and its record was lost
    return {now.key: now} if now else {}


def _filters(thing: Object, tap: str) -> bool:
    return isinstance(thing, Chain) and thing.device == tap


def _places(tap: str, config: Config) -> Iterator[Object]:
    """Where a NIC of which there is no record may have left something under the name of its TAP.

    Records go with a reboot and bindings do not; and since Linux 6.16 or so a chain outlives its device and hangs on
    the next one of that name. What is wanted there is replaced; what is not wanted must not be the next NIC's.
    """
    for suffix in ("in", "out"):
        name = f"{tap}-{suffix}"
        yield Chain(family="netdev", name=name, hook="", device=tap, priority=0, policy="", rules=())
    yield Binding(directory=config.bindings.directory, tap=tap, text="")


def _ours(thing: Object | None) -> bool:
    """Whether what was found in one of these places carries our mark: chains do by their table."""
    return isinstance(thing, Chain) or (isinstance(thing, Binding) and is_ours(thing.text))


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
            clear(changes, node)
    except Failure as failure:
        raise failure.about(nic.whom) from failure
    return changes


def _given_back(nic: Nic, own: dict[Key, Object], node: Node) -> State:
    """What NIC's tap is to be again, if it lives."""
    device = node.devices([nic.tap]).by_name.get(nic.tap)
    if device is None or device.index != nic.index:
        return {}
    if not device.link.is_tap:
        own.pop(("up", nic.tap), None)  # an older version took it for a tap: it may be how the node is reached
    before = before_of(own.get(("origin", nic.tap)))
    if before is None or before.index != nic.index:
        return {}
    bridge = node.devices([before.bridge]).by_name.get(before.bridge) if before.bridge else None
    bridges = frozenset({bridge.name}) if bridge and bridge.link.kind == "bridge" else frozenset[str]()
    return {thing.key: thing for thing in given_back(nic.tap, before, bridges)}


def _closed_last(changes: tuple[Change, ...]) -> tuple[Change, ...]:
    """CHANGES with the filter's end after all others but the record's: so a tap is never open in a place of ours, nor
    where it was before until that is complete; and who dies on the way is finished by the same again."""
    last = [c for c in changes if isinstance(c, Remove) and isinstance(c.actual, Chain | MapElement | Record | Origin)]
    return (*(change for change in changes if change not in last), *last)


def let_go(nic: Nic, config: Config, node: Node, *, plan: tuple[Change, ...] | None = None) -> tuple[Change, ...]:
    """Speak for NIC no more, at once: its guest runs on another node, which waits for this. An attach as elsewhere does
    the rest. PLAN is what it takes, if there was time to see that before.

    Returns the changes. Raises Failure after everything was tried.
    """
    changes = plan or let_go_plan(nic, config, node)
    try:
        clear(changes, node)
    except Failure as failure:
        raise failure.about(nic.whom) from failure
    return changes


def let_go_plan(nic: Nic, config: Config, node: Node) -> tuple[Change, ...]:
    """What it takes to speak for NIC no more."""
    own = needs(nic, config, look_around(nic, config, node)).own.values()
    told = Alter(record_of(nic), record_of(replace(nic, elsewhere=True)))
    return (told, *(Remove(thing) for thing in own if only_here(nic, thing)))


def remember(nic: Nic, config: Config, node: Node) -> None:
    """Keep what we were told of a NIC that could not be attached, so that it is tried again as long as its tap lives.

    What it had before stays: then there is a record of that. But if it was kept for a guest elsewhere, nothing would
    tell that the guest is here and cut off. Raises Failure.
    """
    if not _has_its_tap(nic, node):
        return
    former, pending = _former(nic.tap), record_of(nic, pending=True)
    if former is None or (former.uuid, former.index) != (nic.uuid, nic.index):
        if former:
            detach(former, config, node)
        node.perform(Make(pending))
    elif former.elsewhere:
        own = dict(removable(former, config, node))  # the record first: if we die, it is still told of
        own.pop(("origin", nic.tap), None)
        node.perform(Alter(own.pop(pending.key), pending))
        clear(difference({}, node.read(own.values()), own), node)


def removable(nic: Nic, config: Config, node: Node, around: Surroundings | None = None) -> State:
    """What NIC may leave behind and nobody else wants: the things that detaching it takes away. AROUND it, if that was
    looked at a moment ago."""
    record, origin = records.record_of(nic.tap), records.origin_of(nic.tap)
    noted: dict[Key, Object] = {origin.key: origin} if origin else {}
    if record == record_of(nic, pending=True):
        return noted | {record.key: record}
    around = around or look_around(nic, config, node)
    own: dict[Key, Object] = noted | needs(nic, config, around).removable
    if around.tap is None or around.tap.index != nic.index:
        own = {key: thing for key, thing in own.items() if not _of_the_device(thing, nic.tap)}
    if any(isinstance(thing, ProxyNeighbour) for thing in own.values()):
        # Its address may live behind another tap by now: a restarted VM gets the same address and a new tap. Then the
        # address leads there, since a NIC has its route before its proxy entry.
        for tap in {route.device for route in around.overlapping if route.device}:
            if other := _former(tap):
                kept = needs(other, config, look_around(other, config, node)).own
                own = {key: thing for key, thing in own.items() if key not in kept}
    return own


def _of_the_device(thing: Object, tap: str) -> bool:
    """Whether the kernel takes THING away with the tap. Found later, it belongs to the name's next owner."""
    if isinstance(thing, ProxyNeighbour):
        return thing.device == tap
    return isinstance(thing, Up | BridgePort | BridgeVlan | Route)


def _has_its_tap(nic: Nic, node: Node) -> bool:
    """Whether the tap of that name is NIC's, and a tap. If so, the name means it from now on."""
    device = node.devices([nic.tap]).by_name.get(nic.tap)
    return device is not None and device.index == nic.index and device.link.is_tap


def recorded(tap: str) -> Nic | None:
    """The NIC that the record of TAP describes, or None. Raises Failure if the record is damaged."""
    record = records.record_of(tap)
    return nic_of(record) if record else None


def _former(tap: str) -> Nic | None:
    """Whom the record of TAP describes. A damaged one describes nobody: it is overwritten. Raises Failure if it cannot
    be read."""
    record = records.record_of(tap)
    try:
        return nic_of(record) if record else None
    except Failure:
        return None


def recorded_nics() -> list[Nic]:
    """All NICs that this node has records of; damaged records are for reconcile to report."""
    nics = []
    for record in records.read_all():
        try:
            nics.append(nic_of(record))
        except Failure:
            continue
    return nics
