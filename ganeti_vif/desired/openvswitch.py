# SPDX-License-Identifier: BSD-2-Clause
"""What a NIC on Open vSwitch needs: its tap as a port of the switch, with its VLANs."""

from __future__ import annotations

from collections.abc import Iterator

from ganeti_vif.desired.bridged import port_mac
from ganeti_vif.desired.context import Context
from ganeti_vif.engine.objects import Link, OvsPort, Sysctl, Up
from ganeti_vif.engine.state import Object
from ganeti_vif.guard import limits, profile, tap_filter
from ganeti_vif.nic.nic import Nic


def needs(nic: Nic, context: Context) -> Iterator[Object]:
    """What NIC needs on an Open vSwitch bridge."""
    yield Link(name=nic.tap, mac=nic.tap_mac or port_mac(nic.mac))
    yield from tap_filter.offload(nic)
    yield tap_filter.ingress(nic, any_link_local=context.any_link_local, limits=context.limits)
    yield from tap_filter.egress(nic, False, None, profile.egress(nic, context.profile), context.limits)
    yield from limits.shaper(nic, context.limits, context.tap.mtu if context.tap else None)
    yield Sysctl(path=f"net/ipv6/conf/{nic.tap}/disable_ipv6", value="1")
    yield OvsPort(
        device=nic.tap,
        bridge=nic.link,
        tag=nic.vlans.untagged,
        trunks=nic.vlans.tagged,
        isolated=nic.grants.isolated,
    )
    yield Up(device=nic.tap)
