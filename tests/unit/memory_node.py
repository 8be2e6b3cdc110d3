# SPDX-License-Identifier: BSD-2-Clause
"""A node in memory: engine objects by their keys, devices with an ifindex, and records in a directory of the test's.

It does what the kernel does as far as a NIC's life can notice it. Nothing is made twice, and what is not there is Gone.
A device that goes takes its addresses' routes, its port and its filter along, and leaves policy rules and map elements.
A device that is down has no routes and no neighbours. A name that is free is given to the next tap, with a new ifindex.

The nth change can be made to fail. EXPOSED collects the taps that were up and connected without a closed filter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from ganeti_vif.config.model import Config
from ganeti_vif.engine.chains import Chain
from ganeti_vif.engine.difference import Alter, Change, Make, Remove, subject
from ganeti_vif.engine.failure import Failure, Gone
from ganeti_vif.engine.marks import PROTOCOL
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
from ganeti_vif.kernel.netlink.links import Device, Devices
from ganeti_vif.nic.nic import Nic
from ganeti_vif.reconcile import survey
from ganeti_vif.system import openvswitch, records, tables
from ganeti_vif.system.node import Node
from nfdhcpd_bridge.binding import is_ours

STANDBY = "standby"
"""The field of a Nic that says that its guest runs on another node."""
HANG_ON_A_DEVICE = (
    OffloadCheck,
    Shaper,
    BridgePort,
    BridgeVlan,
    TrunkVlan,
    Up,
    Peers,
    Neighbours,
    Route,
    ProxyNeighbour,
    Chain,
)
"""What the kernel takes away with its device."""


def standby(nic: Nic) -> Nic:
    """NIC while its guest runs on another node."""
    changes: dict[str, Any] = {STANDBY: True}
    return replace(nic, **changes)


class Broken(Failure):
    """The fault that a test asked for."""


class MemoryNode(Node):
    """A node without a kernel."""

    def __init__(self) -> None:
        self.things: dict[Key, Object] = {}
        self.done: list[Change] = []
        self.exposed: set[str] = set()
        self.advertised: frozenset[str] = frozenset()
        self.followed = Following()
        self.own: frozenset[Address] = frozenset()
        self._links: dict[str, Link] = {}
        self._next = 2
        self._fails: dict[int, Failure] = {}
        self._calls = 0

    # What a test does to the node.

    def add(self, name: str, **properties: Any) -> Link:
        """A device appears."""
        given: dict[str, Any] = {"name": name, "index": self._next, "group": 0, "mtu": 1500}
        link = Link(**(given | properties))
        self._next = max(self._next, link.index or 0) + 1
        self._links[name] = link
        return link

    def plug(self, nic: Nic, **properties: Any) -> Nic:
        """QEMU opens NIC's tap. Returns the NIC with the ifindex that it has."""
        tap = {"kind": "tun", "tun": "tap", "mac": "e6:11:22:33:44:55"}
        return replace(nic, index=self.add(nic.tap, **(tap | properties)).index or 0)

    def unplug(self, name: str) -> None:
        """The device NAME goes away, and what the kernel takes away with it."""
        del self._links[name]
        for key, thing in [*self.things.items()]:
            named = isinstance(thing, Sysctl) and name in thing.path.split("/")
            if named or (isinstance(thing, HANG_ON_A_DEVICE) and thing.device == name):
                del self.things[key]

    def put(self, *things: Object) -> None:
        """THINGS are there, whoever made them."""
        for thing in things:
            self.things[thing.key] = thing

    def fail(self, change: int, failure: Failure | None = None) -> None:
        """The change of that number from now on, counted from 0, fails."""
        self._fails[self._calls + change] = failure or Broken("it is broken", "mend it")

    @contextmanager
    def failing(self, change: int) -> Iterator[None]:
        """The same while the block runs, at the end of which the node is sound again."""
        self.fail(change)
        try:
            yield
        finally:
            self._fails.clear()

    def snapshot(self) -> dict[Key, Object]:
        """All that is on the node. A sysctl that has the kernel's value is not named."""
        found: dict[Key, Object] = {link.key: link for link in self._links.values()}
        found |= {k: t for k, t in self.things.items() if not (isinstance(t, Sysctl) and t.value == "0")}
        files: list[Record | Origin] = [
            *records.read_all(),
            *(o for r in records.read_all() if (o := records.read_origin(r.tap))),
        ]
        return found | {thing.key: thing for thing in [*files, *records.stray_origins()]}

    def has(self, *kinds: type) -> list[Object]:
        """What there is of KINDS."""
        return [thing for thing in self.snapshot().values() if isinstance(thing, kinds)]

    def of(self, tap: str) -> set[str]:
        """The kinds of things that name TAP, but for the device itself and its sysctls."""
        return {
            type(thing).__name__
            for thing in self.snapshot().values()
            if not isinstance(thing, Link | Sysctl) and tap in (getattr(thing, "device", ""), getattr(thing, "tap", ""))
        }

    # What the product asks of a node.

    def forget(self) -> None:
        pass

    def devices(self, names: Iterable[str] | None = None) -> Devices:
        wanted = self._links if names is None else set(names) & self._links.keys()
        return Devices({name: self._device(name) for name in self._links if name in wanted})

    def _device(self, name: str) -> Device:
        port, netfilter = self.things.get(("port", name)), self.things.get(("bridge netfilter", name))
        return Device(
            self._links[name],
            ("up", name) in self.things,
            port.bridge if isinstance(port, BridgePort) else None,
            netfilter if isinstance(netfilter, BridgeNetfilter) else None,
        )

    def taps(self) -> dict[str, int]:
        return {name: link.index or 0 for name, link in self._links.items() if link.kind == "tun"}

    def read(self, wanted: Iterable[Object], devices: Devices | None = None) -> dict[Key, Object]:
        found = ((thing.key, self._found(thing)) for thing in wanted)
        return {key: thing for key, thing in found if thing is not None}

    def _found(self, thing: Object) -> Object | None:
        match thing:
            case Link():
                return self._links.get(thing.name)
            case Record():
                return records.read_record(thing.tap)
            case Origin():
                return records.read_origin(thing.tap)
            case Sysctl():
                return self.things.get(thing.key, replace(thing, value="0"))
            case BridgeNetfilter():
                return self.things.get(thing.key, replace(thing, iptables=False, ip6tables=False))
        return self.things.get(thing.key)

    def routes_over(self, networks: Iterable[Prefix], table: int, mark: int) -> list[Route]:
        routes = [one for one in self.things.values() if isinstance(one, Route) and one.table == table]
        found: list[Route] = []
        for network in networks:
            over = [r for r in routes if r.destination.version == network.version and r.destination.overlaps(network)]
            over.sort(key=lambda route: (-route.destination.prefixlen, route.metric))
            found += over[:1] if network.num_addresses == 1 else over
        return found

    def foreign_rules(self, device: str) -> list[Rule]:
        rules = [thing for thing in self.things.values() if isinstance(thing, Rule)]
        return [rule for rule in rules if rule.device == device and rule.protocol != PROTOCOL]

    def own_addresses(self, device: str | None) -> frozenset[Address]:
        return self.own

    def advertised_to(self) -> frozenset[str]:
        return self.advertised

    def following(self) -> Following:
        return self.followed

    def ours(self, wanted: State, directory: str, devices: Devices | None = None) -> dict[Key, Object]:
        found: list[Object] = [*records.read_all(), *records.stray_origins()]
        for thing in self.things.values():
            match thing:
                case Route(protocol=protocol) | Rule(protocol=protocol):
                    found += [thing] if protocol == PROTOCOL else []
                case Binding():
                    found += [thing] if thing.directory == directory and is_ours(thing.text) else []
                case Link() | Sysctl() | Module() | Up() | BridgePort() | BridgeVlan() | TrunkVlan() | OvsPort():
                    pass
                case BridgeNetfilter():
                    pass
                case _:
                    found.append(thing)
        return {thing.key: thing for thing in found}

    def perform(self, change: Change) -> None:
        call, self._calls = self._calls, self._calls + 1
        if call in self._fails:
            raise self._fails[call]
        thing = subject(change)
        if isinstance(thing, Record | Origin):
            records.perform(change)
        elif isinstance(thing, Link):
            self._change_link(change)
        else:
            self._change(change)
        self.done.append(change)
        self.exposed |= {tap for tap in self.taps() if self._is_exposed(tap)}

    def _change_link(self, change: Change) -> None:
        match change:
            case Alter(_, Link() as wanted):
                if wanted.name not in self._links:
                    raise Gone(f"no device {wanted.name}", "nothing")
                said = {f.name: getattr(wanted, f.name) for f in fields(wanted)}
                there = self._links[wanted.name]
                self._links[wanted.name] = replace(there, **{n: v for n, v in said.items() if v is not None})
            case Make(Link() as wanted):
                assert wanted.name not in self._links, f"made twice: {wanted.name}"
                assert wanted.kind, f"nobody but QEMU makes {wanted.name}"
                said = {f.name: getattr(wanted, f.name) for f in fields(wanted)}
                self.add(**{name: value for name, value in said.items() if value is not None})
            case Remove(Link() as actual):
                self.unplug(actual.name)

    def _change(self, change: Change) -> None:
        thing = subject(change)
        there = self.things.get(thing.key)
        if isinstance(change, Remove):
            if isinstance(thing, Sysctl):
                return
            if there is None:
                raise Gone(f"no {thing.key}", "nothing")
            del self.things[thing.key]
            if isinstance(thing, Up):
                for key, other in [*self.things.items()]:
                    if isinstance(other, Route | Neighbours) and other.device == thing.device:
                        del self.things[key]
            return
        if isinstance(thing, HANG_ON_A_DEVICE) and thing.device and thing.device not in self._links:
            raise Gone(f"no device {thing.device}", "nothing")
        if isinstance(thing, BridgePort) and thing.bridge not in self._links:
            raise Failure(f"no bridge {thing.bridge}", "nothing")
        if isinstance(thing, Route) and thing.device and ("up", thing.device) not in self.things:
            raise Failure(f"{thing.device} is down", "nothing")
        if not isinstance(thing, Sysctl | BridgeNetfilter):
            assert (there is None) == isinstance(change, Make), f"{change}, but there is {there}"
        self.things[thing.key] = thing

    def _is_exposed(self, tap: str) -> bool:
        """Whether what TAP's guest sends goes anywhere unfiltered."""
        if ("up", tap) not in self.things:
            return False
        chain = self.things.get(("chain", "netdev", f"{tap}-in"))
        closed = isinstance(chain, Chain) and chain.policy == "drop" and chain.hook == "ingress"
        connected = (BridgePort, OvsPort, Route)
        return not closed and any(isinstance(t, connected) and t.device == tap for t in self.things.values())


def memory_node(directory: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryNode:
    """A node with the uplink eth1 and the bridge br0, and with its files below DIRECTORY."""
    monkeypatch.setattr(records, "DIRECTORY", str(directory / "nics"))
    (directory / "sys/net/ipv6").mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(sysctl, "ROOT", f"{directory}/sys/")
    monkeypatch.setattr(tables, "FILES", (str(directory / "rt_tables"),))
    monkeypatch.setattr(openvswitch, "bridge_exists", lambda name: name == "ovs0")
    monkeypatch.setattr(survey, "identity", lambda: "node1")
    node = MemoryNode()
    node.add("eth1", mac="52:54:00:00:00:01")
    node.add("br0", kind="bridge", mac="52:54:00:00:00:02", vlan_filtering=False)
    node.put(Up(device="eth1"), Up(device="br0"))
    return node


def binding_of(node: MemoryNode, config: Config, tap: str) -> Mapping[str, str]:
    """What the binding of TAP says."""
    from nfdhcpd_bridge.binding import parse

    found = node.things.get(("binding", config.bindings.directory, tap))
    return parse(found.text) if isinstance(found, Binding) else {}
