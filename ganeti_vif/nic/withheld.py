# SPDX-License-Identifier: BSD-2-Clause
"""Withheld addresses: another machine on the uplink had them when their NIC was attached. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ganeti_vif.engine.objects import Address
from ganeti_vif.nic.nic import Nic


def with_withheld_of(former: Nic | None, nic: Nic) -> Nic:
    """NIC, from which is withheld what was withheld from FORMER, the same NIC as it was before, if it still has it."""
    return withholding(nic, former.withheld) if former and former.withheld else nic


def withholding(nic: Nic, addresses: Iterable[Address]) -> Nic:
    """NIC without what leads to ADDRESSES, as far as they are its own."""
    own = {one.network_address for version in (4, 6) for one in nic.networks(version) if one.num_addresses == 1}
    return replace(nic, withheld=tuple(sorted(own & set(addresses), key=lambda one: (one.version, int(one)))))
