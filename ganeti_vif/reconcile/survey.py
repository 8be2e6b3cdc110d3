# SPDX-License-Identifier: BSD-2-Clause
"""What this whole node should be, by its configuration and its records, against what it is.

Check, reconcile and status are this survey: printed, done, or shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ganeti_vif.config.model import Config, Consumer
from ganeti_vif.desired.needs import needs
from ganeti_vif.desired.obstacle import obstacle
from ganeti_vif.engine.apply import clear
from ganeti_vif.engine.chains import Chain
from ganeti_vif.engine.difference import Change, difference
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.naming import finding, name
from ganeti_vif.engine.objects import Key
from ganeti_vif.engine.state import Object, State, state
from ganeti_vif.guard import profile
from ganeti_vif.kernel import sysctl
from ganeti_vif.kernel.netlink.links import Devices
from ganeti_vif.lifecycle.context import context_of
from ganeti_vif.lifecycle.detach import removable
from ganeti_vif.nic.identity import has_tap
from ganeti_vif.nic.nic import Mode, Nic
from ganeti_vif.nic.record import is_pending, nic_of
from ganeti_vif.reconcile.moves import moved, ready, without_a_gap
from ganeti_vif.reconcile.setup import layout
from ganeti_vif.system import records
from ganeti_vif.system.node import Node, identity
from host_setup.nfdhcpd import unheard


@dataclass(slots=True)
class Survey:
    """The node at one moment. NICS are alive, DEAD have lost their taps, WANTED has the keys of each tap's own things.
    DAMAGED are the taps of records that cannot be read.
    PENDING are the taps of NICs that could not be attached when Ganeti asked for it.

    TROUBLE is what no change of ours can mend; CHANGES are what would make the node right. MOVED are the NICs whose
    public link gets another table or uplink by them: their neighbours have to hear of it.
    """

    devices: Devices
    nics: list[Nic] = field(default_factory=list)
    wanted: dict[str, frozenset[Key]] = field(default_factory=dict)
    dead: list[Nic] = field(default_factory=list)
    pending: set[str] = field(default_factory=set)
    damaged: set[str] = field(default_factory=set)
    trouble: list[Failure] = field(default_factory=list)
    changes: tuple[Change, ...] = ()
    moved: list[Nic] = field(default_factory=list)

    @property
    def findings(self) -> list[str]:
        """What is not as it should be, a line each; the most urgent first."""
        pending = [nic for nic in self.nics if nic.tap in self.pending]
        return [
            *(f"not attached: {nic.whom}, to {nic.link}; NIC {nic.uuid}" for nic in pending),
            *(failure.what for failure in self.trouble),
            *(finding(change) for change in self.changes),
        ]


def survey(config: Config, node: Node) -> Survey:
    """Look at the whole node."""
    found = Survey(node.devices())
    plan = layout(
        config.private, config.public, found.devices, identity(), node.advertised_to(), config.bindings.consumer
    )
    found.trouble += plan.refused
    desired = plan.wanted
    in_trouble = False
    for nic in _recorded(found):
        if not has_tap(nic, found.devices.link(nic.tap)):
            found.dead.append(nic)
            continue
        found.nics.append(nic)
        try:
            found.wanted[nic.tap] = _join(desired, nic, config, node, found)
        except Failure as failure:
            in_trouble = True
            found.trouble.append(failure.about(nic.whom))
    ours = node.ours(desired, config.bindings.directory)
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
    # By its mark alone something might go that a NIC in trouble lives on: a mistake in the configuration would cut it
    # off. So while a live NIC is in trouble, only what dead ones left is removed.
    stale = left.keys() if in_trouble else {*left, *ours} - profile.idle(config.profiles)
    exchanged = list(plan.exchanged(actual))
    rest = {key: thing for key, thing in desired.items() if not any(key in unit.wanted for unit, _ in exchanged)}
    found.changes = without_a_gap(difference(rest, actual, stale), left.keys(), ready(found.devices, actual))
    found.changes += tuple(change for _, changes in exchanged for change in changes)
    found.moved = [nic for nic in found.nics if nic.link in moved(config.public, found.changes)]
    return found


def stranded(config: Config, node: Node, known: Iterable[Failure]) -> list[Failure]:
    """Why routed NICs of guests that run here could not be attached any more by CONFIG: their link is not in it, or
    their addresses are in none of its subnets. What is KNOWN of the link itself is not said again."""
    found = Survey(node.devices())
    failures = []
    for nic in _recorded(found):
        if nic.mode is Mode.ROUTED and has_tap(nic, found.devices.link(nic.tap)):
            failure = obstacle(nic, context_of(nic, config, node))
            if failure and not any(one.what in failure.what for one in known):
                failures.append(failure)
    return failures


def _origins_of_nobody(found: Survey) -> State:
    """The origins of dead taps whose record is damaged: they go with that record."""
    taps = found.damaged - found.devices.by_name.keys()
    return state(origin for tap in sorted(taps) if (origin := records.origin_of(tap)))


def _unheard(config: Config, found: Survey) -> Iterator[Failure]:
    """The bridges of others whose guests NFDHCPD is to serve and does not hear."""
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
    """The live taps that carry a NIC's filter of ours and have no record: it was lost or damaged.

    Their filter must not go for want of a record: it would leave a guest open that was closed.
    """
    known = {nic.tap for nic in (*found.nics, *found.dead)}
    guarded = {
        thing.device
        for thing in ours.values()
        if isinstance(thing, Chain) and thing.hook == "ingress" and thing.policy == "drop" and thing.device
    }
    # An old kernel drops a chain with its device; a new one keeps it by name: then it is the name's next owner's.
    return {device for device in guarded if device in found.devices.by_name} - known


def _attached_since(tap: str, found: Survey) -> bool:
    """Whether TAP has its record by now, which attach writes before the filter: the next look sees all of it."""
    try:
        record = records.record_of(tap)
        return record is not None and has_tap(nic_of(record), found.devices.link(tap))
    except Failure:
        return False


def _recorded(found: Survey) -> Iterable[Nic]:
    """Who was here first comes first (an ifindex only grows), and who could not be attached comes last: of two that
    claim one address, the other must not get it."""
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
    """Add what NIC needs to DESIRED; returns the keys of what is its own. Raises Failure if it cannot have it, or if
    another NIC of those that were FOUND has it."""
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
    """Make the node what it should be, as far as possible; then raise one Failure that names what could not be done.

    The caller holds the locks `node` and `nics`.
    """
    found = survey(config, node)
    clear(found.changes, node)
    return found
