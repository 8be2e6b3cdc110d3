# SPDX-License-Identifier: BSD-2-Clause
"""This node: one reader of everything outside, and one performer of changes.

Sockets are opened and libraries are imported when they are first needed. A run that finds nothing to change never
imports pyroute2, which takes 200 ms.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, assert_never

from ganeti_vif.engine.chains import Chain, MapElement, Subchain, VerdictMap
from ganeti_vif.engine.difference import Change, subject
from ganeti_vif.engine.failure import Failure, Gone
from ganeti_vif.engine.objects import (
    Address,
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
    Prefix,
    ProxyNeighbour,
    Record,
    Route,
    Rule,
    Shaper,
    Sysctl,
    TrunkVlan,
    Up,
)
from ganeti_vif.engine.state import Object, State
from ganeti_vif.guard.connections import Following
from ganeti_vif.kernel import sysctl
from ganeti_vif.kernel.netlink import addresses, classifiers, links, neighbours, peers, routing, shapers, traffic
from ganeti_vif.kernel.netlink.query import Query
from ganeti_vif.kernel.nftables import filters, others, verdict_maps
from ganeti_vif.system import records
from nfdhcpd_bridge import files

if TYPE_CHECKING:
    from ganeti_vif.kernel.netlink.changes import Netlink
    from ganeti_vif.kernel.nftables.changes import Nftables


class Node:
    """The node, as its network namespace shows it. It is a context manager, because it holds sockets.

    Each method that reads raises Failure if the kernel or a file cannot be read.
    """

    def __enter__(self) -> Node:
        return self

    def __exit__(self, *_: object) -> None:
        for name in ("_query", "_netfilter", "_netlink", "_nftables"):
            if name in self.__dict__:
                self.__dict__[name].close()

    def forget(self) -> None:
        """Forget which devices the names meant. The daemon calls it before each run, as names may be reused."""
        self._seen.clear()
        if "_netlink" in self.__dict__:
            self._netlink.forget()

    @cached_property
    def _query(self) -> Query:
        return Query()

    @cached_property
    def _netlink(self) -> Netlink:
        from ganeti_vif.kernel.netlink.changes import Netlink

        netlink = Netlink()
        netlink.seen(self._seen.items())
        return netlink

    @cached_property
    def _netfilter(self) -> Query:
        return filters.netfilter()

    @cached_property
    def _nftables(self) -> Nftables:
        from ganeti_vif.kernel.nftables.changes import Nftables

        return Nftables()

    @cached_property
    def _seen(self) -> dict[str, int]:
        return {}

    def devices(self, names: Iterable[str] | None = None) -> links.Devices:
        """The devices of these NAMES that exist; all devices if NAMES is None.

        Until forget() each of their names means this very device, even if another device takes the name.
        """
        found = links.all_devices(self._query) if names is None else links.devices(self._query, names)
        self._seen.update((device.name, device.index) for device in found.by_name.values())
        if "_netlink" in self.__dict__:
            self._netlink.seen(self._seen.items())
        return found

    def link(self, name: str) -> Link | None:
        """The device NAME, or None if there is none. Until forget() the name means this very device."""
        found = self.devices([name]).by_name.get(name)
        return found.link if found else None

    def taps(self) -> dict[str, int]:
        """The ifindex of every tun device of this node, by its present name."""
        return links.taps(self._query)

    def traffic(self, index: int) -> traffic.Traffic | None:
        """How many frames went by the tap with this ifindex; None if it is gone."""
        return traffic.traffic(self._query, index)

    def read(self, wanted: Iterable[Object], devices: links.Devices | None = None) -> dict[Key, Object]:
        """The objects that exist with the keys of WANTED, whoever made them. DEVICES saves a reading of devices.

        Raises Failure if something cannot be read.
        """
        by_type: dict[type, list[Any]] = defaultdict(list)
        for thing in wanted:
            by_type[type(thing)].append(thing)
        keys = {thing.key for things in by_type.values() for thing in things}
        return {thing.key: thing for thing in self._read(by_type, devices) if thing.key in keys}

    def _read(self, wanted: dict[type, list[Any]], devices: links.Devices | None) -> Iterator[Object]:
        names = {link.name for link in wanted[Link]}
        names |= {thing.device for kind in (BridgePort, Up, OffloadCheck, Shaper, Peers) for thing in wanted[kind]}
        names |= {thing.bridge for thing in wanted[BridgeNetfilter]}
        found = (devices or self.devices(names)).by_name if names else {}
        for name in names & found.keys():
            yield from found[name].objects()
        if wanted[OffloadCheck]:
            indexes = {name: found[name].index for name in names & found.keys()}
            yield from classifiers.read(self._query, wanted[OffloadCheck], indexes)
        if tunnels := [one for one in wanted[Peers] if one.device in found]:
            yield from peers.read(self._query, {found[one.device].index: one for one in tunnels})
        if wanted[Shaper]:
            yield from self._shapers(wanted[Shaper], (found[name] for name in names & found.keys()))
        if wanted[BridgeVlan] or wanted[TrunkVlan]:
            yield from self._bridge_vlans()
        # The kernel removes the routes and neighbours of a device that goes down, so nobody needs to look for them. The
        # more routes a table has, the longer a look takes.
        down = {name for name in names & found.keys() if not found[name].up}
        yield from routing.routes(self._query, [route for route in wanted[Route] if route.device not in down])
        if standing := [one for one in wanted[Neighbours] if one.device not in down]:
            yield from neighbours.read(self._query, standing)
        if wanted[Rule]:
            yield from routing.rules(self._query)
        yield from routing.proxies(self._query, wanted[ProxyNeighbour])
        if wanted[Module]:
            from ganeti_vif.kernel import modules

            yield from modules.read(wanted[Module])
        yield from sysctl.read(wanted[Sysctl])
        if chains := [*wanted[Subchain], *wanted[Chain]]:
            yield from self._chains(chains)
        if wanted[VerdictMap] or wanted[MapElement]:
            yield from verdict_maps.maps(self._netfilter, wanted[VerdictMap])
            yield from verdict_maps.elements(self._netfilter, wanted[MapElement])
        if wanted[OvsPort]:
            from ganeti_vif.system import openvswitch

            yield from openvswitch.read(wanted[OvsPort])
        yield from files.read(wanted[Binding])
        yield from records.read(wanted[Record])
        yield from records.read_origins(wanted[Origin])

    def _shapers(self, wanted: Iterable[Shaper], devices: Iterable[links.Device]) -> Iterator[Shaper]:
        """Our shapers on DEVICES. Where none of them can have one, nobody waits for an answer."""
        indexes = {device.name: device.index for device in devices if device.qdisc == shapers.KIND}
        return shapers.read(self._query, wanted, indexes) if indexes else iter(())

    def _bridge_vlans(self) -> Iterator[Object]:
        for port in links.bridge_vlans(self._query).values():
            yield port
            yield from (TrunkVlan(device=port.device, vid=vid) for vid in port.tagged)

    def _chains(self, wanted: list[Chain]) -> Iterator[Chain]:
        if len(wanted) > links.FEW:
            known = {chain.key: chain for chain in wanted}
            return (chain for chain in filters.all_chains(self._netfilter, known) if chain.key in known)
        return filters.chains(self._netfilter, wanted)

    def counted(self, chain: Chain) -> list[filters.Counted]:
        """The counters of the rules of CHAIN, in their order."""
        return filters.counted(self._netfilter, chain.family, chain.name)

    def routes_over(self, networks: Iterable[Prefix], table: int, mark: int) -> list[Route]:
        """The routes in TABLE that overlap with one of NETWORKS. The packet mark MARK leads to TABLE."""
        found = []
        for one in networks:
            if one.num_addresses == 1:
                route = routing.route_to(self._query, one.network_address, mark)
                found += [route] if route and route.table == table else []
            else:
                routes = routing.table(self._query, one.version, table)
                found += [route for route in routes if route.destination.overlaps(one)]
        return found

    def routes_of_ours(self) -> list[Route]:
        """Every route that carries our mark."""
        return list(routing.routes_of_ours(self._query))

    def routes_on_link(self, device: str) -> list[Route]:
        """The routes of others in the main table to networks on the link of DEVICE."""
        return list(routing.on_link(self._query, device))

    def incoming_rules(self) -> list[tuple[int, str, int]]:
        """The policy rules of others that match by an input device: IP version, device and priority."""
        return list(routing.incoming_rules(self._query))

    def addresses(self) -> frozenset[Address]:
        """The node's own addresses, on all its devices."""
        return addresses.own(self._query)

    def foreign_rules(self, device: str) -> list[Rule]:
        """The policy rules of others that do one thing only: packets from DEVICE use a certain table."""
        return list(routing.foreign_rules(self._query, device))

    def own_addresses(self, device: str | None) -> frozenset[Address]:
        """The node's own addresses on DEVICE, or on all devices. None if there is no such device."""
        if device is None:
            return self.addresses()
        found = self.devices([device]).by_name.get(device)
        return addresses.own(self._query, found.index) if found else frozenset()

    def advertised_to(self) -> frozenset[str]:
        """The devices that would lose their IPv6 default route if this node forwarded IPv6.

        The set is empty if the node forwards already.
        """
        if sysctl.force_forwarding() or sysctl.value("net/ipv6/conf/all/forwarding") == "1":
            return frozenset()
        devices = routing.advertised_default_routes(self._query)
        return frozenset(name for name in devices if sysctl.value(f"net/ipv6/conf/{name}/accept_ra") == "1")

    def ours(self, wanted: State, directory: str, devices: links.Devices | None = None) -> dict[Key, Object]:
        """All objects on this node that carry our mark, apart from devices.

        A rule in a chain is recognised by the comment of the rule in WANTED, the desired objects, and a shaper by its
        rate and burst there. DIRECTORY is the
        binding directory. Shapers are looked for on DEVICES.
        """
        found: list[Object] = [
            *routing.routes_of_ours(self._query),
            *routing.rules(self._query),
            *neighbours.ours(self._query),
            *routing.proxies_of_ours(self._query),
            *self._shapers(
                [thing for thing in wanted.values() if isinstance(thing, Shaper)],
                devices.by_name.values() if devices else (),
            ),
            *filters.all_chains(self._netfilter, wanted),
            *verdict_maps.everything(self._netfilter),
            *files.read_ours(directory),
            *records.read_all(),
            *records.stray_origins(),
        ]
        return {thing.key: thing for thing in found}

    def following(self) -> Following:
        """What makes the kernel follow connections (conntrack)."""
        return others.following(self._netfilter)

    def forwarding_tables(self) -> set[tuple[str, str]]:
        """Family and name of each nft table with a base chain on the hook `forward`, whoever made it."""
        return filters.forwarding_tables(self._netfilter)

    def listed(self, family: str, table: str) -> dict[str, Any]:
        """What `nft -j list table` prints of a table; empty if it is gone."""
        try:
            return self._nftables.listed(family, table)
        except Gone:
            return {}

    def verify(self, chain: Chain) -> None:
        """Try CHAIN without a change. Raises Failure if nftables would refuse it."""
        self._nftables.verify(chain)

    def forget_tables(self) -> None:
        """Remove our nftables tables that are empty."""
        self._nftables.forget_tables()

    def remove_devices(self, names: Sequence[str]) -> None:
        """Remove these devices of ours together, which is much faster than one by one.

        Raises Failure if the kernel refuses.
        """
        self._netlink.remove_devices(names)

    def perform(self, change: Change) -> None:
        """Make CHANGE. Raises Gone if its object or its device does not exist, Lacking if the kernel lacks the feature,
        and Failure if the change fails for another reason."""
        thing = subject(change)
        match thing:
            case Chain() | VerdictMap() | MapElement():
                self._nftables.perform(change)
            case Module():
                from ganeti_vif.kernel import modules

                modules.perform(change)
            case Sysctl():
                sysctl.perform(change)
            case OvsPort():
                from ganeti_vif.system import openvswitch

                openvswitch.perform(change)
            case Binding():
                files.perform(change)
            case Record() | Origin():
                records.perform(change)
            case Link() | OffloadCheck() | BridgeNetfilter() | BridgePort() | BridgeVlan() | TrunkVlan() | Up():
                self._netlink.perform(change)
            case Shaper() | Rule() | Route() | Neighbours() | Peers() | ProxyNeighbour():
                self._netlink.perform(change)
            case _:
                assert_never(thing)


def memory() -> int:
    """The memory of this node in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def identity() -> str:
    """The identity of this node: its machine ID (machine-id(5)), or its host name if it has no machine ID.

    Raises Failure if there is neither, or if the file cannot be read.
    """
    for path in ("/etc/machine-id", "/etc/hostname"):
        try:
            with open(path, encoding="utf-8") as file:
                if text := file.read().strip():
                    return text
        except FileNotFoundError:
            continue
        except OSError as error:  # with another identity the node would get other MACs
            what = f"{path}, by which this node is told from others, cannot be read: {os.strerror(error.errno or 0)}"
            raise Failure(what, f"see: namei -l {path}") from error
    raise Failure("this node has neither /etc/machine-id nor /etc/hostname", "systemd-machine-id-setup")
