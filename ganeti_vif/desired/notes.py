# SPDX-License-Identifier: BSD-2-Clause
"""What an administrator should know of a NIC although nothing on this node is wrong. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Address, IPv6Network

from ganeti_vif.config.model import Public
from ganeti_vif.engine.failure import Failure
from ganeti_vif.nic.claim import prefix_of
from ganeti_vif.nic.nic import Mode, Nic


def notes(nic: Nic, *, served: bool = True) -> Iterator[Failure]:
    """What there is to know of NIC, with what to do if it is not intended. SERVED: the responder hears its guest."""
    if nic.mode is Mode.ROUTED and nic.shared and not served and not nic.standby:
        yield Failure(
            f"nothing leads to {nic.shared[0]}, which it shares: the responder does not hear its guest",
            "note: it needs a binding: the tag nfdhcpd of its network or for = all, and consumer = responder",
        )
    if (prefix := nic.unserved6) and nic.network:
        tag = _tag(nic, "ADDRESS")
        yield Failure(
            f"its guest gets no IPv6 address: the prefix {prefix} of the network {nic.network.name} is no /64",
            f"note: grant it one of {prefix}: {tag}, or give the network a /64: gnt-network modify --network6",
        )


def refused(nic: Nic, address: IPv6Address, why: str, public: Public | None) -> Failure:
    """That the guest of NIC uses ADDRESS or asks for it, and may not have it, WHY, and what to do. PUBLIC is its link,
    if it is routed.

    The guest chooses what stands here. So nothing is called a fix that would give the address to it.
    """
    prefix = prefix_of(nic)
    fits = public is None or public.holds(IPv6Network(address))
    outside = not address.is_link_local and (prefix is None or address not in prefix)
    do = f"in the guest: ip -6 addr del {address} dev DEVICE"
    if outside and fits:
        do += f"; or, if it is the guest's: {_tag(nic, str(address))}, and start it again"
    return Failure(f"{nic.whom}: its guest may not have {address}: {why}", f"note: {do}")


def _tag(nic: Nic, address: str) -> str:
    which = nic.uuid if nic.number is None else nic.number
    return f"gnt-instance add-tags {nic.instance} vif:{which}:address:{address}"
