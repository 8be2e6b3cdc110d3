# SPDX-License-Identifier: BSD-2-Clause
"""The node's own IP addresses. Message layout: linux/if_addr.h."""

from __future__ import annotations

import struct
from ipaddress import ip_address

from ganeti_vif.engine.objects import Address
from ganeti_vif.kernel.netlink.query import Query, attributes

RTM_GETADDR = 22
IFA_ADDRESS, IFA_LOCAL = 1, 2
_IFADDRMSG = struct.Struct("=BBBBI")


def own(query: Query, index: int | None = None) -> frozenset[Address]:
    """Those on the device with this INDEX, or on all devices; tentative ones too. Raises Failure if the kernel
    refuses."""
    found = set()
    for payload in query.dump(RTM_GETADDR, _IFADDRMSG.pack(0, 0, 0, 0, 0)):
        if index not in (None, _IFADDRMSG.unpack_from(payload)[4]):
            continue
        values = attributes(payload, _IFADDRMSG.size)
        if packed := values.get(IFA_LOCAL) or values.get(IFA_ADDRESS):
            found.add(ip_address(packed))
    return frozenset(found)
