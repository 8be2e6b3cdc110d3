# SPDX-License-Identifier: BSD-2-Clause
"""The control protocols of a segment: they tell switches, routers or clocks what to do. Pure.

docs/guard.md has the list, with the decision for each.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network

from ganeti_vif.engine.objects import Prefix
from ganeti_vif.guard.rules import (
    ICMP6_TYPE,
    IGMP_TYPE,
    IP6_DESTINATION,
    IP_DESTINATION,
    IP_OFFSET,
    UDP_DESTINATION,
    UPPER,
    GuardRule,
    Match,
    Verdict,
    between,
    equal,
    unlike,
    within,
)
from ganeti_vif.nic.nic import Nic
from ganeti_vif.nic.tags import Control

GROUPS, GROUPS6 = IPv4Network("224.0.0.0/4"), IPv6Network("ff00::/8")
IGMP, PIM, VRRP, OSPF, EIGRP = 2, 103, 112, 89, 88
REPORTS = (0x12, 0x16, 0x17, 0x22)
"""What members send in IGMP (RFC 3376, 4). Only routers send the rest: queries, DVMRP, PIM version 1, MRD, traces."""
MLD_QUERY, MRD_FIRST, MRD_LAST = 130, 151, 153
MULTICAST_ROUTER = "multicast router or querier"
REDUNDANCY, ROUTING, TIME = "redundancy protocol (VRRP, HSRP)", "routing protocol (OSPF, RIP)", "time protocol (PTP)"
PORTS: tuple[tuple[Control, str, int, int, Prefix], ...] = (
    (Control.REDUNDANCY, REDUNDANCY, 1985, 1985, GROUPS),
    (Control.REDUNDANCY, REDUNDANCY, 2029, 2029, GROUPS6),
    (Control.REDUNDANCY, REDUNDANCY, 3222, 3222, GROUPS),
    (Control.ROUTING, ROUTING, 520, 520, GROUPS),
    (Control.ROUTING, ROUTING, 521, 521, GROUPS6),
    (Control.TIME, TIME, 319, 320, GROUPS),
    (Control.TIME, TIME, 319, 320, GROUPS6),
)
"""HSRP, HSRP for IPv6, GLBP, RIP, RIPng, PTP: over UDP to groups, each with its lowest and highest port."""


def rules(nic: Nic) -> Iterator[GuardRule]:
    """Rules that drop the control protocols that NIC's guest may not speak.

    No guest may be a multicast router: a switch would send it the groups of all. The other protocols are dropped only
    on a NIC that has addresses and no further ones by tag. A NIC without addresses leaves them to its tenant, and
    further addresses are what VRRP and anycast need. A tag allows each protocol.
    """
    if Control.MULTICAST_ROUTER not in nic.grants.control:
        said = (unlike(IGMP_TYPE, kind) for kind in REPORTS)
        yield _drop(MULTICAST_ROUTER, equal(UPPER, IGMP), *said, equal(IP_OFFSET, 0))
        yield _drop(MULTICAST_ROUTER, equal(UPPER, PIM))
        yield _drop(MULTICAST_ROUTER, equal(ICMP6_TYPE, MLD_QUERY))
        yield _drop(MULTICAST_ROUTER, between(ICMP6_TYPE, MRD_FIRST, MRD_LAST))
    if nic.grants.addresses or nic.grants.shared or not (nic.networks(4) or nic.networks(6)):
        return
    if Control.REDUNDANCY not in nic.grants.control:
        yield _drop(REDUNDANCY, equal(UPPER, VRRP))
    if Control.ROUTING not in nic.grants.control:
        yield _drop(ROUTING, between(UPPER, EIGRP, OSPF))
    for control, reason, low, high, groups in PORTS:
        if control not in nic.grants.control:
            port = equal(UDP_DESTINATION, low) if low == high else between(UDP_DESTINATION, low, high)
            # nft looks for a UDP header in later fragments of IPv4, too.
            to = [within(IP_DESTINATION, groups), equal(IP_OFFSET, 0)] if groups.version == 4 else []
            yield _drop(reason, port, *(to or [within(IP6_DESTINATION, groups)]))


def _drop(reason: str, *matches: Match) -> GuardRule:
    return GuardRule(matches, Verdict.DROP, reason)
