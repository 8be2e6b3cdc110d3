# SPDX-License-Identifier: BSD-2-Clause
"""Routed NICs: guests and the world reach each other over the public link, and no guest pretends to be another."""

from __future__ import annotations

import json
from ipaddress import ip_address

import pytest

from tests.lab import Node, PacketSocket, Tap

from .actions import BROADCAST, arp, arp_of, attach, differences, ip, link, manage, octets, ping, refusal, sysctl, udp
from .conftest import MakeTap, Plug, apply, configure
from .environment import (
    ARP_SOURCE,
    BEYOND,
    BEYOND6,
    CONFIG,
    GATEWAY,
    GATEWAY6,
    NODE_ADDRESS,
    mac,
    public,
    public6,
    routed,
)
from .responder_lab import RESPONDS, responding

TAP_MAC = "fe:00:56:49:46:01"


def dual(node: Node, plug: Plug, number: int = 5) -> Node:
    """A guest with both addresses and both ways out."""
    guest = plug(node, f"tap{number}", number, f"{public(number)}/24", f"{public6(number)}/64")
    ip(guest, f"route add default via {GATEWAY}", f"route add default via {GATEWAY6} dev eth0")
    return guest


def everything(guest: Node) -> None:
    for address in (GATEWAY, GATEWAY6, BEYOND, BEYOND6):
        ping(guest, address)


def neighbour(node: Node, address: str) -> str | None:
    """The MAC that NODE has for ADDRESS."""
    found = json.loads(node.run(["ip", "-j", "neigh", "show", "to", address]).stdout or "[]")
    return found[0].get("lladdr") if found else None


@pytest.mark.parametrize("rp_filter", ["0", "1"])
def test_a_guest_reaches_the_gateway_and_beyond(node: Node, plug: Plug, rp_filter: str) -> None:
    """Whatever the node demands of its own networks; it has its own way out, which is no way to the guest."""
    sysctl(node, "net/ipv4/conf/all/rp_filter", rp_filter)
    sysctl(node, "net/ipv4/conf/default/rp_filter", rp_filter)
    ip(
        node,
        "link add own type veth peer name its-router",
        "link set own up",
        "link set its-router up",
        "addr add 172.31.0.2/24 dev own",
        "route add default via 172.31.0.1 onlink dev own",
    )
    manage(node, "setup")
    guest = dual(node, plug)
    attach(node, routed("tap5"))
    everything(guest)


def test_two_guests_of_one_node_reach_each_other(ready: Node, plug: Plug) -> None:
    one, other = (dual(ready, plug, number) for number in (5, 6))
    for number in (5, 6):
        attach(ready, routed(f"tap{number}", number))
    ping(one, public(6))
    ping(other, public(5))


def test_two_guests_that_take_their_ipv6_prefix_for_on_link_reach_each_other(ready: Node, plug: Plug) -> None:
    """They ask for each other on the link, and the responder answers."""
    apply(ready, RESPONDS)
    one, other = (dual(ready, plug, number) for number in (5, 6))
    for number in (5, 6):
        attach(ready, routed(f"tap{number}", number))
    with responding(ready):
        ping(one, public6(6))
        ping(other, public6(5))


def test_two_guests_without_an_on_link_prefix_reach_each_other_over_ipv6(ready: Node, plug: Plug) -> None:
    """What a router advertisement of a routed network says: everything goes through the router."""
    one, other = (plug(ready, f"tap{number}", number, f"{public6(number)}/128") for number in (5, 6))
    for number, guest in ((5, one), (6, other)):
        attach(ready, routed(f"tap{number}", number))
        ip(guest, f"-6 route add {GATEWAY6} dev eth0", f"-6 route add default via {GATEWAY6} dev eth0")
    ping(one, public6(6))
    ping(other, public6(5))


def test_the_gateway_finds_a_guest_that_has_not_said_a_word(ready: Node, gateway: Node, plug: Plug) -> None:
    dual(ready, plug)
    attach(ready, routed("tap5"))
    for address in (public(5), public6(5)):
        ip(gateway, "neigh flush dev eth0", "-6 neigh flush dev eth0")
        ping(gateway, address)


def test_a_nic_with_ipv6_only(ready: Node, plug: Plug) -> None:
    guest = plug(ready, "tap5", 5, f"{public6(5)}/64")
    ip(guest, f"route add default via {GATEWAY6} dev eth0")
    attach(ready, routed("tap5", IP=None, NETWORK_SUBNET=None, NETWORK_GATEWAY=None))
    for address in (GATEWAY6, BEYOND6):
        ping(guest, address)


def test_a_nic_with_ipv4_only(ready: Node, plug: Plug) -> None:
    guest = plug(ready, "tap5", 5, f"{public(5)}/24")
    ip(guest, f"route add default via {GATEWAY}")
    attach(ready, routed("tap5", NETWORK_SUBNET6=None, NETWORK_GATEWAY6=None))
    for address in (GATEWAY, BEYOND):
        ping(guest, address)
    assert sysctl(ready, "net/ipv6/conf/tap5/disable_ipv6") == "1"


@pytest.mark.parametrize("table", ["main", "100"])
def test_a_link_that_is_a_routing_table_and_no_public_link_works_as_ganetis_own_script_does(
    node: Node, gateway: Node, plug: Plug, table: str
) -> None:
    """The administrator has made the table and its way out, and the gateway knows the way back."""
    ip(node, "addr add 100.64.0.2/24 dev eth1", f"route add default via 100.64.0.1 table {table}")
    ip(gateway, "addr add 100.64.0.1/24 dev eth0", f"route add {public(5)}/32 via 100.64.0.2")
    sysctl(node, "net/ipv4/conf/eth1/forwarding", "1")
    if table != "main":
        ip(node, f"rule add iif eth1 lookup {table}")
    guest = plug(node, "tap5", 5, f"{public(5)}/24")
    ip(guest, f"route add default via {GATEWAY}")
    attach(node, routed("tap5", LINK=table, NETWORK_SUBNET6=None, NETWORK_GATEWAY6=None))
    ping(guest, BEYOND)


def test_an_address_that_was_elsewhere_moves_at_once(ready: Node, gateway: Node, tap: MakeTap) -> None:
    """The gateway remembers the MAC of another node. Nobody sends a packet: the announcement alone corrects it."""
    uplink = link(ready, "eth1")["address"]
    for address in (public(5), public6(5)):
        ip(gateway, f"neigh replace {address} lladdr 02:00:00:00:00:99 nud stale dev eth0")
    with PacketSocket(gateway, "eth0") as ears:
        attach(ready, routed(tap(ready).name))
        told = ears.expect(lambda frame: _claims(frame, public(5)), "an announcement")
        found = arp_of(told)
        assert found and bytes(found.sha) == octets(uplink) == told[6:12]
    assert neighbour(gateway, public(5)) == uplink
    assert neighbour(gateway, public6(5)) == uplink


def _claims(frame: bytes, address: str) -> bool:
    found = arp_of(frame)
    return found is not None and ".".join(map(str, found.spa)) == address == ".".join(map(str, found.tpa))


def test_nothing_of_a_guest_leaves_by_the_nodes_own_way_out_when_the_uplink_is_down(ready: Node, plug: Plug) -> None:
    guest = dual(ready, plug)
    own = plug(ready, "own", 99, "172.31.0.1/24", "fd31::1/64")
    ip(
        ready,
        "link set own up",
        "addr add 172.31.0.2/24 dev own",
        "addr add fd31::2/64 dev own",
        "route add default via 172.31.0.1",
        "route add default via fd31::1",
    )
    attach(ready, routed("tap5"))
    everything(guest)
    ip(ready, "link set eth1 down")
    with PacketSocket(own, "eth0") as ears:
        for address in (BEYOND, BEYOND6, "203.0.113.99"):
            guest.run(["ping", "-n", "-c", "1", "-W", "1", address], check=False)
        ready.run(["ping", "-n", "-c", "1", "-w", "40", "-p", b"last".hex(), "172.31.0.1"])
        seen = _until(ears, b"lastlast")
    for address in (public(5), public6(5)):
        assert not any(_packed(address) in frame for frame in seen)


def _packed(address: str) -> bytes:
    return ip_address(address).packed


def _until(ears: Tap | PacketSocket, last: bytes) -> list[bytes]:
    """What came before the frame that contains LAST."""
    return ears.before(lambda frame: last in frame, f"the frame with {last!r}")


@pytest.mark.parametrize(
    ("source", "hardware"),
    [(public(66), mac(5)), ("198.18.0.1", mac(5)), (NODE_ADDRESS, mac(5)), (public(5), mac(66)), (public6(66), mac(5))],
)
def test_a_guest_does_not_get_out_with_a_forged(
    ready: Node, gateway: Node, tap: MakeTap, source: str, hardware: str
) -> None:
    guest = tap(ready)
    attach(ready, routed(guest.name))
    target = BEYOND6 if ":" in source else BEYOND
    with PacketSocket(gateway, "eth0") as ears:
        guest.send(udp(hardware, TAP_MAC, source, target, "forged"))
        guest.send(udp(mac(5), TAP_MAC, public(5), BEYOND, "the last word"))
        assert not any(b"forged" in frame for frame in _until(ears, b"the last word"))


def test_a_guest_cannot_claim_an_address_by_arp(ready: Node, gateway: Node, tap: MakeTap) -> None:
    one, other = tap(ready), tap(ready)
    attach(ready, routed(one.name, 5))
    attach(ready, routed(other.name, 6))
    one.send(arp(mac(5), public(6), public(6)))
    one.send(arp(mac(5), GATEWAY, public(6)))
    with PacketSocket(gateway, "eth0") as ears:
        one.send(udp(mac(5), TAP_MAC, public(5), BEYOND, "the last word"))
        _until(ears, b"the last word")
    assert neighbour(ready, public(6)) == mac(6)
    assert neighbour(ready, GATEWAY) != mac(5)


def test_an_address_that_lives_on_another_tap_is_refused_and_stays_where_it_is(
    ready: Node, plug: Plug, tap: MakeTap
) -> None:
    guest = dual(ready, plug)
    attach(ready, routed("tap5"))
    second = tap(ready)
    environment = routed(second.name, 5, INSTANCE="other.example.com", INTERFACE_UUID=routed("x", 6)["INTERFACE_UUID"])
    said = refusal(ready, environment)
    assert "other.example.com" in said and public(5) in said
    everything(guest)
    assert differences(ready) == []


def test_an_address_moves_to_the_new_tap_of_a_guest_that_was_started_again(
    ready: Node, tap: MakeTap, plug: Plug
) -> None:
    """The old tap died without a word, and its name is not reused."""
    old, keeper = tap(ready), tap(ready)
    attach(ready, routed(old.name))
    old.close()
    old.wait_gone()
    guest = dual(ready, plug)
    attach(ready, routed("tap5"))
    manage(ready, "reconcile")
    assert differences(ready) == []
    everything(guest)
    assert keeper.exists()


def test_a_guest_of_several_macs_is_asked_for_its_address_by_its_gateway(
    ready: Node, gateway: Node, tap: MakeTap
) -> None:
    guest = tap(ready)
    attach(ready, routed(guest.name, TAGS="vif:0:mac:aa:00:00:00:00:77"))
    with gateway.popen(["ping", "-n", "-c", "1", "-w", "40", public(5)]) as asking:
        asked = arp_of(guest.expect(lambda frame: _asks(frame, public(5)), "an ARP request"))
        asking.kill()
    assert asked
    assert ".".join(map(str, asked.spa)) == GATEWAY
    assert asked.sha == octets(TAP_MAC)


def test_the_gateway_is_asked_for_its_address_by_arp_source(ready: Node, gateway: Node, tap: MakeTap) -> None:
    guest = tap(ready)
    attach(ready, routed(guest.name))
    with PacketSocket(gateway, "eth0") as ears:
        guest.send(udp(mac(5), TAP_MAC, public(5), BEYOND, "wake up"))
        asked = arp_of(ears.expect(lambda frame: _asks(frame, GATEWAY), "an ARP request"))
    assert asked
    assert ".".join(map(str, asked.spa)) == ARP_SOURCE


def _asks(frame: bytes, address: str) -> bool:
    found = arp_of(frame)
    return (
        found is not None
        and found.op == 1
        and ".".join(map(str, found.tpa)) == address != ".".join(map(str, found.spa))
    )


def test_every_guest_has_the_same_gateway_mac_on_every_node(ready: Node, tap: MakeTap) -> None:
    one, other = tap(ready), tap(ready)
    for number, guest in enumerate((one, other), 5):
        attach(ready, routed(guest.name, number))
        guest.clear()
        guest.send(arp(mac(number), public(number), GATEWAY))
        answer = arp_of(guest.expect(lambda frame: _answers(frame, GATEWAY), "an answer"))
        assert answer and answer.sha == octets(TAP_MAC)


def _answers(frame: bytes, address: str) -> bool:
    found = arp_of(frame)
    return found is not None and found.op == 2 and ".".join(map(str, found.spa)) == address


def test_the_tap_has_the_mtu_of_the_uplink(ready: Node, tap: MakeTap) -> None:
    ip(ready, "link set eth1 mtu 1400")
    guest = tap(ready)
    attach(ready, routed(guest.name))
    assert link(ready, guest.name)["mtu"] == 1400


def test_a_public_link_of_its_own_mark_does_not_disturb_the_nodes_own_traffic(
    ready: Node, gateway: Node, tap: MakeTap
) -> None:
    """The node talks over the uplink with an address of its own, while guests live there."""
    attach(ready, routed(tap(ready).name))
    ip(ready, "addr add 100.64.0.2/24 dev eth1")
    ip(gateway, "addr add 100.64.0.1/24 dev eth0")
    ping(ready, "100.64.0.1")
    ping(gateway, "100.64.0.2")


def test_a_public_link_without_gateway_connects_its_guests(node: Node, plug: Plug, gateway: Node) -> None:
    configure(node, "\n".join(line for line in CONFIG.splitlines() if not line.startswith("gateways")))
    manage(node, "setup")
    guest = plug(node, "tap5", 5, f"{public(5)}/24")
    attach(node, routed("tap5", NETWORK_GATEWAY=None, NETWORK_GATEWAY6=None))
    ping(guest, GATEWAY)
    ping(gateway, public(5))


def test_the_guests_broadcast_asks_reach_no_other_guest(ready: Node, tap: MakeTap) -> None:
    one, other = tap(ready), tap(ready)
    attach(ready, routed(one.name, 5))
    attach(ready, routed(other.name, 6))
    other.clear()
    one.send(udp(mac(5), BROADCAST, public(5), "255.255.255.255", "to everybody"))
    one.send(udp(mac(5), BROADCAST, "0.0.0.0", "255.255.255.255", "to everybody", ports=(68, 67)))
    other.send(arp(mac(6), public(6), GATEWAY))
    seen = other.before(lambda frame: _answers(frame, GATEWAY), "an answer")
    assert not any(b"to everybody" in frame for frame in seen)
