# SPDX-License-Identifier: BSD-2-Clause
"""Telling the neighbours on the uplink where a routed NIC lives now: gratuitous ARP and neighbour advertisements."""

from __future__ import annotations

from ganeti_vif.config.model import Config
from ganeti_vif.desired import routed
from ganeti_vif.engine.failure import Failure
from ganeti_vif.kernel import packets
from ganeti_vif.nic.announcement import announcements
from ganeti_vif.nic.nic import Mode, Nic
from ganeti_vif.system.complaint import complain
from ganeti_vif.system.node import Node


def announce(nic: Nic, config: Config, node: Node) -> None:
    """Tell the neighbours on the uplink where a routed NIC lives now. A bridged NIC is announced by its guest.

    The NIC works without it, but neighbours that remember another node find it later. So a failure is printed and
    logged, and not raised.
    """
    public = config.public_link(nic.link) if nic.mode is Mode.ROUTED else None
    uplink = node.devices([public.uplink]).by_name.get(public.uplink) if public else None
    if uplink and uplink.link.mac:
        try:
            packets.send(uplink.name, announcements(routed.addresses(nic), uplink.link.mac))
        except Failure as failure:
            complain(failure.about(nic.whom))
