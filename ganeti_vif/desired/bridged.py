# SPDX-License-Identifier: BSD-2-Clause
"""What a bridged NIC needs: its tap as a filtered port of a bridge, without IPv6 of the node on it."""

from __future__ import annotations

from collections.abc import Iterator

from ganeti_vif.desired.context import Context
from ganeti_vif.engine.objects import BridgePort, BridgeVlan, Link, Sysctl, TrunkVlan, Up
from ganeti_vif.engine.state import Object
from ganeti_vif.guard import limits, profile, tap_filter
from ganeti_vif.nic.nic import Nic


def needs(nic: Nic, context: Context) -> Iterator[Object]:
    """What NIC needs on a bridge, in no particular order."""
    # The bridge's MTU, so that the bridge does not shrink to the tap's (ganeti issue 257).
    yield Link(name=nic.tap, mac=nic.tap_mac or port_mac(nic.mac), mtu=context.bridge.mtu if context.bridge else None)
    yield from tap_filter.offload(nic)
    yield tap_filter.ingress(nic, any_link_local=context.any_link_local, limits=context.limits)
    apart = "private-filtered" in nic.network_tags
    yield from tap_filter.egress(
        nic,
        apart,
        context.bridge.mac if context.bridge else None,
        profile.egress(nic, context.profile),
        context.limits,
    )
    yield from limits.shaper(nic, context.limits, context.bridge.mtu if context.bridge else None)
    yield Sysctl(path=f"net/ipv6/conf/{nic.tap}/disable_ipv6", value="1")
    yield BridgePort(device=nic.tap, bridge=nic.link, isolated=nic.grants.isolated)
    if nic.vlans.untagged is not None or nic.vlans.tagged:
        yield BridgeVlan(device=nic.tap, untagged=nic.vlans.untagged, tagged=nic.vlans.tagged)
        for port in context.trunks:
            untagged = {nic.vlans.untagged} if nic.vlans.untagged is not None else set()
            yield from (TrunkVlan(device=port, vid=vid) for vid in sorted(nic.vlans.tagged | untagged))
    yield Up(device=nic.tap)


def port_mac(mac: str) -> str:
    """The MAC of the tap of a guest with MAC. It is high, so that no bridge takes it for its own
    (ganeti tools/net-common.in:57-64). It is never the guest's own, or the bridge would keep the guest's frames."""
    return ("fe" if not mac.startswith("fe") else "fa") + mac[2:]
