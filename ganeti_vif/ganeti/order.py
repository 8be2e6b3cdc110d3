# SPDX-License-Identifier: BSD-2-Clause
"""What Ganeti orders when it runs its network script: the environment as a typed value.

Ganeti up to 3.1 runs the script once for each tap that it opens. Since 3.2 it also calls it with ACTION=down (ganeti
tools/kvm-nic-setup.in).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ganeti_vif.ganeti import environment as ganeti
from ganeti_vif.nic.nic import Nic


@dataclass(frozen=True, slots=True)
class Down:
    """Ganeti considers the NIC with this UUID gone."""

    uuid: str


def order_of(environment: Mapping[str, str], index_of: Callable[[str], int]) -> Nic | Down | None:
    """Ganeti's order: a NIC to attach, a NIC that is Down, or None for nothing. INDEX_OF gives the ifindex of a tap.
    Raises Failure if a variable is missing or malformed, and what INDEX_OF raises."""
    if ganeti.is_communication_tap(environment):
        return None
    if environment.get("ACTION", "up") == "down":
        return Down(ganeti.uuid_of(environment))
    return ganeti.parse_nic(environment, index_of)
