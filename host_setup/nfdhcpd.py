# SPDX-License-Identifier: BSD-2-Clause
"""What a real NFDHCPD needs of a node: the guests' DHCP, router and neighbour solicitations in its queues.

It reads them from netfilter queues with the numbers of its shipped configuration. Every rule has `bypass`: while
NFDHCPD does not run, a packet goes on as if there were no rule. Otherwise a guest could then not even resolve its IPv6
gateway. Nothing else that a DHCP request reaches (the node, other guests of a bridge) may answer it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ganeti_vif.engine.chains import Chain, FilterRule
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.objects import BridgeNetfilter, Module
from ganeti_vif.engine.state import Object

DHCP, ROUTER_SOLICITATION, NEIGHBOUR_SOLICITATION, DHCPV6 = 42, 43, 44, 45
MANGLE = -150
"""The priority of the mangle table, where NFDHCPD's own instructions put the rules: before routing."""

_ROUTED = 'meta iifkind "tun"'
"""A tap that is no bridge port. The match is by kind, so one rule serves any number of taps. A tap that is not ours has
no binding, and NFDHCPD lets its packets pass."""
_BRIDGED = 'meta iifkind "bridge"'
"""With br_netfilter, packets that a bridge forwards pass here as if the bridge had received them."""


def module() -> Module:
    """The module that gives netfilter what a bridge forwards. Debian's kernels have it and load it on demand."""
    return Module(name="br_netfilter")


def heard(bridge: str) -> BridgeNetfilter:
    """What BRIDGE needs so that NFDHCPD hears its guests. It is set per bridge: the sysctl would set all bridges."""
    return BridgeNetfilter(bridge=bridge, iptables=True, ip6tables=True)


def left_alone(bridge: str) -> BridgeNetfilter:
    """A BRIDGE of ours without NFDHCPD: the node's own rules do not apply to its guests."""
    return BridgeNetfilter(bridge=bridge, iptables=False, ip6tables=False)


def unheard(
    bridge: str, netfilter: BridgeNetfilter | None, guests: Sequence[str], *, four: bool, six: bool
) -> Failure | None:
    """Why NFDHCPD does not hear GUESTS on BRIDGE, a bridge of no family of ours. None if it hears them.

    FOUR and SIX: net.bridge.bridge-nf-call-iptables and -ip6tables give netfilter the packets of all bridges. We report
    such a bridge and do not change it: the node's own rules would apply to everybody on it, and may drop their packets.
    """
    if (four or (netfilter and netfilter.iptables)) and (six or (netfilter and netfilter.ip6tables)):
        return None
    rest = f" and {len(guests) - 1} more" if len(guests) > 1 else ""
    return Failure(
        f"NFDHCPD does not hear {guests[0]}{rest}: what {bridge} forwards does not pass netfilter",
        f"ip link set {bridge} type bridge nf_call_iptables 1 nf_call_ip6tables 1",
    )


def queues() -> Iterator[Object]:
    """The rules. None takes neighbour solicitations from a bridge: NFDHCPD would answer for all neighbours there."""
    wanted = (
        (_ROUTED, "meta nfproto ipv4 udp dport 67", DHCP, "DHCP"),
        (_ROUTED, "icmpv6 type nd-router-solicit", ROUTER_SOLICITATION, "router solicitation"),
        (_ROUTED, "icmpv6 type nd-neighbor-solicit", NEIGHBOUR_SOLICITATION, "neighbour solicitation"),
        (_ROUTED, "meta nfproto ipv6 udp dport 547", DHCPV6, "DHCPv6"),
        (_BRIDGED, "meta nfproto ipv4 udp dport 67", DHCP, "DHCP on a bridge"),
        (_BRIDGED, "icmpv6 type nd-router-solicit", ROUTER_SOLICITATION, "router solicitation on a bridge"),
        (_BRIDGED, "meta nfproto ipv6 udp dport 547", DHCPV6, "DHCPv6 on a bridge"),
    )
    yield Chain(
        family="inet",
        name="nfdhcpd",
        hook="prerouting",
        device=None,
        priority=MANGLE,
        policy="accept",
        rules=tuple(
            FilterRule(f"{where} {what} counter queue num {number} bypass", f"{reason} to NFDHCPD")
            for where, what, number, reason in wanted
        ),
    )
