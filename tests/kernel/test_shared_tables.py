# SPDX-License-Identifier: BSD-2-Clause
"""What the kernel has only once for all guests: a guest that uses it up takes nothing from the others."""

from __future__ import annotations

import pytest

from tests.lab import Node, PacketSocket, Tap
from tests.lab.shared import fills

from .actions import arp, attach, differences, ip, link, manage, udp
from .conftest import MakeTap, apply
from .environment import CONFIG, GATEWAY, GATEWAY6, mac, public, public6, routed

TAP_MAC = "fe:00:56:49:46:01"
MOST = 8192
"""With a table of neighbours that is larger, a test would send more packets than it should."""
LARGE = CONFIG.replace("192.0.2.0/24", "192.0.2.0/24 10.200.0.0/16")
SCANNER = "10.200.0.5"
OF_THE_SCANNER = {"IP": SCANNER, "NETWORK_SUBNET": "10.200.0.0/16", "NETWORK_GATEWAY": None}
WORLD = "02:00:00:00:00:99"


def scan(guest: Tap, version: int) -> None:
    """GUEST sends one packet to each of so many addresses of the public link that the kernel has no room for one more
    neighbour."""
    _, most = fills()[f"IPv{version} neighbours"]
    if most > MOST:
        pytest.skip(f"the kernel takes {most} neighbours (gc_thresh3): too many to fill its table here")
    source = SCANNER if version == 4 else public6(5)
    for number in range(most + most // 4):
        to = f"10.200.{1 + number // 250}.{1 + number % 250}" if version == 4 else f"2001:db8::bad:{number:x}"
        guest.send(udp(mac(5), TAP_MAC, source, to, "scan"))
    there, _ = fills()[f"IPv{version} neighbours"]
    assert there > 0.9 * most, "the scan is as bad as it can be"


@pytest.mark.parametrize("version", [4, 6])
def test_a_guest_that_scans_takes_no_first_packet_from_a_quiet_one(
    node: Node, gateway: Node, tap: MakeTap, version: int
) -> None:
    """The quiet guest has said nothing so far. So the node has never learned where it is."""
    apply(node, LARGE)
    scanner, quiet = tap(node), tap(node)
    attach(node, routed(scanner.name, 5, **OF_THE_SCANNER))
    attach(node, routed(quiet.name, 6))
    source, to = (GATEWAY, public(6)) if version == 4 else (GATEWAY6, public6(6))
    first = udp(WORLD, link(node, "eth1")["address"], source, to, "the first word")
    with PacketSocket(gateway, "eth0") as world:
        scan(scanner, version)
        world.send(first)
        quiet.expect(lambda frame: b"the first word" in frame, "the first packet to a quiet guest")


def permanent(node: Node, tap: str) -> set[str]:
    """The permanent neighbours on TAP, as iproute2 prints them."""
    found = node.run(["sh", "-c", f"ip neigh show dev {tap} nud permanent; ip -6 neigh show dev {tap} nud permanent"])
    return {" ".join(line.split()) for line in found.stdout.splitlines()}


def expected(number: int) -> set[str]:
    return {f"{one} lladdr {mac(number)} PERMANENT proto 156" for one in (public(number), public6(number))}


def test_the_neighbours_of_a_routed_nic_come_and_go_with_it(ready: Node, tap: MakeTap) -> None:
    one, other = tap(ready), tap(ready)
    attach(ready, routed(one.name, 5))
    attach(ready, routed(other.name, 6))
    assert (permanent(ready, one.name), permanent(ready, other.name)) == (expected(5), expected(6))
    manage(ready, "detach", one.name)
    assert (permanent(ready, one.name), permanent(ready, other.name)) == (set(), expected(6))
    assert differences(ready) == []


def test_neighbours_that_somebody_changed_are_named_and_repaired(ready: Node, tap: MakeTap) -> None:
    one = tap(ready)
    attach(ready, routed(one.name, 5))
    ip(ready, f"neigh del {public(5)} dev {one.name}")
    assert differences(ready) == [
        f"different: permanent neighbours {public(5)} {public6(5)} lladdr {mac(5)} dev {one.name}: "
        f"addresses is {public6(5)}, should be {public(5)},{public6(5)}"
    ]
    manage(ready, "reconcile")
    assert permanent(ready, one.name) == expected(5)
    ip(ready, f"neigh replace {public(5)} lladdr {mac(66)} dev {one.name}", f"-6 neigh flush dev {one.name} nud all")
    assert len(differences(ready)) == 1
    manage(ready, "reconcile")
    assert permanent(ready, one.name) == expected(5)
    ip(ready, f"neigh add {public(77)} lladdr {mac(5)} nud permanent protocol 156 dev {one.name}")
    assert len(differences(ready)) == 1
    manage(ready, "reconcile")
    assert permanent(ready, one.name) == expected(5)


def test_an_address_that_the_nodes_stack_learned_before_becomes_permanent(ready: Node, tap: MakeTap) -> None:
    """As on a node whose guests were attached by an older version."""
    one = tap(ready)
    attach(ready, routed(one.name, 5))
    ip(ready, f"neigh flush dev {one.name} nud all", f"neigh replace {public(5)} lladdr {mac(5)} dev {one.name}")
    ip(ready, f"neigh change {public(5)} lladdr {mac(5)} nud stale dev {one.name}")
    attach(ready, routed(one.name, 5))
    assert permanent(ready, one.name) == expected(5)


def test_a_guest_whose_macs_are_not_known_is_asked(ready: Node, tap: MakeTap) -> None:
    """Its tags let it use more than one MAC, and only the guest knows which address is at which one."""
    one = tap(ready)
    attach(ready, routed(one.name, 5, TAGS="vif:0:mac:aa:00:00:00:00:77"))
    assert permanent(ready, one.name) == set()


def test_a_guest_cannot_change_where_its_own_address_is(ready: Node, tap: MakeTap) -> None:
    one = tap(ready)
    attach(ready, routed(one.name, 5))
    one.send(arp(mac(5), public(5), public(5)))
    assert permanent(ready, one.name) == expected(5)
