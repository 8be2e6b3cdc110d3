# SPDX-License-Identifier: BSD-2-Clause
"""The service for the guest of one tap, made from its binding, the configuration and the router's MAC."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, IPv6Network

from ganeti_vif.config.model import Config, Told
from ganeti_vif.config.told import overlaid
from ganeti_vif.engine.objects import ETHERNET_MTU, Address
from ganeti_vif.responder import dhcp6, lease, router
from ganeti_vif.responder.dhcp6 import Server
from ganeti_vif.responder.lease import Lease
from ganeti_vif.responder.router import Router
from nfdhcpd_bridge.reading import Reading

TAG = "tag"
"""The source of what tags say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """GUEST is the guest's MAC and NAME its host name, ROUTER is our MAC. A part is None without data for it. RA_PERIOD
    is in seconds. SHARED are the addresses of which the daemon is told when the guest announces them. PREFIX6 is the
    IPv6 prefix of its network. SOURCES6 are the prefixes that the guest may send from; None if it may send from any, or
    if nobody knows."""

    name: str | None
    guest: bytes
    router: bytes
    lease: Lease | None
    router6: Router | None
    server6: Server | None
    ra_period: int
    shared: tuple[Address, ...] = ()
    prefix6: IPv6Network | None = None
    sources6: tuple[IPv6Network, ...] | None = None

    def address(self, version: int) -> str | None:
        """The guest's address by the IP version VERSION."""
        if version == 4:
            return str(IPv4Address(self.lease.address)) if self.lease else None
        return str(IPv6Address(self.router6.own)) if self.router6 and self.router6.own else None


def service(binding: Reading, told: Told, mac: bytes, *, routed: bool) -> Service:
    """The service for BINDING. MAC is that of the tap if ROUTED, else of its bridge."""
    if told.mtu:
        # Never more than the link has: the guest's frames would be lost.
        binding = replace(binding, mtu=min(told.mtu, binding.mtu or ETHERNET_MTU))
    return Service(
        name=binding.hostname,
        guest=binding.mac,
        router=mac,
        lease=lease.lease(binding, told),
        router6=router.router(binding, told, mac, routed=routed),
        server6=dhcp6.server(binding, told, mac, routed=routed),
        ra_period=told.ra_period,
        shared=binding.shared,
        prefix6=binding.subnet6,
        sources6=binding.sources6 if binding.subnet6 else None,
    )


def told(binding: Reading, config: Config) -> Told:
    """What the guest of BINDING is told by CONFIG, and over it by its Ganeti network's section and by its tags."""
    found = _of_link(binding, config)
    network = next((one for one in config.networks if one.name == binding.network), None)
    if network:
        found = overlaid(found, dict(network.said), f"[network {network.name}]")
    return overlaid(found, dict(binding.told), TAG) if binding.told else found


def _of_link(binding: Reading, config: Config) -> Told:
    """The settings for guests on BINDING's link, which is found by bridge, or by the public link of its address."""
    if binding.router and (private := config.private_network(binding.router)):
        return private.told_on(binding.router)
    addresses = [address for address in (binding.address, router.own_address(binding)) if address]
    for public in config.public:
        if any(public.subnet_of(address) for address in addresses):
            return public.told
    return config.responder.told
