# SPDX-License-Identifier: BSD-2-Clause
"""The limits of a NIC as `explain` shows them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ganeti_vif.config.limits import Limits, packet_rates_text, rates_text
from ganeti_vif.nic.nic import Mode, Nic

Row = dict[str, Any]


def limits(nic: Nic, found: Limits) -> Row:
    """FOUND, the limits of NIC, as plain data: rates as IN/OUT, frames a second by kind. None, or empty: no limit."""
    floods = () if nic.grants.unguarded else tuple((kind, number) for kind, number in found.floods if number)
    return {
        "rate": rates_text(found.rate) if found.rate else None,
        "packets": packet_rates_text(found.packets) if found.packets else None,
        "floods": {kind.value: number for kind, number in floods},
        "isolated": nic.grants.isolated and nic.mode is not Mode.ROUTED,
    }


def told(row: Row) -> Iterator[str]:
    """ROW as lines of text."""
    if row["rate"]:
        yield f"  rate        {row['rate']} bits a second (to/from the guest)"
    if row["packets"]:
        yield f"  packets     {row['packets']} a second (to/from the guest)"
    if row["floods"]:
        yield f"  at most     {', '.join(f'{kind} {number}' for kind, number in row['floods'].items())} a second"
    if row["isolated"]:
        yield "  isolated    it reaches no other isolated guest of this node on its bridge"
