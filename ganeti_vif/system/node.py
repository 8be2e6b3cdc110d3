"""This node: everything that is outside, behind one reader and one performer of changes.

Sockets and libraries are opened when they are first needed: a run that finds nothing to change never imports
pyroute2, which costs 200 ms.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, assert_never

from ganeti_vif.engine.chains import Chain, MapElement, Subchain, VerdictMap
from ganeti_vif.engine.difference import Change, subject
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.objects import (
    Binding,
    BridgeNetfilter,
    BridgePort,
    BridgeVlan,
    Key,
    Link,
    Module,
    Network,
    OffloadCheck,
    Origin,
    OvsPort,
    ProxyNeighbour,
    Record,
    Route,
    Rule,
    Sysctl,
    TrunkVlan,
    Up,
)
from ganeti_vif.engine.state import Object, State
from ganeti_vif.kernel import sysctl
from ganeti_vif.kernel.netlink import classifiers, links, routing
from ganeti_vif.kernel.netlink.query import Query
from ganeti_vif.kernel.nftables import filters, verdict_maps
from ganeti_vif.system import records
from nfdhcpd_bridge import files

if TYPE_CHECKING:
    from ganeti_vif.kernel.netlink.changes import Netlink
    from ganeti_vif.kernel.nftables.changes import Nftables


class Node:
    """The node of this network namespace. A context manager: it holds sockets."""

    def __enter__(self) -> Node:
        return self

    def __exit__(self, *_: object) -> None:
        for name in ("_query", "_netfilter", "_netlink", "_nftables"):
            if name in self.__dict__:
                self.__dict__[name].close()

    def forget(self) -> None:
        """For who keeps it for more than one run: names may mean other devices from now on."""
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
        """The devices of these names that exist, or all devices. From now on a name means that very device."""
        found = links.all_devices(self._query) if names is None else links.devices(self._query, names)
        self._seen.update((device.name, device.index) for device in found.by_name.values())
        if "_netlink" in self.__dict__:
            self._netlink.seen(self._seen.items())
        return found

    def link(self, name: str) -> Link | None:
        """The device NAME, or None. From now on the name means that very device."""
        found = self.devices([name]).by_name.get(name)
        return found.link if found else None

    def taps(self) -> dict[str, int]:
        """The ifindex of every tun device of this node, by its name at this moment."""
        return links.taps(self._query)

    def read(self, wanted: Iterable[Object], devices: links.Devices | None = None) -> dict[Key, Object]:
        """What exists under the keys of WANTED, whoever made it. DEVICES, if they were read a moment ago."""
        by_type: dict[type, list[Any]] = defaultdict(list)
        for thing in wanted:
            by_type[type(thing)].append(thing)
        keys = {thing.key for things in by_type.values() for thing in things}
        return {thing.key: thing for thing in self._read(by_type, devices) if thing.key in keys}

    def _read(self, wanted: dict[type, list[Any]], devices: links.Devices | None) -> Iterator[Object]:
        names = {link.name for link in wanted[Link]}
        names |= {thing.device for kind in (BridgePort, Up, OffloadCheck) for thing in wanted[kind]}
        names |= {thing.bridge for thing in wanted[BridgeNetfilter]}
        found = (devices or self.devices(names)).by_name if names else {}
        for name in names & found.keys():
            yield from found[name].objects()
        if wanted[OffloadCheck]:
            indexes = {name: found[name].index for name in names & found.keys()}
            yield from classifiers.read(self._query, wanted[OffloadCheck], indexes)
        if wanted[BridgeVlan] or wanted[TrunkVlan]:
            yield from self._bridge_vlans()
        # A device that is down has no routes: the kernel takes them away. To look takes the longer the more there are.
        down = {name for name in names & found.keys() if not found[name].up}
        yield from routing.routes(self._query, [route for route in wanted[Route] if route.device not in down])
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
        """What the rules of CHAIN have counted, in their order."""
        return filters.counted(self._netfilter, chain.family, chain.name)

    def routes_over(self, networks: Iterable[Network], table: int, mark: int) -> list[Route]:
        """The routes in TABLE, to which MARK leads, that overlap with one of NETWORKS."""
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
        """The routes of others in the main table to what is on the link of DEVICE."""
        return list(routing.on_link(self._query, device))

    def incoming_rules(self) -> list[tuple[int, str, int]]:
        """IP version, device and priority of the policy rules of others for what comes in by one device."""
        return list(routing.incoming_rules(self._query))

    def foreign_rules(self, device: str) -> list[Rule]:
        """The policy rules of others that send what comes in by DEVICE to a table, and say nothing else."""
        return list(routing.foreign_rules(self._query, device))

    def advertised_to(self) -> frozenset[str]:
        """The devices that would lose their IPv6 default route if this node forwarded IPv6; none if it does."""
        if sysctl.force_forwarding() or sysctl.value("net/ipv6/conf/all/forwarding") == "1":
            return frozenset()
        devices = routing.advertised_default_routes(self._query)
        return frozenset(name for name in devices if sysctl.value(f"net/ipv6/conf/{name}/accept_ra") == "1")

    def ours(self, wanted: State, directory: str) -> dict[Key, Object]:
        """Everything on this node that carries our mark, apart from devices. WANTED helps to tell chains that are
        as they should be; DIRECTORY is the binding directory."""
        found: list[Object] = [
            *routing.routes_of_ours(self._query),
            *routing.rules(self._query),
            *routing.proxies_of_ours(self._query),
            *filters.all_chains(self._netfilter, wanted),
            *verdict_maps.everything(self._netfilter),
            *files.read_ours(directory),
            *records.read_all(),
            *records.stray_origins(),
        ]
        return {thing.key: thing for thing in found}

    def verify(self, chain: Chain) -> None:
        """Raises Failure if nftables would not take CHAIN."""
        self._nftables.verify(chain)

    def forget_tables(self) -> None:
        """Remove our tables of filters in which nothing is."""
        self._nftables.forget_tables()

    def remove_devices(self, names: Sequence[str]) -> None:
        """Remove these devices of ours together, which is much faster than one by one. Raises Failure."""
        self._netlink.remove_devices(names)

    def perform(self, change: Change) -> None:
        """Make CHANGE. Raises Failure; Gone if what it is about is not there."""
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
            case Rule() | Route() | ProxyNeighbour():
                self._netlink.perform(change)
            case _:
                assert_never(thing)


def identity() -> str:
    """What tells this node from all others: its machine ID (machine-id(5)), or else its host name. Raises Failure."""
    for path in ("/etc/machine-id", "/etc/hostname"):
        try:
            with open(path, encoding="utf-8") as file:
                if text := file.read().strip():
                    return text
        except FileNotFoundError:
            continue
        except OSError as error:  # another name would be another node, with other MACs
            what = f"{path}, by which this node is told from others, cannot be read: {os.strerror(error.errno or 0)}"
            raise Failure(what, f"see: namei -l {path}") from error
    raise Failure("this node has neither /etc/machine-id nor /etc/hostname", "systemd-machine-id-setup")
