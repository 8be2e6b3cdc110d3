# SPDX-License-Identifier: BSD-2-Clause
"""What a guest's frame says of IPv6 addresses that the guest chose itself. Pure.

The frame was captured before the tap's filter, so nothing in it is true: the daemon decides what the guest may have.
"""

from __future__ import annotations

from ganeti_vif.nic.announcement import ETH_P_IPV6, IPPROTO_ICMPV6
from ganeti_vif.responder import packet
from ganeti_vif.responder.packet import ANY6, ND_HOPS, Malformed
from ganeti_vif.responder.router import ADVERTISE_NEIGHBOUR, SOLICIT_NEIGHBOUR, link_local
from ganeti_vif.responder.service import Service

_LEAST = 24
"""Bytes of a neighbour solicitation or advertisement without options (RFC 4861, 4.3 and 4.4)."""


def claimed(frame: bytes, service: Service) -> tuple[bytes, bool] | None:
    """The address that FRAME's sender says is its own, and whether it only asks if somebody else has it (duplicate
    address detection). None if the frame says nothing of the kind, or only what SERVICE gives the guest anyway.

    A guest that has an address shows it by neighbour solicitations from it, and by advertisements of it: it sends them
    after a migration, and whenever its router does not answer.
    """
    if service.router6 is None or frame[6:12] != service.guest or packet.kind(frame) != ETH_P_IPV6:
        return None
    try:
        datagram = packet.datagram6(frame)
    except Malformed:
        return None
    message = datagram.payload
    if datagram.protocol != IPPROTO_ICMPV6 or datagram.hops != ND_HOPS or len(message) < _LEAST:
        return None
    target = message[8:24]
    if message[0] == SOLICIT_NEIGHBOUR:
        first = datagram.source == ANY6
        address = target if first else datagram.source
    elif message[0] == ADVERTISE_NEIGHBOUR:
        first, address = False, target
    else:
        return None
    given = (ANY6, service.router6.own, link_local(service.guest))
    return None if address in given or address[0] == 0xFF else (address, first)
