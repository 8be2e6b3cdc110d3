# SPDX-License-Identifier: BSD-2-Clause
"""The guard in use: what tags grant, who reaches the node, what explain says, and that it never opens."""

from __future__ import annotations

import re
import socket
import struct
import threading

import pytest

from ganeti_vif.engine.chains import table_of
from tests.lab import Node, PacketSocket, Tap, wait_for

from .actions import (
    BROADCAST,
    answer,
    arp,
    attach,
    complaint,
    differences,
    ip,
    manage,
    no_ping,
    ping,
    refusal,
    run,
    udp,
    vif_script,
)
from .conftest import MakeTap, Plug, apply, configure
from .environment import (
    BEYOND,
    BEYOND6,
    CONFIG,
    GATEWAY,
    GATEWAY6,
    NODE_ADDRESS,
    NODE_ADDRESS6,
    bridged,
    mac,
    private,
    public,
    public6,
    routed,
)
from .forging import advertisement, arp_packet, checksum, ether, icmp6, ip4, ip6, octets, solicitation, target_mac
from .test_hooks import hook, instance

TAP_MAC = "fe:00:56:49:46:01"


def heard(ears: Tap | PacketSocket, last: str) -> list[bytes]:
    """What came before the frame that says LAST."""
    wanted = last.encode()
    return ears.before(lambda frame: wanted in frame, last)


def out(guest: Tap, ears: PacketSocket, source: str, hardware: str = mac(5)) -> bool:
    """Whether what the routed guest sends from SOURCE gets out to the world."""
    guest.send(udp(hardware, TAP_MAC, source, BEYOND, f"from {source} {hardware}."))
    guest.send(udp(mac(5), TAP_MAC, public(5), BEYOND, "the last word"))
    return any(f"from {source} {hardware}.".encode() in frame for frame in heard(ears, "the last word"))


# Tags


def test_a_tag_grants_addresses_and_macs_and_gives_them_back(ready: Node, gateway: Node, tap: MakeTap) -> None:
    guest = tap(ready)
    attach(ready, routed(guest.name))
    with PacketSocket(gateway, "eth0") as ears:
        assert not out(guest, ears, public(66))
        assert not out(guest, ears, public(5), mac(77))
        tags = f"vif:0:address:{public(66)} vif:0:address:192.0.2.96/29 vif:0:mac:{mac(77)}"
        attach(ready, routed(guest.name, TAGS=tags))
        assert out(guest, ears, public(66))
        assert out(guest, ears, public(99))
        assert out(guest, ears, public(5), mac(77))
        assert not out(guest, ears, public(104))
        assert differences(ready) == []
        attach(ready, routed(guest.name))
        assert not out(guest, ears, public(66))
    assert differences(ready) == []
    assert "192.0.2.96" not in ready.run(["ip", "route", "show", "table", "222"]).stdout


def test_granted_addresses_lead_to_the_guest(ready: Node, gateway: Node, plug: Plug) -> None:
    extra6 = "2001:db8::5:1"
    guest = plug(ready, "tap5", 5, f"{public(5)}/24", f"{public(66)}/32", "192.0.2.99/32", f"{extra6}/128")
    ip(
        guest,
        f"route add default via {GATEWAY}",
        f"-6 route add {GATEWAY6} dev eth0",
        f"-6 route add default via {GATEWAY6}",
    )
    tags = f"vif:0:address:{public(66)} vif:0:address:192.0.2.96/29 vif:0:address:{extra6}"
    attach(ready, routed("tap5", TAGS=tags))
    for address in (public(66), "192.0.2.99", extra6):
        ping(gateway, address)


@pytest.mark.parametrize(
    ("tag", "word"),
    [
        ("vif:0:address:192.0.2.300", "192.0.2.300"),
        ("vif:0:address:192.0.2.9/24", "host bits"),
        ("vif:0:mac:01:00:5e:00:00:01", "group address"),
        ("vif:0:adress:192.0.2.9", "address:PREFIX"),
        ("vif:unguarded", "vif:0:unguarded"),
        ("synnefo:network:0:open", "unprotected"),
    ],
)
def test_a_malformed_tag_is_refused_by_name(ready: Node, tap: MakeTap, tag: str, word: str) -> None:
    said = refusal(ready, bridged(tap(ready).name, TAGS=f"other {tag}"))
    assert tag in said and word in said and "vm5.example.com" in said


def test_a_hook_takes_over_new_tags_and_keeps_what_it_had_for_malformed_ones(ready: Node, tap: MakeTap) -> None:
    guest = tap(ready)
    attach(ready, bridged(guest.name))
    given = instance() | {"INSTANCE_TAGS": "vif:0:address:10.0.0.77"}
    assert hook(ready, "instance-modify", **given).returncode == 0
    assert answer(ready, "explain", guest.name)["nics"][0]["addresses"] == ["10.0.0.5/32", "10.0.0.77/32"]
    done = hook(ready, "instance-modify", **(given | {"INSTANCE_TAGS": "vif:0:address:10.0.0.777"}))
    assert done.returncode == 1 and "vif:0:address:10.0.0.777" in done.stdout + done.stderr
    assert answer(ready, "explain", guest.name)["nics"][0]["addresses"] == ["10.0.0.5/32", "10.0.0.77/32"]
    assert differences(ready) == []


@pytest.mark.parametrize(
    ("prefix", "word"),
    [
        ("198.51.100.8/29", "no subnet"),
        ("192.0.2.0/30", GATEWAY),
        (public(6), "another device"),
        ("192.0.2.4/30", f"{public(6)}/32"),
        ("2001:db8::/64", GATEWAY6),
    ],
)
def test_no_tag_grants_what_is_another_s(ready: Node, tap: MakeTap, prefix: str, word: str) -> None:
    one, other = tap(ready), tap(ready)
    attach(ready, routed(other.name, 6))
    said = refusal(ready, routed(one.name, TAGS=f"vif:0:address:{prefix}"))
    assert word in said
    assert differences(ready) == []


def test_nobody_gets_an_address_of_a_prefix_that_a_tag_granted_to_another(ready: Node, tap: MakeTap) -> None:
    one, other = tap(ready), tap(ready)
    attach(ready, routed(one.name, TAGS="vif:0:address:192.0.2.8/29"))
    assert "192.0.2.8/29" in refusal(ready, routed(other.name, 9))


@pytest.mark.parametrize("where", [{"TAGS": "vif:0:unguarded"}, {"NETWORK_TAGS": "vif:unguarded"}])
def test_an_unguarded_nic_sends_what_it_likes_but_no_bridge_control_and_no_vlan(
    ready: Node, tap: MakeTap, where: dict[str, str]
) -> None:
    one, other = tap(ready), tap(ready)
    attach(ready, bridged(one.name, 5, **where))
    attach(ready, bridged(other.name, 6))
    for frame in (
        udp(mac(5), "01:80:c2:00:00:00", private(5), "224.0.0.1", "control"),
        udp(mac(5), BROADCAST, private(5), "224.0.0.1", "tagged").replace(b"\x08\0\x45", b"\x81\0\0\x0a\x08\0\x45"),
        udp(mac(9), BROADCAST, "172.16.1.1", "224.0.0.1", "of a router"),
        udp(mac(5), BROADCAST, private(5), "255.255.255.255", "the last word"),
    ):
        one.send(frame)
    seen = heard(other, "the last word")
    assert any(b"of a router" in frame for frame in seen)
    assert not any(b"control" in frame or b"tagged" in frame for frame in seen)
    states = {nic["tap"]: nic["state"] for nic in answer(ready, "status")["nics"]}
    assert states == {one.name: "unguarded", other.name: "ok"}
    assert "off, by a tag" in manage(ready, "explain", one.name)


def test_an_unguarded_nic_of_a_private_filtered_network_stays_in_its_network(ready: Node, tap: MakeTap) -> None:
    one, same = tap(ready), tap(ready)
    for number, (which, tags) in enumerate(((one, "vif:0:unguarded"), (same, "")), 5):
        attach(ready, bridged(which.name, number, NETWORK_TAGS="private-filtered", TAGS=tags))
    one.send(udp("aa:00:02:00:00:05", BROADCAST, private(5), "224.0.0.1", "of another network"))
    one.send(udp(mac(99), BROADCAST, private(5), "224.0.0.1", "of its own"))
    seen = heard(same, "of its own")
    assert not any(b"of another network" in frame for frame in seen)
    foreign = bridged(one.name, 5, NETWORK_TAGS="private-filtered", TAGS="vif:0:mac:aa:00:02:00:00:05")
    assert "aa:00:02:00:00:05" in complaint(vif_script(ready, foreign))


@pytest.mark.parametrize("way", ["the configuration", "a tag"])
def test_any_link_local_address_where_it_is_allowed(ready: Node, tap: MakeTap, way: str) -> None:
    one, other = tap(ready), tap(ready)
    given = {"NETWORK_SUBNET6": "2001:db8:1::/64"}
    attach(ready, bridged(one.name, 5, **given))
    attach(ready, bridged(other.name, 6))
    word = udp(mac(5), BROADCAST, private(5), "255.255.255.255", "the last word")
    chosen = udp(mac(5), "33:33:00:00:00:fb", "fe80::1234", "ff02::fb", "of its choice")
    one.send(chosen)
    one.send(word)
    assert chosen not in heard(other, "the last word")
    if way == "a tag":
        attach(ready, bridged(one.name, 5, **given, NETWORK_TAGS="vif:any-link-local"))
    else:
        apply(ready, CONFIG.replace("bridges = 1-3", "bridges = 1-3\nlink-local = any"))
        attach(ready, bridged(one.name, 5, **given))
    one.send(chosen)
    one.send(word)
    assert chosen in heard(other, "the last word")


# The node


def routed_guest(ready: Node, plug: Plug) -> Node:
    guest = plug(ready, "tap5", 5, f"{public(5)}/24", f"{public6(5)}/64")
    ip(guest, f"route add default via {GATEWAY}", f"route add default via {GATEWAY6} dev eth0")
    attach(ready, routed("tap5"))
    return guest


def test_a_routed_guest_reaches_the_world_and_not_the_node(ready: Node, plug: Plug, gateway: Node) -> None:
    guest = routed_guest(ready, plug)
    for address in (BEYOND, GATEWAY, GATEWAY6):
        ping(guest, address)
    for address in (NODE_ADDRESS, NODE_ADDRESS6, f"{_link_local(ready, 'tap5')}%eth0"):
        no_ping(guest, address)
    ip(ready, "addr add 100.64.0.2/24 dev eth1", "addr add 192.0.2.253/24 dev eth1")
    ip(gateway, "addr add 100.64.0.1/24 dev eth0")
    for address in ("100.64.0.2", "192.0.2.253"):
        ping(gateway, address)
        no_ping(guest, address)


def _link_local(node: Node, device: str) -> str:
    words = node.run(["ip", "-6", "-o", "addr", "show", "dev", device, "scope", "link"]).stdout.split()
    return words[words.index("inet6") + 1].partition("/")[0]


@pytest.mark.parametrize(("version", "port"), [(4, 67), (6, 547)])
def test_a_server_of_the_node_s_own_networks_hears_no_routed_guest(
    ready: Node, plug: Plug, version: int, port: int
) -> None:
    """It is a server for DHCP at the node's address; what guests ask everybody is heard where it is served."""
    guest = routed_guest(ready, plug)
    address = NODE_ADDRESS if version == 4 else NODE_ADDRESS6
    before = dropped_at_the_node(ready)
    guest.inside(lambda: send_datagram(address, port))
    assert dropped_at_the_node(ready) == before + 1


def send_datagram(address: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.sendto(b"DISCOVER", (address, port))


def dropped_at_the_node(node: Node) -> int:
    chain = node.run(["nft", "list", "chain", "inet", "ganeti_vif", "eth1-node"]).stdout
    return int(re.findall(r"counter packets (\d+)", chain)[-1])


@pytest.mark.parametrize("version", [4, 6])
def test_no_guest_tells_the_node_how_large_packets_to_others_may_be(ready: Node, tap: MakeTap, version: int) -> None:
    """The node would keep it for the link's table, whose routes are those of all guests."""
    guest = tap(ready)
    attach(ready, routed(guest.name))
    if version == 4:
        asked = bytes(2) + b"\xff\xff" + bytes(4)  # an answer to a ping, as the kernel itself sends it
        error = struct.pack("!BBHHH", 3, 4, 0, 0, 600) + ip4(NODE_ADDRESS, BEYOND, 1, asked)
        packet = ip4(public(5), NODE_ADDRESS, 1, error[:2] + struct.pack("!H", checksum(error)) + error[4:])
        to, own = BEYOND, NODE_ADDRESS
    else:
        asked = icmp6(NODE_ADDRESS6, BEYOND6, 128, bytes(4))
        too_big = struct.pack("!I", 1280) + ip6(NODE_ADDRESS6, BEYOND6, 58, asked)
        packet = ip6(public6(5), NODE_ADDRESS6, 58, icmp6(public6(5), NODE_ADDRESS6, 2, too_big))
        to, own = BEYOND6, NODE_ADDRESS6
    guest.send(ether(mac(5), TAP_MAC, 0x0800 if version == 4 else 0x86DD, packet))
    before = dropped_at_the_node(ready)
    guest.send(udp(mac(5), TAP_MAC, public(5), NODE_ADDRESS, "after it"))
    wait_for(ready, lambda: dropped_at_the_node(ready) > before, "the packet after it")
    route = ready.run(["ip", f"-{version}", "route", "get", to, "from", own, "mark", "0x564900de"]).stdout
    assert "dev eth1" in route and "mtu" not in route


def test_node_access_opens_the_node_and_closes_it_again(node: Node, plug: Plug) -> None:
    configure(node, CONFIG.replace("table      = 222", "table = 222\nnode-access = yes"))
    manage(node, "setup")
    guest = routed_guest(node, plug)
    ping(guest, f"{_link_local(node, 'tap5')}%eth0")
    configure(node, CONFIG)
    assert len(differences(node)) == 1
    manage(node, "setup")
    no_ping(guest, f"{_link_local(node, 'tap5')}%eth0")
    ping(guest, BEYOND)
    assert differences(node) == []


# explain


def test_explain_counts_by_reason_and_decides_about_a_packet(ready: Node, tap: MakeTap) -> None:
    guest = tap(ready)
    attach(ready, routed(guest.name))
    for _ in range(3):
        guest.send(arp(mac(5), GATEWAY, public(6)))
    for whom in (guest.name, "vm5.example.com", public(5), public6(5), mac(5).upper()):
        (nic,) = answer(ready, "explain", whom)["nics"]
        assert (nic["tap"], nic["instance"]) == (guest.name, "vm5.example.com")
        (chain,) = (chain for chain in nic["chains"] if chain["name"] == f"{guest.name}-in")
        counted = {rule["reason"]: rule["packets"] for rule in chain["rules"] if rule["packets"]}
        assert (chain["as_it_should_be"], counted) == (True, {"foreign ARP sender address": 3})
    for packet, verdict, reason in (
        ("arp who-has 192.0.2.1 tell 192.0.2.5", "accept", "ARP"),
        ("arp reply 192.0.2.1 is-at aa:00:00:00:00:05", "drop", "foreign ARP sender address"),
        ("proto=udp sport=67 dport=68", "drop", "DHCP server"),
        ("from=192.0.2.6", "drop", "foreign IPv4 address"),
        ("proto=icmp6 type=134", "drop", "router advertisement"),
    ):
        found = answer(ready, "explain", guest.name, "--packet", packet)["nics"][0]["packet"]
        assert (found["verdict"], found["reason"]) == (verdict, reason)
        assert reason in manage(ready, "explain", guest.name, "--packet", packet)


def test_explain_says_what_it_does_not_know_or_understand(ready: Node, tap: MakeTap) -> None:
    guest = tap(ready)
    attach(ready, bridged(guest.name))
    assert "tap77" in complaint(run(ready, "explain", "tap77"))
    assert "colour" in complaint(run(ready, "explain", guest.name, "--packet", "colour=red"))
    chain = f"{guest.name}-in"
    ready.run(["nft", "flush", "chain", "netdev", table_of("netdev", chain), chain])
    assert "not as it should be" in manage(ready, "explain", guest.name)


def test_an_attach_that_changes_nothing_keeps_the_counters(ready: Node, tap: MakeTap) -> None:
    guest = tap(ready)
    attach(ready, bridged(guest.name))
    guest.send(udp(mac(9), BROADCAST, private(5), "255.255.255.255", "forged"))
    attach(ready, bridged(guest.name))
    rules = answer(ready, "explain", guest.name)["nics"][0]["chains"][0]["rules"]
    assert {rule["reason"]: rule["packets"] for rule in rules}["foreign MAC"] == 1


# It never opens


def test_an_attach_again_lets_not_one_forged_frame_through(ready: Node, tap: MakeTap) -> None:
    """While one frame after the other is sent from a foreign MAC, the filter is replaced by another, and back."""
    one, other = tap(ready), tap(ready)
    attach(ready, bridged(one.name, 5))
    attach(ready, bridged(other.name, 6))
    other.clear()
    sent, stop = 0, threading.Event()
    forged = udp(mac(9), BROADCAST, private(9), "255.255.255.255", "forged")

    def flood() -> None:
        nonlocal sent
        while not stop.is_set():
            one.send(forged)
            sent += 1

    flooding = threading.Thread(target=flood)
    flooding.start()
    try:
        for number in range(8):
            extra = f"vif:0:address:10.0.0.{100 + number}" if number % 2 else ""
            attach(ready, bridged(one.name, 5, TAGS=extra))
    finally:
        stop.set()
        flooding.join()
    one.send(udp(mac(5), BROADCAST, private(5), "255.255.255.255", "the last word"))
    assert not any(b"forged" in frame for frame in heard(other, "the last word"))
    assert sent > 1000


def test_a_filter_that_cannot_be_written_leaves_the_nic_without_a_way_out(ready: Node, tap: MakeTap) -> None:
    """Somebody's chain of our name that is no base chain is one that nftables refuses to replace."""
    one, other = tap(ready), tap(ready)
    attach(ready, bridged(other.name, 6))
    chain = f"{one.name}-in"
    table = f"netdev {table_of('netdev', chain)}"
    ready.run(
        ["nft", "-f", "-"],
        input=f"add table {table}\nadd chain {table} {chain}\nadd chain {table} user\n"
        f"add rule {table} user jump {chain}\n",
    )
    said = complaint(vif_script(ready, bridged(one.name, 5)))
    assert one.name in said
    assert ready.run(["ip", "-o", "link", "show", one.name, "up"]).stdout == ""
    assert "master" not in ready.run(["ip", "-o", "link", "show", one.name]).stdout
    theirs = f"flush chain {table} user\ndelete chain {table} user\ndelete chain {table} {chain}\n"
    ready.run(["nft", "-f", "-"], input=theirs)
    attach(ready, bridged(one.name, 5))


# Where addresses are the tenants' affair


@pytest.mark.parametrize("tags", ["", "vif:any-link-local"])
def test_nobody_takes_a_link_local_address_that_a_neighbour_made_of_its_mac(
    ready: Node, tap: MakeTap, tags: str
) -> None:
    """On a bridge whose network has no IPv6, and where guests choose their link-local addresses."""
    given: dict[str, str | None] = {"IP": None, "NETWORK_SUBNET": None, "NETWORK_TAGS": tags}
    attacker, victim = tap(ready), tap(ready)
    attach(ready, bridged(attacker.name, 5, "pvn1", **given))
    attach(ready, bridged(victim.name, 6, "pvn1", **given))
    made, chosen = "fe80::a800:ff:fe00:6", "fe80::1234"
    for source, target in ((made, chosen), (chosen, made)):
        message = icmp6(source, "ff02::1", 136, advertisement(target, target_mac(mac(5))))
        attacker.send(ether(mac(5), "33:33:00:00:00:01", 0x86DD, ip6(source, "ff02::1", 58, message)))
    search = icmp6("::", "ff02::1:ff00:6", 135, solicitation(made))
    attacker.send(ether(mac(5), "33:33:ff:00:00:06", 0x86DD, ip6("::", "ff02::1:ff00:6", 58, search)))
    attacker.send(udp(mac(5), mac(6), made, chosen, "from the neighbour's"))
    attacker.send(udp(mac(5), mac(6), chosen, made, "the last word"))
    assert [frame.hex() for frame in heard(victim, "the last word") if frame[6:12] == octets(mac(5))] == []


def test_arp_of_another_form_passes_nowhere(ready: Node, tap: MakeTap) -> None:
    """Of eight bytes, the sender's MAC would be elsewhere."""
    attacker, victim = tap(ready), tap(ready)
    for number, one in ((5, attacker), (6, victim)):
        attach(ready, bridged(one.name, number, IP=None, NETWORK_SUBNET=None))
    packet = arp_packet(1, mac(5), private(5), private(6), header=(1, 0x0800, 8, 4))
    attacker.send(ether(mac(5), BROADCAST, 0x0806, packet))
    attacker.send(udp(mac(5), mac(6), private(5), private(6), "the last word"))
    assert [frame.hex() for frame in heard(victim, "the last word") if frame[6:12] == octets(mac(5))] == []


def test_a_tag_lets_a_control_protocol_in_and_so_does_an_address_to_share(ready: Node, tap: MakeTap) -> None:
    guest, victim = tap(ready), tap(ready)
    attach(ready, bridged(victim.name, 6))
    frames = {
        "multicast-router": ether(mac(5), "01:00:5e:00:00:0d", 0x0800, ip4(private(5), "224.0.0.13", 103, bytes(30))),
        "redundancy": ether(mac(5), "01:00:5e:00:00:12", 0x0800, ip4(private(5), "224.0.0.18", 112, bytes(30))),
        "routing": ether(mac(5), "01:00:5e:00:00:05", 0x0800, ip4(private(5), "224.0.0.5", 89, bytes(30))),
        "time": udp(mac(5), "01:00:5e:00:01:81", private(5), "224.0.1.129", "sync", ports=(319, 319)),
    }
    several = {"redundancy", "routing", "time"}
    for tags, passes in (
        ("", set()),
        *((f"vif:0:control:{name}", {name}) for name in frames),
        ("vif:0:address:10.0.0.77", several),
    ):
        attach(ready, bridged(guest.name, 5, TAGS=tags))
        for frame in frames.values():
            guest.send(frame)
        guest.send(udp(mac(5), mac(6), private(5), private(6), f"after {tags}."))
        arrived = heard(victim, f"after {tags}.")
        assert {name for name, frame in frames.items() if any(frame[:34] == one[:34] for one in arrived)} == passes
    assert "'rip'" in refusal(ready, bridged(tap(ready).name, 7, TAGS="vif:0:control:rip"))


@pytest.mark.parametrize("own", [NODE_ADDRESS, NODE_ADDRESS6])
def test_no_tag_grants_the_node_s_own_address(ready: Node, tap: MakeTap, own: str) -> None:
    said = refusal(ready, routed(tap(ready).name, TAGS=f"vif:0:address:{own}"))
    assert f"grants it {own}, which is the node's own address" in said
    assert differences(ready) == []
