# SPDX-License-Identifier: BSD-2-Clause
"""Each reason for which a NIC is refused: what is said, word for word, and that nothing is said without the reason."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network
from typing import Any

import pytest
from samples import BRIDGED, PUBLIC, ROUTED, context, nic_of, proper

from ganeti_vif.config.model import Private, Profile, Public
from ganeti_vif.desired.context import Context
from ganeti_vif.desired.obstacle import bridge_obstacle, obstacle, switch_obstacle, table_obstacle
from ganeti_vif.engine.objects import Link, Route
from ganeti_vif.nic.nic import Nic

BRIDGE, WAY = nic_of(BRIDGED), nic_of(ROUTED)
PLAIN = nic_of(ROUTED, NETWORK_UUID=None)
"""A routed NIC of no network: the one address that it has is the one that it was given."""
OVS = nic_of(BRIDGED, MODE="openvswitch", LINK="ovs0", BRIDGE=None)
TRUNK = nic_of(BRIDGED, VLAN=":10:20")
ACCESS = nic_of(BRIDGED, VLAN=".10")
PROFILED = nic_of(BRIDGED, TAGS="vif:0:profile:web")
TAPS = "see: ip -details link show type tun"
FAMILY = Private(prefix="br", numbers=(1, 2))
MAKE_IT = "ip link add br0 type bridge && ip link set br0 up"
RANGE = "note: add 0 to the bridges of [private br] of /etc/ganeti-vif/ganeti-vif.conf, then: ganeti-vif setup"
SUBNET = "note: add its subnet to [public rt_pub] in /etc/ganeti-vif/ganeti-vif.conf, then: ganeti-vif setup"
ANOTHER = "note: give it another: gnt-instance modify --net, or mend its tags vif:NIC:address:PREFIX"
OWN = "see: gnt-instance list-tags i1.example.com, and: gnt-instance remove-tags i1.example.com TAG"
WEB = "note: make /etc/ganeti-vif/profiles.d/web.nft on all nodes, or: gnt-instance remove-tags"


def tap(nic: Nic, **changes: Any) -> Link:
    found = context(nic).tap
    assert found
    return replace(found, **changes)


def route(destination: str) -> Route:
    return Route(table=PUBLIC.table, destination=ip_network(destination), device="tap9")


REFUSED: dict[str, tuple[Nic, Context, str, str]] = {
    "no tap": (
        BRIDGE,
        context(BRIDGE, tap=None),
        "there is no device tap0 (and a NIC without one, as with vhost-user, cannot be filtered)",
        TAPS,
    ),
    "another number": (
        BRIDGE,
        context(BRIDGE, tap=tap(BRIDGE, index=43)),
        "tap0 is another device by now (ifindex 43, not 42)",
        "gnt-instance startup i1.example.com",
    ),
    "no number": (
        BRIDGE,
        context(BRIDGE, tap=tap(BRIDGE, index=None)),
        "tap0 is another device by now (ifindex None, not 42)",
        "gnt-instance startup i1.example.com",
    ),
    "its link": (
        replace(BRIDGE, link="tap0"),
        context(BRIDGE),
        "tap0 cannot be its tap: it is its link",
        TAPS,
    ),
    "the uplink": (
        replace(WAY, tap="eth1"),
        context(WAY, tap=tap(WAY, name="eth1")),
        "eth1 cannot be its tap: it is its link",
        TAPS,
    ),
    "a card": (
        BRIDGE,
        context(BRIDGE, tap=tap(BRIDGE, kind=None, tun=None)),
        "tap0 is no tap but a network card",
        TAPS,
    ),
    "no Ethernet": (
        BRIDGE,
        context(BRIDGE, tap=tap(BRIDGE, tun="tun")),
        "tap0 is no tap but a tun: it carries IP packets and no Ethernet frames (IFF_TUN)",
        TAPS,
    ),
    "no profile": (
        PROFILED,
        context(PROFILED),
        "the instance tag vif:0:profile:web: there is no profile web",
        WEB,
    ),
    "a profile that follows connections": (
        PROFILED,
        context(PROFILED, profile=Profile(name="web", stateful="web.nft:1")),
        "the instance tag vif:0:profile:web: the profile follows connections (ct, web.nft:1), which the node cannot do "
        "for a bridged NIC",
        "note: give it a profile without ct, or: gnt-instance remove-tags",
    ),
    "no bridge": (BRIDGE, context(BRIDGE, bridge=None), "the bridge br0 does not exist", MAKE_IT),
    "no bridge of a family": (
        BRIDGE,
        context(BRIDGE, bridge=None, family=replace(FAMILY, numbers=(0,))),
        "the bridge br0 does not exist",
        "ganeti-vif setup",
    ),
    "no bridge in a family's range": (
        BRIDGE,
        context(BRIDGE, bridge=None, family=FAMILY),
        "the bridge br0 does not exist",
        RANGE,
    ),
    "no bridge but a bond": (
        BRIDGE,
        context(BRIDGE, bridge=Link(name="br0", kind="bond")),
        "br0 is no bridge but a bond",
        "note: give the NIC another link: gnt-instance modify --net, or gnt-network connect -N",
    ),
    "no bridge but a card": (
        BRIDGE,
        context(BRIDGE, bridge=Link(name="br0")),
        "br0 is no bridge but a device",
        "note: give the NIC another link: gnt-instance modify --net, or gnt-network connect -N",
    ),
    "a MAC of another network": (
        nic_of(BRIDGED, TAGS="vif:0:mac:aa:00:07:00:00:01"),
        context(BRIDGE),
        "a tag grants it the MAC aa:00:07:00:00:01, which is of another network on br0 (private-filtered)",
        "note: a MAC that begins with aa:00:09, or: gnt-instance remove-tags i1.example.com",
    ),
    "trunks on a plain bridge": (
        TRUNK,
        context(TRUNK, bridge=Link(name="br0", kind="bridge", vlan_filtering=False)),
        "the NIC has VLANs, but the bridge br0 knows none",
        "ip link set br0 type bridge vlan_filtering 1",
    ),
    "an access VLAN on a plain bridge": (
        ACCESS,
        context(ACCESS, bridge=Link(name="br0", kind="bridge", vlan_filtering=False)),
        "the NIC has VLANs, but the bridge br0 knows none",
        "ip link set br0 type bridge vlan_filtering 1",
    ),
    "no table": (
        WAY,
        context(WAY, table=None, public=None),
        "the link rt_pub is no routing table",
        "note: add [public rt_pub] to /etc/ganeti-vif/ganeti-vif.conf, or the table to /etc/iproute2/rt_tables",
    ),
    "no uplink": (
        WAY,
        context(WAY, uplink=None),
        "public link rt_pub: the uplink eth1 does not exist",
        "note: make it first, or mend the uplink of [public rt_pub]: ip link shows what there is",
    ),
    "a node that would lose its router": (
        WAY,
        context(WAY, advertised=frozenset({"eth0"})),
        "public link rt_pub: eth0 has its IPv6 default route from router advertisements, which a node that forwards "
        "IPv6 ignores",
        "sysctl -w net.ipv6.conf.eth0.accept_ra=2 && echo 'net.ipv6.conf.eth0.accept_ra = 2' > "
        "/etc/sysctl.d/ganeti-vif-eth0.conf",
    ),
    "an address of no subnet": (
        replace(PLAIN, ip=IPv4Address("192.0.2.7")),
        context(PLAIN),
        "its address 192.0.2.7 is in no subnet of the public link rt_pub",
        SUBNET,
    ),
    "a prefix of no subnet": (
        nic_of(ROUTED, TAGS="vif:0:address:192.0.2.8/29"),
        context(WAY),
        "its address 192.0.2.8/29 is in no subnet of the public link rt_pub",
        SUBNET,
    ),
    "an IPv6 address of no subnet": (
        nic_of(ROUTED, TAGS="vif:0:address:2001:db8:99::7/128"),
        context(WAY),
        "its address 2001:db8:99::7 is in no subnet of the public link rt_pub",
        SUBNET,
    ),
    "the gateway": (
        replace(PLAIN, ip=IPv4Address("10.77.1.1")),
        context(PLAIN),
        "its address 10.77.1.1 takes 10.77.1.1 from the public link rt_pub",
        ANOTHER,
    ),
    "the second gateway": (
        nic_of(ROUTED, TAGS="vif:0:address:2001:db8:77::/126"),
        context(WAY),
        "its address 2001:db8:77::/126 takes 2001:db8:77::1 from the public link rt_pub",
        ANOTHER,
    ),
    "the source of ARP": (
        nic_of(ROUTED, TAGS="vif:0:address:10.77.1.252/30"),
        context(WAY),
        "its address 10.77.1.252/30 takes 10.77.1.254 from the public link rt_pub",
        ANOTHER,
    ),
    "a tag with the node's own address": (
        nic_of(ROUTED, TAGS="vif:0:address:10.77.1.96/29"),
        context(WAY, own=frozenset({IPv4Address("10.77.1.97"), IPv4Address("10.77.1.9")})),
        "the tag vif:NIC:address:10.77.1.96/29 grants it 10.77.1.97, which is the node's own address",
        OWN,
    ),
    "a tag with the bridge's own address": (
        nic_of(BRIDGED, TAGS="vif:0:address:fd00:9::7"),
        context(BRIDGE, own=frozenset({IPv6Address("fd00:9::7")})),
        "the tag vif:NIC:address:fd00:9::7 grants it fd00:9::7, which is the node's own address",
        OWN,
    ),
    "a wider route": (
        WAY,
        context(WAY, overlapping=(route("10.77.1.2/32"), route("10.77.1.0/30"))),
        "its addresses overlap with 10.77.1.0/30, which leads to tap9",
        "see: ganeti-vif status",
    ),
    "no address": (
        replace(PLAIN, ip=None),
        context(PLAIN),
        "a routed NIC without an address",
        "note: give it one: gnt-instance modify --net N:modify,ip=ADDRESS, or its network a network6",
    ),
    "a link with IPv6, and a kernel without": (
        PLAIN,
        context(PLAIN, ipv6=False),
        "public link rt_pub: it has the IPv6 subnet 2001:db8:77::/64, and the kernel of this node has no IPv6",
        "note: take ipv6.disable=1 out of /etc/default/grub, then: update-grub && reboot; "
        "or take IPv6 out of [public rt_pub], then: ganeti-vif setup",
    ),
    "an IPv6 address in a table, and a kernel without": (
        WAY,
        context(WAY, public=None, uplink=None, table=99, ipv6=False),
        "it has the IPv6 address 2001:db8:77:0:a800:9ff:fe09:6336, and the kernel of this node has no IPv6",
        "note: take ipv6.disable=1 out of /etc/default/grub, then: update-grub && reboot, "
        "or: gnt-instance add-tags i1.example.com disable_ipv6",
    ),
    "no switch": (
        OVS,
        context(OVS, switch=False),
        "Open vSwitch has no bridge ovs0",
        "ovs-vsctl add-br ovs0",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_with_what_is_wrong_and_what_mends_it(case: str) -> None:
    nic, around, what, do = REFUSED[case]
    found = obstacle(nic, around)
    assert found, "nothing stands against it"
    assert (proper(found).what, found.do) == (f"{nic.whom}: {what}", do)


TAKEN: dict[str, tuple[Nic, Context]] = {
    "bridged": (BRIDGE, context(BRIDGE)),
    "bridged, of a family": (BRIDGE, context(BRIDGE, family=FAMILY)),
    "routed": (WAY, context(WAY)),
    "on Open vSwitch": (OVS, context(OVS)),
    "trunks": (TRUNK, context(TRUNK)),
    "an access VLAN": (ACCESS, context(ACCESS, bridge=Link(name="br0", kind="bridge", vlan_filtering=True))),
    "a MAC of its own network": (nic_of(BRIDGED, TAGS="vif:0:mac:aa:00:09:00:00:01"), context(BRIDGE)),
    "a MAC of another network, where all share the bridge": (
        nic_of(BRIDGED, TAGS="vif:0:mac:aa:00:07:00:00:01", NETWORK_TAGS="nfdhcpd"),
        context(BRIDGE),
    ),
    "a profile": (PROFILED, context(PROFILED, profile=Profile(name="web"))),
    "in a table that is no public link": (PLAIN, context(PLAIN, public=None, uplink=None, table=99)),
    "an address of anybody there": (
        replace(PLAIN, ip=IPv4Address("192.0.2.7")),
        context(PLAIN, public=None, uplink=None, table=99, overlapping=(route("192.0.2.0/24"),)),
    ),
    "IPv6 alone": (nic_of(ROUTED, IP=None), context(WAY)),
    "IPv4 alone": (PLAIN, context(PLAIN)),
    "IPv4 alone, and a kernel without IPv6": (
        nic_of(ROUTED, TAGS="disable_ipv6"),
        context(PLAIN, public=replace(PUBLIC, subnets=PUBLIC.subnets[:1], gateways=PUBLIC.gateways[:1]), ipv6=False),
    ),
    "a bridge, and a kernel without IPv6": (BRIDGE, context(BRIDGE, ipv6=False)),
    "its own route": (WAY, context(WAY, overlapping=(route("10.77.1.2/32"),))),
    "the uplink itself is advertised to": (WAY, context(WAY, advertised=frozenset({"eth1"}))),
    "no source of ARP": (
        nic_of(ROUTED, TAGS="vif:0:address:10.77.1.252/30"),
        context(WAY, public=replace(PUBLIC, arp_source=None)),
    ),
}


@pytest.mark.parametrize("case", TAKEN)
def test_nothing_stands_against_what_is_as_it_should_be(case: str) -> None:
    assert obstacle(*TAKEN[case]) is None


def test_the_tap_counts_before_all_else() -> None:
    """A tap of somebody else's is no reason to talk about bridges, and the profile is none to talk about routes."""
    both = obstacle(PROFILED, context(PROFILED, tap=None, bridge=None))
    assert both and "there is no device" in both.what
    profile = obstacle(PROFILED, context(PROFILED, bridge=None))
    assert profile and "there is no profile" in profile.what


def test_each_question_can_be_asked_alone() -> None:
    """Status and the hooks ask for links without a NIC."""
    bridge = Link(name="br0", kind="bridge")
    assert bridge_obstacle("br0", bridge, None) is None
    missing = bridge_obstacle("br0", None, None)
    assert missing and (missing.what, missing.do) == ("the bridge br0 does not exist", MAKE_IT)
    assert table_obstacle("rt_pub", 222) is None
    assert table_obstacle("rt_pub", 0) is None
    assert switch_obstacle("ovs0", exists=True) is None


def test_a_link_without_ipv6_holds_no_ipv6() -> None:
    four: Public = replace(PUBLIC, subnets=(IPv4Network("10.77.1.0/24"),), gateways=(IPv4Address("10.77.1.1"),))
    found = obstacle(WAY, context(WAY, public=four))
    assert found and "2001:db8:77:0:a800:9ff:fe09:6336 is in no subnet" in found.what
