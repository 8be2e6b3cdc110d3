# SPDX-License-Identifier: BSD-2-Clause
"""The IPv6 prefix that a NIC has alone, on a link with `ipv6-per-nic` (RFC 8273): which one, and why not. Pure."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Network

from ganeti_vif.config import own_prefixes
from ganeti_vif.config.model import Config, Public
from ganeti_vif.engine.failure import Failure
from ganeti_vif.nic.nic import Mode, Nic


def with_own_prefix(nic: Nic, config: Config) -> Nic:
    """NIC with the prefix that it has by CONFIG, or without one.

    What Ganeti says does not contain it, and what a record says may be of an earlier configuration.
    """
    public = config.public_link(nic.link) if nic.mode is Mode.ROUTED else None
    wanted = _prefix(nic, public) if public and not nic.disables(6) else None
    return nic if nic.prefix6 == wanted else replace(nic, prefix6=wanted)


def _prefix(nic: Nic, public: Public) -> IPv6Network | None:
    # The tag disable_ipv4 takes the address from the guest, and not from Ganeti's pool: its place stays its own.
    return own_prefixes.prefix(nic.ip, public) if isinstance(nic.ip, IPv4Address) else None


def obstacle(nic: Nic, public: Public) -> Failure | None:
    """Why NIC cannot have a prefix of its own on PUBLIC, where each NIC has one. None if it can, or needs none.

    What Ganeti says of IPv6 must not contradict: then a guest would have other addresses than Ganeti shows.
    """
    pool = public.pool6
    if pool is None or nic.disables(6):
        return None
    if not isinstance(nic.ip, IPv4Address):
        what = "it has no IPv4 address, which leads to its IPv6 prefix"
        do = "gnt-instance modify --net N:modify,ip=ADDRESS (the tag disable_ipv4 keeps it from the guest)"
        return Failure(f"{what} ({own_prefixes.KEY} of the public link {public.name})", f"note: give it one: {do}")
    if nic.prefix6 is None:
        what = f"its address {nic.ip} is in no subnet of the public link {public.name}"
        return Failure(what, f"note: give it another, or add its subnet to [public {public.name}]: ganeti-vif setup")
    network = nic.network
    if network and network.subnet6 and not network.subnet6.subnet_of(pool):
        what = f"its network {network.name} has the IPv6 prefix {network.subnet6}, and its own prefix is one of {pool}"
        do = f"gnt-network modify --network6={pool} {network.name}, or leave {own_prefixes.KEY} out"
        return Failure(f"{what} ({own_prefixes.KEY} of the public link {public.name})", f"note: {do}")
    for one in nic.networks(6):
        if isinstance(one, IPv6Network) and one.overlaps(pool) and not one.subnet_of(nic.prefix6):
            shown = one.network_address if one.prefixlen == 128 else one
            what = f"its address {shown} is in {pool}, of which each NIC of {public.name} has a prefix of its own"
            return Failure(what, "note: grant it one of another subnet: mend its tags vif:NIC:address:PREFIX")
    return None
