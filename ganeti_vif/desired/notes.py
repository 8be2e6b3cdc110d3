# SPDX-License-Identifier: BSD-2-Clause
"""What an administrator should know of a NIC although nothing on this node is wrong. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ganeti_vif.engine.failure import Failure
from ganeti_vif.nic.nic import Mode, Nic


def notes(nic: Nic, *, served: bool = True) -> Iterator[Failure]:
    """What there is to know of NIC, with what to do if it is not intended. SERVED: the responder hears its guest."""
    if nic.mode is Mode.ROUTED and nic.shared and not served and not nic.standby:
        yield Failure(
            f"nothing leads to {nic.shared[0]}, which it shares: the responder does not hear its guest",
            "note: it needs a binding: the tag nfdhcpd of its network or for = all, and consumer = responder",
        )
    if (prefix := nic.unserved6) and nic.network:
        which = nic.uuid if nic.number is None else nic.number
        tag = f"gnt-instance add-tags {nic.instance} vif:{which}:address:ADDRESS"
        yield Failure(
            f"its guest gets no IPv6 address: the prefix {prefix} of the network {nic.network.name} is no /64",
            f"note: grant it one of {prefix}: {tag}, or give the network a /64: gnt-network modify --network6",
        )
