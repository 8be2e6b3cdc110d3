# SPDX-License-Identifier: BSD-2-Clause
"""Flags of bridge ports (linux/if_link.h, IFLA_BRPORT_...)."""

from __future__ import annotations

import struct

from ganeti_vif.kernel.netlink.query import attribute
from ganeti_vif.kernel.netlink.requests import HEADER, NLM_F_ACK, Requests

RTM_SETLINK, NLM_F_REQUEST = 19, 0x1
AF_BRIDGE, IFLA_PROTINFO, NLA_F_NESTED = 7, 12, 0x8000
IFLA_BRPORT_ISOLATED = 33
"""Linux 4.18. An isolated port sends nothing to other isolated ports of its bridge."""

_IFINFO = struct.Struct("=BxHiII")


def isolate(requests: Requests, index: int, *, isolated: bool) -> None:
    """Make the bridge port with this INDEX isolated, or end that. Raises OSError with the kernel's reason."""
    flag = attribute(IFLA_BRPORT_ISOLATED, bytes([isolated]))
    body = _IFINFO.pack(AF_BRIDGE, 0, index, 0, 0) + attribute(IFLA_PROTINFO | NLA_F_NESTED, flag)
    number = requests.number()
    head = HEADER.pack(HEADER.size + len(body), RTM_SETLINK, NLM_F_REQUEST | NLM_F_ACK, number, 0)
    requests.send(head + body, number, number)
