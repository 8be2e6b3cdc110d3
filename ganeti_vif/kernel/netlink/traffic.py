# SPDX-License-Identifier: BSD-2-Clause
"""How many frames went by a tap.

The kernel counts a frame to a tap when the owner of the tap reads it, and not when it is sent (linux drivers/net/tun.c,
tun_put_user()). So the counters say whether anybody reads.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ganeti_vif.engine.failure import Gone
from ganeti_vif.kernel.netlink.links import RTM_GETLINK
from ganeti_vif.kernel.netlink.query import Query, attributes

IFLA_STATS64 = 23
_IFINFO = struct.Struct("=BxHiII")
_PACKETS = struct.Struct("=QQ")
"""The beginning of struct rtnl_link_stats64: rx_packets and tx_packets (linux/if_link.h)."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Frames since the tap was made: those that its owner SENT, and those that its owner READ."""

    sent: int
    read: int


def traffic(query: Query, index: int) -> Traffic | None:
    """The frames of the tap with this ifindex; None if it is gone. Raises Failure if the kernel refuses."""
    try:
        payload = query.get(RTM_GETLINK, _IFINFO.pack(0, 0, index, 0, 0))
    except Gone:
        return None
    return Traffic(*_PACKETS.unpack_from(attributes(payload, _IFINFO.size)[IFLA_STATS64]))
