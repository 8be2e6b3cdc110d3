# SPDX-License-Identifier: BSD-2-Clause
"""What is captured on an uplink while a guest may leave: announcements, and nothing that a host beyond a router can send."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from ipaddress import IPv6Address

import pytest

from ganeti_vif.kernel.capture import ETH_P_IPV6, Capture
from ganeti_vif.nic.announcement import neighbour_advertisement
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
