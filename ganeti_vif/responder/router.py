# SPDX-License-Identifier: BSD-2-Clause
"""The IPv6 router that a guest sees (RFC 4861, RFC 8106): its advertisements, and the addresses that it answers for.

On a routed tap the node is the guest's router, also to its neighbours. The prefix is advertised as not on-link. If a
guest treats it as on-link, the node answers for every address of the prefix except the guest's own, unless the guest
has the whole prefix alone. In a bridge the node routes nothing: it advertises prefix and name servers, is no default
router, and answers for no neighbour.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network

from ganeti_vif.config.model import Dhcpv6, Told
from ganeti_vif.nic.nic import eui64
from ganeti_vif.responder.options import names, option_nd
from ganeti_vif.responder.packet import ALL_NODES6, ANY6, ND_HOPS, Datagram, Malformed, icmp6, multicast6
from ganeti_vif.responder.reach import reached
from nfdhcpd_bridge.reading import Reading

SOLICIT_ROUTER, ADVERTISE_ROUTER, SOLICIT_NEIGHBOUR, ADVERTISE_NEIGHBOUR = 133, 134, 135, 136
_SOURCE_MAC, _TARGET_MAC, _PREFIX, _MTU, _RDNSS, _DNSSL = 1, 2, 3, 5, 25, 31
_MANAGED, _OTHER = 0x80, 0x40
_FLAGS = {Dhcpv6.OFF: 0, Dhcpv6.STATELESS: _OTHER, Dhcpv6.STATEFUL: _MANAGED | _OTHER}
_ON_LINK, _AUTONOMOUS = 0x80, 0x40
_ROUTER, _SOLICITED, _OVERRIDE = 0x80, 0x40, 0x20
_LIFETIMES = {_PREFIX: 8, _RDNSS: 4, _DNSSL: 4}
"""Bytes of the lifetimes in these options, which begin at the fourth byte (RFC 4861, 4.6.2; RFC 8106, 5)."""
_HEAD = 16
"""Bytes of an advertisement before its options (RFC 4861, 4.2)."""
_LEAST_MTU = 1280
"""The smallest MTU of IPv6, in bytes (RFC 8200, 5)."""
_LIVES = 3
"""Lifetimes are this many periods, so two advertisements may be lost (RFC 4861, 6.2.1: AdvDefaultLifetime)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """The router of the guest of one tap. ADVERTISEMENT is a whole ICMPv6 message.

    ADDRESS is link-local and made from MAC. ADDRESSES are all of the router's addresses. The router also answers for
    all of PREFIX, if there is one, except OWN, the guest's address. It does not if the guest has PREFIX ALONE: then
    nobody else has an address there.
    """

    mac: bytes
    address: bytes
    addresses: frozenset[bytes]
    own: bytes | None
    prefix: IPv6Network | None
    advertisement: bytes
    alone: bool = False

    def solicited(self, guest: bytes, request: Datagram) -> bytes:
        """The answer to a router solicitation of the MAC GUEST. Raises Malformed if RFC 4861 forbids the request."""
        _check(request, 8)
        if request.source != ANY6:
            return icmp6((self.mac, guest), (self.address, request.source), self.advertisement)
        return self.advertised()

    def advertised(self) -> bytes:
        """An unsolicited advertisement."""
        return self._to_all(self.advertisement)

    def farewell(self, *, prefix: bool) -> bytes:
        """The last advertisement: router and name servers are gone, and with PREFIX the prefix, too.

        A prefix that is gone gets lifetimes of zero (RFC 9096, 3.5). The guest then uses its old address for no new
        connection, and forgets it after two hours (RFC 4862, 5.5.3).
        """
        gone = [one for one in self._withdrawals() if prefix or one[0] != _PREFIX]
        return self._to_all(_head(0, 0) + option_nd(_SOURCE_MAC, self.mac) + b"".join(gone))

    def changed(self, after: Router | None) -> bytes | None:
        """The advertisement that takes back what AFTER, the guest's next router, does not tell. None if all stays."""
        if after is None:
            return self.farewell(prefix=True)
        told = after._withdrawals()
        gone = [one for one in self._withdrawals() if one not in told]
        if after.address != self.address:
            return self.farewell(prefix=any(one[0] == _PREFIX for one in gone))
        head, options = after.advertisement[:_HEAD], after.advertisement[_HEAD:]
        return self._to_all(head + b"".join(gone) + options) if gone else None

    def _withdrawals(self) -> list[bytes]:
        """The options of the advertisement that have lifetimes, each with zero instead."""
        found, at = [], _HEAD
        while at < len(self.advertisement):
            end = at + 8 * self.advertisement[at + 1]
            option = self.advertisement[at:end]
            if lifetimes := _LIFETIMES.get(option[0]):
                found.append(option[:4] + bytes(lifetimes) + option[4 + lifetimes :])
            at = end
        return found

    def _to_all(self, message: bytes) -> bytes:
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

    def is_the_nodes(self, target: bytes) -> bool:
        """Whether the node's kernel has the address TARGET on a routed tap: its own link-local address."""
        return self.prefix is not None and target == self.address

    def _plays(self, target: bytes) -> bool:
        if target in self.addresses:
            return True
        if self.alone or self.prefix is None:
            return False
        return target != self.own and IPv6Address(target) in self.prefix


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
    return binding.address6 or _slaac(binding)


def dhcpv6(binding: Reading, told: Told) -> Dhcpv6:
    """What DHCPv6 does for the guest of BINDING. It gives every guest its address that SLAAC cannot make."""
    made = binding.address6 is None or binding.address6 == _slaac(binding)
    return told.dhcpv6 if made else Dhcpv6.STATEFUL


def has_router(binding: Reading, *, routed: bool) -> bool:
    """Whether the guest of BINDING has an IPv6 router: the node, or in a bridge the gateway of its network."""
    return routed or binding.gateway6 is not None


def router(binding: Reading, told: Told, mac: bytes, *, routed: bool) -> Router | None:
    """The router with this MAC that the guest of BINDING sees; None without an IPv6 prefix."""
    if binding.subnet6 is None:
        return None
    address = link_local(mac)
    gateway = {binding.gateway6.packed} if binding.gateway6 and routed else set()
    own = own_address(binding)
    servers = reached(told.nameservers, binding.subnet6, routed=has_router(binding, routed=routed))
    lifetime = _LIVES * told.ra_period
    # The prefix lives as long as a lease, so addresses survive a pause of the responder.
    prefix_lifetime = max(told.lease_time, lifetime)
    mode, flags = dhcpv6(binding, told), _prefix_flags(binding, told, routed=routed)
    return Router(
        mac=mac,
        address=address,
        addresses=frozenset({address, *gateway}),
        own=own.packed if own else None,
        prefix=binding.subnet6 if routed else None,
        alone=binding.alone,
        advertisement=_head(_FLAGS[mode], lifetime if routed else 0)
        + option_nd(_SOURCE_MAC, mac)
        + _mtu(binding)
        + _prefix(binding.subnet6, flags, prefix_lifetime)
        + _names(servers, told, lifetime),
    )


def _head(flags: int, lifetime: int) -> bytes:
    return struct.pack("!BBHBBHII", ADVERTISE_ROUTER, 0, 0, 64, flags, lifetime, 0, 0)


def _mtu(binding: Reading) -> bytes:
    usable = binding.mtu and binding.mtu >= _LEAST_MTU
    return option_nd(_MTU, struct.pack("!HI", 0, binding.mtu)) if usable else b""


def _prefix(prefix: IPv6Network, flags: int, lifetime: int) -> bytes:
    value = struct.pack("!BBIII", prefix.prefixlen, flags, lifetime, lifetime, 0) + prefix.network_address.packed
    return option_nd(_PREFIX, value)


def _prefix_flags(binding: Reading, told: Told, *, routed: bool) -> int:
    on_link = 0 if routed else _ON_LINK
    # If the guest was given another address than SLAAC's, it must use that one, and make none by SLAAC. In a prefix of
    # its own it may use any (RFC 8273, 4).
    by_slaac = _slaac(binding) is not None and (binding.alone or dhcpv6(binding, told) is not Dhcpv6.STATEFUL)
    return on_link | (_AUTONOMOUS if by_slaac else 0)


def _names(servers: list[bytes], told: Told, lifetime: int) -> bytes:
    found = b""
    if servers:
        found += option_nd(_RDNSS, struct.pack("!HI", 0, lifetime) + b"".join(servers))
    if told.search:
        found += option_nd(_DNSSL, struct.pack("!HI", 0, lifetime) + names(told.search))
    return found


def _slaac(binding: Reading) -> IPv6Address | None:
    """The address that SLAAC makes from prefix and MAC; None if it makes none."""
    if binding.subnet6 is None or binding.subnet6.prefixlen != 64:
        return None
    return eui64(binding.subnet6, binding.mac.hex(":"))
