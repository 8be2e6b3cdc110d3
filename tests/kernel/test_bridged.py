# SPDX-License-Identifier: BSD-2-Clause
"""Bridged NICs: the guests of a private network reach each other, and nobody else reaches or is reached by them."""

from __future__ import annotations

from ipaddress import IPv6Address

import dpkt
import pytest

from tests.lab import Node, PacketSocket, Tap

from .actions import BROADCAST, arp, arp_of, attach, differences, ethernet, ip, link, manage, ping, refusal, sysctl, udp
from .conftest import MakeTap, Plug, configure
from .environment import NODE_ADDRESS, NODE_ADDRESS6, bridged, mac, private


def attached(node: Node, tap: Tap, number: int, bridge: str = "pvn1", **changes: str | None) -> Tap:
    """TAP, attached to a bridge and quiet."""
    attach(node, bridged(tap.name, number, bridge, **changes))
    tap.clear()
    return tap


def frames(ears: Tap | PacketSocket, last: bytes) -> list[bytes]:
    """What came before the frame LAST, which comes for sure: so what is not here never comes."""
    return ears.before(lambda frame: last in frame, f"the frame with {last!r}")


def test_two_nics_of_one_bridge_reach_each_other(ready: Node, plug: Plug) -> None:
    guests = []
    for number in (5, 6):
        guests.append(plug(ready, f"tap{number}", number, f"{private(number)}/24", f"fd00::{number}/64"))
        attach(ready, bridged(f"tap{number}", number))
    ping(guests[0], private(6))
    ping(guests[1], "fd00::5")


def test_what_one_bridge_carries_does_not_come_out_of_another(ready: Node, tap: MakeTap) -> None:
    one, same, other, beside = (
        attached(ready, tap(ready), number, bridge)
        for number, bridge in ((5, "pvn1"), (6, "pvn1"), (7, "pvn2"), (8, "pvn2"))
    )
    one.send(udp(mac(5), BROADCAST, private(5), "255.255.255.255", "from pvn1"))
    same.expect(lambda frame: b"from pvn1" in frame, "the broadcast")
    beside.send(udp(mac(8), BROADCAST, private(8), "255.255.255.255", "from pvn2"))
    assert not any(b"from pvn1" in frame for frame in frames(other, b"from pvn2"))


def test_the_node_answers_nothing_that_a_private_network_asks(ready: Node, tap: MakeTap) -> None:
    one, other = (attached(ready, tap(ready), number) for number in (5, 6))
    bridge = link(ready, "pvn1")["address"]
    link_local = _link_local(bridge)
    one.send(arp(mac(5), private(5), NODE_ADDRESS))
    one.send(udp(mac(5), bridge, private(5), NODE_ADDRESS, "to the node by its bridge"))
    one.send(udp(mac(5), bridge, "fd00::5", NODE_ADDRESS6, "to the node by its bridge"))
    one.send(_solicitation(5, link_local))
    one.send(udp(mac(5), "33:33:00:00:00:01", "fe80::a800:ff:fe00:5", "ff02::1", "to all nodes"))
    other.send(udp(mac(6), BROADCAST, private(6), "255.255.255.255", "the last word"))
    assert [frame.hex() for frame in frames(one, b"the last word") if frame[6:12].hex(":") != mac(6)] == []


def test_the_node_does_not_answer_a_ping_to_all_nodes_or_by_its_bridge(ready: Node, plug: Plug) -> None:
    guest = plug(ready, "tap5", 5, f"{private(5)}/24", "fd00::5/64")
    other = plug(ready, "tap6", 6, f"{private(6)}/24", "fd00::6/64")
    for number in (5, 6):
        attach(ready, bridged(f"tap{number}", number))
    bridge = link(ready, "pvn1")["address"]
    ip(
        guest,
        f"neigh add 10.0.0.99 lladdr {bridge} dev eth0",
        f"neigh add fd00::99 lladdr {bridge} dev eth0",
        f"route add {NODE_ADDRESS} via 10.0.0.99",
        f"route add {NODE_ADDRESS6} via fd00::99",
    )
    with PacketSocket(guest, "eth0") as ears:
        for address in (NODE_ADDRESS, NODE_ADDRESS6, "ff02::1%eth0"):
            guest.run(["ping", "-n", "-c", "1", "-W", "1", address], check=False)
        ping(other, private(5))
        assert {frame[6:12].hex(":") for frame in iter(lambda: ears.receive(0), None)} <= {mac(6)}


def test_the_node_routes_nothing_out_of_a_private_network(ready: Node, tap: MakeTap, gateway: Node) -> None:
    """The administrator forwards between all networks, and the node has a way to the gateway."""
    sysctl(ready, "net/ipv4/conf/all/forwarding", "1")
    sysctl(ready, "net/ipv6/conf/all/forwarding", "1")
    ip(ready, "addr add 100.64.0.2/24 dev eth1", "addr add fd64::2/64 dev eth1")
    ip(gateway, "addr add 100.64.0.1/24 dev eth0", "addr add fd64::1/64 dev eth0")
    guest = attached(ready, tap(ready), 5)
    bridge = link(ready, "pvn1")["address"]
    ping(ready, "100.64.0.1")
    with PacketSocket(gateway, "eth0") as ears:
        guest.send(udp(mac(5), bridge, private(5), "100.64.0.1", "out of the private network"))
        guest.send(udp(mac(5), bridge, "fd00::5", "fd64::1", "out of the private network"))
        ready.run(["ping", "-n", "-c", "1", "-w", "40", "-p", b"last".hex(), "100.64.0.1"])
        assert not any(b"out of" in frame for frame in frames(ears, b"lastlast"))


def test_the_node_has_no_address_and_no_neighbour_in_a_private_network(ready: Node, tap: MakeTap) -> None:
    one, other = (attached(ready, tap(ready), number) for number in (5, 6))
    bridge = link(ready, "pvn1")["address"]
    one.send(udp(mac(5), bridge, private(5), NODE_ADDRESS, "hello"))
    one.send(arp(mac(5), private(5), NODE_ADDRESS))
    other.send(udp(mac(6), BROADCAST, private(6), "255.255.255.255", "the last word"))
    frames(one, b"the last word")
    for device in ("pvn1", one.name, other.name):
        assert ready.run(["ip", "-o", "addr", "show", "dev", device]).stdout == "", device
        assert ready.run(["ip", "neigh", "show", "dev", device]).stdout == "", device
        assert sysctl(ready, f"net/ipv6/conf/{device}/disable_ipv6") == "1"


def test_taps_have_the_mtu_of_their_bridge_and_the_bridge_keeps_its_own(node: Node, tap: MakeTap) -> None:
    configure(node, "[private pvn]\nbridges = 1\nmtu = 9000\n")
    manage(node, "setup")
    before = link(node, "pvn1")
    for number in (5, 6):
        one = attached(node, tap(node), number)
        assert link(node, one.name)["mtu"] == 9000
    one.close()
    one.wait_gone()
    assert (link(node, "pvn1")["mtu"], link(node, "pvn1")["address"]) == (9000, before["address"])


def test_a_bridge_keeps_its_mtu_when_its_last_tap_goes(node: Node, tap: MakeTap) -> None:
    configure(node, "[private pvn]\nbridges = 1\nmtu = 9000\n")
    manage(node, "setup")
    one = attached(node, tap(node), 5)
    one.close()
    one.wait_gone()
    assert link(node, "pvn1")["mtu"] == 9000


def test_the_bridge_does_not_take_the_guests_frames_for_the_nodes_own(ready: Node, tap: MakeTap) -> None:
    attached(ready, one := tap(ready), 5)
    assert link(ready, one.name)["address"] not in (mac(5), link(ready, "pvn1")["address"])
    assert link(ready, one.name)["address"].startswith("fe:")


def test_private_filtered_networks_on_one_bridge_are_apart(ready: Node, tap: MakeTap) -> None:
    prefixes = {5: "aa:00:01", 6: "aa:00:01", 7: "aa:00:02", 8: "aa:00:02"}
    macs = {number: f"{prefix}:00:00:{number:02x}" for number, prefix in prefixes.items()}
    one, same, other, beside = (
        attached(
            ready, tap(ready), number, MAC=macs[number], NETWORK_TAGS="private-filtered", NETWORK_MAC_PREFIX=prefix
        )
        for number, prefix in prefixes.items()
    )
    one.send(udp(macs[5], BROADCAST, private(5), "255.255.255.255", "from the first"))
    same.expect(lambda frame: b"from the first" in frame, "the broadcast")
    beside.send(udp(macs[8], BROADCAST, private(8), "255.255.255.255", "from the second"))
    assert not any(b"from the first" in frame for frame in frames(other, b"from the second"))


def test_a_guest_asks_by_dhcp_before_it_has_its_address(ready: Node, tap: MakeTap) -> None:
    one, other = (attached(ready, tap(ready), number) for number in (5, 6))
    one.send(udp(mac(5), BROADCAST, "0.0.0.0", "255.255.255.255", "a discover", ports=(68, 67)))
    other.expect(lambda frame: b"a discover" in frame, "the request")


@pytest.mark.parametrize(
    ("what", "frame"),
    [
        ("another guest's MAC", udp(mac(9), BROADCAST, private(5), "255.255.255.255", "forged")),
        ("another guest's address", udp(mac(5), BROADCAST, private(9), "255.255.255.255", "forged")),
        ("another guest's address in ARP", arp(mac(5), private(9), private(9))),
        ("another guest's MAC in ARP", arp(mac(5), private(5), private(6), hardware=mac(9))),
        (
            "the answers of a DHCP server",
            udp(mac(5), BROADCAST, private(5), "255.255.255.255", "forged", ports=(67, 68)),
        ),
    ],
)
def test_a_guest_does_not_get_out_with(ready: Node, tap: MakeTap, what: str, frame: bytes) -> None:
    one, other = (attached(ready, tap(ready), number) for number in (5, 6))
    one.send(frame)
    one.send(udp(mac(5), BROADCAST, private(5), "255.255.255.255", "the last word"))
    assert frame not in frames(other, b"the last word"), what


def test_a_nic_without_an_address_may_use_any(ready: Node, tap: MakeTap) -> None:
    one = attached(ready, tap(ready), 5, IP=None, NETWORK_UUID=None, NETWORK_SUBNET=None)
    other = attached(ready, tap(ready), 6)
    one.send(arp(mac(5), "172.30.1.1", private(6)))
    found = arp_of(other.expect(lambda frame: arp_of(frame) is not None, "the question"))
    assert found and bytes(found.spa) == bytes([172, 30, 1, 1])


def test_a_nic_with_vlans_is_refused_on_a_bridge_that_knows_none(ready: Node, tap: MakeTap) -> None:
    one = tap(ready)
    said = refusal(ready, bridged(one.name, VLAN=".10"))
    assert "VLAN" in said and "pvn1" in said and "vm5.example.com" in said and one.name in said


def test_vlans_on_a_bridge_that_knows_them_are_apart(ready: Node, tap: MakeTap) -> None:
    done = ready.run(["ip", "link", "add", "br7", "up", "type", "bridge", "vlan_filtering", "1"], check=False)
    if done.returncode or "vlan_filtering 1" not in ready.run(["ip", "-d", "link", "show", "br7"]).stdout:
        pytest.skip(f"this kernel has no VLAN-aware bridge: {done.stderr.strip() or 'vlan_filtering stays 0'}")
    one, same, other, beside = (
        attached(ready, tap(ready), number, "br7", VLAN=vlan)
        for number, vlan in ((5, ".10"), (6, ".10"), (7, ".20"), (8, ".20"))
    )
    one.send(udp(mac(5), BROADCAST, private(5), "255.255.255.255", "in VLAN 10"))
    same.expect(lambda frame: b"in VLAN 10" in frame, "the broadcast")
    beside.send(udp(mac(8), BROADCAST, private(8), "255.255.255.255", "in VLAN 20"))
    assert not any(b"in VLAN 10" in frame for frame in frames(other, b"in VLAN 20"))
    assert differences(ready) == []


def test_a_bridge_that_is_not_ours_serves_as_well(ready: Node, plug: Plug) -> None:
    """As on a node whose administrator made br0 by other means."""
    ip(ready, "link add br0 type bridge", "link set br0 up")
    outside = plug(ready, "eth7", 7, f"{private(7)}/24")
    ip(ready, "link set eth7 master br0 up")
    guest = plug(ready, "tap5", 5, f"{private(5)}/24")
    attach(ready, bridged("tap5", 5, "br0"))
    ping(guest, private(7))
    ping(outside, private(5))


def _solicitation(number: int, target: str) -> bytes:
    """A neighbour solicitation for TARGET from a guest."""
    source, group = _link_local(mac(number)), "ff02::1:ff" + target[-7:]
    body = bytes(4) + IPv6Address(target).packed + b"\x01\x01" + bytes.fromhex(mac(number).replace(":", ""))
    head = IPv6Address(source).packed + IPv6Address(group).packed
    icmp = bytes([135, 0, 0, 0]) + body
    total = dpkt.in_cksum(head + len(icmp).to_bytes(4, "big") + b"\0\0\0\x3a" + icmp)
    icmp = icmp[:2] + total.to_bytes(2, "big") + icmp[4:]
    packet = b"\x60\0\0\0" + len(icmp).to_bytes(2, "big") + b"\x3a\xff" + head + icmp
    return ethernet(mac(number), "33:33:ff:" + IPv6Address(group).packed[-3:].hex(":"), 0x86DD, packet)


def _link_local(hardware: str) -> str:
    """The link-local address that an interface makes from its MAC (RFC 4291, appendix A), written in full."""
    octets = bytes.fromhex(hardware.replace(":", ""))
    identifier = bytes([octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]]).hex()
    return "fe80::" + ":".join(identifier[at : at + 4] for at in range(0, 16, 4))
