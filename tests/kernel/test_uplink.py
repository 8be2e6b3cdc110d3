# SPDX-License-Identifier: BSD-2-Clause
"""The uplink of a public link: what its neighbours are told when it changes, and what they get for an answer."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address

import pytest

from ganeti_vif.nic.announcement import announced
from tests.lab import Node, PacketSocket, wire

from .actions import attach, ip, link, manage
from .conftest import MakeTap, apply
from .environment import CONFIG, public, public6, routed
from .vifd import launched, stopped, until

NUMBERS = (5, 6)
MAC = "0e:11:22:33:44:55"


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
