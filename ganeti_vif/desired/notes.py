# SPDX-License-Identifier: BSD-2-Clause
"""What an administrator should know of a NIC although nothing on this node is wrong. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ganeti_vif.engine.failure import Failure
from ganeti_vif.nic.nic import Nic


def notes(nic: Nic) -> Iterator[Failure]:
    """What there is to know of NIC, with what to do if it is not intended."""
    if (prefix := nic.unserved6) and nic.network:
        which = nic.uuid if nic.number is None else nic.number
        tag = f"gnt-instance add-tags {nic.instance} vif:{which}:address:ADDRESS"
        yield Failure(
            f"its guest gets no IPv6 address: the prefix {prefix} of the network {nic.network.name} is no /64",
            f"note: grant it one of {prefix}: {tag}, or give the network a /64: gnt-network modify --network6",
        )
