"""What a real NFDHCPD needs of a node: the guests' DHCP, router and neighbour solicitations in its queues.

It reads them from netfilter queues, by the numbers of its configuration as shipped. Every rule has `bypass`: while
NFDHCPD does not run, a packet goes on as if there were no rule. Otherwise a guest could not even resolve its IPv6
gateway then; and what else a DHCP request can reach (the node, other guests of a bridge) may not answer it.
"""

from __future__ import annotations

from collections.abc import Iterator

from engine.chains import Chain, FilterRule
from engine.state import Object

DHCP, ROUTER_SOLICITATION, NEIGHBOUR_SOLICITATION, DHCPV6 = 42, 43, 44, 45
MANGLE = -150
"""The priority of the mangle table, where NFDHCPD's own instructions put the rules: before routing."""

_ROUTED = 'meta iifkind "tun"'
"""A tap that is no bridge's port. By its kind, so that one rule serves any number; what is no NIC of ours has no
binding, and NFDHCPD lets it pass."""
_BRIDGED = 'meta iifkind "bridge"'
"""With br_netfilter, what a bridge forwards comes through here as if the bridge had received it."""


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
