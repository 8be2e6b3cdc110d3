# SPDX-License-Identifier: BSD-2-Clause
"""The uplink of a public link: what its neighbours are told when it changes, and what they get for an answer."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from ipaddress import IPv4Address, IPv6Address

import pytest
from dpkt.arp import ARP_OP_REPLY as ARP_REPLY

from ganeti_vif.nic.announcement import announced
from tests.lab import Node, PacketSocket, wire

from .actions import arp, arp_of, attach, ip, link, manage, octets
from .conftest import MakeTap, apply
from .environment import CONFIG, GATEWAY, mac, public, public6, routed
from .vifd import launched, said, stopped, until

NUMBERS = (5, 6)
MAC, STRANGER = "0e:11:22:33:44:55", "0e:99:99:99:99:99"


@pytest.fixture
def vifd(ready: Node) -> Iterator[subprocess.Popen[str]]:
    """The daemon of a node that is set up."""
    daemon = launched(ready)
    yield daemon
    stopped(daemon)


def announces(frame: bytes, number: int, mac: str) -> set[str]:
    """The addresses of the NIC with this NUMBER that FRAME announces at MAC."""
    own = {IPv4Address(public(number)), IPv6Address(public6(number))}
    found = announced(frame)
    return {str(found)} if found in own and frame[6:12].hex(":") == mac else set()


def all_announced(ears: PacketSocket, mac: str) -> None:
    """Wait until both addresses of each NIC were announced at MAC."""
    missing = {address for number in NUMBERS for address in (public(number), public6(number))}

    def last(frame: bytes) -> bool:
        for number in NUMBERS:
            missing.difference_update(announces(frame, number, mac))
        return not missing

    ears.expect(last, f"announcements at {mac}")


def settled(node: Node, ears: PacketSocket, tap: MakeTap) -> None:
    """Attach two NICs, and let pass what is said when a NIC is attached. A third one comes last."""
    for number in NUMBERS:
        attach(node, routed(tap(node).name, number))
    mac = link(node, "eth1")["address"]
    attach(node, routed(tap(node).name, 9))
    for _ in range(3):  # at once, after one second, after two: by then those before it have had their turns
        ears.expect(lambda frame: str(IPv6Address(public6(9))) in announces(frame, 9, mac), "the third NIC")
    ears.clear()


def mac_changes(node: Node, gateway: Node) -> None:
    ip(node, f"link set eth1 address {MAC}")


def source_changes(node: Node, gateway: Node) -> None:
    apply(node, CONFIG.replace("192.0.2.254", "192.0.2.253"))


@pytest.mark.usefixtures("vifd")
@pytest.mark.parametrize("change", [mac_changes, source_changes])
def test_neighbours_are_told_when_the_uplink_changes(
    ready: Node, gateway: Node, tap: MakeTap, change: Callable[[Node, Node], None]
) -> None:
    with PacketSocket(gateway, "eth0") as ears:
        settled(ready, ears, tap)
        change(ready, gateway)
        all_announced(ears, link(ready, "eth1")["address"])


@pytest.mark.usefixtures("vifd")
def test_neighbours_are_told_when_the_carrier_is_back(ready: Node, gateway: Node, tap: MakeTap) -> None:
    with PacketSocket(gateway, "eth0") as ears:
        settled(ready, ears, tap)
    ip(gateway, "link set eth0 down")
    until(lambda: "LOWER_UP" not in link(ready, "eth1")["flags"], "a carrier that is lost")
    with PacketSocket(gateway, "eth0") as ears:
        ip(gateway, "link set eth0 up")
        all_announced(ears, link(ready, "eth1")["address"])


@pytest.mark.usefixtures("vifd")
def test_neighbours_are_told_of_another_uplink(ready: Node, gateway: Node, tap: MakeTap) -> None:
    with PacketSocket(gateway, "eth0") as ears:
        settled(ready, ears, tap)
    ip(ready, "link del eth1")
    wire(ready, "eth1", gateway, "eth0")
    with PacketSocket(gateway, "eth0") as ears:
        all_announced(ears, link(ready, "eth1")["address"])


def test_without_a_daemon_reconcile_tells_them(ready: Node, gateway: Node, tap: MakeTap) -> None:
    for number in NUMBERS:
        attach(ready, routed(tap(ready).name, number))
    mac_changes(ready, gateway)
    with PacketSocket(gateway, "eth0") as ears:
        manage(ready, "reconcile")
        all_announced(ears, MAC)
    with PacketSocket(gateway, "eth0") as ears:
        manage(ready, "reconcile")
        attach(ready, routed(tap(ready).name, 9))
        told = ears.before(lambda frame: bool(announces(frame, 9, MAC)), "the NIC that came last")
    assert not any(announces(frame, number, MAC) for frame in told for number in NUMBERS)


def probe(target: str) -> bytes:
    """An ARP probe (RFC 5227): the sender has no address yet."""
    return arp(STRANGER, "0.0.0.0", target)


def answers(frame: bytes, target: str) -> bool:
    """Whether FRAME tells STRANGER that TARGET is taken."""
    found = arp_of(frame)
    mine = frame[:6] == octets(STRANGER)
    return mine and found is not None and found.op == ARP_REPLY and found.spa == IPv4Address(target).packed


@pytest.mark.usefixtures("vifd")
class TestDefence:
    """Somebody on the uplink wants an address of a guest for himself."""

    def test_a_probe_for_a_guests_address_is_answered(self, ready: Node, gateway: Node, tap: MakeTap) -> None:
        attach(ready, routed(tap(ready).name, TAGS="vif:0:address:192.0.2.64/28"))
        with PacketSocket(gateway, "eth0") as mouth:
            for target in (public(5), "192.0.2.70"):
                mouth.send(probe(target))
                answer = mouth.expect(partial(answers, target=target), "an answer")
                assert answer[6:12] == octets(link(ready, "eth1")["address"])

    def test_a_machine_that_looks_for_duplicates_finds_the_guest(
        self, ready: Node, gateway: Node, tap: MakeTap
    ) -> None:
        with PacketSocket(gateway, "eth0") as ears:
            settled(ready, ears, tap)  # an announcement would look like an answer
        for address, answered in ((public(5), 1), (public(77), 0)):
            done = gateway.run(["arping", "-D", "-c", "1", "-w", "2", "-I", "eth0", address], check=False)
            assert f"Received {answered} response(s)" in done.stdout

    def test_nobody_answers_for_others(self, ready: Node, gateway: Node, tap: MakeTap) -> None:
        """Free addresses, those of other subnets, of guests that are gone and of guests that wait for theirs."""
        gone = tap(ready)
        attach(ready, routed(gone.name, 6))
        gone.close()
        until(lambda: "its tap is gone" in said(ready), "the end of a NIC")
        attach(ready, routed(tap(ready).name))
        with PacketSocket(gateway, "eth0") as mouth:
            for target in (public(6), public(77), "198.51.100.77", GATEWAY):
                mouth.send(probe(target))
            mouth.send(arp(STRANGER, public(78), public(77)))
            mouth.send(arp(STRANGER, "0.0.0.0", public(5), operation=2))
            mouth.send(arp(mac(5), "0.0.0.0", public(5)))
            mouth.send(probe(public(5)))
            before = mouth.before(partial(answers, target=public(5)), "the answer to the last one")
        others = (public(6), public(77), "198.51.100.77", GATEWAY)
        assert not any(answers(frame, target) for frame in before for target in others)
        assert not any(frame[:6] == octets(mac(5)) for frame in before)

    def test_a_flood_of_probes_does_not_keep_it_from_its_work(
        self, ready: Node, gateway: Node, tap: MakeTap, vifd: subprocess.Popen[str]
    ) -> None:
        with PacketSocket(gateway, "eth0") as mouth:
            for _ in range(1000):
                mouth.send(probe(public(77)))
            attach(ready, routed(tap(ready).name))
            assert f"ganeti-vif[{vifd.pid}] info: vm5.example.com" in said(ready), "it had time for Ganeti"

            def answered(again: bytes = probe(public(5))) -> bool:
                mouth.send(again)
                return any(answers(frame, public(5)) for frame in mouth.frames(time.monotonic() + 0.1))

            until(answered, "an answer after the flood")

    def test_another_uplink_is_defended_too(self, ready: Node, gateway: Node, tap: MakeTap) -> None:
        attach(ready, routed(tap(ready).name))
        ip(ready, "link del eth1")
        wire(ready, "eth1", gateway, "eth0")
        with PacketSocket(gateway, "eth0") as mouth:

            def answered() -> bool:
                mouth.send(probe(public(5)))
                return any(answers(frame, public(5)) for frame in mouth.frames(time.monotonic() + 0.1))

            until(answered, "an answer")
