# SPDX-License-Identifier: BSD-2-Clause
"""Whether a guest's frame announces an address that its NIC shares with others. Pure.

The frame was captured before the tap's filter. But it came by the guest's own tap, and the guest may have the address.
"""

from __future__ import annotations

from ipaddress import IPv4Address

from ganeti_vif.engine.objects import Address
from ganeti_vif.nic.announcement import owned
from ganeti_vif.responder.service import Service


def announces(frame: bytes, service: Service) -> Address | None:
    """The shared address of SERVICE that FRAME announces, or answers for. None for all other frames."""
    found = owned(frame) if service.shared else None
    return found[0] if found and found[0] in service.shared else None


def packed(address: Address) -> bytes:
    """ADDRESS in 16 bytes: IPv4 as an IPv4-mapped IPv6 address (RFC 4291, 2.5.5.2)."""
    return bytes(10) + b"\xff\xff" + address.packed if isinstance(address, IPv4Address) else address.packed
