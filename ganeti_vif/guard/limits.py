# SPDX-License-Identifier: BSD-2-Clause
"""The limits of a NIC: which ones it has, and what they are on its tap. Pure.

From the guest the filter counts and drops (nft's `limit`, a token bucket), because a queue for what one guest sends
would make nobody wait but that guest. Towards the guest a shaper queues, because there a sender in the network notices
a delay before a loss, and the guest's own flows must not wait for each other.
"""

from __future__ import annotations

from collections.abc import Iterator

from ganeti_vif.config.limits import USUAL, Flood, Limits, PacketRate, Rate, merged
from ganeti_vif.config.model import Config
from ganeti_vif.engine.chains import FilterRule
from ganeti_vif.engine.objects import ETHERNET_MTU, Shaper
from ganeti_vif.guard.rules import (
    ETHER_DESTINATION,
    ETHER_GROUP,
    ICMP6_TYPE,
    IP_OFFSET,
    PROTOCOL,
    UDP_DESTINATION_BITS,
    UPPER,
    GuardRule,
    Match,
    Verdict,
    between,
    equal,
    unlike,
)
from ganeti_vif.nic.nic import Mode, Nic

LARGEST_FRAME = 65536
"""Bytes: what a guest with a virtio card hands over at once (linux/netdevice.h, GSO_LEGACY_MAX_SIZE). A bucket that
held less would drop each such frame."""
DELAY = 100
"""A shaper lets through what it may in the hundredth part of a second at once: timers are later than that only on a
node that has no time at all, and a frame of that length makes others wait no longer than that."""
LEAST_BURST = 16384
"""Bytes: what a shaper lets through at once at low rates. It is more than an Ethernet frame of any common MTU. Larger
frames, which are several packets in one, are taken apart."""
ABOVE_RATE, ABOVE_PACKETS = "above its rate", "above its packets a second"
TOO_MANY = {
    Flood.ARP: "too many ARP packets",
    Flood.DISCOVERY: "too much neighbour discovery",
    Flood.DHCP: "too many DHCP requests",
    Flood.BROADCAST: "too many broadcasts",
    Flood.MULTICAST: "too many multicasts",
}
EVERYBODY, ARP, UDP = 0xFFFFFFFFFFFF, 0x0806, 17
ROUTER_SOLICITATION, REDIRECT = 133, 137
DHCP_SERVER, DHCPV6_SERVER = 67, 547


def limits_of(nic: Nic, config: Config) -> Limits:
    """What holds for NIC: what its tags say, or its network's tags, or CONFIG's section of its link, or USUAL."""
    link = config.public_link(nic.link) if nic.mode is Mode.ROUTED else config.private_network(nic.link)
    return merged(nic.grants.limits, merged(link.limits if link else Limits(), USUAL))


def rates(limits: Limits) -> Iterator[GuardRule]:
    """Rules that drop what the guest sends above its rates. They come first: what the guard drops counts, too."""
    _, packets = limits.packets or (None, None)
    _, rate = limits.rate or (None, None)
    if packets:
        yield _above(ABOVE_PACKETS, packets_words(packets))
    if rate:
        yield _above(ABOVE_RATE, _bytes_words(rate))


def groups(limits: Limits) -> Iterator[GuardRule]:
    """Rules that drop too many frames to everybody, and to groups."""
    to_group = equal(ETHER_GROUP, 1)
    yield from _flood(limits, Flood.BROADCAST, to_group, equal(ETHER_DESTINATION, EVERYBODY))
    yield from _flood(limits, Flood.MULTICAST, to_group, unlike(ETHER_DESTINATION, EVERYBODY))


def requests(limits: Limits) -> Iterator[GuardRule]:
    """Rules that drop too many frames which the node, the responder or neighbours must answer, whoever they go to."""
    yield from _flood(limits, Flood.ARP, equal(PROTOCOL, ARP))
    yield from _flood(limits, Flood.DISCOVERY, between(ICMP6_TYPE, ROUTER_SOLICITATION, REDIRECT))
    whole = equal(UPPER, UDP), equal(IP_OFFSET, 0)
    yield from _flood(limits, Flood.DHCP, equal(UDP_DESTINATION_BITS, DHCP_SERVER), *whole)
    yield from _flood(limits, Flood.DHCP, equal(UDP_DESTINATION_BITS, DHCPV6_SERVER), equal(UPPER, UDP))


def reaching(limits: Limits) -> list[FilterRule]:
    """The rule that drops what reaches the guest above its packets a second."""
    packets, _ = limits.packets or (None, None)
    return [FilterRule(f"{packets_words(packets)} counter drop", ABOVE_PACKETS)] if packets else []


def shaper(nic: Nic, limits: Limits, mtu: int | None) -> Iterator[Shaper]:
    """What shapes the traffic towards NIC's guest. MTU is that of its tap."""
    rate, _ = limits.rate or (None, None)
    if rate:
        least = max(LEAST_BURST, 2 * (mtu or ETHERNET_MTU), rate.bytes // DELAY)
        yield Shaper(device=nic.tap, rate=rate.bytes, burst=max(least, rate.burst))


def packets_words(rate: PacketRate) -> str:
    """nft's words for a packet above RATE."""
    return f"limit rate over {rate.packets}/second burst {rate.burst} packets"


def _bytes_words(rate: Rate) -> str:
    """nft's words for a packet above RATE. The kernel's bucket holds what may pass in a second, and the burst."""
    return f"limit rate over {rate.bytes} bytes/second burst {max(LARGEST_FRAME, rate.burst)} bytes"


def _flood(limits: Limits, kind: Flood, *matches: Match) -> Iterator[GuardRule]:
    if number := limits.flood(kind):
        yield _above(TOO_MANY[kind], packets_words(PacketRate(number, 2 * number)), *matches)


def _above(reason: str, words: str, *matches: Match) -> GuardRule:
    return GuardRule(matches, Verdict.DROP, reason, above=words)
