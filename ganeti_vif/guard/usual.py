# SPDX-License-Identifier: BSD-2-Clause
"""The rules for what most packets are. They come before the many rules that drop, and decide on nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Network

from ganeti_vif.engine.objects import Prefix
from ganeti_vif.guard.protocols import (
    ANY_IPV4,
    ANY_IPV6,
    IGMP,
    IPV4,
    IPV6,
    LINK_LOCAL,
    MULTICAST_IPV4,
    PORTS_OF_DHCP,
    PORTS_OF_DHCPV6,
    USUAL,
)
from ganeti_vif.guard.rules import (
    ETHER_SOURCE_AND_TYPE,
    ETHER_STATION,
    HOST,
    IP6_DESTINATION_BITS,
    IP6_LENGTH_BITS,
    IP6_NEXT,
    IP6_SOURCE_BITS,
    IP_DESTINATION_BITS,
    IP_PROTOCOL,
    IP_SOURCE_BITS,
    OTHER_HOST,
    UDP_DESTINATION_BITS,
    GuardRule,
    Match,
    Verdict,
    equal,
    leading,
    mac_number,
    masked,
    unlike,
    within,
)
from ganeti_vif.nic.nic import Mode, Nic


def station(nic: Nic) -> int:
    """Whom the frames of NIC's guest are for, as ETHER_STATION tells it, as long as they are for no group: a routed
    guest sends to its tap, any other guest to other stations of its network."""
    return HOST if nic.mode is Mode.ROUTED else OTHER_HOST


def usual(nic: Nic) -> Iterator[GuardRule]:
    """Accept what most packets are, before the many rules that drop: to one station, own MAC, own address, nothing
    hidden. One rule for each own address, so that addresses that a guest claimed cost no more than the first one.

    The later rules would accept everything that these rules accept, for the same reason, so they decide on nothing:

    * No group, so nothing of _groups(). The type follows the own MAC directly, so there is no tag and no foreign MAC.
    * The protocol is TCP, UDP, ICMP for IPv4, or another with (number & USUAL) = 0. None of these is a control protocol
      (control.py has 88, 89, 103, 112, and IGMP, which is excluded), and none is an IPv6 header with another one behind
      it (0 is excluded, and 43, 44, 51, 60, 135, 139, 140 have a bit of USUAL), nor ICMP for IPv6 (58).
    * The other control protocols go to IP's groups. No destination is one.
    * Bits 16 to 31 behind the header, where TCP and UDP have their destination port, are no port of DHCP.
    * The length of IPv6 packets is not 0, and their source is not link-local.

    As an error in this list would be a hole, tests/kernel/test_guard_model.py sends frames of all kinds to filters with
    and without these rules.
    """
    place = equal(ETHER_STATION, station(nic))
    for network in _sources(nic, 4):
        yield _accept(
            "IPv4" if network else ANY_IPV4,
            *([within(IP_SOURCE_BITS, network)] if network else []),
            place,
            masked(IP_PROTOCOL, USUAL, 0),
            unlike(IP_PROTOCOL, IGMP),
            masked(IP_DESTINATION_BITS, 0xF0000000, int(MULTICAST_IPV4.network_address), negated=True),
            masked(UDP_DESTINATION_BITS, *PORTS_OF_DHCP, negated=True),
            equal(ETHER_SOURCE_AND_TYPE, mac_number(nic.mac) << 16 | IPV4),
        )
    for network in _sources(nic, 6):
        yield _accept(
            "IPv6" if network else ANY_IPV6,
            within(IP6_SOURCE_BITS, network) if network else leading(IP6_SOURCE_BITS, 0xFE80, 16, negated=True),
            place,
            masked(IP6_NEXT, USUAL, 0),
            masked(IP6_NEXT, 0xFF, 0, negated=True),  # nft would merge unlike() with the next one: "not both"
            unlike(IP6_LENGTH_BITS, 0),
            leading(IP6_DESTINATION_BITS, 0xFF, 8, negated=True),
            masked(UDP_DESTINATION_BITS, *PORTS_OF_DHCPV6, negated=True),
            equal(ETHER_SOURCE_AND_TYPE, mac_number(nic.mac) << 16 | IPV6),
        )


def _sources(nic: Nic, version: int) -> list[Prefix | None]:
    """The sources of usual packets of VERSION. None: any. Link-local ones have rules of their own."""
    networks = nic.networks(version)
    if not networks and any_address(nic):
        return [None]
    return [one for one in networks if version == 4 or not IPv6Network(one).overlaps(LINK_LOCAL)]


def any_address(nic: Nic) -> bool:
    """Whether NIC may use any address of an IP version of which it has none.

    With Ganeti, a private network without address management is common: there addresses are the tenant's affair. A NIC
    that has an address of a version may use no other of that version. A routed NIC may never use another address.
    """
    return nic.mode is not Mode.ROUTED


def _accept(reason: str, *matches: Match) -> GuardRule:
    return GuardRule(matches, Verdict.ACCEPT, reason)
