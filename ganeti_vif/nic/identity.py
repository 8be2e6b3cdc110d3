# SPDX-License-Identifier: BSD-2-Clause
"""Whether a tap belongs to a NIC, and whether two NICs are the same: only this module decides that.

A name alone proves nothing: Ganeti gives the name of a tap to the next VM as soon as the tap is free. The kernel never
gives an ifindex twice while a network namespace lives (net/core/dev.c, dev_index_reserve()). So name and ifindex
together mean one device. The UUID tells for which NIC that device was opened.
"""

from __future__ import annotations

from typing import NamedTuple

from ganeti_vif.engine.objects import Link
from ganeti_vif.nic.nic import Nic


class Identity(NamedTuple):
    """The values that identify a NIC on this node."""

    tap: str
    ifindex: int
    uuid: str


def identity_of(nic: Nic) -> Identity:
    """The identity of NIC."""
    return Identity(nic.tap, nic.index, nic.uuid)


def is_same(nic: Nic, other: Nic | None) -> bool:
    """Whether OTHER is NIC, behind the same device. Their other values may differ. False if OTHER is None."""
    return other is not None and identity_of(other) == identity_of(nic)


def outlives(nic: Nic, other: Nic) -> bool:
    """Whether NIC is OTHER behind a newer tap. Then OTHER has no guest: Ganeti opens a second tap for a NIC only if it
    could not give the first one to QEMU, and leaves that behind (monitor.py: device_add after netdev_add). The taps of
    both must live: an ifindex of a later one is higher."""
    return nic.uuid == other.uuid and nic.index > other.index


def has_tap(nic: Nic, device: Link | None) -> bool:
    """Whether DEVICE, which has the name of NIC's tap on this node, is NIC's tap. False if DEVICE is None."""
    return device is not None and is_tap_of(nic, device.name, device.index)


def is_tap_of(nic: Nic, name: str, index: int | None) -> bool:
    """Whether the device that had this NAME and INDEX, now or at some time, is NIC's tap."""
    return (name, index) == (nic.tap, nic.index)
