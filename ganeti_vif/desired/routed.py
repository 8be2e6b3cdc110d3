# SPDX-License-Identifier: BSD-2-Clause
"""What a routed NIC needs: host routes to its tap, permanent neighbours there, and neighbour proxies on the uplink."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv6Address

from ganeti_vif.config.model import Public
from ganeti_vif.desired.context import Context
from ganeti_vif.desired.obstacle import MAIN
from ganeti_vif.engine.marks import ROUTED_GROUP
from ganeti_vif.engine.objects import Address, Link, Neighbours, Prefix, ProxyNeighbour, Route, Rule, Sysctl, Up
from ganeti_vif.engine.state import Object
from ganeti_vif.guard import limits, tap_filter
from ganeti_vif.nic.nic import Nic
from host_setup.public import PRIORITY, switches4, switches6

TAP_MAC = "fe:00:56:49:46:01"
"""The MAC of every routed tap on every node, except adopted ones. A guest that moves keeps its neighbour entry for
its gateway. With random MACs it was cut off for 22 to 52 s after a live migration."""


def needs(nic: Nic, context: Context) -> Iterator[Object]:
    """What NIC needs on its public link, or in a routing table that is not a public link."""
    public = context.public
    yield Link(
        name=nic.tap,
        group=ROUTED_GROUP if public else None,
        mac=nic.tap_mac or TAP_MAC,
        mtu=context.uplink.mtu if context.uplink else None,
    )
    yield from tap_filter.offload(nic)
    mark = public.mark if public else None
    yield tap_filter.ingress(nic, mark, any_link_local=context.any_link_local, limits=context.limits)
    gateway = gateway_of(nic, public, 4)
    apart = gateway if gateway and not _asked_by_its_gateway(nic, public, gateway) else None
    yield from tap_filter.reaching(nic, apart, context.limits)
    yield from limits.shaper(nic, context.limits, context.uplink.mtu if context.uplink else None)
    yield from _switches(nic, context)
    yield Up(device=nic.tap)
    if found := answered(nic):
        yield Neighbours(device=nic.tap, mac=nic.mac, addresses=frozenset(found))
    for version in (4, 6):
        networks = nic.led(version)
        if context.table is not None:
            yield from (_route(context.table, network, nic) for network in networks)
        if networks and context.table not in (None, MAIN) and public is None:
            # No public link gives a mark here. So one rule for this tap, as in Ganeti's own script.
            yield Rule(family=version, priority=PRIORITY, table=context.table, device=nic.tap)
    for address in led(nic):
        if public and isinstance(address, IPv6Address):
            yield ProxyNeighbour(device=public.uplink, address=address)
    if nic.networks(6) and (gateway6 := gateway_of(nic, public, 6)):
        yield ProxyNeighbour(device=nic.tap, address=gateway6)


def addresses(nic: Nic) -> tuple[Address, ...]:
    """The single addresses that NIC's guest may use, with the one that SLAAC makes in its own prefix. The rest of that
    prefix is left out, and so are prefixes from its tags: nobody announces those."""
    return _with_made(nic, (*nic.networks(4), *nic.networks(6)))


def led(nic: Nic) -> tuple[Address, ...]:
    """Those of addresses() that lead to NIC's tap."""
    return _with_made(nic, (*nic.led(4), *nic.led(6)))


def _with_made(nic: Nic, networks: Iterable[Prefix]) -> tuple[Address, ...]:
    made = [nic.address6] if nic.prefix6 and nic.address6 else []
    return tuple(dict.fromkeys([*_singles(networks), *made]))


def _singles(networks: Iterable[Prefix]) -> Iterator[Address]:
    return (network.network_address for network in networks if network.num_addresses == 1)


def answered(nic: Nic) -> tuple[Address, ...]:
    """The addresses of NIC that its guest can only have at NIC's own MAC, because its filter drops every other one.

    The node need not ask for them, so it reaches this guest even if another guest fills the kernel's neighbour table. A
    standby NIC has them too: no route leads to its tap, and the hand-over has one thing less to do.
    """
    own = () if nic.grants.unguarded or len(nic.macs) > 1 else tuple(_singles((*nic.networks(4), *nic.networks(6))))
    # Its own prefix and delegated ones lead to it by its link-local address: to its MAC, whatever address it uses.
    return (*own, nic.link_local) if nic.prefix6 or nic.delegated else own


def _route(table: int, network: Prefix, nic: Nic) -> Route:
    """The route for what is NIC's. Its own prefix is routed by a next hop, and not on the link: the node would look for
    each of its 2^64 addresses, and whoever sends to many of them would fill the node's neighbour table (RFC 6583)."""
    hop = nic.link_local if network == nic.prefix6 or network in nic.delegated else None
    return Route(table=table, destination=network, device=nic.tap, gateway=hop)


def gateway_of(nic: Nic, public: Public | None, version: int) -> Address | None:
    """The guest's gateway: that of its network, or else of the public link. None if neither has one."""
    network = nic.network
    of_network: Address | None = None
    if network:
        of_network = network.gateway if version == 4 else network.gateway6
    return of_network or (public.gateway(version) if public else None)


def _asked_by_its_gateway(nic: Nic, public: Public | None, gateway: Address) -> bool:
    """Whether the public link's own filter already makes the node's ARP requests to the guest come from GATEWAY."""
    if public is None:
        return False
    subnets = {public.subnet_of(network.network_address) for network in nic.networks(4)}
    return all(public.gateway_in(subnet) == gateway for subnet in subnets)


def _switches(nic: Nic, context: Context) -> Iterator[Object]:
    if context.public is None:
        # Somebody else routes here: set what Ganeti's own script sets (ganeti tools/net-common.in:179-210 at 3.0.2).
        yield Sysctl(path=f"net/ipv4/conf/{nic.tap}/forwarding", value="1")
        yield Sysctl(path=f"net/ipv4/conf/{nic.tap}/proxy_arp", value="1")
    else:
        yield from switches4(nic.tap)
    ipv6 = f"net/ipv6/conf/{nic.tap}"
    if nic.networks(6):
        # The tap's link-local address comes from its constant MAC (0: EUI-64) and is usable at once. So a guest that
        # moves finds its router at the same address.
        yield Sysctl(path=f"{ipv6}/addr_gen_mode", value="0")
        yield Sysctl(path=f"{ipv6}/accept_dad", value="0")
        yield from switches6(nic.tap, context.force_forwarding)
    else:
        yield Sysctl(path=f"{ipv6}/disable_ipv6", value="1")
