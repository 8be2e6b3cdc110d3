# SPDX-License-Identifier: BSD-2-Clause
"""Private networks between the nodes of a cluster: each node sends to all others, and takes from nobody else."""

from __future__ import annotations

import re
import signal
import struct
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.lab import PATIENCE, Node, PacketSocket, Tap

from . import vifd
from .actions import answer, arp, attach, complaint, differences, ip, link, manage, names, no_ping, ping, run
from .cluster import CONFIG, DIRECTORY, Cluster, end, peers, told
from .conftest import Plug, apply
from .environment import bridged, mac, private
from .forging import ether, ip4, octets, udp
from .test_hooks import hook, quiet

STRANGER = "00:66:66:66:66:66"
GROUP = CONFIG.replace("peers cluster", "group 239.192.86.73")
BOTH = CONFIG.replace("peers cluster", "group 239.192.86.73 peers cluster")


@pytest.fixture
def cluster(stack: ExitStack) -> Cluster:
    return Cluster(stack)


@pytest.fixture
def three(cluster: Cluster) -> list[Node]:
    """Three nodes that are set up."""
    return of(cluster, 3)


def of(cluster: Cluster, count: int, config: str = CONFIG) -> list[Node]:
    nodes = [cluster.node(number, config) for number in range(1, count + 1)]
    told(nodes, range(1, count + 1))
    for node in nodes:
        manage(node, "setup")
    return nodes


def guests_on(nodes: list[Node], plug: Plug, bridge: str = "pvn1", first: int = 5, tap: str = "tap0") -> list[Node]:
    """A guest on each of NODES, in the network of BRIDGE."""
    guests = []
    for number, node in enumerate(nodes, first):
        guests.append(plug(node, tap, number, f"{private(number)}/24"))
        attach(node, bridged(tap, number, bridge))
    return guests


def all_reach_all(guests: list[Node], first: int = 5) -> None:
    for one in guests:
        for number, other in enumerate(guests, first):
            if one is not other:
                ping(one, private(number))


def injected(source: str, target: str, vni: int = 10001) -> bytes:
    """An ARP answer of a stranger in a tunnel from SOURCE to TARGET."""
    inner = arp(STRANGER, private(1), private(5), operation=2)
    return ip4(source, target, 17, udp(source, target, 4000, 4789, struct.pack("!II", 1 << 27, vni << 8) + inner))


def card(node: Node, device: str = "eth2") -> str:
    return str(link(node, device)["address"])


def test_guests_on_three_nodes_reach_each_other_and_the_second_run_of_setup_has_nothing_to_do(
    three: list[Node], plug: Plug
) -> None:
    all_reach_all(guests_on(three, plug))
    assert peers(three[0]) == {end(2), end(3)}
    for node in three:
        assert manage(node, "setup") == "nothing to change\n"
        assert differences(node) == []
    assert {link(three[0], name)["mtu"] for name in ("vx10001", "pvn1", "tap0")} == {1450}


def test_a_guest_is_told_the_mtu_that_the_tunnel_leaves(cluster: Cluster, stack: ExitStack) -> None:
    (node,) = of(cluster, 1)
    tap = stack.enter_context(Tap(node))
    attach(node, bridged(tap.name, 5, NETWORK_TAGS="nfdhcpd"))
    assert "MTU=1450" in node.path(f"/var/lib/nfdhcpd/{tap.name}").read_text().splitlines()


def test_two_networks_with_the_same_subnet_do_not_leak(three: list[Node], plug: Plug) -> None:
    """The same addresses twice, one guest of each network on each of two nodes, and a third that has no twin."""
    one, other, _ = three
    mine = guests_on([one, other], plug, "pvn1")
    theirs = plug(other, "tap1", 7, f"{private(5)}/24", f"{private(7)}/24")
    attach(other, bridged("tap1", 7, "pvn2"))
    with PacketSocket(theirs, "eth0") as ears, PacketSocket(mine[1], "eth0") as neighbour:
        no_ping(mine[0], private(7))
        ping(mine[0], private(6))
        neighbour.expect(lambda frame: frame[6:12] == octets(mac(5)), "the guest's frames")
        assert not [frame for frame in iter(lambda: ears.receive(0), None) if frame[6:12] == octets(mac(5))]


def test_a_node_that_is_added_is_reached_by_the_hook_alone(cluster: Cluster, plug: Plug) -> None:
    nodes = of(cluster, 2)
    third = cluster.node(3)
    told([*nodes, third], (1, 2, 3))
    for node in (*nodes, third):
        quiet(hook(node, "node-add", NODE_NAME="node3.example.com"))
    all_reach_all(guests_on([*nodes, third], plug))
    assert all(differences(node) == [] for node in (*nodes, third))


@pytest.mark.parametrize("change", ["node-remove", "node-modify"])
def test_a_node_that_is_removed_or_offline_is_sent_nothing_and_not_heard(
    three: list[Node], plug: Plug, change: str
) -> None:
    one, other, gone = three
    guests = guests_on(three, plug)
    told([one, other], (1, 2) if change == "node-remove" else (1, 2, 3), offline=[3] if change == "node-modify" else [])
    for node in (one, other):
        quiet(hook(node, change, NODE_NAME="node3.example.com"))
        assert end(3) not in peers(node)
        assert differences(node) == []
    with PacketSocket(guests[0], "eth0") as ears, PacketSocket(gone, "eth2") as there:
        no_ping(guests[2], private(5))
        no_ping(guests[0], private(99))
        ping(guests[1], private(5))
        assert not [frame for frame in iter(lambda: ears.receive(0), None) if frame[6:12] == octets(mac(7))]
        heard = [frame for frame in iter(lambda: there.receive(0), None) if frame[6:12] == octets(card(one))]
        assert not [frame for frame in heard if octets(mac(5)) in frame[14:] and frame[23:24] == b"\x11"]


@pytest.mark.parametrize("number", [1, 2], ids=["no peer", "another network's"])
def test_frames_of_a_stranger_on_the_underlay_are_not_taken(cluster: Cluster, stack: ExitStack, number: int) -> None:
    nodes = of(cluster, 2)
    victim = stack.enter_context(Tap(nodes[0]))
    attach(nodes[0], bridged(victim.name, 5, f"pvn{number}"))
    guest = stack.enter_context(Tap(nodes[1]))
    attach(nodes[1], bridged(guest.name, 6, f"pvn{number}"))
    stranger = cluster.machine(66, "stranger")
    with PacketSocket(stranger, "eth2") as mouth:
        frame = injected(end(66), end(1), 10000 + number)
        mouth.send(ether(card(stranger), card(nodes[0]), 0x0800, frame))
    guest.send(arp(mac(6), private(6), private(5)))
    heard = victim.before(lambda frame: frame[6:12] == octets(mac(6)), "what the peer's guest says")
    assert not [frame for frame in heard if frame[6:12] == octets(STRANGER)]
    assert end(66) not in nodes[0].run(["bridge", "fdb", "show"]).stdout, "the stranger is learned as a tunnel's end"


def test_a_node_alone_in_its_cluster_takes_nothing_and_is_clean(cluster: Cluster, stack: ExitStack) -> None:
    (node,) = of(cluster, 1)
    assert peers(node) == set()
    assert (manage(node, "setup"), differences(node)) == ("nothing to change\n", [])
    victim = stack.enter_context(Tap(node))
    attach(node, bridged(victim.name, 5))
    beside = stack.enter_context(Tap(node))
    attach(node, bridged(beside.name, 6))
    stranger = cluster.machine(66, "stranger")
    with PacketSocket(stranger, "eth2") as mouth:
        mouth.send(ether(card(stranger), card(node), 0x0800, injected(end(66), end(1))))
    beside.send(arp(mac(6), private(6), private(5)))
    heard = victim.before(lambda frame: frame[6:12] == octets(mac(6)), "the neighbour")
    assert not [frame for frame in heard if frame[6:12] == octets(STRANGER)]


class TestWithTheDaemon:
    """Nobody runs a command or a hook."""

    @pytest.fixture
    def daemon(self, three: list[Node]) -> Iterator[subprocess.Popen[str]]:
        daemon = vifd.started(three[0])
        yield daemon
        vifd.stopped(daemon)
        assert daemon.returncode == 0

    @pytest.mark.usefixtures("daemon")
    def test_it_follows_ganetis_files(self, three: list[Node]) -> None:
        told(three[:1], (1, 2))
        vifd.until(lambda: peers(three[0]) == {end(2)} == peers(three[0], "vx10002"), "the node's end")
        told(three[:1], (1, 2, 3, 4))
        vifd.until(lambda: peers(three[0]) == {end(2), end(3), end(4)}, "two more")
        vifd.until(lambda: vifd.clean(three[0]), "the whole of it")
        assert "peers of vx10001, vx10002: 172.16.0.3, 172.16.0.4 missing" in vifd.said(three[0])

    @pytest.mark.usefixtures("daemon")
    def test_it_repairs_what_somebody_deleted_or_added_by_hand(self, three: list[Node]) -> None:
        node = three[0]
        zero = "00:00:00:00:00:00 dev vx10001 dst"
        for words in (f"del {zero} {end(2)}", f"append {zero} {end(77)}"):
            node.run(["bridge", "fdb", *words.split()])
        vifd.until(lambda: peers(node) == {end(2), end(3)}, "the list as it was")
        assert differences(node) == []

    @pytest.mark.usefixtures("daemon")
    def test_the_filter_of_the_tunnels_comes_back_with_the_same_peers(self, three: list[Node]) -> None:
        """More than once: from the second time on, the daemon knows the rules in the kernel's form."""
        node = three[0]
        for _ in range(3):
            node.run(["nft", "flush", "ruleset"])
            vifd.until(lambda: "172.16.0.2" in node.run(["nft", "list", "ruleset"]).stdout, "the filter")
        vifd.until(lambda: vifd.clean(node), "the whole of it")


def test_a_node_whose_underlay_is_down_breaks_nobody_else(three: list[Node], plug: Plug) -> None:
    guests = guests_on(three, plug)
    here = plug(three[2], "tap1", 9, f"{private(9)}/24")
    attach(three[2], bridged("tap1", 9))
    ip(three[2], "link set eth2 down")
    for node in three:
        manage(node, "setup")
        assert differences(node) == []
    ping(guests[0], private(6))
    ping(guests[2], private(9))
    ping(here, private(7))
    ip(three[2], "link set eth2 up")
    ping(guests[2], private(5))


def test_a_node_that_lost_its_address_on_the_underlay_is_told_so(three: list[Node]) -> None:
    ip(three[0], f"addr del {end(1)}/24 dev eth2")
    (said,) = differences(three[0])
    assert said.startswith(f"no device of this node has the address {end(1)}")
    assert manage(three[0], "setup") == "nothing to change\n"


def test_a_node_without_the_card_has_its_other_networks(cluster: Cluster) -> None:
    node = cluster.node(1, "[private own]\nbridges = 1\n" + CONFIG.replace("eth2", "eth9"))
    told([node], (1, 2))
    assert "eth9 does not exist" in run(node, "setup").stderr
    assert "own1" in names(node) and "pvn1" not in names(node)


def test_a_node_that_its_cluster_does_not_name_is_told_so_and_takes_no_tunnel(cluster: Cluster) -> None:
    node = cluster.node(1, "[private own]\nbridges = 1\n" + CONFIG)
    for members in ((), (2, 3)):
        told([node], members)
        said = complaint(run(node, "setup"))
        assert "private networks pvn*" in said and "node1" in said and "is not among the nodes" in said
        assert "own1" in names(node) and "pvn1" not in names(node)


def test_a_node_that_left_its_cluster_takes_nothing_any_more(three: list[Node], stack: ExitStack) -> None:
    """Ganeti removes its files from a node that it removes. What the node had stays, behind a closed door."""
    node, peer, _ = three
    victim, guest, beside = (stack.enter_context(Tap(one)) for one in (node, peer, node))
    for number, tap in enumerate((victim, guest, beside), 5):
        attach(tap.node, bridged(tap.name, number))
    node.run(["sh", "-c", f"rm {DIRECTORY}/ssconf_*"])
    assert "is not among the nodes" in complaint(run(node, "setup"))
    guest.send(arp(mac(6), private(6), private(5)))
    with PacketSocket(node, "eth2") as ears:
        guest.send(arp(mac(6), private(6), private(5)))
        ears.expect(lambda frame: octets(mac(6)) in frame[14:], "the peer's frame, at the card")
    beside.send(arp(mac(7), private(7), private(5)))
    heard = victim.before(lambda frame: frame[6:12] == octets(mac(7)), "the neighbour")
    assert not [frame for frame in heard if frame[6:12] == octets(mac(6))]


def test_somebody_elses_device_of_that_name_keeps_its_peers(cluster: Cluster) -> None:
    node = cluster.node(1)
    told([node], (1, 2))
    ip(node, f"link add vx10001 type vxlan id 10001 dev eth2 dstport 4789 local {end(1)}")
    node.run(["bridge", "fdb", "append", "00:00:00:00:00:00", "dev", "vx10001", "dst", end(99)])
    assert "ganeti-vif did not make it" in run(node, "setup").stderr
    assert peers(node) == {end(99)}
    assert peers(node, "vx10002") == {end(2)}


def test_a_cluster_goes_from_a_group_to_peers_node_by_node(cluster: Cluster, plug: Plug) -> None:
    """At each step every guest reaches every other one, whatever its node has by then."""
    nodes = of(cluster, 3, GROUP)
    guests = guests_on(nodes, plug)
    for config in (BOTH, CONFIG):
        for node in nodes:
            apply(node, config)
            assert manage(node, "setup") == "nothing to change\n"
            for guest in guests:
                ip(guest, "neigh flush dev eth0")
            all_reach_all(guests)
    assert {frozenset(peers(node)) for node in nodes} == {
        frozenset({end(2), end(3)}),
        frozenset({end(1), end(3)}),
        frozenset({end(1), end(2)}),
    }


def test_a_stream_of_pings_survives_each_step_from_a_group_to_peers(cluster: Cluster, plug: Plug) -> None:
    """How many it loses is printed: docs/networks.md has the figure."""
    nodes = of(cluster, 2, GROUP)
    guests = guests_on(nodes, plug)
    ping(guests[0], private(6))
    for name, config in (("both", BOTH), ("peers", CONFIG)):
        for number, node in enumerate(nodes, 1):
            stream = guests[0].popen(["ping", "-n", "-q", "-i", "0.01", private(6)])
            apply(node, config)
            ping(guests[0], private(6))
            ping(guests[1], private(5))
            stream.send_signal(signal.SIGINT)
            printed = stream.communicate(timeout=PATIENCE)[0]
            sent, received = map(int, re.findall(r"([0-9]+) (?:packets transmitted|received)", printed))
            print(f"node {number} to {name}: {10 * (sent - received)} ms without an answer ({received} of {sent})")
            assert received


def test_status_and_dry_run_show_the_peers(cluster: Cluster) -> None:
    node = cluster.node(1)
    told([node], (1, 2))
    printed = manage(node, "setup", "--dry-run")
    assert f"bridge fdb append 00:00:00:00:00:00 dev vx10001 dst {end(2)}" in printed
    assert f"local {end(1)}" in printed
    manage(node, "setup")
    assert "vxlan eth2 +10000 peers cluster" in str(answer(node, "status"))
