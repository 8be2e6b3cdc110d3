# SPDX-License-Identifier: BSD-2-Clause
"""What a node needs before any VM: private networks without a way to the node, and public links."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from samples import PUBLIC, assert_golden, proper, words

from ganeti_vif.config.model import Conntrack, Consumer, Private, Uplink, VlanUplink, VxlanUplink
from ganeti_vif.engine.chains import Chain
from ganeti_vif.engine.difference import difference
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.marks import ADOPTED_GROUP, GROUP, LEAVING_GROUP
from ganeti_vif.engine.objects import BridgeNetfilter, BridgePort, Link, Route, Rule, Sysctl, Up
from ganeti_vif.engine.state import Object, state
from ganeti_vif.guard.connections import Following
from ganeti_vif.kernel import sysctl
from ganeti_vif.kernel.netlink.links import Device, Devices
from ganeti_vif.reconcile import setup
from ganeti_vif.reconcile.setup import layout
from host_setup import public
from host_setup.private import PrivateNetwork, desired, networks, obstacle, own_mac, seclusion, tunnels

VLAN, VXLAN = VlanUplink("eth1", 2990), VxlanUplink("eth1", 10000)
ETH1 = Link(name="eth1", index=3, mtu=1500)
LINKS = {"eth1": ETH1}


@pytest.fixture(autouse=True)
def sysctls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory instead of /proc/sys. There are no limits for neighbours in it, as in a network namespace."""
    (tmp_path / "net/ipv6").mkdir(parents=True)
    monkeypatch.setattr(sysctl, "ROOT", f"{tmp_path}/")
    return tmp_path


def masters(ports: Mapping[str, Iterable[Link]]) -> dict[str, str]:
    """Whose port each is."""
    return {port.name: bridge for bridge, members in ports.items() for port in members}


def family(uplink: Uplink = None, mtu: int | None = None, numbers: tuple[int, ...] = (1, 2)) -> Private:
    return Private(prefix="pvn", numbers=numbers, uplink=uplink, mtu=mtu)


def network(uplink: Uplink = None, mtu: int = 1500) -> PrivateNetwork:
    return PrivateNetwork(bridge="pvn1", uplink=uplink, number=1, mtu=mtu)


def plan(one: PrivateNetwork, **links: Link) -> dict[tuple[object, ...], Object]:
    return state(desired(one, LINKS | links, "node1"))


def refused(one: PrivateNetwork, ports: dict[str, list[Link]] | None = None, **links: Link) -> Failure:
    failure = obstacle(one, LINKS | {link.name: link for link in links.values()}, ports or {}, masters(ports or {}))
    assert failure, "nothing stands against it"
    return failure


@pytest.mark.parametrize(("name", "uplink"), [("none", None), ("vlan", VLAN), ("vxlan", VXLAN)])
def test_the_whole_plan_of_a_private_network(name: str, uplink: Uplink) -> None:
    (one,) = networks(family(uplink, numbers=(1,)), LINKS)
    assert_golden(f"private-{name}", words(difference(plan(one), {})))


def test_a_bridge_never_has_ipv6_nor_answers_arp_and_its_uplink_neither() -> None:
    wanted = plan(network(VLAN)).values()
    assert Sysctl(path="net/ipv6/conf/pvn1/disable_ipv6", value="1") in wanted
    assert Sysctl(path="net/ipv4/conf/pvn1/arp_ignore", value="8") in wanted
    assert Sysctl(path="net/ipv6/conf/eth1.2991/disable_ipv6", value="1") in wanted
    assert BridgePort(device="eth1.2991", bridge="pvn1") in wanted
    assert {Up(device="pvn1"), Up(device="eth1.2991")} <= {*wanted}


def test_a_network_without_an_uplink_has_no_port() -> None:
    assert not any(isinstance(thing, BridgePort) for thing in plan(network()).values())


def test_each_network_has_its_own_vlan_or_vni() -> None:
    assert [n.port for n in networks(family(VLAN, numbers=(1, 7)), LINKS)] == ["eth1.2991", "eth1.2997"]
    link = plan(network(VXLAN, 1450))["link", "vx10001"]
    assert link == Link(
        name="vx10001",
        kind="vxlan",
        group=GROUP,
        mtu=1450,
        lower="eth1",
        vni=10001,
        vxlan_group=IPv4Address("239.192.86.73"),
        vxlan_port=4789,
    )


@pytest.mark.parametrize(
    ("uplink", "mtu", "lower", "expected"),
    [
        (None, None, 1500, 1500),
        (None, 9000, 1500, 9000),
        (VLAN, None, 9000, 9000),
        (VLAN, 1500, 9000, 1500),
        (VLAN, 1500, 1500, 1500),
        (VXLAN, None, 1500, 1450),
        (VXLAN, None, 9000, 8950),
        (VXLAN, 1500, 1500, 1500),
        (replace(VXLAN, group=IPv6Address("ff05::5")), None, 1500, 1430),
        (VLAN, None, None, 1500),
    ],
)
def test_the_mtu_is_what_was_configured_or_what_fits(
    uplink: Uplink, mtu: int | None, lower: int | None, expected: int
) -> None:
    found = networks(family(uplink, mtu), {"eth1": replace(ETH1, mtu=lower)})
    assert [one.mtu for one in found] == [expected, expected]
    assert plan(network(uplink, expected))["link", "pvn1"].mtu == expected  # type: ignore[union-attr]


def test_one_byte_too_many_is_too_many() -> None:
    with pytest.raises(Failure, match="mtu 1501"):
        list(networks(family(VLAN, 1501), LINKS))


def test_a_vlan_cannot_be_larger_than_the_device_below_it() -> None:
    with pytest.raises(Failure) as caught:
        list(networks(family(VLAN, 9000), LINKS))
    failure = proper(caught.value)
    assert "mtu 9000" in failure.what
    assert "eth1" in failure.what
    assert "1500" in failure.what
    assert "ip link set eth1 mtu 9000" in failure.do


@pytest.mark.parametrize("uplink", [VLAN, VXLAN])
def test_a_missing_device_below_is_named(uplink: Uplink) -> None:
    with pytest.raises(Failure, match="eth1 does not exist") as caught:
        list(networks(family(uplink), {}))
    assert "[private pvn]" in proper(caught.value).do


@given(st.text(max_size=40), st.text(max_size=40), st.integers(1, 16384), st.integers(1, 16384))
def test_a_bridges_mac_is_stable_and_its_own(node: str, other: str, one: int, two: int) -> None:
    mac = own_mac(node, f"pvn{one}")
    assert mac == own_mac(node, f"pvn{one}")
    assert len(bytes.fromhex(mac.replace(":", ""))) == 6
    assert mac.startswith("02:")
    assert (mac == own_mac(other, f"pvn{one}")) == (node == other)
    assert (mac == own_mac(node, f"pvn{two}")) == (one == two)


def test_the_mac_of_a_bridge_survives_an_upgrade_of_ganeti_vif() -> None:
    """Written down once: with another digest every bridge of every node would change its MAC."""
    assert own_mac("node1", "pvn1") == "02:d6:cf:72:2a:32"


def test_what_we_make_carries_our_mark_and_keeps_it() -> None:
    assert plan(network(VLAN))["link", "pvn1"].group == GROUP  # type: ignore[union-attr]
    ours = Link(name="pvn1", kind="bridge", group=GROUP)
    assert plan(network(VLAN), pvn1=ours)["link", "pvn1"].group == GROUP  # type: ignore[union-attr]


@pytest.mark.parametrize("group", [0, ADOPTED_GROUP])
def test_what_was_there_before_us_is_adopted_and_not_taken_for_ours(group: int) -> None:
    bridge = Link(name="pvn1", kind="bridge", group=group)
    port = Link(name="eth1.2991", kind="vlan", lower="eth1", vlan=2991, group=group)
    wanted = plan(network(VLAN), **{"pvn1": bridge, "eth1.2991": port})
    assert obstacle(network(VLAN), LINKS | {"pvn1": bridge, "eth1.2991": port}, {}, {}) is None
    assert wanted["link", "pvn1"].group == wanted["link", "eth1.2991"].group == ADOPTED_GROUP  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["vlan", "dummy", None])
def test_a_device_of_another_kind_is_in_the_way(kind: str | None) -> None:
    failure = refused(network(), pvn1=Link(name="pvn1", kind=kind))
    assert "pvn1 exists and is no bridge" in failure.what
    assert (kind or "device") in failure.what


def test_a_foreign_port_is_in_the_way_and_a_tap_is_not() -> None:
    bridge = Link(name="pvn1", kind="bridge", group=GROUP)
    taps = {"pvn1": [Link(name="tap0", kind="tun", tun="tap"), Link(name="eth1.2991", kind="vlan")]}
    assert obstacle(network(VLAN), LINKS | {"pvn1": bridge}, taps, masters(taps)) is None
    failure = refused(network(VLAN), {"pvn1": [Link(name="eth0")]}, pvn1=bridge)
    assert "eth0" in failure.what
    assert "nomaster" in proper(failure).do.replace("\\", "")


@pytest.mark.parametrize(
    ("uplink", "existing"),
    [
        (VXLAN, Link(name="vx10001", kind="vxlan", lower="eth1", vni=5)),
        (VXLAN, Link(name="vx10001", kind="vxlan", lower="eth2", vni=10001)),
        (VXLAN, Link(name="vx10001", kind="dummy")),
        (VLAN, Link(name="eth1.2991", kind="vlan", lower="eth1", vlan=2992)),
        (VLAN, Link(name="eth1.2991", kind="vlan", lower="bond0", vlan=2991)),
        (VLAN, Link(name="eth1.2991", kind="bridge")),
    ],
)
def test_an_uplink_that_is_something_else_is_in_the_way(uplink: Uplink, existing: Link) -> None:
    failure = refused(network(uplink), existing=existing)
    assert failure.what.startswith("pvn1: ")
    assert existing.name in failure.what
    assert "something else" in failure.what
    assert f"ip link del {existing.name}" in failure.do


def test_an_uplink_that_another_bridge_has_is_in_the_way() -> None:
    port = Link(name="eth1.2991", kind="vlan", lower="eth1", vlan=2991)
    assert "is a port of br0" in refused(network(VLAN), {"br0": [port]}, port=port).what
    assert obstacle(network(VLAN), LINKS | {port.name: port}, {"pvn1": [port]}, {port.name: "pvn1"}) is None


def test_nothing_gets_from_a_private_network_to_the_node_or_through_it() -> None:
    chains = [chain for chain in seclusion() if isinstance(chain, Chain)]
    assert {("inet", "input"), ("inet", "forward")} <= {(chain.family, chain.hook) for chain in chains}
    for chain in chains:
        assert (chain.device, chain.policy) == (None, "accept"), "what is not from a private network passes"
        assert chain.rules
        ranges = [re.findall(r"group (?:!= )?(\d+)-(\d+)", rule.text) for rule in chain.rules]
        assert all(ranges)
        for low, high in (pair for pairs in ranges for pair in pairs):
            assert all(int(low) <= group <= int(high) for group in (GROUP, ADOPTED_GROUP, LEAVING_GROUP))


@pytest.fixture(autouse=True)
def _no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """ganeti_vif/reconcile/setup.py asks for one value of the running kernel."""
    monkeypatch.setattr(sysctl, "force_forwarding", lambda: False)


def devices(*found: tuple[Link, str | None]) -> Devices:
    return Devices(
        {link.name: Device(replace(link, index=at), True, master) for at, (link, master) in enumerate(found, 1)}
    )


def test_one_network_that_cannot_be_does_not_keep_the_others_from_it() -> None:
    node = devices((ETH1, None), (Link(name="pvn1", kind="dummy"), None))
    result = layout(
        [family(), family(VlanUplink("eth9", 1)), replace(family(VLAN), prefix="x")], [PUBLIC], node, "node1"
    )
    assert [unit.name for unit in result.units] == ["pvn2", "x1", "x2", "rt_pub"]
    assert ["pvn1" in result.refused[0].what, "eth9" in result.refused[1].what, len(result.refused)] == [
        True,
        True,
        2,
    ]


@pytest.mark.parametrize(
    ("group", "on", "consumer", "wanted"),
    [
        (GROUP, True, Consumer.NFDHCPD, [True]),
        (GROUP, True, Consumer.RESPONDER, [False]),
        (GROUP, False, Consumer.RESPONDER, []),
        (ADOPTED_GROUP, True, Consumer.RESPONDER, []),
    ],
)
def test_a_bridge_is_heard_by_netfilter_only_for_nfdhcpd_if_we_made_it(
    group: int, on: bool, consumer: Consumer, wanted: list[bool]
) -> None:
    found = devices((Link(name="pvn1", kind="bridge", group=group), None))
    netfilter = BridgeNetfilter(bridge="pvn1", iptables=on, ip6tables=on)
    found = Devices({"pvn1": replace(found.by_name["pvn1"], netfilter=netfilter)})
    result = layout([replace(family(), numbers=(1,))], [], found, "node1", consumer=consumer)
    assert [one.iptables for one in result.wanted.values() if isinstance(one, BridgeNetfilter)] == wanted


def test_the_seclusion_comes_before_any_bridge_and_only_where_there_is_one() -> None:
    assert layout([family()], [], devices(), "node1").base == state(seclusion())
    assert layout([], [PUBLIC], devices((ETH1, None)), "node1").base == {}
    ours = devices((Link(name="old1", kind="bridge", group=GROUP), None))
    assert layout([], [], ours, "node1").base == state(seclusion())


def test_tunnels_come_in_by_their_own_uplink_whatever_part_of_the_networks_is_set_up() -> None:
    everything = [family(VXLAN, numbers=(1, 2, 3, 7)), replace(family(VLAN), prefix="x")]
    chain = tunnels(everything)
    assert [rule.text for rule in chain.rules] == [
        'iifname != "eth1" udp dport 4789 @th,96,24 10001-10003 counter drop',
        'iifname != "eth1" udp dport 4789 @th,96,24 10007-10007 counter drop',
    ]
    node = devices((ETH1, None))
    part = [replace(everything[0], numbers=(2,))]
    assert layout(part, [], node, "node1", families=everything).base[chain.key] == chain
    assert layout(everything, [], node, "node1").idle == {}


def test_without_a_vxlan_uplink_the_rules_of_tunnels_are_not_needed_any_more() -> None:
    none = tunnels([family(VLAN)])
    plan = layout([family(VLAN)], [], devices((ETH1, None)), "node1")
    assert none.rules == ()
    assert none.key not in plan.base
    assert plan.idle == {none.key: none}


def test_a_public_link_without_its_uplink_is_refused_by_name() -> None:
    result = layout([], [PUBLIC], devices(), "node1")
    assert result.units == []
    assert "rt_pub" in result.refused[0].what
    assert "eth1" in result.refused[0].what


def limits(root: Path, **values: int) -> None:
    for version in ("ipv4", "ipv6"):
        where = root / "net" / version / "neigh" / "default"
        where.mkdir(parents=True, exist_ok=True)
        for name, value in values.items():
            (where / name).write_text(f"{value}\n")


def raised(memory: int, monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, str]]:
    monkeypatch.setattr(setup, "memory", lambda: memory)
    wanted = layout([], [PUBLIC], devices((ETH1, None)), "node1").wanted.values()
    return {
        (thing.path.replace("/neigh/default", ""), thing.value)
        for thing in wanted
        if isinstance(thing, Sysctl) and "gc_thresh" in thing.path
    }


def test_the_kernel_gets_room_for_the_neighbours_of_the_subnets_and_none_is_taken(
    sysctls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert raised(8 << 30, monkeypatch) == set(), "a namespace does not show them"
    limits(sysctls, gc_thresh2=512, gc_thresh3=1024)
    assert raised(8 << 30, monkeypatch) == {
        ("net/ipv4/gc_thresh2", "640"),
        ("net/ipv4/gc_thresh3", "1280"),
        ("net/ipv6/gc_thresh2", "33280"),
        ("net/ipv6/gc_thresh3", "66560"),
    }
    limits(sysctls, gc_thresh2=50000, gc_thresh3=100000)
    assert raised(8 << 30, monkeypatch) == set(), "larger ones stay"


def test_a_small_node_does_not_give_its_memory_to_neighbours(sysctls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits(sysctls, gc_thresh2=512, gc_thresh3=1024)
    assert raised(1 << 30, monkeypatch) == set()
    assert len(raised(2 << 30, monkeypatch)) == 4, "34 MB are 1.7 % of its memory"


@pytest.mark.parametrize(
    ("setting", "following", "wanted"),
    [
        (Conntrack.AUTO, Following(used=True), True),
        (Conntrack.AUTO, Following(("ip nat POSTROUTING",), used=True), False),
        (Conntrack.PROFILES, Following(("ip nat POSTROUTING",), used=True), True),
        (Conntrack.PROFILES, Following(), False),
        (Conntrack.ALL, Following(used=True), False),
    ],
)
def test_guests_without_a_profile_are_followed_only_where_somebody_needs_it(
    setting: Conntrack, following: Following, wanted: bool
) -> None:
    link = replace(PUBLIC, conntrack=setting)
    plan = layout([], [link], devices((ETH1, None)), "node1", following=following)
    key = ("chain", "inet", "eth1-unfollowed")
    assert (key in plan.wanted, key in plan.idle) == (wanted, not wanted)


def test_a_whole_layout_contradicts_itself_nowhere() -> None:
    result = layout([family(VLAN), replace(family(VXLAN), prefix="x")], [PUBLIC], devices((ETH1, None)), "node1")
    assert result.refused == []
    assert len(result.wanted) == len(result.base) + sum(len(unit.wanted) for unit in result.units)


def test_the_whole_plan_of_a_public_link() -> None:
    assert_golden("public", words(difference(state(public.desired(PUBLIC, False)), {})))


def test_a_public_link_has_no_address_on_the_node_and_a_way_for_each_family() -> None:
    wanted = list(public.desired(PUBLIC, False))
    defaults = [thing for thing in wanted if isinstance(thing, Route) and thing.destination.prefixlen == 0]
    assert [(str(r.destination), r.kind, str(r.gateway)) for r in defaults] == [
        ("0.0.0.0/0", "unicast", "10.77.1.1"),
        ("0.0.0.0/0", "unreachable", "None"),
        ("::/0", "unicast", "2001:db8:77::1"),
        ("::/0", "unreachable", "None"),
    ]
    rules = [(rule.family, rule.mark, rule.table) for rule in wanted if isinstance(rule, Rule)]
    assert rules == [(4, PUBLIC.mark, 222), (6, PUBLIC.mark, 222)]


def test_ipv6_forwarding_is_switched_on_for_the_whole_node_only_where_the_kernel_knows_no_better() -> None:
    whole = Sysctl(path="net/ipv6/conf/all/forwarding", value="1")
    assert whole in public.desired(PUBLIC, False)
    assert whole not in public.desired(PUBLIC, True)
    assert Sysctl(path="net/ipv6/conf/eth1/force_forwarding", value="1") in public.desired(PUBLIC, True)


def test_an_ipv4_link_leaves_ipv6_alone_and_the_other_way_round() -> None:
    only4 = replace(PUBLIC, subnets=PUBLIC.subnets[:1], gateways=PUBLIC.gateways[:1])
    only6 = replace(PUBLIC, subnets=PUBLIC.subnets[1:], gateways=PUBLIC.gateways[1:], arp_source=None)
    for link, other in ((only4, "ipv6"), (only6, "ipv4")):
        wanted = list(public.desired(link, False))
        assert not [thing for thing in wanted if isinstance(thing, Sysctl) and f"net/{other}/" in thing.path]
        assert {rule.family for rule in wanted if isinstance(rule, Rule)} == {link.subnets[0].version}


def test_without_a_gateway_or_an_arp_source_the_node_makes_neither_up() -> None:
    bare = replace(PUBLIC, gateways=(), arp_source=None)
    wanted = list(public.desired(bare, False))
    assert not [thing for thing in wanted if isinstance(thing, Chain) and thing.hook == "egress"]
    assert not [thing for thing in wanted if isinstance(thing, Route) and thing.gateway]


@given(st.sets(st.integers(1, 65535), min_size=2, max_size=2))
@example({1, 257})
def test_each_link_has_its_own_mark(tables: set[int]) -> None:
    one, two = (replace(PUBLIC, table=table, subnets=(ip_network("192.0.2.0/24"),)) for table in tables)
    assert one.mark != two.mark
    assert 0 < one.mark < 1 << 32
