# SPDX-License-Identifier: BSD-2-Clause
"""Changing devices, ports, routes, policy rules, neighbours and proxy neighbours.

messages.py builds the messages, and requests.py sends them: pyroute2 takes longer to send a request and read its answer
than the kernel takes to do it. Messages name devices by the ifindex that this run saw first: another tap may have the
name a moment later.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable, Sequence

from ganeti_vif.engine.commands import commands
from ganeti_vif.engine.difference import Alter, Change, Make, Remove, subject
from ganeti_vif.engine.failure import Failure, Gone
from ganeti_vif.engine.marks import LEAVING_GROUP
from ganeti_vif.engine.naming import name
from ganeti_vif.engine.objects import (
    ETHERNET_MTU,
    BridgeNetfilter,
    BridgePort,
    BridgeVlan,
    Link,
    Neighbours,
    OffloadCheck,
    Peers,
    ProxyNeighbour,
    Route,
    Rule,
    Shaper,
    TrunkVlan,
    Up,
)
from ganeti_vif.engine.state import unmet
from ganeti_vif.kernel.netlink import bridge_ports, classifiers, messages, neighbours, peers, shapers
from ganeti_vif.kernel.netlink.messages import Attributes, Message
from ganeti_vif.kernel.netlink.requests import NLM_F_ACK, Requests

RTM_NEWLINK, RTM_DELLINK, RTM_SETLINK = 16, 17, 19
RTM_NEWROUTE, RTM_DELROUTE, RTM_NEWNEIGH, RTM_DELNEIGH, RTM_NEWRULE, RTM_DELRULE = 24, 25, 28, 29, 32, 33
NLM_F_REQUEST, NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x1, 0x100, 0x200, 0x400
BRIDGE_VLAN_INFO_PVID_UNTAGGED = 2 | 4
_SET = NLM_F_REQUEST | NLM_F_ACK
_NEW = _SET | NLM_F_CREATE | NLM_F_EXCL
_REPLACE = _SET | NLM_F_CREATE | NLM_F_REPLACE


class Netlink:
    """A socket for changes. The method `seen` gives it the ifindex of each device that this run has read."""

    def __init__(self) -> None:
        self._requests = Requests(socket.NETLINK_ROUTE)
        self._indexes: dict[str, int] = {}

    def close(self) -> None:
        self._requests.close()

    def seen(self, indexes: Iterable[tuple[str, int]]) -> None:
        """From now on these names mean the devices with these INDEXES, even if another device takes a name."""
        self._indexes.update(indexes)

    def forget(self) -> None:
        """Forget what `seen` was told: names may mean other devices from now on."""
        self._indexes.clear()

    def perform(self, change: Change) -> None:
        """Make CHANGE. Raises Gone if its device does not exist (any more), Failure if the kernel refuses."""
        try:
            self._perform(change)
        except OSError as error:
            raise _refused(change, error) from error

    def _perform(self, change: Change) -> None:
        match change:
            case Make(Link() as link):
                self._send(RTM_NEWLINK, _NEW, messages.new_link(link, self._index(link.lower) if link.lower else 0))
                self._indexes[link.name] = socket.if_nametoindex(link.name)
                if link.kind == "bridge" and link.mtu not in (None, ETHERNET_MTU):
                    # A bridge keeps an MTU only if it was set after the bridge was made (BROPT_MTU_SET_BY_USER). If
                    # not, the bridge takes its smallest port's MTU, and 1500 when the last port goes.
                    self._set_link(link.name, [("IFLA_MTU", link.mtu)])
            case Alter(Link() as actual, Link() as wanted):
                self._alter_link(actual, wanted)
            case Remove(Link() as link):
                self._send(RTM_DELLINK, _SET, messages.link(self._index(link.name), []))
                self._indexes.pop(link.name, None)
            case Make(BridgeNetfilter() as wanted) | Alter(_, BridgeNetfilter() as wanted):
                self._bridge_netfilter(wanted)
            case Remove(BridgeNetfilter(bridge=bridge)):
                self._bridge_netfilter(BridgeNetfilter(bridge=bridge, iptables=False, ip6tables=False))
            case Make(OffloadCheck() as check) | Alter(_, OffloadCheck() as check):
                index = self._index(check.device)
                classifiers.attach(self._requests, check, index, instead=isinstance(change, Alter))
            case Remove(OffloadCheck(device=device)):
                classifiers.detach(self._requests, self._index(device))
            case Make(Up(device=device)) | Alter(Up(), Up(device=device)):
                self._set_link(device, [], up=True)
            case Remove(Up(device=device)):
                self._set_link(device, [], up=False)
            case Make(BridgeVlan() as port):
                self._bridge_vlans(BridgeVlan(device=port.device, untagged=1, tagged=frozenset()), port)
            case Alter(BridgeVlan() as before, BridgeVlan() as port):
                self._bridge_vlans(before, port)
            case Remove(BridgeVlan() as port):
                self._bridge_vlans(port, BridgeVlan(device=port.device, untagged=None, tagged=frozenset()))
            case Make(TrunkVlan(device=device, vid=vid)):
                self._port_vlans(RTM_SETLINK, device, [(0, vid)])
            case Remove(TrunkVlan(device=device, vid=vid)):
                self._port_vlans(RTM_DELLINK, device, [(0, vid)])
            case Make(Route() as route):
                # A NIC's route must never replace a route to another device. The routes of a link are the same for
                # every program that makes them, and an attach may make them at the same moment as a setup.
                flags = _REPLACE if route.shared else _NEW
                self._send(RTM_NEWROUTE, flags, self._route(route))
            case Alter(Route(), Route() as route):
                self._send(RTM_NEWROUTE, _REPLACE, self._route(route))
            case Remove(Route() as route):
                self._send(RTM_DELROUTE, _SET, self._route(route))
            case Make(Rule() as rule):
                self._add_rule(rule)
            case Remove(Rule() as rule):
                self._send(RTM_DELRULE, _SET, messages.rule(rule))
            case _:
                self._perform_ports(change)

    def _perform_ports(self, change: Change) -> None:
        match change:
            case Make(Shaper() as one) | Alter(_, Shaper() as one) | Remove(Shaper() as one):
                shapers.perform(self._requests, change, self._index(one.device))
            case Make(BridgePort() as port):
                self._connect(port)
            case Alter(BridgePort() as actual, BridgePort() as port) if actual.bridge != port.bridge:
                self._connect(port)
            case Alter(BridgePort(), BridgePort() as port):
                bridge_ports.isolate(self._requests, self._index(port.device), isolated=port.isolated)
            case Remove(BridgePort() as port):
                self._set_link(port.device, [("IFLA_MASTER", 0)])
            case _:
                self._perform_neighbours(change)

    def _perform_neighbours(self, change: Change) -> None:
        match change:
            case Make(ProxyNeighbour() as proxy):
                self._send(RTM_NEWNEIGH, _REPLACE, messages.proxy(proxy, self._index(proxy.device)))
            case Remove(ProxyNeighbour() as proxy):
                self._send(RTM_DELNEIGH, _SET, messages.proxy(proxy, self._index(proxy.device)))
            case Make(Neighbours() as one) | Alter(_, Neighbours() as one) | Remove(Neighbours() as one):
                neighbours.perform(self._requests, change, self._index(one.device))
            case Make(Peers() as tunnel) | Alter(_, Peers() as tunnel) | Remove(Peers() as tunnel):
                lower = self._index(tunnel.lower) if tunnel.lower else 0
                peers.perform(self._requests, change, self._index(tunnel.device), lower)
            case _:
                raise NotImplementedError(change)

    def remove_devices(self, names: Sequence[str]) -> None:
        """Remove these devices of ours, in one request. Raises Gone if one does not exist, Failure if refused.

        The removal of one bridge waits for a grace period of all CPUs: 17 ms with a lock that the whole kernel shares.
        Bridges that are removed together wait a third of that each. A group is the only way to name several.
        """
        try:
            for name in names:
                self._set_link(name, [("IFLA_GROUP", LEAVING_GROUP)])
            self._send(RTM_DELLINK, _SET, messages.link(0, [("IFLA_GROUP", LEAVING_GROUP)]))
        except OSError as error:
            raise _refused(Remove(Link(name=names[0])), error) from error

    def _send(self, kind: int, flags: int, message: Message) -> None:
        number = self._requests.number()
        self._requests.send(messages.encoded(message, kind, flags, number), number, number)

    def _index(self, device: str) -> int:
        if device not in self._indexes:
            try:
                self._indexes[device] = socket.if_nametoindex(device)
            except OSError as error:
                raise Gone(f"there is no device {device}", "see: ip link show") from error
        return self._indexes[device]

    def _set_link(self, device: str, attributes: Attributes, up: bool | None = None) -> None:
        self._send(RTM_NEWLINK, _SET, messages.link(self._index(device), attributes, up))

    def _alter_link(self, actual: Link, wanted: Link) -> None:
        plain: Attributes = []
        data: Attributes = []
        for field, _, value in unmet(wanted, actual):
            if field in messages.PLAIN:
                plain.append((messages.PLAIN[field], value))
            elif field in messages.BRIDGE:
                data.append((messages.BRIDGE[field], int(value)))  # type: ignore[call-overload]
            else:
                raise Failure(
                    f"{wanted.kind} {wanted.name} has another {field} ({getattr(actual, field)}), and the kernel "
                    f"cannot change it to {value}",
                    f"note: when nothing uses it: ip link del {wanted.name}",
                )
        if plain:
            self._set_link(wanted.name, plain)
        for option in data:
            # One by one, in our order: the kernel refuses a forward delay of 0 while spanning tree is on, and in one
            # message it reads the delay first (br_changelink).
            self._set_link(wanted.name, messages.bridge_option(option))

    def _connect(self, port: BridgePort) -> None:
        """Make PORT. A port begins without flags. If it cannot be isolated, it is no port: it would reach others.

        Raises OSError.
        """
        self._set_link(port.device, [("IFLA_MASTER", self._index(port.bridge))])
        if port.isolated:
            try:
                bridge_ports.isolate(self._requests, self._index(port.device), isolated=True)
            except OSError:
                self._set_link(port.device, [("IFLA_MASTER", 0)])
                raise

    def _bridge_netfilter(self, wanted: BridgeNetfilter) -> None:
        for field, option in messages.BRIDGE_NETFILTER.items():
            self._set_link(wanted.bridge, messages.bridge_option((option, int(getattr(wanted, field)))))

    def _add_rule(self, rule: Rule) -> None:
        try:
            self._send(RTM_NEWRULE, _NEW, messages.rule(rule))
        except OSError as error:
            # The same rule exists: an attach and a setup made it at the same moment.
            if error.errno != errno.EEXIST:
                raise

    def _bridge_vlans(self, before: BridgeVlan, after: BridgeVlan) -> None:
        """Remove the VLANs that AFTER lacks, then add those that BEFORE lacks: the port never has too many VLANs."""
        gone = before.tagged - after.tagged
        if before.untagged is not None and before.untagged != after.untagged:
            gone |= {before.untagged}
        if gone:
            self._port_vlans(RTM_DELLINK, after.device, [(0, vid) for vid in sorted(gone)])
        new = [(0, vid) for vid in sorted(after.tagged - before.tagged)]
        if after.untagged is not None and after.untagged != before.untagged:
            new.append((BRIDGE_VLAN_INFO_PVID_UNTAGGED, after.untagged))
        if new:
            self._port_vlans(RTM_SETLINK, after.device, new)

    def _port_vlans(self, kind: int, device: str, vlans: list[tuple[int, int]]) -> None:
        self._send(kind, _SET, messages.port_vlans(self._index(device), vlans))

    def _route(self, route: Route) -> Message:
        return messages.route(route, self._index(route.device) if route.device else 0)


def _refused(change: Change, error: OSError) -> Failure:
    thing = name(subject(change))
    if error.errno in (errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.ENXIO, errno.EADDRNOTAVAIL):
        return Gone(f"{thing}: it or its device is not there (any more)", "see: ip link show")
    if error.errno in (errno.EPERM, errno.EACCES):
        return Failure(
            f"{thing}: no permission to change the node's network", "note: run it as root, with CAP_NET_ADMIN"
        )
    if error.errno == errno.EEXIST and isinstance(change, Make) and isinstance(change.wanted, Route):
        route = change.wanted
        return Failure(
            f"the address {route.destination.network_address} leads to another device of this node",
            f"see: ganeti-vif status && ip route show table {route.table}",
        )
    reason = os.strerror(error.errno or 0)
    return Failure(f"{thing}: the kernel refuses: {reason}", f"see: {next(commands(change))}")
