# SPDX-License-Identifier: BSD-2-Clause
"""The service for the guest of one tap, made from its binding, the configuration and the router's MAC."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from ganeti_vif.config.model import Config, Told
from ganeti_vif.responder import dhcp6, lease, router
from ganeti_vif.responder.dhcp6 import Server
from ganeti_vif.responder.lease import Lease
from ganeti_vif.responder.router import Router
from nfdhcpd_bridge.reading import Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """GUEST is the guest's MAC and NAME its host name, ROUTER is our MAC. A part is None without data for it. RA_PERIOD
    is in seconds."""

    name: str | None
    guest: bytes
    router: bytes
    lease: Lease | None
    router6: Router | None
    server6: Server | None
    ra_period: int

    def address(self, version: int) -> str | None:
        """The guest's address by the IP version VERSION."""
        if version == 4:
            return str(IPv4Address(self.lease.address)) if self.lease else None
        return str(IPv6Address(self.router6.own)) if self.router6 and self.router6.own else None


def service(binding: Reading, told: Told, mac: bytes, *, routed: bool) -> Service:
    """The service for BINDING. MAC is that of the tap if ROUTED, else of its bridge."""
    return Service(
        name=binding.hostname,
        guest=binding.mac,
        router=mac,
        lease=lease.lease(binding, told),
        router6=router.router(binding, told, mac, routed=routed),
        server6=dhcp6.server(binding, told, mac, routed=routed),
        ra_period=told.ra_period,
    )


def told(binding: Reading, config: Config) -> Told:
    """The settings for guests of BINDING's network, which is found by bridge, or by the public link of its address."""
    for private in config.private:
        if binding.router and binding.router in private.bridges:
            return private.told
    addresses = [address for address in (binding.address, router.own_address(binding)) if address]
    for public in config.public:
        if any(public.subnet_of(address) for address in addresses):
            return public.told
    return config.responder.told
