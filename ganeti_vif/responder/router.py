# SPDX-License-Identifier: BSD-2-Clause
"""The IPv6 router that a guest sees (RFC 4861, RFC 8106): its advertisements, and the addresses that it answers for.

On a routed tap the node is the guest's router, also to its neighbours. The prefix is advertised as not on-link. If a
guest treats it as on-link, the node answers for every address of the prefix except the guest's own. In a bridge the
node routes nothing: it advertises prefix and name servers, is no default router, and answers for no neighbour.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network

from ganeti_vif.config.model import Dhcpv6, Told
from ganeti_vif.nic.nic import eui64
from ganeti_vif.responder.options import names, option_nd
from ganeti_vif.responder.packet import ALL_NODES6, ANY6, ND_HOPS, Datagram, Malformed, icmp6, multicast6
from nfdhcpd_bridge.reading import Reading

SOLICIT_ROUTER, ADVERTISE_ROUTER, SOLICIT_NEIGHBOUR, ADVERTISE_NEIGHBOUR = 133, 134, 135, 136
_SOURCE_MAC, _TARGET_MAC, _PREFIX, _MTU, _RDNSS, _DNSSL = 1, 2, 3, 5, 25, 31
_MANAGED, _OTHER = 0x80, 0x40
_ON_LINK, _AUTONOMOUS = 0x80, 0x40
_ROUTER, _SOLICITED, _OVERRIDE = 0x80, 0x40, 0x20
_LEAST_MTU = 1280
"""The smallest MTU of IPv6, in bytes (RFC 8200, 5)."""
_LIVES = 3
"""Lifetimes are this many periods, so two advertisements may be lost (RFC 4861, 6.2.1: AdvDefaultLifetime)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """The router of the guest of one tap. ADVERTISEMENT and FAREWELL (the last one) are whole ICMPv6 messages.

    ADDRESS is link-local and made from MAC. ADDRESSES are all of the router's addresses. The router also answers for
    all of PREFIX, if there is one, except OWN, the guest's address.
    """

    mac: bytes
    address: bytes
    addresses: frozenset[bytes]
    own: bytes | None
    prefix: IPv6Network | None
    advertisement: bytes
    farewell: bytes

    def solicited(self, guest: bytes, request: Datagram) -> bytes:
        """The answer to a router solicitation of the MAC GUEST. Raises Malformed if RFC 4861 forbids the request."""
        _check(request, 8)
        if request.source != ANY6:
            return icmp6((self.mac, guest), (self.address, request.source), self.advertisement)
        return self.advertised()

    def advertised(self, *, last: bool = False) -> bytes:
        """An unsolicited advertisement, or with LAST the farewell."""
        message = self.farewell if last else self.advertisement
        return icmp6((self.mac, multicast6(ALL_NODES6)), (self.address, ALL_NODES6), message)

    def neighbour(self, guest: bytes, request: Datagram) -> bytes | None:
        """The answer to a neighbour solicitation; None if the target is not ours. Raises Malformed as solicited()."""
        _check(request, 24)
        target = request.payload[8:24]
        if target[0] == 0xFF:
            raise Malformed("a solicitation for a group")
        if request.source == ANY6 or not self._plays(target):
            return None  # the guest probes for duplicates, or the address is not ours
        router = target in self.addresses
        flags = _SOLICITED | (_ROUTER if router else 0) | (_OVERRIDE if target == self.address else 0)
        message = struct.pack("!BBHI", ADVERTISE_NEIGHBOUR, 0, 0, flags << 24) + target
        message += option_nd(_TARGET_MAC, self.mac)
        return icmp6((self.mac, guest), (target, request.source), message)

    def may_be_claimed(self, address: bytes) -> bool:
        """Whether the guest may have claimed ADDRESS."""
        return self.prefix is not None and address not in self.addresses and IPv6Address(address) in self.prefix

    def _plays(self, target: bytes) -> bool:
        if target in self.addresses:
            return True
        return self.prefix is not None and target != self.own and IPv6Address(target) in self.prefix


def _check(request: Datagram, least: int) -> None:
    """Raises Malformed unless REQUEST meets RFC 4861, 6.1.1 and 7.1.1. LEAST is the size without options."""
    payload = request.payload
    if request.hops != ND_HOPS:
        raise Malformed(f"a hop limit of {request.hops}: it may come from beyond the link")
    if len(payload) < least or payload[1]:
        raise Malformed("a short solicitation, or one with a code")
    at = least
    while at < len(payload):
        length = payload[at + 1] * 8 if at + 1 < len(payload) else 0
        if not length or at + length > len(payload):
            raise Malformed("an option of wrong length")
        if payload[at] == _SOURCE_MAC and request.source == ANY6:
            raise Malformed("a MAC without an address")
        at += length


def link_local(mac: bytes) -> bytes:
    """The link-local address made from MAC (RFC 4291, appendix A)."""
    return eui64(IPv6Network("fe80::/64"), mac.hex(":")).packed


def own_address(binding: Reading) -> IPv6Address | None:
    """The guest's IPv6 address: that of BINDING, or the one that SLAAC makes from prefix and MAC."""
    if binding.address6 or not binding.subnet6 or binding.subnet6.prefixlen != 64:
        return binding.address6
    return eui64(binding.subnet6, binding.mac.hex(":"))


def router(binding: Reading, told: Told, mac: bytes, *, routed: bool) -> Router | None:
    """The router with this MAC that the guest of BINDING sees; None without an IPv6 prefix."""
    if binding.subnet6 is None:
        return None
    address = link_local(mac)
    gateway = {binding.gateway6.packed} if binding.gateway6 and routed else set()
    own = own_address(binding)
    return Router(
        mac=mac,
        address=address,
        addresses=frozenset({address, *gateway}),
        own=own.packed if own else None,
        prefix=binding.subnet6 if routed else None,
        advertisement=_advertisement(binding, told, mac, routed=routed, lives=_LIVES),
        farewell=_advertisement(binding, told, mac, routed=routed, lives=0),
    )


def _advertisement(binding: Reading, told: Told, mac: bytes, *, routed: bool, lives: int) -> bytes:
    lifetime = lives * told.ra_period
    flags = {Dhcpv6.OFF: 0, Dhcpv6.STATELESS: _OTHER, Dhcpv6.STATEFUL: _MANAGED | _OTHER}[told.dhcpv6]
    head = struct.pack("!BBHBBHII", ADVERTISE_ROUTER, 0, 0, 64, flags if lives else 0, lifetime if routed else 0, 0, 0)
    return head + b"".join(_options(binding, told, mac, lifetime, routed=routed))


def _options(binding: Reading, told: Told, mac: bytes, lifetime: int, *, routed: bool) -> Iterator[bytes]:
    yield option_nd(_SOURCE_MAC, mac)
    if lifetime and binding.mtu and binding.mtu >= _LEAST_MTU:
        yield option_nd(_MTU, struct.pack("!HI", 0, binding.mtu))
    if lifetime and binding.subnet6:
        yield option_nd(_PREFIX, _prefix(binding, binding.subnet6, told, routed=routed))
    if servers := [server.packed for server in told.nameservers if isinstance(server, IPv6Address)]:
        yield option_nd(_RDNSS, struct.pack("!HI", 0, lifetime) + b"".join(servers))
    if told.search:
        yield option_nd(_DNSSL, struct.pack("!HI", 0, lifetime) + names(told.search))


def _prefix(binding: Reading, prefix: IPv6Network, told: Told, *, routed: bool) -> bytes:
    """The prefix option. The prefix lives as long as a lease, so addresses survive a pause of the responder."""
    flags = 0 if routed else _ON_LINK
    # The filter accepts one address only. If that is not SLAAC's, the guest must not make one by SLAAC.
    if prefix.prefixlen == 64 and told.dhcpv6 is not Dhcpv6.STATEFUL and binding.address6 in (None, _slaac(binding)):
        flags |= _AUTONOMOUS
    lifetime = max(told.lease_time, _LIVES * told.ra_period)
    return struct.pack("!BBIII", prefix.prefixlen, flags, lifetime, lifetime, 0) + prefix.network_address.packed


def _slaac(binding: Reading) -> IPv6Address | None:
    return eui64(binding.subnet6, binding.mac.hex(":")) if binding.subnet6 else None
