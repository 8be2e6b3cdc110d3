# SPDX-License-Identifier: BSD-2-Clause
"""Whether a tap is a NIC's, and whether two NICs are the same one: asked here, and nowhere else.

A name alone says nothing: Ganeti gives a tap's name to the next VM the moment that the tap is free. The kernel never
gives an ifindex twice while a network namespace lives (net/core/dev.c, dev_index_reserve()), so the name with its
ifindex means one device. The UUID tells which NIC that device was opened for.
"""

from __future__ import annotations

from typing import NamedTuple

from ganeti_vif.engine.objects import Link
from ganeti_vif.nic.nic import Nic


class Identity(NamedTuple):
    """What makes a NIC on this node the one that it is."""

    tap: str
    ifindex: int
    uuid: str


def identity_of(nic: Nic) -> Identity:
    """The identity of NIC."""
    return Identity(nic.tap, nic.index, nic.uuid)


def is_same(nic: Nic, other: Nic | None) -> bool:
    """Whether OTHER is NIC, behind the same device: what else was said of it may differ."""
    return other is not None and identity_of(other) == identity_of(nic)


def has_tap(nic: Nic, device: Link | None) -> bool:
    """Whether DEVICE, which the node has by the name of NIC's tap, is NIC's tap. None means that there is none."""
    return device is not None and is_tap_of(nic, device.name, device.index)


def is_tap_of(nic: Nic, name: str, index: int | None) -> bool:
    """Whether the device that had this NAME and INDEX, now or at some time, is NIC's tap."""
    return (name, index) == (nic.tap, nic.index)
