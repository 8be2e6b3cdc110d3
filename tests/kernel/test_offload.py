# SPDX-License-Identifier: BSD-2-Clause
"""What is checked is what is sent: checksums that the node finishes for guests with virtio cards change nothing that a
filter has looked at, and work as ever for guests that use them as they are meant."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from ganeti_vif.engine.objects import OffloadCheck
from ganeti_vif.engine.program import Program
from ganeti_vif.kernel.netlink import classifiers
from ganeti_vif.kernel.netlink.requests import Requests
from tests.lab import PATIENCE, Node, PacketSocket, Tap, VirtualCable, no_offload

from .actions import attach, complaint, differences, ip, manage, ping
from .attacks import Cast
from .conftest import MakeTap, quick
from .environment import bridged, mac, private, public6, routed
from .forging import DESTINATION, ICMP, OPTIONS, TCP, UDP, ether, ip4, ip6, udp
from .test_attacks import LABS, TAP_MAC, Lab, essence
from .unfinished import HIDDEN, TCPV4, beside, hidden

REASON = "checksum that would change it"


@pytest.fixture(scope="module", params=LABS)
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    with ExitStack() as stack:
        yield LABS[request.param](stack)


@pytest.mark.parametrize("name", HIDDEN)
def test_no_checksum_makes_an_attack_of_what_was_let_through(lab: Lab, name: str) -> None:
    shown, meant = HIDDEN[name](lab.cast)
    frame, said = hidden(shown, meant)
    counted = lab.counted()
    heard = lab.send(frame, said)
    after = lab.counted() - counted
    assert after.pop("IPv4") == lab.words
    assert after == {REASON: 1}
    assert not [one.hex() for ear in heard for one in ear if essence(meant) in one]


def test_a_neighbour_believes_no_arp_that_became_a_lie_after_the_filter(ready: Node, stack: ExitStack) -> None:
    victim = quick(stack.enter_context(Node("victim")))
    stack.enter_context(VirtualCable(ready, "tap6", victim, "eth0"))
    ip(victim, f"link set eth0 address {mac(6)} up", f"addr add {private(6)}/24 dev eth0")
    attacker = stack.enter_context(Tap(ready))
    attach(ready, bridged("tap6", 6))
    attach(ready, bridged(attacker.name, 5))
    ip(victim, f"neigh replace {private(7)} lladdr {mac(7)} nud stale dev eth0")
    frame, said = hidden(arp(private(5)), arp(private(7)))
    attacker.send(frame, said)
    attacker.send(arp(private(5)))
    attacker.expect(
        lambda frame: frame[12:14] == b"\x08\x06" and frame[6:12] == bytes.fromhex("aa0000000006"), "answer"
    )
    assert mac(7) in victim.run(["ip", "neigh", "show", private(7)]).stdout


def arp(sender: str) -> bytes:
    return CAST.arp(1, sender, private(6))


CAST = Cast(
    **dict.fromkeys(("ip", "ip6", "link_local", "other_mac", "other", "other6", "other_link_local"), ""),
    **dict.fromkeys(("gateway", "gateway6", "node", "to"), ""),
    mac=mac(5),
)


def test_nobody_beyond_the_uplink_hears_an_address_that_came_after_the_filter(
    ready: Node, gateway: Node, tap: MakeTap
) -> None:
    """The source of a routed guest's IPv6 packet. There the two free bytes are in its destination options."""
    guest = tap(ready)
    attach(ready, routed(guest.name, 5))
    no_offload(ready, "eth1")
    beyond = "2001:db8:ffff::1"
    with PacketSocket(gateway, "eth0") as ears:
        shown, meant = (sent(source, public6(6), beyond) for source in (public6(5), public6(6)))
        guest.send(*hidden(shown, meant, start=22, pad=60))
        guest.send(sent(public6(5), public6(5), beyond))
        last = sent(public6(5), public6(5), beyond)[22:38]
        heard = ears.before(lambda frame: last == frame[22:38], "an honest packet")
    assert not [frame for frame in heard if frame[22:38] == meant[22:38]]


def sent(source: str, summed: str, target: str) -> bytes:
    datagram = udp(summed, target, 4000, 4001, b"attack")
    return ether(mac(5), TAP_MAC, 0x86DD, ip6(source, target, UDP, datagram, (DESTINATION, OPTIONS)))


# What a card is for


def tcp(size: int) -> bytes:
    return struct.pack("!HHIIBBHHH", 4000, 4001, 1, 1, 5 << 4, 0x10, 1000, 0, 0) + bytes(size)


HONEST: dict[str, tuple[int, Callable[[Cast], bytes], int, int]] = {
    "UDP over IPv4": (0x0800, lambda c: ip4(c.ip, c.other, UDP, udp(c.ip, c.other, 4000, 4001, bytes(99))), 34, 6),
    "UDP over IPv6": (0x86DD, lambda c: ip6(c.ip6, c.other6, UDP, udp(c.ip6, c.other6, 4000, 4001, bytes(99))), 54, 6),
    "UDP behind destination options": (
        0x86DD,
        lambda c: ip6(c.ip6, c.other6, UDP, udp(c.ip6, c.other6, 4000, 4001, bytes(9)), (DESTINATION, OPTIONS)),
        62,
        6,
    ),
    "TCP over IPv4": (0x0800, lambda c: ip4(c.ip, c.other, TCP, tcp(99)), 34, 16),
    "TCP over IPv6": (0x86DD, lambda c: ip6(c.ip6, c.other6, TCP, tcp(99)), 54, 16),
}
LIES = {
    "one byte before the checksum of UDP": (UDP, 34, 5),
    "one byte before the checksum of TCP": (TCP, 34, 15),
    "the length of UDP": (UDP, 34, 4),
    "in IPv4's header": (UDP, 20, 2),
    "of ICMP": (ICMP, 34, 2),
    "of a tunnel": (47, 34, 40),
}


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_sum_is_finished_as_ever(lab: Lab, name: str) -> None:
    kind, build, start, offset = HONEST[name]
    frame = ether(lab.cast.mac, lab.cast.to, kind, build(lab.cast))
    counted = lab.counted()
    lab.send(frame, beside(start, offset))
    after = lab.counted() - counted
    assert (after[REASON], after.total()) == (0, 1 + lab.words)


@pytest.mark.parametrize("name", LIES)
def test_a_sum_in_what_a_filter_reads_is_a_lie(lab: Lab, name: str) -> None:
    protocol, start, offset = LIES[name]
    frame = ether(lab.cast.mac, lab.cast.to, 0x0800, ip4(lab.cast.ip, lab.cast.other, protocol, bytes(100)))
    counted = lab.counted()
    lab.send(frame, beside(start, offset))
    assert (lab.counted() - counted)[REASON] == 1


def test_of_a_fragment_no_sum_is_finished(lab: Lab) -> None:
    packet = ip4(lab.cast.ip, lab.cast.other, UDP, udp(lab.cast.ip, lab.cast.other, 4000, 4001, bytes(96)), more=True)
    counted = lab.counted()
    lab.send(ether(lab.cast.mac, lab.cast.to, 0x0800, packet), beside(34, 6))
    assert (lab.counted() - counted)[REASON] == 1


def test_one_frame_that_becomes_many_has_its_sum_in_its_place(lab: Lab) -> None:
    frame = ether(lab.cast.mac, lab.cast.to, 0x0800, ip4(lab.cast.ip, lab.cast.other, TCP, tcp(4000)))
    for start, drops in ((34, 0), (26, 1), (24, 1)):
        counted = lab.counted()
        lab.send(frame, beside(start, 16, gso=TCPV4, headers=54, size=1000))
        assert (lab.counted() - counted)[REASON] == drops


def test_guests_that_leave_sums_and_segments_to_the_node_talk_in_both_directions(ready: Node, stack: ExitStack) -> None:
    guests = [quick(stack.enter_context(Node(f"vm{number}"))) for number in (5, 6)]
    for number, guest in enumerate(guests, 5):
        stack.enter_context(VirtualCable(ready, f"tap{number}", guest, "eth0", offloads=number == 5))
        ip(guest, f"link set eth0 address {mac(number)} up", f"addr add {private(number)}/24 dev eth0")
        attach(ready, bridged(f"tap{number}", number))
    ping(guests[0], private(6))
    said = b"all of it." * 100_000
    for one, other, number in ((guests[0], guests[1], 6), (guests[1], guests[0], 5)):
        server = other.popen(["python3", "-c", SERVE, private(number)], stdin=-1)
        assert server.stdout and server.stdout.readline() == "ready\n"
        one.run(["python3", "-c", TALK, private(number)], timeout=PATIENCE)
        told, _ = server.communicate(timeout=PATIENCE)
        assert told == f"{len(said)}\n"
    counters = manage(ready, "explain", "tap5").splitlines()
    assert [line.split()[1] for line in counters if REASON in line] == ["0"]


SERVE = """
import socket, sys
with socket.create_server((sys.argv[1], 7000)) as server:
    print("ready", flush=True)
    client, _ = server.accept()
    total = 0
    while data := client.recv(1 << 16):
        total += len(data)
    print(total)
"""
TALK = """
import socket, sys
with socket.create_connection((sys.argv[1], 7000), 60) as talking:
    talking.sendall(b"all of it." * 100_000)
"""


# As part of the node


def test_a_check_that_somebody_removed_is_missed_and_put_back(ready: Node, tap: MakeTap) -> None:
    guest = tap(ready)
    attach(ready, bridged(guest.name))
    assert differences(ready) == []
    ready.run(["tc", "filter", "del", "dev", guest.name, "ingress"])
    assert differences(ready) == [f"missing: check of checksum offload on {guest.name}"]
    assert "checksums   NOT checked" in manage(ready, "explain", guest.name)
    manage(ready, "reconcile")
    assert "checksums   checked" in manage(ready, "explain", guest.name)
    assert differences(ready) == []


def test_another_version_s_check_is_replaced(ready: Node, tap: MakeTap) -> None:
    guest = tap(ready)
    attach(ready, bridged(guest.name))
    ready.inside(lambda: other_version(guest.ifindex))
    assert differences(ready) == [f"different: check of checksum offload on {guest.name}"]
    manage(ready, "reconcile")
    assert differences(ready) == []


def other_version(index: int) -> None:
    """Attach a program that is not ours in our filter's place, under its name."""
    nothing = struct.pack("=BBhi", 0xB7, 0, 0, -1) + struct.pack("=BBhi", 0x95, 0, 0, 0)
    requests = Requests(socket.NETLINK_ROUTE)
    try:
        classifiers.attach(requests, OffloadCheck(device="", program=Program(code=nothing)), index, instead=True)
    finally:
        requests.close()


def test_a_kernel_that_cannot_check_gives_the_guest_a_network_all_the_same(ready: Node, tap: MakeTap) -> None:
    guest = tap(ready)
    ready.run(["mount", "-t", "tmpfs", "tmpfs", "/sys/kernel/btf"])
    attach(ready, bridged(guest.name))
    assert ready.run(["tc", "filter", "show", "dev", guest.name, "ingress"]).stdout == ""
    assert differences(ready) == [f"missing: check of checksum offload on {guest.name}"]
    assert "checksums   NOT checked" in manage(ready, "explain", guest.name)
    assert "1 difference" in manage(ready, "status")
    ip(ready, f"link set {guest.name} nomaster")
    done = ready.run(["/usr/sbin/ganeti-vif", "reconcile"], check=False)
    assert "the kernel does not tell the layout of its structures" in complaint(done)
    assert differences(ready) == [f"missing: check of checksum offload on {guest.name}"]


def test_a_tap_that_lives_on_loses_its_check(ready: Node, tap: MakeTap) -> None:
    guest = tap(ready)
    attach(ready, bridged(guest.name))
    assert "bpf" in ready.run(["tc", "filter", "show", "dev", guest.name, "ingress"]).stdout
    manage(ready, "detach", guest.name)
    assert ready.run(["tc", "filter", "show", "dev", guest.name, "ingress"]).stdout == ""


def test_who_is_not_guarded_is_not_checked(ready: Node, tap: MakeTap) -> None:
    guest = tap(ready)
    attach(ready, bridged(guest.name))
    attach(ready, bridged(guest.name, TAGS="vif:0:unguarded"))
    assert ready.run(["tc", "filter", "show", "dev", guest.name, "ingress"]).stdout == ""
    assert differences(ready) == []
    with Tap(ready) as other:
        attach(ready, bridged(other.name, 6))
        shown, meant = arp(private(5)), arp(private(7))
        guest.send(*hidden(shown, meant))
        other.expect(lambda frame: frame[28:32] == meant[28:32], "what it became")
