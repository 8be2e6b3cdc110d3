# SPDX-License-Identifier: BSD-2-Clause
"""Telling the neighbours on the uplink where a routed NIC lives now: gratuitous ARP and neighbour advertisements."""

from __future__ import annotations

import time
from collections.abc import Mapping

from ganeti_vif.config.model import Config
from ganeti_vif.desired import routed
from ganeti_vif.desired.own_prefix import with_own_prefix
from ganeti_vif.engine.failure import Failure
from ganeti_vif.kernel import packets
from ganeti_vif.lifecycle.recorded import answering
from ganeti_vif.nic.announcement import announcements
from ganeti_vif.nic.identity import has_tap
from ganeti_vif.nic.nic import Mode, Nic
from ganeti_vif.system import announced
from ganeti_vif.system.announced import Place
from ganeti_vif.system.complaint import complain
from ganeti_vif.system.node import Node

PACE = 0.01
"""Seconds between two NICs that are announced again: 300 frames a second at most, and a thousand NICs in 10 s."""


def announce(nic: Nic, config: Config, node: Node) -> None:
    """Tell the neighbours on the uplink where a routed NIC lives now. A bridged NIC is announced by its guest.

    The NIC works without it, but neighbours that remember another node find it later. So a failure is printed and
    logged, and not raised.
    """
    public = config.public_link(nic.link) if nic.mode is Mode.ROUTED else None
    uplink = node.devices([public.uplink]).by_name.get(public.uplink) if public else None
    if uplink and uplink.link.mac:
        try:
            packets.send(uplink.name, announcements(routed.led(with_own_prefix(nic, config)), uplink.link.mac))
        except Failure as failure:
            complain(failure.about(nic.whom))


def announce_again(config: Config, node: Node) -> None:
    """Announce the NICs of each public link whose neighbours know this node by another place, one after the other.

    The daemon does this by itself, and at once. This is for a node on which no daemon does. The caller holds no lock:
    with a thousand NICs it takes 10 s. Raises Failure if the places or the records cannot be read or written.
    """
    for link in moved_places(config, node):
        for nic in answering(link):
            if has_tap(nic, node.link(nic.tap)):
                announce(nic, config, node)
                time.sleep(PACE)


def moved_places(config: Config, node: Node) -> list[str]:
    """The public links whose neighbours know this node by another place than now. Each is returned once: from now on
    its present place counts as known. Raises Failure if the places cannot be read or written."""
    known = announced.read()
    now = {**known, **_places(config, node)}
    if now != known:
        announced.write({link.name: now[link.name] for link in config.public if link.name in now})
    return [link for link, place in now.items() if known.get(link, place) != place]


def _places(config: Config, node: Node) -> Mapping[str, Place]:
    """By what the neighbours know this node, for each public link that has a carrier: without one nobody hears."""
    devices = node.devices({public.uplink for public in config.public}).by_name
    return {
        public.name: (public.uplink, str(uplink.index), uplink.link.mac or "", str(public.arp_source or ""))
        for public in config.public
        if (uplink := devices.get(public.uplink)) and uplink.carrier
    }
