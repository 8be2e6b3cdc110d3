# SPDX-License-Identifier: BSD-2-Clause
"""The key `ipv6-per-nic` of a public link: each of its NICs has an IPv6 prefix of its own (RFC 8273). Pure.

The NIC's IPv4 address has a place among the addresses of the link's IPv4 subnets. The prefix is the one with the same
place among the /64s of the link's short IPv6 prefix. Ganeti gives no IPv4 address twice, so no two NICs have one
prefix. Every node has the same configuration, so every node finds the same prefix.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Network
from itertools import combinations

from ganeti_vif.config.model import Public

KEY = "ipv6-per-nic"
LENGTH = 64
"""The length of a NIC's prefix (PerNic)."""


def mistake(public: Public) -> tuple[str, str] | None:
    """Why the NICs of PUBLIC cannot have prefixes of their own, and what to do. None if they can, or need not."""
    if not public.ipv6_per_nic:
        return None
    if 4 not in public.versions:
        return f"{KEY} without an IPv4 subnet: a NIC's IPv4 address leads to its prefix", "add it, or leave the key out"
    if not public.shorter6:
        return f"{KEY} without an IPv6 subnet that is shorter than /{LENGTH}", "add it to 'subnets', as 2001:db8::/48"
    if len(public.shorter6) > 1:
        several = " and ".join(map(str, public.shorter6))
        return f"{KEY} with several IPv6 subnets that are shorter than /{LENGTH}: {several}", "leave one of them"
    room = 1 << LENGTH - public.shorter6[0].prefixlen
    for one, other in combinations(public.subnets, 2):
        if one.version == other.version and one.overlaps(other):
            return f"{KEY} with subnets that overlap: {one} and {other}", "write each address once"
    if (needed := sum(one.num_addresses for one in _subnets4(public))) > room:
        what = f"{public.shorter6[0]} has {room} prefixes of /{LENGTH}, and the IPv4 subnets have {needed} addresses"
        shortest = LENGTH - (needed - 1).bit_length()
        return what, f"give the link a /{shortest}, or smaller IPv4 subnets" if shortest > 0 else "smaller IPv4 subnets"
    return None


def prefix(address: IPv4Address, public: Public) -> IPv6Network | None:
    """The prefix of the NIC of PUBLIC with ADDRESS. None if NICs have none there, or if ADDRESS is in no subnet."""
    pool, place = public.pool6, 0
    if pool is None:
        return None
    for subnet in _subnets4(public):
        if address in subnet:
            place += int(address) - int(subnet.network_address)
            return IPv6Network((int(pool.network_address) + (place << 128 - LENGTH), LENGTH))
        place += subnet.num_addresses
    return None


def _subnets4(public: Public) -> list[IPv4Network]:
    """In the order of the configuration: who adds one at the end changes no prefix."""
    return [one for one in public.subnets if isinstance(one, IPv4Network)]
