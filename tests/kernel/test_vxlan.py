# SPDX-License-Identifier: BSD-2-Clause
"""Private networks between nodes: VXLAN over a network of the nodes' own."""

from __future__ import annotations

import json
import struct
from contextlib import ExitStack

import pytest

from tests.lab import Node, PacketSocket, Tap, wait_for, wire

from .actions import arp, attach, differences, ip, link, manage, no_ping, ping
from .conftest import Plug, installed, quick
from .environment import bridged, mac, private
from .forging import ether, ip4, octets
from .forging import udp as datagram

CONFIG = """\
[private pvn]
bridges = 1-2
uplink  = vxlan eth2 +10000
"""
OVERHEAD = 50
"""Bytes that VXLAN over IPv4 puts around a frame's payload (RFC 7348): 14 Ethernet, 20 IP, 8 UDP, 8 VXLAN."""


@pytest.fixture
def pair(stack: ExitStack) -> tuple[Node, Node]:
    """Two nodes with a network between them, and their private networks set up."""
    one, other = (installed(quick(stack.enter_context(Node(name))), CONFIG) for name in ("node1", "node2"))
    for number, node in enumerate((one, other), 1):
        node.path("/etc/machine-id").write_text(f"{number:032x}\n")
    wire(one, "eth2", other, "eth2")
    for number, node in enumerate((one, other), 1):
        ip(node, f"addr add 172.16.0.{number}/24 dev eth2")
        manage(node, "setup")
    return one, other


def test_guests_on_two_nodes_reach_each_other_in_the_same_private_network(pair: tuple[Node, Node], plug: Plug) -> None:
    guests = []
    for number, node in enumerate(pair, 5):
        guests.append(plug(node, "tap0", number, f"{private(number)}/24"))
        attach(node, bridged("tap0", number))
    ping(guests[0], private(6))
    ping(guests[1], private(5))


def test_guests_on_two_nodes_do_not_reach_each_other_in_different_private_networks(
    pair: tuple[Node, Node], plug: Plug
) -> None:
    one, other = pair
    guest = plug(one, "tap0", 5, f"{private(5)}/24")
    stranger = plug(other, "tap0", 6, f"{private(6)}/24")
    neighbour = plug(other, "tap1", 7, f"{private(7)}/24")
    attach(one, bridged("tap0", 5, "pvn1"))
    attach(other, bridged("tap0", 6, "pvn2"))
    attach(other, bridged("tap1", 7, "pvn1"))
    with PacketSocket(stranger, "eth0") as ears, PacketSocket(neighbour, "eth0") as theirs:
        no_ping(guest, private(6))
        ping(guest, private(7))
        # The neighbour saw the guest ask for the stranger; the stranger, at the same moment, saw nothing.
        theirs.expect(lambda frame: private(6) in _asked(frame), "the question for the stranger")
        assert not any(frame[6:12].hex(":") == mac(5) for frame in iter(lambda: ears.receive(0), None))


def _asked(frame: bytes) -> str:
    """The address that an ARP request in FRAME asks for, or nothing."""
    return ".".join(map(str, frame[38:42])) if frame[12:14] == b"\x08\x06" else ""


def test_the_whole_path_has_the_mtu_that_vxlan_leaves(pair: tuple[Node, Node], plug: Plug) -> None:
    one, _ = pair
    plug(one, "tap0", 5)
    attach(one, bridged("tap0"))
    assert {link(one, name)["mtu"] for name in ("vx10001", "pvn1", "tap0")} == {1500 - OVERHEAD}


def test_a_guest_cannot_send_to_another_network_by_a_frame_of_its_own(pair: tuple[Node, Node], plug: Plug) -> None:
    one, other = pair
    guest, stranger, neighbour = plug(one, "tap0", 5), plug(other, "tap0", 6), plug(other, "tap1", 7)
    attach(one, bridged("tap0", 5, "pvn1"))
    attach(other, bridged("tap0", 6, "pvn2"))
    attach(other, bridged("tap1", 7, "pvn1"))
    with (
        PacketSocket(guest, "eth0") as mouth,
        PacketSocket(stranger, "eth0") as wrong,
        PacketSocket(neighbour, "eth0") as right,
    ):
        mouth.send(arp(mac(5), private(5), private(99)))
        right.expect(lambda frame: _asked(frame) == private(99), "the question")
        assert not any(_asked(frame) for frame in iter(lambda: wrong.receive(0), None))


def test_nodes_with_vxlan_uplinks_are_found_clean(pair: tuple[Node, Node]) -> None:
    for node in pair:
        assert differences(node) == []
        assert manage(node, "setup") == "nothing to change\n"


def test_the_bridges_of_two_nodes_have_different_macs(pair: tuple[Node, Node]) -> None:
    one, other = pair
    assert link(one, "pvn1")["address"] != link(other, "pvn1")["address"]


def test_teardown_takes_the_vxlan_devices_away(pair: tuple[Node, Node]) -> None:
    one, _ = pair
    made = {"vx10001", "vx10002", "pvn1", "pvn2"}
    before = devices(one)
    assert made <= before
    manage(one, "teardown")
    assert devices(one) == before - made


def devices(node: Node) -> set[str]:
    return {device["ifname"] for device in json.loads(node.run(["ip", "-json", "link", "show"]).stdout)}


def injected(source: str, vni: int) -> bytes:
    """An ARP answer of a stranger in a tunnel to node1."""
    stranger = "00:66:66:66:66:66"
    inner = arp(stranger, private(1), private(5), operation=2)
    return ip4(
        source,
        "172.16.0.1",
        17,
        datagram(source, "172.16.0.1", 4000, 4789, struct.pack("!II", 1 << 27, vni << 8) + inner),
    )


def test_no_frame_comes_into_a_private_network_by_another_device(pair: tuple[Node, Node], stack: ExitStack) -> None:
    """From beyond another card of the node, by its address on the tunnels' network; what peers send arrives."""
    node, peer = pair
    outsider = quick(stack.enter_context(Node("outsider")))
    wire(node, "eth1", outsider, "eth0")
    ip(node, "addr add 192.0.2.254/24 dev eth1", "route add 198.51.100.0/24 dev eth1")
    victim = stack.enter_context(Tap(node))
    attach(node, bridged(victim.name, 5))
    hardware = {
        who: who.path(f"/sys/class/net/{card}/address").read_text().strip()
        for who, card in ((node, "eth1"), (outsider, "eth0"))
    }
    with PacketSocket(outsider, "eth0") as door:
        door.send(ether(hardware[outsider], hardware[node], 0x0800, injected("198.51.100.66", 10001)))
        # Somebody else's tunnel on this node is his own affair.
        ip(node, "link add other type vxlan id 77 dstport 4789", "link set other up")
        door.send(ether(hardware[outsider], hardware[node], 0x0800, injected("198.51.100.66", 77)))
    wait_for(node, lambda: received(node, "other") == 1, "the other tunnel hears its own")
    guest = stack.enter_context(Tap(peer))
    attach(peer, bridged(guest.name, 6))
    guest.send(arp(mac(6), private(6), private(5)))
    heard = victim.before(lambda frame: frame[6:12] == octets(mac(6)), "what the peer's guest says")
    assert not [frame for frame in heard if frame[6:12] == octets("00:66:66:66:66:66")]
    assert "198.51.100.66" not in node.run(["bridge", "fdb", "show", "dev", "vx10001"]).stdout
    assert differences(node) == []


def received(node: Node, device: str) -> int:
    return int(node.path(f"/sys/class/net/{device}/statistics/rx_packets").read_text())


def test_nothing_is_left_of_the_tunnels_after_a_teardown(pair: tuple[Node, Node]) -> None:
    assert "tunnels" in pair[0].run(["nft", "list", "ruleset"]).stdout
    manage(pair[0], "teardown")
    assert "tunnels" not in pair[0].run(["nft", "list", "ruleset"]).stdout
