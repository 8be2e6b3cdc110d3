# SPDX-License-Identifier: BSD-2-Clause
"""Addresses that several guests share: each leads to the guest that announced it last, on whichever node."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from ipaddress import IPv4Address, IPv6Address

import pytest

from ganeti_vif.nic.announcement import ARP_REPLY, announced, gratuitous_arp, neighbour_advertisement
from tests.lab import PATIENCE, Node, PacketSocket, Tap, VirtualCable, wire

from .actions import arp, attach, differences, ip, manage, octets
from .conftest import MakeTap, Plug, apply, installed, quick
from .environment import GATEWAY, GATEWAY6, mac, public, routed
from .instance import Instance
from .migration_site import Arrival, hook, link_of, state, with_key
from .responder_lab import RESPONDS, responding
from .responder_lab import state as served
from .vifd import launched, stopped, until

VIP, VIP6 = "192.0.2.100", "2001:db8::100"
TAGS = f"vif:0:shared-address:{VIP} vif:0:shared-address:{VIP6}"
STRANGER = "0e:99:99:99:99:99"


@pytest.fixture
def serving(ready: Node) -> Iterator[Node]:
    """A node whose daemon and responder run."""
    apply(ready, RESPONDS)
    with responding(ready):
        daemon = launched(ready)
        yield ready
        stopped(daemon)


def sharing(tap: str, number: int) -> dict[str, str]:
    return routed(tap, number, TAGS=TAGS)


def says(number: int, address: str = VIP) -> bytes:
    """The announcement of the guest with this NUMBER."""
    hardware = octets(mac(number))
    if ":" in address:
        return neighbour_advertisement(IPv6Address(address), hardware)
    return gratuitous_arp(ARP_REPLY, IPv4Address(address), hardware)


def leads(node: Node, address: str = VIP) -> str | None:
    """The tap of NODE that ADDRESS leads to by the link's table, if the proxies on the uplink agree."""
    family = "-6" if ":" in address else "-4"
    routes = json.loads(node.run(["ip", family, "-json", "route", "show", "table", "222"]).stdout)
    found = [route["dev"] for route in routes if route["dst"] == address]
    if ":" in address:
        proxies = node.run(["ip", "-6", "neigh", "show", "proxy", "dev", "eth1"]).stdout.split()
        if (address in proxies) != bool(found):
            return "the proxies do not agree"
    assert len(found) <= 1
    return found[0] if found else None


def has_led(node: Node, address: str) -> bool:
    return leads(node, address) == "tap5"


def is_served(node: Node, tap: str) -> bool:
    return tap in served(node)["taps"]


@pytest.fixture
def two(serving: Node, tap: MakeTap) -> tuple[Tap, Tap]:
    """Two guests of one node that share both addresses."""
    taps = tap(serving), tap(serving)
    for number, one in enumerate(taps, 5):
        attach(serving, sharing(one.name, number))
    until(lambda: {one.name for one in taps} <= served(serving)["taps"].keys(), "their services")
    return taps


@pytest.mark.parametrize("address", [VIP, VIP6])
def test_it_leads_to_the_guest_that_announced_it_last(
    serving: Node, gateway: Node, two: tuple[Tap, Tap], address: str
) -> None:
    assert leads(serving, address) is None, "nobody announced it"
    with PacketSocket(gateway, "eth0") as ears:
        for number, one in ((5, two[0]), (6, two[1]), (5, two[0])):
            ears.clear()
            one.send(says(number, address))
            ears.expect(lambda frame: str(announced(frame)) == address, "its announcement on the uplink")
            assert leads(serving, address) == one.name
            assert differences(serving) == []
    two[0].close()
    until(lambda: leads(serving, address) is None, "the end of its guest")
    until(lambda: differences(serving) == [], "the rest")


def test_it_survives_another_attach_and_another_daemon(serving: Node, two: tuple[Tap, Tap]) -> None:
    two[1].send(says(6))
    until(lambda: leads(serving) == two[1].name, "the address")
    for number, one in enumerate(two, 5):
        attach(serving, sharing(one.name, number))
    manage(serving, "reconcile")
    assert leads(serving) == two[1].name
    attach(serving, routed(two[1].name, 6))
    assert leads(serving) is None, "its tag is gone"
    attach(serving, sharing(two[1].name, 6))
    assert leads(serving) is None


def test_without_the_tag_an_announcement_takes_nothing(serving: Node, tap: MakeTap, two: tuple[Tap, Tap]) -> None:
    other = tap(serving)
    attach(serving, routed(other.name, 7))
    two[0].send(says(5))
    until(lambda: leads(serving) == two[0].name, "the address")
    other.send(says(7))
    two[0].send(says(5, public(6)))  # what the guest shares is not what another has
    two[1].send(says(6, VIP6))
    until(lambda: leads(serving, VIP6) == two[1].name, "what was said after that")
    assert leads(serving) == two[0].name
    assert leads(serving, public(6)) == two[1].name


def test_who_takes_it_elsewhere_has_it_and_a_lie_gives_it_back(serving: Node, gateway: Node, plug: Plug) -> None:
    guest = plug(serving, "tap5", 5, f"{public(5)}/24", f"{VIP}/32")
    ip(guest, f"route add default via {GATEWAY}")
    attach(serving, sharing("tap5", 5))
    until(lambda: "tap5" in served(serving)["taps"], "its service")
    guest.run(["arping", "-U", "-c", "1", "-I", "eth0", VIP], check=False)
    until(lambda: leads(serving) == "tap5", "the address")
    with PacketSocket(gateway, "eth0") as mouth:
        mouth.send(arp(STRANGER, VIP, VIP))
        mouth.expect(lambda frame: frame[38:42] == IPv4Address(VIP).packed and frame[28:32] == bytes(4), "a question")
        assert leads(serving) is None, "it took it"
        until(lambda: leads(serving) == "tap5", "the truth: nobody else has it")
    ip(gateway, f"addr add {VIP}/32 dev eth0")
    gateway.run(["arping", "-U", "-c", "1", "-I", "eth0", VIP], check=False)
    until(lambda: leads(serving) is None, "another machine that has it")
    ip(gateway, f"addr del {VIP}/32 dev eth0")
    assert differences(serving) == []


def test_a_daemon_that_starts_asks_who_has_it(ready: Node, gateway: Node, plug: Plug) -> None:
    apply(ready, RESPONDS)
    with responding(ready):
        guest = plug(ready, "tap5", 5, f"{public(5)}/24", f"{VIP}/32", f"{VIP6}/128")
        attach(ready, sharing("tap5", 5))
        until(lambda: "tap5" in served(ready)["taps"], "its service")
        guest.run(["arping", "-U", "-c", "1", "-I", "eth0", VIP], check=False)
        daemon = launched(ready)
        for address in (VIP, VIP6):
            until(partial(has_led, ready, address), "what the guest has")
        stopped(daemon)
        ip(gateway, f"addr add {VIP}/32 dev eth0")
        daemon = launched(ready)
        until(lambda: leads(ready) is None, "what another machine has meanwhile")
        assert leads(ready, VIP6) == "tap5"
        stopped(daemon)


KEEPALIVED = """\
global_defs {{
    vrrp_startup_delay 0
    vrrp_garp_master_delay 1
}}
vrrp_instance one {{
    state BACKUP
    interface eth0
    virtual_router_id 51
    priority {priority}
    advert_int 0.2
    version 3
    unicast_src_ip {own}
    unicast_peer {{
        {peer}
    }}
    virtual_ipaddress {{
        {vip}/32 dev eth0
    }}
}}
"""
needs_keepalived = pytest.mark.skipif(shutil.which("keepalived") is None, reason="there is no keepalived here")


def keepalived(guest: Node, number: int, peer: int) -> subprocess.Popen[str]:
    """keepalived in the guest with this NUMBER; the higher number has the higher priority."""
    guest.path("/run/keepalived.conf").write_text(
        KEEPALIVED.format(priority=100 + number, own=public(number), peer=public(peer), vip=VIP)
    )
    command = ["keepalived", "--dont-fork", "--log-console", "--vrrp", "-f", "/run/keepalived.conf"]
    return guest.popen(
        [*command, "-p", "/run/k.pid", "-r", "/run/v.pid", "-c", "/run/c.pid"], stdout=subprocess.DEVNULL
    )


def ended(one: subprocess.Popen[str]) -> None:
    one.terminate()
    one.wait(timeout=PATIENCE)


def has_vip(guest: Node) -> bool:
    return VIP in guest.run(["ip", "-4", "addr", "show", "dev", "eth0"]).stdout


def asks(who: Node, guest: Node) -> None:
    """WHO pings the shared address, and GUEST answers it."""
    until(lambda: has_vip(guest), "VRRP's decision")
    until(lambda: who.run(["ping", "-n", "-c", "1", "-W", "1", VIP], check=False).returncode == 0, "an answer")


@needs_keepalived
def test_keepalived_moves_it_on_one_node(serving: Node, gateway: Node, plug: Plug) -> None:
    guests = {}
    for number in (5, 6):
        guests[number] = plug(serving, f"tap{number}", number, f"{public(number)}/24")
        attach(serving, sharing(f"tap{number}", number))
        ip(
            guests[number],
            f"route replace {public(11 - number)}/32 via {GATEWAY} dev eth0",
            f"route add default via {GATEWAY}",
        )
    until(lambda: {"tap5", "tap6"} <= served(serving)["taps"].keys(), "their services")
    low, high = keepalived(guests[5], 5, 6), keepalived(guests[6], 6, 5)
    asks(gateway, guests[6])
    until(lambda: leads(serving) == "tap6", "the address")
    ended(high)
    asks(gateway, guests[5])
    assert leads(serving) == "tap5"
    assert differences(serving) == []
    high = keepalived(guests[6], 6, 5)
    until(lambda: leads(serving) == "tap6", "the better one")
    asks(gateway, guests[6])
    assert differences(serving) == []
    ended(high)
    ended(low)


@pytest.fixture
def pair(stack: ExitStack, gateway: Node) -> tuple[Node, Node]:
    """Two nodes with daemons and responders, and the gateway, on one segment."""
    switch = stack.enter_context(Node("switch"))
    ip(switch, "link add br0 type bridge mcast_snooping 0", "link set br0 up")
    wire(gateway, "eth0", switch, "port3")
    ip(gateway, f"addr add {GATEWAY}/24 dev eth0", f"addr add {GATEWAY6}/64 dev eth0")
    ip(switch, "link set port3 master br0")
    nodes = []
    for number in (1, 2):
        node = installed(quick(stack.enter_context(Node(f"node{number}"))), RESPONDS)
        with_key(node)
        wire(node, "eth1", switch, f"port{number}")
        ip(switch, f"link set port{number} master br0")
        manage(node, "setup")
        stack.enter_context(responding(node))
        daemon = launched(node)
        stack.callback(stopped, daemon)
        nodes.append(node)
    return nodes[0], nodes[1]


def at_home(node: Node, guest: Node, number: int, peer: int) -> None:
    """GUEST has the tap of its number on NODE, and reaches its PEER by its gateway."""
    attach(node, sharing(f"tap{number}", number))
    ip(guest, f"route replace {public(peer)}/32 via {GATEWAY} dev eth0", f"route add default via {GATEWAY}")
    until(lambda: f"tap{number}" in served(node)["taps"], "its service")


@needs_keepalived
def test_keepalived_moves_it_between_nodes(pair: tuple[Node, Node], gateway: Node, plug: Plug) -> None:
    first, second = pair
    guests = {
        number: plug(node, f"tap{number}", number, f"{public(number)}/24") for number, node in ((5, first), (6, second))
    }
    at_home(first, guests[5], 5, 6)
    at_home(second, guests[6], 6, 5)
    low, high = keepalived(guests[5], 5, 6), keepalived(guests[6], 6, 5)
    asks(gateway, guests[6])
    until(lambda: (leads(first), leads(second)) == (None, "tap6"), "the address on the second node")
    ended(high)
    asks(gateway, guests[5])
    until(lambda: (leads(first), leads(second)) == ("tap5", None), "the address on the first node")
    high = keepalived(guests[6], 6, 5)
    until(lambda: (leads(first), leads(second)) == (None, "tap6"), "the address on the second node again")
    asks(gateway, guests[6])
    for node in pair:
        assert differences(node) == []
    ended(high)
    ended(low)


@pytest.mark.parametrize("address", [VIP, VIP6])
def test_two_nodes_agree_who_announced_it_last(pair: tuple[Node, Node], tap: MakeTap, address: str) -> None:
    """The guests here answer no question, and say again and again what they say, as VRRP's masters do."""
    taps = [tap(node) for node in pair]
    for number, (node, one) in enumerate(zip(pair, taps, strict=True), 5):
        attach(node, sharing(one.name, number))
        until(partial(is_served, node, one.name), "its service")

    def moved(to: int) -> bool:
        taps[to].send(says(5 + to, address))
        return [leads(node, address) for node in pair] == [one.name if one is taps[to] else None for one in taps]

    for to in (0, 1, 0, 1):
        until(partial(moved, to), "the move")
    for node in pair:
        assert differences(node) == []


def test_it_follows_its_guest_to_another_node(pair: tuple[Node, Node], stack: ExitStack, gateway: Node) -> None:
    """A guest whose driver announces nothing: its node asks it."""
    guest = quick(stack.enter_context(Node("vm5")))
    with VirtualCable(pair[0], "tap5", guest, "eth0"):
        dressed(guest)
        attach(pair[0], sharing("tap5", 5))
        until(lambda: "tap5" in served(pair[0])["taps"], "its service")
        guest.run(["arping", "-U", "-c", "1", "-I", "eth0", VIP], check=False)
        until(lambda: leads(pair[0]) == "tap5", "the address")
        asks(gateway, guest)
    until(lambda: leads(pair[0]) is None, "the end of its tap")
    with VirtualCable(pair[1], "tap5", guest, "eth0"):
        dressed(guest)
        attach(pair[1], sharing("tap5", 5))
        until(lambda: leads(pair[1]) == "tap5", "the address on the node where its guest is")
        asks(gateway, guest)
        for node in pair:
            assert differences(node) == []


def test_it_follows_a_live_migration(pair: tuple[Node, Node], stack: ExitStack) -> None:
    first, second = pair
    before = stack.enter_context(Tap(first))
    attach(first, sharing(before.name, 5))
    until(partial(is_served, first, before.name), "its service")
    before.send(says(5))
    until(lambda: leads(first) == before.name, "the address")
    for node in pair:
        hook(node, GANETI_INSTANCE_TAGS=TAGS)
    after = Tap(second)
    mouth = os.dup(after.fd)
    instance = Instance(second, "vm5.example.com", [(after, sharing(after.name, 5))], None, "-incoming", "defer")
    arrival = Arrival(instance, mouth)
    until(lambda: state(second) == "elsewhere", "the target's readiness")
    arrival.speak()
    until(lambda: (state(first), state(second)) == ("elsewhere", "ok"), "the guest's arrival")
    assert leads(first) is None

    def told() -> bool:
        arrival.send(says(5))  # as Linux does, again and again, when QEMU tells it of the migration
        return leads(second) == link_of(second)

    until(told, "the address where the guest is")
    assert [line for node in pair for line in differences(node)] == []
    arrival.die()


def dressed(guest: Node) -> None:
    addresses = [f"addr add {one} dev eth0" for one in (f"{public(5)}/24", f"{VIP}/32")]
    ip(guest, f"link set eth0 address {mac(5)} up", *addresses, f"route add default via {GATEWAY}")
