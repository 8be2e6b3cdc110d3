# SPDX-License-Identifier: BSD-2-Clause
"""The DHCP lease of the guest of one tap: made from its binding and the configuration, and encoded once."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network

from ganeti_vif.config.model import Told
from ganeti_vif.responder.boot import Boot, boot
from ganeti_vif.responder.options import names, option4
from ganeti_vif.responder.reach import reached
from nfdhcpd_bridge.reading import Reading

SERVER = IPv4Address("169.254.86.73")
"""The server's address where there is no gateway. It is link-local (RFC 3927), so the guest reaches it on its own link.
It is the same on every node, so a guest can renew its lease after a migration. Its last two bytes are "VI"."""


class Code(IntEnum):
    """Options (RFC 2132; 80: RFC 4039; 108: RFC 8925; 119: RFC 3397; 121: RFC 3442; 249: Windows' name of 121)."""

    NETMASK, ROUTER, NAMESERVERS, HOSTNAME, DOMAIN = 1, 3, 6, 12, 15
    MTU, BROADCAST, NTP, REQUESTED, LEASE_TIME, OVERLOAD, MESSAGE_TYPE = 26, 28, 42, 50, 51, 52, 53
    SERVER_ID, PARAMETERS, MAX_SIZE, RENEWAL, REBINDING = 54, 55, 57, 58, 59
    VENDOR_CLASS, CLIENT_ID, RAPID_COMMIT, CLIENT_NAME = 60, 61, 80, 81
    IPV6_ONLY, SEARCH, ROUTES, OLD_ROUTES = 108, 119, 121, 249


UNASKED = bytes({*range(256)} - {Code.IPV6_ONLY, Code.OLD_ROUTES})
"""The options for a client that asks for none in particular. RFC 8925, 3.3, forbids 108 to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The guest's address, and the encoded options for it, the most important first.

    Every lease has TIMES; OPTIONS are sent if the guest asks for them, or for none in particular. OWN_SERVER: only we
    have the server's address, so we answer ARP requests for it. BOOT depends on the request.
    """

    address: bytes
    server: bytes
    own_server: bool
    times: bytes
    options: Mapping[int, bytes]
    boot: Boot | None = None


def lease(binding: Reading, told: Told) -> Lease | None:
    """The lease for the guest of BINDING; None without an IPv4 address."""
    if not (binding.address and binding.subnet):
        return None
    gateway = None if binding.private else binding.gateway
    times = (
        (Code.LEASE_TIME, told.lease_time),
        (Code.RENEWAL, told.renewal_time),
        (Code.REBINDING, told.rebinding_time),
    )
    return Lease(
        address=binding.address.packed,
        server=(gateway or SERVER).packed,
        own_server=gateway is None,
        times=b"".join(option4(code, struct.pack("!I", seconds)) for code, seconds in times),
        options={code: option4(code, value) for code, value in _options(binding, gateway, told, binding.subnet)},
        boot=boot(told, 4),
    )


def _options(
    binding: Reading, gateway: IPv4Address | None, told: Told, subnet: IPv4Network
) -> Iterator[tuple[int, bytes]]:
    yield Code.NETMASK, subnet.netmask.packed
    if routes := b"".join(_routes(gateway, subnet, told)):
        yield Code.ROUTES, routes
    if gateway:
        yield Code.ROUTER, gateway.packed
    ways = [network for network, _ in told.routes]
    if servers := reached(told.nameservers, subnet, routed=gateway is not None, routes=ways):
        yield Code.NAMESERVERS, b"".join(servers)
    if binding.mtu:
        yield Code.MTU, binding.mtu.to_bytes(2, "big")
    host, _, own_domain = (binding.hostname or "").partition(".")
    if host:
        yield Code.HOSTNAME, host.encode("ascii")
    if domain := told.domain or own_domain:
        yield Code.DOMAIN, domain.encode("ascii")
    if subnet.prefixlen < 31:
        yield Code.BROADCAST, subnet.broadcast_address.packed
    if told.search:
        yield Code.SEARCH, names(told.search)
    if servers := reached(told.ntp, subnet, routed=gateway is not None, routes=ways):
        yield Code.NTP, b"".join(servers)
    if routes:
        yield Code.OLD_ROUTES, routes
    if told.ipv6_only and binding.subnet6 and binding.gateway6:  # without an IPv6 router the guest would be cut off
        yield Code.IPV6_ONLY, struct.pack("!I", told.ipv6_only)
    yield from ((number, value) for (version, number), value in told.options if version == 4)


def _routes(gateway: IPv4Address | None, subnet: IPv4Network, told: Told) -> Iterator[bytes]:
    """Routes that netmask and router cannot express. A guest that uses them ignores option 3 (RFC 3442)."""
    for network, hop in told.routes:
        significant = network.network_address.packed[: (network.prefixlen + 7) // 8]
        yield bytes((network.prefixlen,)) + significant + hop.packed
    defaults = any(network.prefixlen == 0 for network, _ in told.routes)
    if gateway is None:
        yield b"\x20" + SERVER.packed + bytes(4)
    elif gateway not in subnet:
        yield b"\x20" + gateway.packed + bytes(4)
        if not defaults:
            yield b"\0" + gateway.packed
    elif told.routes and not defaults:
        yield b"\0" + gateway.packed
