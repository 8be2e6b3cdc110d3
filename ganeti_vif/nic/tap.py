# SPDX-License-Identifier: BSD-2-Clause
"""Which device may be the tap of a NIC, and why another may not. Pure.

This is an allow-list. A typing error in `ganeti-vif attach --interface` must not take a node's own card away. Behind
a device that is no tap there is no guest that the filter would see.
"""

from __future__ import annotations

from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.objects import Link

LIST = "ip -details link show type tun"
"""The command that lists all taps of a node, each with its kind (`tun type tap`)."""

_REASONS = {
    "macvtap": "its frames leave by the card below it, past every bridge and route of ours",
    "ipvtap": "its packets leave by the card below it, past every bridge and route of ours",
    "veth": "it leads to a network namespace and to no guest of QEMU",
    "tun": "it carries IP packets and no Ethernet frames (IFF_TUN)",
}


def refusal(device: Link) -> Failure | None:
    """Why DEVICE cannot be the tap of a NIC, or None if it can."""
    if device.is_tap:
        return None
    kind = device.kind or ("loopback device" if device.name == "lo" else "network card")
    reason = f": {_REASONS[kind]}" if kind in _REASONS else ""
    return Failure(f"{device.name} is no tap but a {kind}{reason}", f"see: {LIST}")


def missing(tap: str) -> Failure:
    """The failure for a NIC whose TAP does not exist: it is gone, or there never was one."""
    return Failure(
        f"there is no device {tap} (and a NIC without one, as with vhost-user, cannot be filtered)",
        f"see: {LIST}",
    )
