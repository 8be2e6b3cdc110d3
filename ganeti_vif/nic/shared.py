# SPDX-License-Identifier: BSD-2-Clause
"""Shared addresses: several NICs may use one, and it leads to the NIC whose guest announced it last. Pure.

So VRRP moves an address (keepalived): the machine that takes it announces it (RFC 5798, 6.4.3).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ganeti_vif.engine.objects import Address
from ganeti_vif.nic.claim import shares
from ganeti_vif.nic.nic import Nic


@dataclass(frozen=True, slots=True)
class Announced:
    """The guest with this MAC, behind the tap with this INDEX, announces the shared ADDRESS, or answers for it."""

    index: int
    mac: str
    address: Address


def leading(nic: Nic, address: Address) -> Nic:
    """NIC, to which ADDRESS leads now, if it shares it."""
    return nic if address in nic.leads or address not in nic.shared else replace(nic, leads=(*nic.leads, address))


def not_leading(nic: Nic, address: Address) -> Nic:
    """NIC, to which ADDRESS does not lead any more."""
    return replace(nic, leads=tuple(one for one in nic.leads if one != address))


def leaders(nic: Nic, address: Address, others: Iterable[Nic]) -> list[Nic]:
    """Those of OTHERS to which ADDRESS leads on the link of NIC. There is one at most, if nobody died."""
    return [one for one in others if one.uuid != nic.uuid and address in one.leads and shares(one, nic)]


def with_leads_of(former: Nic | None, nic: Nic) -> Nic:
    """NIC, to which leads what led to FORMER, the same NIC as it was before, as far as NIC still shares it."""
    if former is None or not former.leads:
        return nic
    return replace(nic, leads=tuple(one for one in former.leads if one in nic.shared))
