# SPDX-License-Identifier: BSD-2-Clause
"""What a real NFDHCPD needs of a node: the guests' DHCP, router and neighbour solicitations in its queues.

It reads them from netfilter queues, by the numbers of its configuration as shipped. Every rule has `bypass`: while
NFDHCPD does not run, a packet goes on as if there were no rule. Otherwise a guest could not even resolve its IPv6
gateway then; and what else a DHCP request can reach (the node, other guests of a bridge) may not answer it.
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
"""A tap that is no bridge's port. By its kind, so that one rule serves any number; what is no NIC of ours has no
binding, and NFDHCPD lets it pass."""
_BRIDGED = 'meta iifkind "bridge"'
"""With br_netfilter, what a bridge forwards comes through here as if the bridge had received it."""


def module() -> Module:
    """What hands to netfilter what a bridge forwards. It is a module of Debian's kernels, and loaded on demand."""
    return Module(name="br_netfilter")


def heard(bridge: str) -> BridgeNetfilter:
    """What BRIDGE needs so that NFDHCPD hears its guests: by the bridge, for the sysctl would say it for all others."""
    return BridgeNetfilter(bridge=bridge, iptables=True, ip6tables=True)


def left_alone(bridge: str) -> BridgeNetfilter:
    """What a BRIDGE of ours is without that: the node's own rules are nothing to its guests."""
    return BridgeNetfilter(bridge=bridge, iptables=False, ip6tables=False)


def unheard(
    bridge: str, netfilter: BridgeNetfilter | None, guests: Sequence[str], *, four: bool, six: bool
) -> Failure | None:
    """Why NFDHCPD does not hear GUESTS on a BRIDGE that is in no family of ours; None if it does.

    FOUR and SIX: net.bridge.bridge-nf-call-iptables and -ip6tables hand it the packets of all bridges. Such a bridge is
    left as it is and told of: the node's own rules would apply to everybody on it, and may drop their packets.
    """
    if (four or (netfilter and netfilter.iptables)) and (six or (netfilter and netfilter.ip6tables)):
        return None
    rest = f" and {len(guests) - 1} more" if len(guests) > 1 else ""
    return Failure(
        f"NFDHCPD does not hear {guests[0]}{rest}: what {bridge} forwards does not pass netfilter",
        f"ip link set {bridge} type bridge nf_call_iptables 1 nf_call_ip6tables 1",
    )


def queues() -> Iterator[Object]:
    """The rules. On a bridge, neighbours are each other's own affair: NFDHCPD would answer for all of them."""
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
