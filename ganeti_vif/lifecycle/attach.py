# SPDX-License-Identifier: BSD-2-Clause
"""Attaching one NIC: what it needs, what there is, the difference, done or undone.

The caller holds the lock `nics` (system/lock.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ganeti_vif.config.model import Config
from ganeti_vif.desired.needs import needs
from ganeti_vif.desired.obstacle import obstacle
from ganeti_vif.desired.own_prefix import with_own_prefix
from ganeti_vif.engine.apply import apply
from ganeti_vif.engine.chains import Chain
from ganeti_vif.engine.difference import Change, Remove, difference, subject
from ganeti_vif.engine.failure import Failure, Lacking
from ganeti_vif.engine.objects import Binding, OffloadCheck, Origin
from ganeti_vif.engine.state import Object, State
from ganeti_vif.lifecycle.context import context_of
from ganeti_vif.lifecycle.detach import clear_closed, detach, removable
from ganeti_vif.lifecycle.recorded import former_owner, namesakes, recorded_nics
from ganeti_vif.nic.claim import has, shares, with_claims_of, without
from ganeti_vif.nic.identity import has_tap, is_same, is_tap_of, outlives
from ganeti_vif.nic.nic import Nic
from ganeti_vif.nic.origin import before_of, kept, origin_of, places
from ganeti_vif.nic.record import record_of
from ganeti_vif.nic.shared import with_leads_of
from ganeti_vif.nic.withheld import with_withheld_of
from ganeti_vif.system import log, records
from ganeti_vif.system.node import Node
from nfdhcpd_bridge.binding import is_ours


@dataclass(frozen=True, slots=True)
class Plan:
    """What an attach will do. LEFTOVERS are of a former owner of the tap's name, and of OUTLIVED, the same NIC behind
    older taps: they go, and stay gone even if the attach fails. CHANGES are all done or all undone."""

    leftovers: tuple[Change, ...]
    changes: tuple[Change, ...]
    outlived: tuple[Nic, ...] = ()

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
    claims: bool = False,
    dry_run: bool = False,
) -> tuple[Change, ...]:
    """Give NIC all that it needs, or nothing. Returns the changes that were (or would be) made. PLAN is what it takes,
    if there was time to see that before. ADOPTED if somebody else had attached it. What the record says of NIC and
    Ganeti does not (claims, withheld addresses, shared ones that lead to it) stays as it is, unless CLAIMS says that
    NIC has that as it is to be.

    Raises Failure, about this NIC, with the node as it was before.
    """

    def attempt(plan: Plan | None) -> Plan:
        if plan is None or not is_its_tap(nic, node):
            plan = attach_plan(nic, config, node, adopted=adopted, claims=claims)
        if not dry_run:
            clear_closed(plan.leftovers, node)
            for older in plan.outlived:
                log.say(f"{older.whom}: let go, because {nic.tap} is its newer tap; NIC {nic.uuid}", log.Level.WARNING)
            _apply(plan.changes, nic, node)
        return plan

    try:
        try:
            return attempt(plan).all
        except Failure:
            if dry_run or not _give_way(nic, config, node):
                raise
            return attempt(None).all
    except Failure as failure:
        raise failure.about(nic.whom) from failure


def _give_way(nic: Nic, config: Config, node: Node) -> bool:
    """Take from other guests what they claimed of NIC's addresses: what Ganeti gives comes before what guests choose.
    Returns whether there was something to take. Raises Failure."""
    given = replace(nic, claims=())
    taken = False
    for other in recorded_nics():
        lost = [address for address in other.claims if has(given, address)]
        if lost and other.uuid != nic.uuid and shares(other, nic):
            log.say(f"{other.whom}: its guest loses {', '.join(map(str, lost))}: {nic.whom} has it", log.Level.WARNING)
            attach(without(other, lost), config, node, claims=True)
            taken = True
    return taken


def _apply(changes: tuple[Change, ...], nic: Nic, node: Node) -> None:
    """Make CHANGES, all or none. Where the kernel cannot check what its guest leaves unfinished, make all others and
    say so: it is better off with the rest of its filter than without a network. `check` tells it, too."""
    try:
        apply(changes, node)
    except Lacking as failure:
        apply([change for change in changes if not isinstance(subject(change), OffloadCheck)], node)
        log.say(f"{nic.whom}: not guarded against checksums in a wrong place: {failure.what}", log.Level.WARNING)


def attach_plan(nic: Nic, config: Config, node: Node, *, adopted: bool = False, claims: bool = False) -> Plan:
    """What attaching NIC takes, as attach(). Raises Failure if something on this node stands against it."""
    former = former_owner(nic.tap)
    nic = with_own_prefix(nic, config)
    if not claims:
        same = former if is_same(nic, former) else None
        nic = with_leads_of(same, with_withheld_of(same, with_claims_of(same, nic)))
    outlived = () if is_same(nic, former) else _outlived(nic, node)
    older = {one.tap for one in outlived}
    context = context_of(nic, config, node)
    context = replace(context, overlapping=tuple(one for one in context.overlapping if one.device not in older))
    if failure := obstacle(nic, context):
        raise failure
    wanted = needs(nic, config, context).all
    unmoved = former is not None and replace(former, standby=nic.standby) == nic
    before = dict(removable(former, config, node, context if unmoved else None)) if former else {}
    if former and is_same(nic, former):
        actual = node.read([*wanted.values(), *before.values(), *places(nic.tap)])
        wanted |= _origin(nic, former, wanted, actual, closed=adopted)
        return Plan((), difference(wanted, actual, before))
    known = wanted.keys() | before.keys()
    unrecorded = {thing.key: thing for thing in _places(nic.tap, config) if thing.key not in known}
    actual = node.read([*wanted.values(), *before.values(), *unrecorded.values(), *places(nic.tap)])
    wanted |= _origin(nic, former, wanted, actual, closed=adopted)
    stale = [*before, *(key for key in unrecorded if _ours(actual.get(key)))]
    leftovers = [*difference({}, actual, stale)]
    for one in outlived:
        leftovers += (gone := detach(one, config, node, dry_run=True))
        stale += (change.actual.key for change in gone if isinstance(change, Remove))
    changes = difference(wanted, {key: actual[key] for key in actual.keys() - set(stale)})
    return Plan(tuple(leftovers), changes, outlived)


def _outlived(nic: Nic, node: Node) -> tuple[Nic, ...]:
    """The same NIC behind older taps that live. Raises Failure if it lives behind a newer tap."""
    alive = [one for one in namesakes(nic) if has_tap(one, node.link(one.tap))]
    for one in alive:
        if outlives(one, nic):
            what = f"it has a newer tap, {one.tap}, and keeps that; NIC {nic.uuid}"
            raise Failure(what, "see: ganeti-vif status").about(nic.whom)
    return tuple(one for one in alive if outlives(nic, one))


def _origin(nic: Nic, former: Nic | None, wanted: State, actual: State, *, closed: bool) -> State:
    """What NIC's tap was before it was attached the first time, if that is known."""
    known, now = actual.get(("origin", nic.tap)), origin_of(nic.tap, wanted, actual, closed=closed)
    before = before_of(known)
    if before and is_tap_of(nic, nic.tap, before.index) and isinstance(known, Origin) and now:
        now = kept(known, now)
    elif former and is_tap_of(nic, former.tap, former.index) and records.read_record(nic.tap) == record_of(former):
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


def is_its_tap(nic: Nic, node: Node) -> bool:
    """Whether the tap of that name is NIC's, and a tap. If so, the name means it from now on."""
    device = node.link(nic.tap)
    return device is not None and has_tap(nic, device) and device.is_tap
