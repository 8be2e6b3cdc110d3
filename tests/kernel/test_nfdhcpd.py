# SPDX-License-Identifier: BSD-2-Clause
"""A node with a real NFDHCPD: its guests' questions reach its queues, and its answers reach its guests.

The listener plays NFDHCPD's part by its own rules: it reads the queues 42 to 45, finds the binding by the device that
the packet came from, and answers from the MAC of the binding's INDEV, by a packet socket on the tap.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Address

import dpkt
import pytest

from tests.lab import PATIENCE, Node, PacketSocket, Tap
from tests.lab.queue import Queue, Queued

from .actions import BROADCAST, attach, differences, ethernet, link, manage, octets, udp
from .conftest import MakeTap, configure
from .environment import CONFIG, GATEWAY6, bridged, mac, private, routed

DHCP, ROUTER, NEIGHBOUR, DHCPV6 = 42, 43, 44, 45
LINK_LOCAL = "fe80::a800:ff:fe00:5"
DISCOVER = udp(mac(5), BROADCAST, "0.0.0.0", "255.255.255.255", "where am I?", ports=(68, 67))
INFORMATION = udp(mac(5), "33:33:00:01:00:02", LINK_LOCAL, "ff02::1:2", "who resolves?", ports=(546, 547))


SOURCE = b"\1\1" + octets(mac(5))
"""The option that says the source's MAC: without it the kernel does not answer for another."""


def icmp6(kind: int, destination: str, group: str, target: str | None = None) -> bytes:
    """A router or neighbour solicitation of the guest number 5."""
    body = bytes([kind, 0, 0, 0, 0, 0, 0, 0]) + (IPv6Address(target).packed if target else b"") + SOURCE
    source, sink = IPv6Address(LINK_LOCAL).packed, IPv6Address(group).packed
    total = dpkt.in_cksum(source + sink + len(body).to_bytes(4, "big") + b"\0\0\0\x3a" + body)
    body = body[:2] + total.to_bytes(2, "big") + body[4:]
    header = b"\x60\0\0\0" + len(body).to_bytes(2, "big") + b"\x3a\xff" + source + sink
    return ethernet(mac(5), destination, 0x86DD, header + body)


SOLICITATION = icmp6(133, "33:33:00:00:00:02", "ff02::2")
NEIGHBOUR_SOLICITATION = icmp6(135, "33:33:ff:00:00:01", "ff02::1:ff00:1", GATEWAY6)


@pytest.fixture
def served(node: Node) -> Node:
    """A node whose bindings a real NFDHCPD reads."""
    configure(node, CONFIG + "consumer = nfdhcpd\n")
    manage(node, "setup")
    return node


@pytest.fixture
def nfdhcpd(served: Node) -> Iterator[Queue]:
    with Queue(served, (DHCP, ROUTER, NEIGHBOUR, DHCPV6)) as queue:
        yield queue


def expect(queue: Queue, number: int) -> Queued:
    """The next packet of that queue; of another one, nothing is expected."""
    found = queue.receive(PATIENCE)
    assert found and found.queue == number, found
    return found


def answered(node: Node, tap: Tap, source: str) -> bool:
    """Whether an answer from the MAC SOURCE reaches the guest."""
    with PacketSocket(node, tap.name) as mouth:
        mouth.send(udp(source, mac(5), "192.0.2.1", private(5), "here you are", ports=(67, 68)))
    return b"here you are" in tap.expect(lambda frame: b"here you are" in frame, "the answer")


def test_a_routed_guests_questions_reach_their_queues(served: Node, nfdhcpd: Queue, tap: MakeTap) -> None:
    one = tap(served)
    attach(served, routed(one.name))
    for frame, number in (
        (DISCOVER, DHCP),
        (SOLICITATION, ROUTER),
        (NEIGHBOUR_SOLICITATION, NEIGHBOUR),
        (INFORMATION, DHCPV6),
    ):
        one.send(frame)
        found = expect(nfdhcpd, number)
        assert found.device == one.ifindex
        assert frame[14 : 14 + len(found.packet)] == found.packet
    assert f"INDEV={one.name}\n" in served.path(f"/var/lib/nfdhcpd/{one.name}").read_text()
    assert answered(served, one, link(served, one.name)["address"])
    assert differences(served) == []


@pytest.mark.parametrize("tags", ["", "private-filtered"])
def test_a_bridged_guests_questions_reach_their_queues(served: Node, nfdhcpd: Queue, tap: MakeTap, tags: str) -> None:
    one, other = tap(served), tap(served)
    # Without an IPv6 subnet Ganeti gives it no IPv6 address, and its link-local one is its own affair.
    attach(served, bridged(one.name, 5, NETWORK_TAGS=tags))
    attach(served, bridged(other.name, 6, NETWORK_TAGS=tags))
    other.clear()
    for frame, number in ((DISCOVER, DHCP), (SOLICITATION, ROUTER), (INFORMATION, DHCPV6)):
        one.send(frame)
        found = expect(nfdhcpd, number)
        assert (found.device, found.port) == (link(served, "pvn1")["ifindex"], one.ifindex)
    one.send(NEIGHBOUR_SOLICITATION)
    last = udp(mac(5), BROADCAST, private(5), "255.255.255.255", "the last word")
    one.send(last)
    seen = []
    other.expect(lambda frame: bool(b"the last word" in frame or seen.append(frame)), "it")
    assert [frame[:14].hex() for frame in seen] == [NEIGHBOUR_SOLICITATION[:14].hex()], "neighbours are theirs alone"
    assert "INDEV=pvn1\n" in served.path(f"/var/lib/nfdhcpd/{one.name}").read_text()
    assert answered(served, one, link(served, "pvn1")["address"])


def test_while_it_does_not_run_ipv6_goes_on(served: Node, tap: MakeTap) -> None:
    """Its queues are bypassed: the node itself answers for the gateway, as without NFDHCPD."""
    one = tap(served)
    attach(served, routed(one.name))
    one.send(NEIGHBOUR_SOLICITATION)

    def advertisement(frame: bytes) -> bool:
        return frame[12:14] == b"\x86\xdd" and frame[20] == 58 and frame[54] == 136

    one.expect(advertisement, "the gateway's neighbour advertisement")


def test_the_rules_come_back_and_go_with_the_configuration(served: Node) -> None:
    served.run(["nft", "flush", "chain", "inet", "ganeti_vif", "nfdhcpd"])
    assert differences(served) == ["different: filter chain inet nfdhcpd"]
    manage(served, "reconcile")
    assert differences(served) == []
    configure(served, CONFIG)
    assert "delete chain inet ganeti_vif nfdhcpd" in manage(served, "reconcile", "--dry-run")
    manage(served, "reconcile")
    assert "queue" not in served.run(["nft", "list", "ruleset"]).stdout
    assert differences(served) == []
