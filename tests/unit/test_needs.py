# SPDX-License-Identifier: BSD-2-Clause
"""What a NIC needs: what is its own and goes with it, what it shares, and what it has only where its guest runs."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from memory_node import standby
from samples import BRIDGED, CONFIG, PUBLIC, ROUTED, context, nic_of

from ganeti_vif.config.model import Bindings, Config, Consumer, For, Private, Profile, Responder
from ganeti_vif.desired.needs import Needs, needs, only_here
from ganeti_vif.engine.chains import Chain, MapElement, Subchain, VerdictMap
from ganeti_vif.engine.objects import (
    Binding,
    BridgeNetfilter,
    BridgePort,
    BridgeVlan,
    Link,
    Neighbours,
    OvsPort,
    ProxyNeighbour,
    Record,
    Route,
    Rule,
    Sysctl,
    TrunkVlan,
    Up,
)
from ganeti_vif.engine.state import Object
from ganeti_vif.guard.profile import subchain
from ganeti_vif.nic.nic import Nic
from ganeti_vif.nic.record import record_of
from host_setup import public
from nfdhcpd_bridge.binding import parse
from nfdhcpd_bridge.reading import reading

NFDHCPD = Config(public=(PUBLIC,), bindings=Bindings(consumer=Consumer.NFDHCPD))
WEB = Profile(name="web", rules=(("tcp dport 80 accept", "web.nft:1"),))
OVS = nic_of(BRIDGED, MODE="openvswitch", LINK="ovs0", BRIDGE=None)


def kinds(things: dict[tuple[object, ...], Object]) -> list[str]:
    return sorted({type(thing).__name__ for thing in things.values()})


def binding(found: Needs) -> dict[str, str]:
    (text,) = (thing.text for thing in found.own.values() if isinstance(thing, Binding))
    return parse(text)


def test_what_a_bridged_nic_needs_is_its_own() -> None:
    nic = nic_of(BRIDGED)
    found = needs(nic, CONFIG, context(nic))
    assert kinds(found.own) == ["Binding", "BridgePort", "Chain", "Link", "OffloadCheck", "Record", "Sysctl", "Up"]
    assert found.shared == {}
    assert found.own["record", "tap0"] == record_of(nic)
    assert found.own["port", "tap0"] == BridgePort(device="tap0", bridge="br0")
    assert kinds(found.removable) == ["Binding", "BridgePort", "Chain", "OffloadCheck", "Record", "Up"]
    assert found.all == found.own


def test_its_vlans_on_the_bridges_other_ports_are_shared() -> None:
    nic = nic_of(BRIDGED, VLAN=":10:20")
    found = needs(nic, CONFIG, context(nic, trunks=("eth1",)))
    assert [*found.shared.values()] == [TrunkVlan(device="eth1", vid=10), TrunkVlan(device="eth1", vid=20)]
    assert isinstance(found.own["vlan", "tap0"], BridgeVlan)


@pytest.mark.parametrize(
    ("config", "configured", "heard"),
    [(NFDHCPD, True, True), (NFDHCPD, False, False), (CONFIG, True, False)],
    ids=["NFDHCPD on our bridge", "NFDHCPD on a bridge of others", "our responder"],
)
def test_only_a_bridge_of_ours_is_made_to_be_heard_and_only_by_nfdhcpd(
    config: Config, configured: bool, heard: bool
) -> None:
    nic = nic_of(BRIDGED)
    found = needs(nic, config, context(nic, configured=configured))
    wanted = BridgeNetfilter(bridge="br0", iptables=True, ip6tables=True)
    assert [*found.shared.values()] == ([wanted] if heard else [])


def test_what_a_routed_nic_needs_is_its_own_and_its_link_is_shared() -> None:
    nic = nic_of(ROUTED)
    found = needs(nic, CONFIG, context(nic))
    assert kinds(found.own) == [
        "Binding",
        "Chain",
        "Link",
        "Neighbours",
        "OffloadCheck",
        "ProxyNeighbour",
        "Record",
        "Route",
        "Sysctl",
        "Up",
    ]
    assert found.shared == {thing.key: thing for thing in public.desired(PUBLIC, False)}
    forced = needs(nic, CONFIG, context(nic, force_forwarding=True))
    assert forced.shared == {thing.key: thing for thing in public.desired(PUBLIC, True)}
    assert found.shared != forced.shared
    assert found.all == found.own | found.shared


def test_in_a_table_that_is_no_public_link_nothing_is_shared() -> None:
    nic = nic_of(ROUTED)
    found = needs(nic, CONFIG, context(nic, public=None, uplink=None, table=99))
    assert found.shared == {}
    assert isinstance(found.own["rule", 4, 20000, None, "tap0", 99], Rule)


def test_what_a_nic_on_open_vswitch_needs_is_its_own() -> None:
    found = needs(OVS, CONFIG, context(OVS))
    assert kinds(found.own) == ["Binding", "Chain", "Link", "OffloadCheck", "OvsPort", "Record", "Sysctl", "Up"]
    assert isinstance(found.own["ovs", "tap0"], OvsPort)
    assert found.shared == {}


def test_a_profile_is_shared_by_routed_nics_and_a_bridged_ones_own() -> None:
    nic = nic_of(ROUTED, TAGS="vif:0:profile:web")
    found = needs(nic, CONFIG, context(nic, profile=WEB))
    assert found.own["element", "inet", "profiles", "tap0"] == MapElement(
        family="inet", map="profiles", device="tap0", chain="profile-web"
    )
    assert found.shared["map", "inet", "profiles"] == VerdictMap(family="inet", name="profiles")
    assert found.shared["chain", "inet", "profile-web"] == subchain(WEB)
    bridge = nic_of(BRIDGED, TAGS="vif:0:profile:web")
    alone = needs(bridge, CONFIG, context(bridge, profile=WEB))
    assert alone.shared == {}
    assert alone.own["chain", "netdev", "tap0-out-profile"] == subchain(WEB, bridge)


def test_a_routed_nic_is_followed_and_limited_only_if_its_profile_needs_connections() -> None:
    nic = nic_of(ROUTED, TAGS="vif:0:profile:web")
    plain = needs(nic, CONFIG, context(nic, profile=WEB))
    stateful = needs(nic, CONFIG, context(nic, profile=replace(WEB, stateful="web.nft:1")))
    assert {str(key) for key in stateful.own.keys() - plain.own.keys()} == {
        "('chain', 'inet', 'tap0-connections')",
        "('element', 'inet', 'connections', 'tap0')",
        "('element', 'inet', 'connections-routed', 'tap0')",
    }
    chain = stateful.own["chain", "inet", "tap0-connections"]
    assert isinstance(chain, Subchain)
    assert [rule.text for rule in chain.rules] == ["ct state new ct count over 4096 counter drop", "accept"]
    unlimited = replace(PUBLIC, connections=0)
    free = needs(nic, CONFIG, context(nic, profile=replace(WEB, stateful="web.nft:1"), public=unlimited))
    chain = free.own["chain", "inet", "tap0-connections"]
    assert isinstance(chain, Subchain)
    assert [rule.text for rule in chain.rules] == ["accept"]


@pytest.mark.parametrize(
    ("tags", "known"),
    [
        ("", {"10.77.1.2", "2001:db8:77:0:a800:9ff:fe09:6336"}),
        ("vif:0:address:10.77.1.8/29", {"10.77.1.2", "2001:db8:77:0:a800:9ff:fe09:6336"}),
        ("vif:0:address:10.77.1.7", {"10.77.1.2", "10.77.1.7", "2001:db8:77:0:a800:9ff:fe09:6336"}),
        ("vif:0:mac:aa:00:09:00:00:01", set()),
        ("vif:0:unguarded", set()),
    ],
)
def test_the_node_knows_at_which_mac_an_address_is_if_the_guard_leaves_one(tags: str, known: set[str]) -> None:
    nic = nic_of(ROUTED, TAGS=tags)
    found = needs(nic, CONFIG, context(nic)).own.get(("neighbours", "tap0"))
    assert {str(one) for one in (found.addresses if isinstance(found, Neighbours) else ())} == known


# A guest on another node.


@pytest.mark.parametrize(
    ("thing", "only"),
    [
        (Route(table=222, destination=ip_network("10.77.1.2/32"), device="tap0"), True),
        (Rule(family=4, priority=20000, table=99, device="tap0"), True),
        (Binding(directory="/b", tap="tap0", text=""), True),
        (Neighbours(device="tap0", mac="aa:00:00:00:00:05", addresses=frozenset()), False),
        (ProxyNeighbour(device="eth1", address=ip_address("2001:db8:77::2")), True),
        (ProxyNeighbour(device="tap0", address=ip_address("2001:db8:77::1")), False),
        (Chain(family="netdev", name="x", hook="", device="tap0", priority=0, policy="", rules=()), False),
        (Up(device="tap0"), False),
        (Link(name="tap0"), False),
        (Sysctl(path="net/ipv4/conf/tap0/proxy_arp", value="1"), False),
        (Record(tap="tap0", text=""), False),
        (Subchain(family="inet", name="x", rules=()), False),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, bool) else str(value),
)
def test_what_makes_others_send_here_is_only_where_the_guest_is(thing: Object, only: bool) -> None:
    assert only_here(nic_of(ROUTED), thing) is only


@pytest.mark.parametrize("nic", [nic_of(ROUTED), nic_of(BRIDGED), OVS], ids=["routed", "bridged", "openvswitch"])
def test_a_nic_whose_guest_is_elsewhere_needs_all_but_that(nic: Nic) -> None:
    here, there = (needs(one, CONFIG, context(nic)) for one in (nic, standby(nic)))
    gone = [thing for thing in here.own.values() if only_here(nic, thing)]
    assert any(isinstance(thing, Binding) for thing in gone)
    rest = {key: thing for key, thing in here.own.items() if thing not in gone}
    assert there.own == rest | {("record", nic.tap): record_of(standby(nic))}
    assert there.shared == here.shared


# Its binding.


def test_a_binding_says_where_its_nic_is_and_what_it_has() -> None:
    bridge, way = nic_of(BRIDGED), nic_of(ROUTED)
    assert binding(needs(bridge, CONFIG, context(bridge))) == {
        "GANETI_VIF": bridge.uuid,
        "INDEV": "br0",
        "MAC": "aa:00:09:09:63:36",
        "HOSTNAME": "i1.example.com",
        "IP": "10.9.0.2",
        "SUBNET": "10.9.0.0/24",
        "GATEWAY": "10.9.0.1",
        "SUBNET6": "fd00:9::/64",
        "GATEWAY6": "fd00:9::1",
        "GANETI_VIF_NETWORK": "net-a",
        "GANETI_VIF_SOURCES6": "fd00:9::a800:9ff:fe09:6336/128",
    }
    assert binding(needs(way, CONFIG, context(way))) == {
        "GANETI_VIF": way.uuid,
        "INDEV": "tap0",
        "MAC": "aa:00:09:09:63:36",
        "HOSTNAME": "i1.example.com",
        "IP": "10.77.1.2",
        "SUBNET": "10.77.1.0/24",
        "GATEWAY": "10.77.1.1",
        "SUBNET6": "2001:db8:77::/64",
        "GATEWAY6": "2001:db8:77::1",
        "GANETI_VIF_NETWORK": "net-a",
        "GANETI_VIF_SOURCES6": "2001:db8:77:0:a800:9ff:fe09:6336/128",
    }


@pytest.mark.parametrize(
    ("instance", "host"),
    [("vm-", "vm"), ("a..b", "a.b"), ("x" * 64 + ".y", "x" * 63 + ".y"), ("_", "_"), ("-".join("ab"), "a-b")],
)
def test_an_instance_with_a_name_that_no_host_can_have_is_served_with_another(instance: str, host: str) -> None:
    nic = nic_of(BRIDGED, INSTANCE=instance)
    (text,) = (thing.text for thing in needs(nic, CONFIG, context(nic)).own.values() if isinstance(thing, Binding))
    assert reading(text).hostname == host


def test_a_binding_lies_in_the_directory_of_the_configuration_under_the_name_of_the_tap() -> None:
    nic = nic_of(BRIDGED)
    others = replace(CONFIG, bindings=Bindings(directory="/b"))
    assert ("binding", "/b", "tap0") in needs(nic, others, context(nic)).own


def test_the_mtu_is_that_of_the_bridge_or_of_the_uplink() -> None:
    bridge, way = nic_of(BRIDGED), nic_of(ROUTED)
    jumbo = Link(name="x", kind="bridge", mtu=9000)
    assert binding(needs(bridge, CONFIG, context(bridge, bridge=jumbo, uplink=None)))["MTU"] == "9000"
    assert binding(needs(way, CONFIG, context(way, uplink=jumbo)))["MTU"] == "9000"
    assert "MTU" not in binding(needs(way, CONFIG, context(way, bridge=jumbo)))
    assert "MTU" not in binding(needs(way, CONFIG, context(way, uplink=None)))


SLAAC = "fd00:9::a800:9ff:fe09:6336"


@pytest.mark.parametrize(
    ("given", "responds", "subnet6", "address6"),
    [
        ({}, True, "fd00:9::/64", None),
        ({}, False, "fd00:9::/64", None),
        ({"IP": SLAAC}, True, "fd00:9::/64", None),
        ({"IP": "fd00:9::7"}, True, "fd00:9::/64", "fd00:9::7"),
        ({"IP": "fd00:9::7"}, False, None, None),
        ({"IP": "fd00:8::7"}, True, None, None),
        ({"NETWORK_SUBNET6": "fd00:9::/72"}, True, None, None),
        ({"NETWORK_SUBNET6": "fd00:9::/72", "IP": "fd00:9::7"}, True, "fd00:9::/72", "fd00:9::7"),
        ({"NETWORK_SUBNET6": "fd00:9::/72", "IP": "fd00:9::7"}, False, None, None),
        ({"NETWORK_SUBNET6": None, "NETWORK_GATEWAY6": None}, True, None, None),
    ],
)
def test_no_guest_is_told_a_prefix_of_which_it_would_make_a_foreign_address(
    given: dict[str, str | None], responds: bool, subnet6: str | None, address6: str | None
) -> None:
    nic = nic_of(BRIDGED, **given)
    found = binding(needs(nic, replace(CONFIG, responder=Responder(enabled=responds)), context(nic)))
    assert (found.get("SUBNET6"), found.get("IP6")) == (subnet6, address6)


def test_without_a_network_the_links_subnet_and_gateways_are_told() -> None:
    nic = nic_of(ROUTED, NETWORK_UUID=None)
    found = binding(needs(nic, replace(CONFIG, bindings=Bindings(wanted_for=For.ALL)), context(nic)))
    assert (found["IP"], found["SUBNET"], found["GATEWAY"]) == ("10.77.1.2", "10.77.1.0/24", "10.77.1.1")
    assert "SUBNET6" not in found
    alone = binding(needs(nic, replace(CONFIG, bindings=Bindings(wanted_for=For.ALL)), context(nic, public=None)))
    assert "SUBNET" not in alone
    nothing = replace(nic, ip=None)
    assert "IP" not in binding(needs(nothing, replace(CONFIG, bindings=Bindings(wanted_for=For.ALL)), context(nic)))
    assert isinstance(nic.address, IPv4Address) and not isinstance(nic.address, IPv6Address)


def test_a_network_without_a_gateway_for_ipv6_has_the_links() -> None:
    nic = nic_of(ROUTED, NETWORK_GATEWAY6=None)
    assert binding(needs(nic, CONFIG, context(nic)))["GATEWAY6"] == "2001:db8:77::1"


def test_nfdhcpd_is_told_of_no_link_local_gateway() -> None:
    """It would advertise that as the prefix, and its guests would have no address."""
    nic = nic_of(ROUTED, NETWORK_GATEWAY6="fe80::1")
    assert binding(needs(nic, CONFIG, context(nic)))["GATEWAY6"] == "fe80::1"
    told = binding(needs(nic, NFDHCPD, context(nic)))
    assert "GATEWAY6" not in told
    assert told["SUBNET6"] == "2001:db8:77::/64"
    other = nic_of(ROUTED)
    assert binding(needs(other, NFDHCPD, context(other)))["GATEWAY6"] == "2001:db8:77::1"


def test_a_family_of_private_networks_is_needed_by_none_of_its_nics() -> None:
    """Its bridges are there before them: setup makes them."""
    nic = nic_of(BRIDGED)
    family = replace(CONFIG, private=(Private(prefix="br", numbers=(0,)),))
    found = needs(nic, family, context(nic, family=family.private[0], configured=True))
    assert found == needs(nic, CONFIG, context(nic))
