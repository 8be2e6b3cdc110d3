# SPDX-License-Identifier: BSD-2-Clause
"""What is captured on an uplink while a guest may leave: announcements, and nothing that a host beyond a router can send."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from ipaddress import IPv4Address, IPv6Address

import pytest

from ganeti_vif.kernel.capture import Capture
from ganeti_vif.kernel.capture_filter import ETH_P_ARP, ETH_P_IPV6, ETH_P_RARP
from ganeti_vif.nic.announcement import ARP_REQUEST, arrival, gratuitous_arp, neighbour_advertisement
from tests.lab import Node, PacketSocket, wire

from .actions import octets
from .conftest import quick
from .vifd import until

TOLD = neighbour_advertisement(IPv6Address("2001:db8::5"), octets("0e:00:00:00:00:01"))
FIRST = neighbour_advertisement(IPv6Address("2001:db8::fe"), octets("0e:00:00:00:00:01"))
LAST = neighbour_advertisement(IPv6Address("2001:db8::ff"), octets("0e:00:00:00:00:01"))


@pytest.fixture
def ends(stack: ExitStack) -> Iterator[tuple[Node, PacketSocket]]:
    """A node, and the mouth of a neighbour of its uplink, eth1."""
    node, router = (quick(stack.enter_context(Node(name))) for name in ("node1", "router"))
    wire(node, "eth1", router, "eth0")
    with PacketSocket(router, "eth0") as mouth:
        yield node, mouth


@pytest.mark.parametrize(
    ("frame", "heard"),
    [
        (TOLD, True),
        (TOLD[:21] + bytes([60]) + TOLD[22:], False),
        (TOLD[:38] + IPv6Address("2001:db8::5").packed + TOLD[54:], False),
        (TOLD[:54] + bytes([135]) + TOLD[55:], False),
    ],
    ids=["an announcement", "from beyond a router", "to a guest", "a question"],
)
def test_only_announcements_wake_the_daemon(ends: tuple[Node, PacketSocket], frame: bytes, heard: bool) -> None:
    node, mouth = ends
    found: list[bytes] = []

    def hears(known: bytes, capture: Capture) -> bool:
        mouth.send(known)
        found.extend(capture.frames())
        return known in found

    with closing(node.inside(lambda: Capture("eth1", ETH_P_IPV6))) as capture:
        until(lambda: hears(FIRST, capture), "a frame by a cable that has just been plugged in")
        mouth.send(frame)
        until(lambda: hears(LAST, capture), "the last frame")
    assert (frame in found) == heard


MOUTH = octets("0e:00:00:00:00:01")
SUBJECTS: dict[str, tuple[int, list[bytes], bytes, list[bytes]]] = {
    "ARP": (
        ETH_P_ARP,
        [IPv4Address(f"192.0.2.{number}").packed for number in (4, 5)],
        gratuitous_arp(ARP_REQUEST, IPv4Address("192.0.2.5"), MOUTH),
        [gratuitous_arp(ARP_REQUEST, IPv4Address(f"192.0.{part}"), MOUTH) for part in ("2.6", "3.5")],
    ),
    "RARP": (
        ETH_P_RARP,
        [octets(f"aa:00:00:00:00:{number}") for number in ("04", "05")],
        arrival("aa:00:00:00:00:05", "0e:00:00:00:00:01"),
        [arrival(mac, "0e:00:00:00:00:01") for mac in ("aa:00:00:00:00:06", "aa:00:01:00:00:05")],
    ),
    "advertisements": (
        ETH_P_IPV6,
        [IPv6Address(f"2001:db8::{number}").packed for number in (4, 5)],
        TOLD,
        [neighbour_advertisement(IPv6Address(address), MOUTH) for address in ("2001:db8::6", "2001:db9::5")],
    ),
}


@pytest.mark.parametrize(("protocol", "subjects", "ours", "others"), SUBJECTS.values(), ids=SUBJECTS)
def test_only_what_is_about_the_guests_that_leave_wakes_the_daemon(
    ends: tuple[Node, PacketSocket], protocol: int, subjects: list[bytes], ours: bytes, others: list[bytes]
) -> None:
    node, mouth = ends
    found: list[bytes] = []

    def hears(capture: Capture) -> bool:
        mouth.send(ours)
        found.extend(capture.frames())
        return ours in found

    with closing(node.inside(lambda: Capture("eth1", protocol, subjects))) as capture:
        until(lambda: hears(capture), "a frame by a cable that has just been plugged in")
        for other in others:
            mouth.send(other)
        found.clear()
        until(lambda: hears(capture), "the last frame")
    assert set(found) == {ours}
