# SPDX-License-Identifier: BSD-2-Clause
"""Reading the node as one NIC sees it, into the terms of desired/context.py."""

from __future__ import annotations

from ipaddress import ip_network

from ganeti_vif.config.model import Config, LinkLocal, Public
from ganeti_vif.desired.context import Context
from ganeti_vif.engine.marks import PROTOCOL
from ganeti_vif.engine.objects import Address, Prefix, Route
from ganeti_vif.guard import connections, limits
from ganeti_vif.kernel import sysctl
from ganeti_vif.kernel.netlink import links
from ganeti_vif.nic.nic import Mode, Nic
from ganeti_vif.system import openvswitch, tables
from ganeti_vif.system.node import Node


def context_of(nic: Nic, config: Config, node: Node) -> Context:
    """The node as NIC sees it. Raises Failure if Open vSwitch is needed and cannot be asked."""
    public = config.public_link(nic.link) if nic.mode is Mode.ROUTED else None
    found = node.devices({nic.tap, nic.link, *([public.uplink] if public else [])}).by_name
    tap, bridge = found.get(nic.tap), found.get(nic.link)
    table = public.table if public else tables.table_number(nic.link) if nic.mode is Mode.ROUTED else None
    profile = config.profile(nic.grants.profile)
    vlan_aware = bridge is not None and bool(bridge.link.vlan_filtering)
    return Context(
        tap=tap.link if tap else None,
        bridge=bridge.link if bridge and nic.mode is Mode.BRIDGED else None,
        configured=config.private_network(nic.link) is not None,
        family=config.family(nic.link) if nic.mode is Mode.BRIDGED else None,
        trunks=_trunks(bridge, node) if bridge and vlan_aware and nic.mode is Mode.BRIDGED else (),
        public=public,
        uplink=found[public.uplink].link if public and public.uplink in found else None,
        table=table,
        switch=nic.mode is Mode.OPENVSWITCH and openvswitch.bridge_exists(nic.link),
        force_forwarding=sysctl.force_forwarding(),
        ipv6=nic.mode is not Mode.ROUTED or sysctl.ipv6(),
        any_link_local=link_local_of(nic, config) is LinkLocal.ANY,
        overlapping=_overlapping(nic, public, node) if public else (),
        profile=profile,
        limits=limits.limits_of(nic, config),
        following=node.following() if connections.needed(nic, profile) else connections.Following(),
        own=_own(nic, node) if nic.grants.addresses or nic.grants.shared else frozenset(),
        advertised=node.advertised_to() if public and 6 in public.versions else frozenset(),
    )


def link_local_of(nic: Nic, config: Config) -> LinkLocal:
    """What the configuration says of the link-local addresses on NIC's link."""
    if nic.mode is Mode.ROUTED:
        public = config.public_link(nic.link)
        return public.link_local if public else LinkLocal.ANY
    private = config.private_network(nic.link)
    return private.link_local if private else LinkLocal.EUI64


def _own(nic: Nic, node: Node) -> frozenset[Address]:
    """The node's own addresses that NIC's guest could take. A private network may have the addresses of another one, so
    behind a bridge only those of the bridge count."""
    return node.own_addresses(None if nic.mode is Mode.ROUTED else nic.link)


def _overlapping(nic: Nic, public: Public, node: Node) -> tuple[Route, ...]:
    """The routes to other taps that have an address in common with NIC's."""
    networks: list[Prefix] = [*nic.led(4), *nic.led(6)]
    if nic.prefix6 in networks:
        # Only routes to NICs' own prefixes are in the pool (desired/own_prefix.py), so one address tells for all. To
        # read the routes of all NICs would take milliseconds.
        networks[networks.index(nic.prefix6)] = ip_network(nic.prefix6.network_address)
    routes = node.routes_over(networks, public.table, public.mark)
    return tuple(r for r in routes if r.protocol == PROTOCOL and r.device not in (None, public.uplink, nic.tap))


def _trunks(bridge: links.Device, node: Node) -> tuple[str, ...]:
    """The ports that lead out of BRIDGE: those that are no taps, nor tun devices at all, nor the ends of containers.

    Ganeti's own script takes every port not called tap* for one, and leaks VLANs to veths (ganeti issue 1863).
    """
    ports = node.devices().ports().get(bridge.name, [])
    return tuple(sorted(port.name for port in ports if port.link.kind not in ("tun", "veth")))
