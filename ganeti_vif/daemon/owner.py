# SPDX-License-Identifier: BSD-2-Clause
"""Whose address it is: the NIC of this node that an address on a public link leads to."""

from __future__ import annotations

from ipaddress import ip_network

from ganeti_vif.config.model import Public
from ganeti_vif.engine.marks import PROTOCOL
from ganeti_vif.engine.objects import Address
from ganeti_vif.lifecycle.recorded import answering_nic
from ganeti_vif.nic.identity import has_tap
from ganeti_vif.nic.nic import Nic
from ganeti_vif.system.node import Node


def owner(address: Address, public: Public, node: Node) -> Nic | None:
    """The NIC of this node that ADDRESS leads to, if this node answers for it. It asks the kernel for one route and
    reads one record, however many NICs there are. Raises Failure if that cannot be done."""
    for route in node.routes_over([ip_network(address)], public.table, public.mark):
        if route.protocol == PROTOCOL and route.device not in (None, public.uplink):
            nic = answering_nic(route.device or "")
            own = nic is not None and any(address in network for network in nic.led(address.version))
            if nic and own and nic.link in (public.name, str(public.table)) and has_tap(nic, node.link(nic.tap)):
                return nic
    return None
