# SPDX-License-Identifier: BSD-2-Clause
"""Samples of every kind of object: OBJECTS as they can be made and removed, ALTERED as they can differ."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address, ip_network

from ganeti_vif.engine.chains import Chain, FilterRule, MapElement, Subchain, VerdictMap
from ganeti_vif.engine.marks import ADOPTED_GROUP, GROUP
from ganeti_vif.engine.objects import (
    Binding,
    BridgeNetfilter,
    BridgePort,
    BridgeVlan,
    Link,
    Module,
    Neighbours,
    OffloadCheck,
    Origin,
    OvsPort,
    Peers,
    ProxyNeighbour,
    Record,
    Route,
    Rule,
    Shaper,
    Sysctl,
    TrunkVlan,
    Up,
)
from ganeti_vif.engine.program import Program
from ganeti_vif.engine.state import Object

V4, V6 = ip_network("192.0.2.7/32"), ip_network("2001:db8::7/128")


def chain(name: str, *rules: str, **differently: object) -> Chain:
    given = {
        "family": "netdev",
        "hook": "ingress",
        "device": "tap0",
        "priority": 0,
        "policy": "drop",
    } | differently
    return Chain(name=name, rules=tuple(FilterRule(rule, "a reason") for rule in rules), **given)  # type: ignore[arg-type]


OBJECTS: list[Object] = [
    Origin(tap="tap0", text='{\n "index": 7\n}\n'),
    Record(tap="tap0", text='{\n "tap": "tap0"\n}\n'),
    Link(
        name="pvn1",
        kind="bridge",
        group=GROUP,
        mac="02:00:00:00:00:01",
        mtu=1500,
        stp=False,
        forward_delay=0,
    ),
    Link(name="br0", kind="bridge", vlan_filtering=True),
    Module(name="br_netfilter"),
    Module(name="nf_tables"),
    OffloadCheck(device="tap0", program=Program(code=b"instructions")),
    BridgeNetfilter(bridge="pvn1", iptables=True, ip6tables=True),
    Link(name="eth1.2991", kind="vlan", group=GROUP, mtu=1500, lower="eth1", vlan=2991),
    Link(
        name="vx10001",
        kind="vxlan",
        group=GROUP,
        mtu=1450,
        lower="eth2",
        vni=10001,
        vxlan_group=IPv4Address("239.192.86.73"),
        vxlan_port=4789,
    ),
    Link(
        name="vx20001",
        kind="vxlan",
        group=GROUP,
        mtu=1450,
        lower="eth2",
        vni=20001,
        vxlan_local=IPv4Address("172.16.0.1"),
        vxlan_port=4789,
    ),
    Peers(
        device="vx20001",
        lower="eth2",
        addresses=frozenset(map(ip_address, ("172.16.0.3", "172.16.0.2", "239.192.86.73"))),
    ),
    chain("tap0-in", "ip saddr 192.0.2.7 accept", "ether type arp accept"),
    chain(
        "seclusion-input",
        "iifgroup 1 drop",
        family="inet",
        hook="input",
        device=None,
        priority=-300,
        policy="accept",
    ),
    VerdictMap(family="inet", name="profiles"),
    Subchain(family="inet", name="profile-web", rules=(FilterRule("tcp dport 80 accept", "web.nft:1"),)),
    MapElement(family="inet", map="profiles", device="tap0", chain="profile-web"),
    Shaper(device="tap0", rate=12_500_000, burst=125_000),
    Sysctl(path="net/ipv4/conf/eth1.2991/forwarding", value="1"),
    OvsPort(device="tap0", bridge="ovs0", tag=None, trunks=frozenset()),
    OvsPort(device="tap1", bridge="ovs0", tag=10, trunks=frozenset({30, 20})),
    OvsPort(device="tap2", bridge="ovs0", tag=None, trunks=frozenset(), isolated=True),
    BridgePort(device="tap0", bridge="pvn1"),
    BridgePort(device="tap1", bridge="pvn1", isolated=True),
    BridgeVlan(device="tap0", untagged=10, tagged=frozenset({30, 20})),
    BridgeVlan(device="tap1", untagged=None, tagged=frozenset({20})),
    TrunkVlan(device="eth1", vid=20),
    Up(device="tap0"),
    Rule(family=4, priority=20000, table=222, mark=0x564900DE),
    Rule(family=6, priority=20000, table=222, device="eth1"),
    Route(table=222, destination=V4, device="tap0"),
    Route(table=222, destination=V6, device="tap0"),
    Route(table=222, destination=ip_network("0.0.0.0/0"), device="eth1", gateway=ip_address("192.0.2.1")),
    Route(table=222, destination=ip_network("::/0"), kind="unreachable", metric=0xFFFFFFFF),
    Neighbours(device="tap0", mac="aa:00:00:00:00:07", addresses=frozenset({V6.network_address, V4.network_address})),
    ProxyNeighbour(device="eth1", address=ip_address("192.0.2.7")),
    ProxyNeighbour(device="eth1", address=ip_address("2001:db8::7")),
    Binding(directory="/var/lib/nfdhcpd", tap="tap0", text="MAC=aa:00:00:00:00:01\nHOSTNAME=i1\n"),
]

ALTERED: list[tuple[Object, Object]] = [
    (Origin(tap="tap0", text="old\n"), Origin(tap="tap0", text="new\n")),
    (Record(tap="tap0", text="old\n"), Record(tap="tap0", text="new\n")),
    (
        Link(
            name="pvn1",
            kind="bridge",
            index=5,
            group=0,
            mac="02:00:00:00:00:02",
            mtu=1400,
            stp=True,
            forward_delay=1500,
        ),
        Link(
            name="pvn1",
            kind="bridge",
            group=ADOPTED_GROUP,
            mac="02:00:00:00:00:01",
            mtu=1500,
            stp=False,
            forward_delay=0,
        ),
    ),
    (
        Link(name="tap0", kind="tun", mac="02:00:00:00:00:02", mtu=1500),
        Link(name="tap0", mac="fe:00:00:00:00:02"),
    ),
    (OffloadCheck(device="tap0", program=None), OffloadCheck(device="tap0", program=Program(code=bytes(8)))),
    (
        BridgeNetfilter(bridge="pvn1", iptables=False, ip6tables=True),
        BridgeNetfilter(bridge="pvn1", iptables=True, ip6tables=True),
    ),
    (
        Subchain(family="inet", name="profile-web", rules=()),
        Subchain(family="inet", name="profile-web", rules=(FilterRule("tcp dport 80 accept", "web.nft:1"),)),
    ),
    (
        Peers(device="vx20001", lower="eth2", addresses=frozenset({ip_address("172.16.0.9")})),
        Peers(device="vx20001", lower="eth2", addresses=frozenset({ip_address("172.16.0.2")})),
    ),
    (chain("tap0-in", "old"), chain("tap0-in", "new")),
    (
        MapElement(family="inet", map="profiles", device="tap0", chain="profile-web"),
        MapElement(family="inet", map="profiles", device="tap0", chain="profile-other"),
    ),
    (Shaper(device="tap0", rate=125_000, burst=16_384), Shaper(device="tap0", rate=12_500_000, burst=125_000)),
    (
        Sysctl(path="net/ipv4/conf/tap0/forwarding", value="0"),
        Sysctl(path="net/ipv4/conf/tap0/forwarding", value="1"),
    ),
    (
        OvsPort(device="tap0", bridge="ovs1", tag=5, trunks=frozenset()),
        OvsPort(device="tap0", bridge="ovs0", tag=10, trunks=frozenset()),
    ),
    (BridgePort(device="tap0", bridge="pvn2"), BridgePort(device="tap0", bridge="pvn1")),
    (BridgePort(device="tap0", bridge="pvn1"), BridgePort(device="tap0", bridge="pvn1", isolated=True)),
    (BridgePort(device="tap0", bridge="pvn1", isolated=True), BridgePort(device="tap0", bridge="pvn1")),
    (
        BridgePort(device="tap0", bridge="pvn2", isolated=True),
        BridgePort(device="tap0", bridge="pvn1", isolated=True),
    ),
    (
        BridgeVlan(device="tap0", untagged=1, tagged=frozenset()),
        BridgeVlan(device="tap0", untagged=10, tagged=frozenset({20})),
    ),
    (
        Neighbours(device="tap0", mac="aa:00:00:00:00:08", addresses=frozenset({V4.network_address})),
        Neighbours(device="tap0", mac="aa:00:00:00:00:07", addresses=frozenset({V6.network_address})),
    ),
    (Route(table=222, destination=V4, device="tap9"), Route(table=222, destination=V4, device="tap0")),
    (Route(table=222, destination=V6, device="tap9"), Route(table=222, destination=V6, device="tap0")),
    (
        Binding(directory="/b", tap="tap0", text="MAC=aa:00:00:00:00:01\n"),
        Binding(directory="/b", tap="tap0", text="MAC=aa:00:00:00:00:02\n"),
    ),
]
