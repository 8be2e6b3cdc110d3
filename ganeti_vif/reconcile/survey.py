# SPDX-License-Identifier: BSD-2-Clause
"""Compare what this whole node should be, by its configuration and its records, with what it is.

`check` prints this survey, `reconcile` does it and `status` shows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ganeti_vif.config.model import Config, Consumer
from ganeti_vif.desired.needs import needs
from ganeti_vif.desired.notes import notes
from ganeti_vif.desired.obstacle import obstacle
from ganeti_vif.desired.own_prefix import with_own_prefix
from ganeti_vif.engine.apply import clear
from ganeti_vif.engine.chains import Chain
from ganeti_vif.engine.difference import Change, difference
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.naming import findings, name
from ganeti_vif.engine.objects import Key
from ganeti_vif.engine.state import Object, State, state
from ganeti_vif.guard import connections, profile
from ganeti_vif.kernel import sysctl
from ganeti_vif.kernel.netlink.links import Devices
from ganeti_vif.lifecycle.context import context_of
from ganeti_vif.lifecycle.detach import removable
from ganeti_vif.nic.identity import has_tap, outlives
from ganeti_vif.nic.nic import Mode, Nic
from ganeti_vif.nic.record import is_pending, nic_of
from ganeti_vif.reconcile.moves import moved, ready, without_a_gap
from ganeti_vif.reconcile.setup import NOTHING_FOLLOWED, layout, underlay_of
from ganeti_vif.system import records
from ganeti_vif.system.node import Node, identity
from host_setup.nfdhcpd import unheard
from host_setup.private import Underlay, nowhere


@dataclass(slots=True)
class Survey:
    """The node at one moment. NICS are alive, DEAD NICs have lost their taps. WANTED has the keys of each tap's own
    objects. DAMAGED are the taps of records that cannot be read. PENDING are the taps of pending NICs,
    UNSERVED those of guests that the responder does not hear.

    TROUBLE is what no change of ours can repair. CHANGES would make the node right. MOVED are the NICs whose public
    link gets another table or uplink by CHANGES: their neighbours must be told. REMARKS are about the node as a whole,
    and about what guests do in vain.
    """

    devices: Devices
    nics: list[Nic] = field(default_factory=list)
    wanted: dict[str, frozenset[Key]] = field(default_factory=dict)
    dead: list[Nic] = field(default_factory=list)
    pending: set[str] = field(default_factory=set)
    damaged: set[str] = field(default_factory=set)
    unserved: set[str] = field(default_factory=set)
    trouble: list[Failure] = field(default_factory=list)
    changes: tuple[Change, ...] = ()
    moved: list[Nic] = field(default_factory=list)
    remarks: list[Failure] = field(default_factory=list)

    @property
    def notes(self) -> list[Failure]:
        """What is to be known although nothing is wrong here: the remarks on the node, and what concerns the NICs."""
        of_nics = (
            note.about(nic.whom) for nic in self.nics for note in notes(nic, served=nic.tap not in self.unserved)
        )
        return [*self.remarks, *of_nics]

    @property
    def findings(self) -> list[str]:
        """What is wrong, one line each. The most urgent comes first."""
        pending = [nic for nic in self.nics if nic.tap in self.pending]
        return [
            *(f"not attached: {nic.whom}, to {nic.link}; NIC {nic.uuid}" for nic in pending),
            *(failure.what for failure in self.trouble),
            *findings(self.changes),
        ]


def survey(config: Config, node: Node) -> Survey:
    """Compare the whole node. Trouble with single NICs goes to TROUBLE. Raises Failure if the node cannot be read."""
    found = Survey(node.devices())
    underlay = underlay_of(config.private)
    plan = layout(
        config.private,
        config.public,
        found.devices,
        identity(),
        node.advertised_to(),
        config.bindings.consumer,
        following=node.following() if config.public else NOTHING_FOLLOWED,
        underlay=underlay,
    )
    found.trouble += plan.refused
    if isinstance(underlay, Underlay) and underlay.here not in node.addresses():
        found.trouble.append(nowhere(underlay))
    desired = plan.wanted
    in_trouble = False
    for recorded in _recorded(found):
        if not has_tap(recorded, found.devices.link(recorded.tap)):
            found.dead.append(recorded)
            continue
        nic = with_own_prefix(recorded, config)
        found.nics.append(nic)
        try:
            found.wanted[nic.tap] = wanted = _join(desired, nic, config, node, found)
            if not (config.responds and any(key[0] == "binding" for key in wanted)):
                found.unserved.add(nic.tap)
        except Failure as failure:
            in_trouble = True
            found.trouble.append(failure.about(nic.whom))
    found.trouble += _outlived(found)
    ours = node.ours(desired, config.bindings.directory, found.devices)
    ours |= _origins_of_nobody(found)
    found.trouble += _unheard(config, found)
    for orphan in sorted(_orphans(ours, found)):
        in_trouble = True
        if _attached_since(orphan, found):
            continue
        found.trouble.append(
            Failure(
                f"{orphan} is filtered as a NIC of ours, but there is no readable record of its NIC",
                "ganeti-vif adopt",
            )
        )
    left = {key: thing for nic in found.dead for key, thing in removable(nic, config, node).items()}
    places = [*desired.values(), *left.values(), *plan.leaving.values()]
    actual = node.read(places, found.devices) | ours
    # Removal by mark alone could take what a NIC in trouble lives on: a mistake in the configuration would cut the NIC
    # off. So while a live NIC is in trouble, only what dead NICs left is removed.
    stale = left.keys() if in_trouble else {*left, *ours} - profile.idle(config.profiles) - connections.idle()
    exchanged = list(plan.exchanged(actual))
    rest = {key: thing for key, thing in desired.items() if not any(key in unit.wanted for unit, _ in exchanged)}
    found.changes = without_a_gap(difference(rest, actual, stale), left.keys(), ready(found.devices, actual))
    found.changes += tuple(change for _, changes in exchanged for change in changes)
    found.moved = [nic for nic in found.nics if nic.link in moved(config.public, found.changes)]
    return found


def stranded(config: Config, node: Node, known: Iterable[Failure]) -> list[Failure]:
    """Why CONFIG could not attach routed NICs of guests that run here: it lacks their link, or no subnet of it has
    their addresses. Failures that repeat KNOWN ones are left out. Raises Failure if the node cannot be read."""
    found = Survey(node.devices())
    failures = []
    for recorded in _recorded(found):
        nic = with_own_prefix(recorded, config)
        if nic.mode is Mode.ROUTED and has_tap(nic, found.devices.link(nic.tap)):
            failure = obstacle(nic, context_of(nic, config, node))
            if failure and not any(one.what in failure.what for one in known):
                failures.append(failure)
    return failures


def _outlived(found: Survey) -> Iterator[Failure]:
    """Failures for taps that an earlier version kept attached beside a newer tap of the same NIC."""
    attached = [nic for nic in found.nics if nic.tap not in found.pending]
    newest = {nic.uuid: nic for nic in attached}
    for nic in attached:
        if outlives(newest[nic.uuid], nic):
            what = f"{nic.whom}: it has a newer tap, {newest[nic.uuid].tap}, and no guest is behind this one"
            yield Failure(what, f"ganeti-vif detach {nic.tap}")


def _origins_of_nobody(found: Survey) -> State:
    """The origins of dead taps whose record is damaged: they go with that record."""
    taps = found.damaged - found.devices.by_name.keys()
    return state(origin for tap in sorted(taps) if (origin := records.read_origin(tap)))


def _unheard(config: Config, found: Survey) -> Iterator[Failure]:
    """Failures for bridges of others: NFDHCPD should serve their guests, but does not hear them."""
    if config.bindings.consumer is not Consumer.NFDHCPD:
        return
    guests: dict[str, list[Nic]] = {}
    for nic in found.nics:
        bound = any(key[0] == "binding" for key in found.wanted.get(nic.tap, ()))
        if bound and nic.mode is Mode.BRIDGED and not config.private_network(nic.link):
            guests.setdefault(nic.link, []).append(nic)
    four, six = (sysctl.value(f"net/bridge/bridge-nf-call-{name}") == "1" for name in ("iptables", "ip6tables"))
    for bridge, nics in guests.items():
        ipv6 = any(nic.network and nic.network.subnet6 for nic in nics)
        device = found.devices.by_name.get(bridge)
        whom = [nic.whom for nic in nics]
        if failure := unheard(bridge, device.netfilter if device else None, whom, four=four, six=six or not ipv6):
            yield failure


def _orphans(ours: State, found: Survey) -> set[str]:
    """The live taps with our filter for a NIC, but without a record: the record was lost or damaged.

    The filter must stay although the record is missing. Without it a closed guest would be open.
    """
    known = {nic.tap for nic in (*found.nics, *found.dead)}
    guarded = {
        thing.device
        for thing in ours.values()
        if isinstance(thing, Chain) and thing.hook == "ingress" and thing.policy == "drop" and thing.device
    }
    # An old kernel drops a chain with its device. A new kernel keeps it by name, for the next device with that name.
    return {device for device in guarded if device in found.devices.by_name} - known


def _attached_since(tap: str, found: Survey) -> bool:
    """Whether TAP has its record by now. Attach writes it before the filter, so the next survey sees both."""
    try:
        record = records.read_record(tap)
        return record is not None and has_tap(nic_of(record), found.devices.link(tap))
    except Failure:
        return False


def _recorded(found: Survey) -> Iterable[Nic]:
    """The NICs by age (an ifindex only grows), pending ones last: if two NICs claim one address, the NIC that is
    attached keeps it."""
    nics = []
    for record in records.read_all():
        if record.tap.startswith("."):
            continue
        try:
            nics.append(nic_of(record))
            if is_pending(record):
                found.pending.add(record.tap)
        except Failure as failure:
            found.damaged.add(record.tap)
            found.trouble.append(failure)
    return sorted(nics, key=lambda nic: (nic.tap in found.pending, nic.index))


def _join(desired: dict[Key, Object], nic: Nic, config: Config, node: Node, found: Survey) -> frozenset[Key]:
    """Add what NIC needs to DESIRED, and return the keys of its own objects. Raises Failure if NIC cannot have them, or
    if another NIC in FOUND has one of them."""
    context = context_of(nic, config, node)
    if failure := obstacle(nic, context):
        raise failure
    wanted = needs(nic, config, context)
    for key, thing in wanted.all.items():
        if desired.get(key, thing) != thing:
            other = next((one.whom for one in found.nics if key in found.wanted.get(one.tap, ())), "this node")
            raise Failure(
                f"it cannot have what {other} has: {name(desired[key])}",
                "note: give one of them another address: ganeti-vif status shows both",
            )
    desired.update(wanted.all)
    return frozenset(wanted.own)


def reconcile(config: Config, node: Node) -> Survey:
    """Make the node what it should be, as far as possible. Raises one Failure that names what could not be done.

    The caller holds the locks `node` and `nics`.
    """
    found = survey(config, node)
    clear(found.changes, node)
    return found
