# SPDX-License-Identifier: BSD-2-Clause
"""Set up and tear down what a node needs before any VM: private networks and public links.

Each private network and each public link is a unit: it is set up whole or not at all. If one unit cannot be set up, the
others still are. At boot, a node with 99 good networks is better than a node with none.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ganeti_vif.config.model import Consumer, Private, Profile, Public
from ganeti_vif.engine.apply import apply, clear
from ganeti_vif.engine.chains import Chain, VerdictMap
from ganeti_vif.engine.difference import Change, Remove, difference, subject
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.interruption import RUN
from ganeti_vif.engine.marks import ADOPTED_GROUP
from ganeti_vif.engine.objects import Key, Link, Peers, Route, Rule, Sysctl
from ganeti_vif.engine.state import Object, State, state
from ganeti_vif.guard.connections import MAPS, Following, are_unfollowed, unfollowed, uses_maps
from ganeti_vif.guard.profile import subchain
from ganeti_vif.kernel import sysctl
from ganeti_vif.kernel.netlink.links import Devices
from ganeti_vif.system import ssconf
from ganeti_vif.system.node import Node, identity, memory
from host_setup import neighbour_table
from host_setup import private as private_networks
from host_setup import public as public_links
from host_setup.nfdhcpd import module, queues
from host_setup.private import MADE, OURS, Underlay, networks, obstacle, seclusion, tunnels

Progress = Callable[[int, int], None]

NOTHING_FOLLOWED = Following()
TOGETHER = 64
"""How many devices to remove at once: enough to be fast, few enough that others get the kernel's lock in between."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A private network or a public link, with all that it needs. LEAVING: its objects that it no longer needs."""

    name: str
    wanted: State
    leaving: State = field(default_factory=dict)


@dataclass(slots=True)
class Layout:
    """What should be here, unit by unit, and what cannot be (REFUSED, with the reason). BASE comes before all units.
    IDLE is what nothing here needs any more."""

    base: State = field(default_factory=dict)
    idle: State = field(default_factory=dict)
    units: list[Unit] = field(default_factory=list)
    refused: list[Failure] = field(default_factory=list)

    @property
    def wanted(self) -> dict[Key, Object]:
        parts = [self.base, *(unit.wanted for unit in self.units)]
        return state(thing for part in parts for thing in part.values())

    @property
    def leaving(self) -> dict[Key, Object]:
        return state(thing for unit in self.units for thing in unit.leaving.values())

    def exchanged(self, actual: State) -> Iterator[tuple[Unit, tuple[Change, ...]]]:
        """The units that replace objects of theirs, each with its changes. Each unit is done by itself: its guests are
        cut off between the removal and the making."""
        for unit in self.units:
            if gone := unit.leaving.keys() & actual.keys():
                went = {thing.name for key in gone if isinstance(thing := actual[key], Link)}
                kept = {k: thing for k, thing in actual.items() if k not in gone and not _went_with(went, thing)}
                yield unit, (*difference({}, actual, gone), *difference(unit.wanted, kept))


def _went_with(devices: Collection[str], thing: Object) -> bool:
    """Whether THING goes by itself with one of DEVICES, so that a new device of that name does not have it."""
    match thing:
        case Peers(device=device):
            return device in devices
        case Sysctl(path=path):
            return path.split("/")[-2] in devices
    return False


def layout(
    private: Iterable[Private],
    public: Collection[Public],
    devices: Devices,
    node: str,
    advertised: Collection[str] = (),
    consumer: Consumer = Consumer.RESPONDER,
    families: Iterable[Private] = (),
    following: Following = NOTHING_FOLLOWED,
    underlay: Underlay | Failure | None = None,
) -> Layout:
    """What these networks and links need on a node with these DEVICES. What cannot be set up is in REFUSED.

    NODE is this node's identity. ADVERTISED are the devices that would lose their router (public.obstacle()).
    CONSUMER reads the bindings: a real NFDHCPD needs more than the responder. FAMILIES are all
    private networks of the node, if PRIVATE is a part of them. FOLLOWING: what makes the kernel follow connections.
    UNDERLAY: what underlay_of() returns for all private networks.
    """
    queued = consumer is Consumer.NFDHCPD
    links = {name: device.link for name, device in devices.by_name.items()}
    ports = {bridge: [port.link for port in members] for bridge, members in devices.ports().items()}
    result = Layout()
    masters = {name: device.master for name, device in devices.by_name.items() if device.master}
    for family in private:
        try:
            for network in networks(family, links, underlay):
                if failure := obstacle(network, links, ports, masters):
                    result.refused.append(failure)
                    continue
                bridge = devices.by_name.get(network.bridge)
                netfilter = bridge.netfilter if bridge else None
                wanted = private_networks.desired(network, links, node, queued=queued, netfilter=netfilter)
                leaving = private_networks.leaving(network, links, ports)
                result.units.append(Unit(network.bridge, state(wanted), state(leaving)))
        except Failure as reason:
            result.refused.append(reason)
    bridged = bool(result.units)
    if bridged or _in_our_care(links):
        # Before any bridge: each bridge is out of the node's reach from the moment it exists.
        shared = tunnels(families or private, underlay)
        result.base = state([*seclusion(), *([shared] if shared.rules else [])])
        result.idle = {} if shared.rules else {shared.key: shared}
    for link in public:
        if failure := public_links.obstacle(link, links, advertised, ipv6=sysctl.ipv6()):
            result.refused.append(failure)
        else:
            _lay_out(link, following, result)
    if limits := neighbour_table.raised(public, sysctl.value, memory()):
        result.units.append(Unit("the table of neighbours", state(limits)))
    if queued:
        result.units.append(Unit("NFDHCPD", state(queues())))
        if bridged:
            # A unit of its own: if the module cannot be loaded, NFDHCPD still hears routed guests.
            result.units.append(Unit("NFDHCPD on bridges", state([module()])))
    return result


def _lay_out(link: Public, following: Following, result: Layout) -> None:
    """Put what LINK needs into RESULT."""
    result.units.append(Unit(link.name, state(public_links.desired(link, sysctl.force_forwarding()))))
    chain = unfollowed(link)
    if following.used and are_unfollowed(link, following):
        # A unit of its own: on a kernel without nft_fib, all connections are followed, and the link works.
        result.units.append(Unit(f"connections on {link.name}", state([*MAPS, chain])))
    else:
        result.idle = {**result.idle, chain.key: chain}


def underlay_of(private: Iterable[Private]) -> Underlay | Failure | None:
    """The ends of the tunnels of this cluster, or why they are not known; None if no uplink of PRIVATE leads there."""
    if not any(family.follows_cluster for family in private):
        return None
    try:
        return ssconf.underlay()
    except Failure as failure:
        return failure


def _in_our_care(links: Mapping[str, Link]) -> set[str]:
    """The bridges that carry one of our marks, no matter whether the configuration or a command's flags named them."""
    return {name for name, link in links.items() if link.kind == "bridge" and link.group in OURS}


def setup(
    private: tuple[Private, ...],
    public: tuple[Public, ...],
    node: Node,
    *,
    consumer: Consumer = Consumer.RESPONDER,
    families: Iterable[Private] = (),
    dry_run: bool = False,
    progress: Progress = lambda done, total: None,
) -> tuple[list[Change], list[Failure]]:
    """Make what is missing and repair what is different. Returns the changes, and what could not be set up.
    FAMILIES are all private networks of the node, if PRIVATE is a part of them.

    Raises Failure if the node cannot be read, or if what all networks need cannot be made. The caller holds the lock
    `node`.
    """
    devices = node.devices()
    following = node.following() if public else NOTHING_FOLLOWED
    underlay = underlay_of((*private, *families))
    plan = layout(private, public, devices, identity(), node.advertised_to(), consumer, families, following, underlay)
    actual = node.read([*plan.wanted.values(), *plan.leaving.values(), *plan.idle.values()], devices)
    exchanged = list(plan.exchanged(actual))
    plan.units = [unit for unit in plan.units if not any(unit is one for one, _ in exchanged)]
    changes = list(difference(plan.wanted, actual, plan.idle))
    if not dry_run:
        try:
            _apply(changes, node, progress)
        except Failure:
            changes = _one_by_one(plan, node, progress)
    for unit, one in exchanged:
        try:
            if not dry_run:
                apply(one, node)
            changes += one
        except Failure as failure:
            plan.refused.append(failure.about(unit.name))
    return changes, plan.refused


def unusable(profiles: Iterable[Profile], node: Node) -> list[Failure]:
    """What is wrong with each of PROFILES that no NIC can use."""
    found = []
    for profile in profiles:
        try:
            if profile.trouble:
                raise profile.trouble
            if profile.rules:
                node.verify(subchain(profile))
        except Failure as failure:
            found.append(failure)
    return found


def _apply(changes: Sequence[Change], node: Node, progress: Progress) -> None:
    """Apply all CHANGES at once, ordered by kind over all networks: all devices, then all switches, then all ports, ...

    An interruption keeps what is made. To remove 4000 networks takes longer than to make them, each object is good
    without the ones after it, and the next setup makes the rest.

    There is a second reason to apply them at once. A bridge that is up passes every new device of the node through
    multicast snooping and IPv6 once more, so 4000 networks made one after the other take five times as long.
    """
    count = itertools.count()
    apply(changes, node, lambda change: progress(next(count), len(changes)), keep=True)


def _one_by_one(plan: Layout, node: Node, progress: Progress) -> list[Change]:
    """Something failed and everything was undone. Find out what it was, and set up all the rest."""
    actual = node.read(plan.wanted.values())
    done = list(difference(plan.base, actual))
    apply(done, node)
    for count, unit in enumerate(plan.units):
        progress(count, len(plan.units))
        changes = difference(unit.wanted, actual)
        try:
            apply(changes, node)
            done += changes
        except Failure as failure:
            plan.refused.append(failure.about(unit.name))
    return done


def teardown(
    private: tuple[Private, ...],
    public: tuple[Public, ...],
    node: Node,
    *,
    queued: bool = False,
    others: bool = False,
    dry_run: bool = False,
    progress: Progress = lambda done, total: None,
) -> tuple[list[Change], list[Failure]]:
    """Remove what setup made. If VMs still use a bridge or link, remove nothing and return the reasons.

    QUEUED: the chain of NFDHCPD's queues stays, because other networks need it. OTHERS: remove also other bridges and
    devices with our mark, made by an older configuration or by flags. Objects older than our mark stay, without the
    mark. Sysctls stay. Raises Failure if something cannot be read or removed. Raises Interrupted between two changes:
    the next teardown does the rest. The caller holds the lock `node`.
    """
    devices = node.devices()
    links = {name: device.link for name, device in devices.by_name.items()}
    ports = devices.ports()
    bridges = dict.fromkeys(bridge for family in private for bridge in family.bridges)
    own = {name for family in private for name in family.devices}
    if others:
        bridges |= dict.fromkeys(sorted(_in_our_care(links)))
        own |= {name for name, link in links.items() if link.group in OURS}
    refused = [*_bridges_in_use(bridges, own, devices), *_links_in_use(public, node)]
    if refused:
        return [], refused
    # Each bridge goes with the uplink that it really has, whatever the configuration says now.
    names = own | {port.name for bridge in bridges for port in ports.get(bridge, [])}
    ours = state(links[name] for name in names & links.keys() if links[name].group in MADE)
    for link in public:
        things = public_links.desired(link, False)
        ours |= state(thing for thing in (*things, unfollowed(link)) if isinstance(thing, Rule | Route | Chain))
    ours |= state(_unused_maps(public, node))
    released = [Link(name=name, group=0) for name in names & links.keys() if links[name].group == ADOPTED_GROUP]
    base = dict[Key, Object]()
    if not _in_our_care(links) - names:
        base = state([*seclusion(), tunnels(private), *([] if queued else queues())])
    ours, last = ours | base, set(base)
    desired = state(released)
    changes = list(difference(desired, node.read([*ours.values(), *released]), ours))
    if not dry_run:
        leaving = [c.actual.name for c in changes if isinstance(c, Remove) and isinstance(c.actual, Link)]
        rest = [c for c in changes if not (isinstance(c, Remove) and isinstance(c.actual, Link))]
        clear([c for c in rest if subject(c).key not in last], node)
        _remove(leaving, node, progress)
        clear([c for c in rest if subject(c).key in last], node)  # last: no bridge exists without it
        node.forget_tables()
    return changes, []


def _unused_maps(public: Collection[Public], node: Node) -> Iterator[VerdictMap]:
    """The maps of connections, if no chain uses them that stays without PUBLIC."""
    if not public:
        return
    going = {unfollowed(link).key for link in public}
    chains = [thing for thing in node.ours({}, "").values() if isinstance(thing, Chain) and thing.key not in going]
    if not any(uses_maps(chain) for chain in chains):
        yield from MAPS


def _remove(names: Sequence[str], node: Node, progress: Progress) -> None:
    """Remove the devices NAMES. Raises Failure if that fails, and Interrupted between two groups of devices."""
    with RUN.busy():
        for start in range(0, len(names), TOGETHER):
            RUN.due()
            progress(start, len(names))
            node.remove_devices(names[start : start + TOGETHER])
            RUN.standing += len(names[start : start + TOGETHER])


def _bridges_in_use(bridges: Iterable[str], own: Collection[str], devices: Devices) -> Iterator[Failure]:
    ports = devices.ports()
    for bridge in bridges:
        if taps := sorted(port.name for port in ports.get(bridge, []) if port.link.is_tap):
            yield Failure(
                f"{bridge} has taps on it: {', '.join(taps)}",
                "note: stop or migrate their instances first: ganeti-vif status names them",
            )
        for port in ports.get(bridge, []):
            if port.name not in own and not port.link.is_tap and port.link.group not in OURS:
                kind = port.link.kind or "device"
                yield Failure(
                    f"{bridge} has the port {port.name} ({kind}), which ganeti-vif did not make",
                    f"ip link set {port.name} nomaster",
                )


def _links_in_use(public: Iterable[Public], node: Node) -> Iterator[Failure]:
    for link in public:
        taps = {route.device for route in node.routes_of_ours() if route.table == link.table} - {link.uplink, None}
        if taps:
            yield Failure(
                f"the public link {link.name} has routes to taps: {', '.join(sorted(map(str, taps)))}",
                "note: stop or migrate their instances first: ganeti-vif status names them",
            )
