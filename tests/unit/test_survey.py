# SPDX-License-Identifier: BSD-2-Clause
"""The whole node against what it should be: who is alive, what goes, and what stays while a live NIC is in trouble."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest
from memory_node import MemoryNode, memory_node, standby
from samples import BRIDGED, PUBLIC, ROUTED, nic_of, proper

from ganeti_vif.config.model import Bindings, Config, Consumer, Private, Profile, VlanUplink
from ganeti_vif.desired.needs import needs
from ganeti_vif.engine.chains import Chain, FilterRule, Subchain, VerdictMap
from ganeti_vif.engine.difference import Alter, Change, Make, Remove, subject
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.objects import (
    Binding,
    BridgeNetfilter,
    Origin,
    ProxyNeighbour,
    Record,
    Route,
    Rule,
    Up,
)
from ganeti_vif.engine.state import Object
from ganeti_vif.guard.profile import MAP, subchain
from ganeti_vif.lifecycle.attach import attach
from ganeti_vif.lifecycle.context import context_of
from ganeti_vif.lifecycle.pending import remember
from ganeti_vif.nic.nic import Nic
from ganeti_vif.nic.record import record_of
from ganeti_vif.reconcile.survey import Survey, reconcile, stranded, survey
from ganeti_vif.system import records
from host_setup.private import own_mac
from nfdhcpd_bridge.binding import MARK

PROFILE = Profile(name="web", rules=(("tcp dport 80 accept", "web.nft:1"),))
FAMILY = Private(prefix="pvn", numbers=(1, 2), uplink=VlanUplink("eth1", 2990))
CONFIG = Config(private=(FAMILY,), public=(PUBLIC,), profiles=(PROFILE,))
NFDHCPD = Config(public=(PUBLIC,), private=(FAMILY,), bindings=Bindings(consumer=Consumer.NFDHCPD))
SECOND = "2261b892-74ab-4e0a-8f25-e1c0c5a7b202"
STRAY = Route(table=PUBLIC.table, destination=ip_network("10.77.1.200/32"), device="eth1")
"""A route that carries our mark and that nobody wants."""


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryNode:
    """A node that is set up and has no guest."""
    found = memory_node(tmp_path, monkeypatch)
    reconcile(CONFIG, found)
    return found


@pytest.fixture
def bridged(node: MemoryNode) -> Nic:
    nic = node.plug(nic_of(BRIDGED, LINK="pvn1", BRIDGE="pvn1"))
    attach(nic, CONFIG, node)
    return nic


@pytest.fixture
def routed(node: MemoryNode) -> Nic:
    nic = node.plug(nic_of(ROUTED, INTERFACE="tap1", INTERFACE_UUID=SECOND, INTERFACE_NAME="eth1"))
    attach(nic, CONFIG, node)
    return nic


def removed(found: Survey) -> list[Object]:
    return [change.actual for change in found.changes if isinstance(change, Remove)]


def texts(found: Survey) -> list[str]:
    return [proper(failure).what for failure in found.trouble]


def wants(nic: Nic, node: MemoryNode) -> frozenset[object]:
    return frozenset(needs(nic, CONFIG, context_of(nic, CONFIG, node)).own)


# What is as it should be.


def test_on_a_node_that_is_right_nothing_is_found(bridged: Nic, routed: Nic, node: MemoryNode) -> None:
    found = survey(CONFIG, node)
    assert (found.changes, found.trouble, found.findings, found.moved) == ((), [], [], [])
    assert (found.nics, found.dead, found.pending, found.damaged) == ([bridged, routed], [], set(), set())
    assert found.wanted == {nic.tap: wants(nic, node) for nic in (bridged, routed)}
    assert {"tap0", "tap1", "eth1", "pvn1"} <= found.devices.by_name.keys()


def test_a_node_that_was_never_set_up_is_made_what_it_should_be(node: MemoryNode) -> None:
    before = node.snapshot()
    for device in ("pvn1", "pvn2", "eth1.2991", "eth1.2992"):
        node.unplug(device)
    node.things.clear()
    node.put(Up(device="eth1"), Up(device="br0"))
    found = reconcile(CONFIG, node)
    assert found.changes and not removed(found)
    assert {key for key in node.snapshot()} == before.keys()
    assert survey(CONFIG, node).changes == ()


def test_what_is_missing_of_a_nic_is_made_again_and_said(bridged: Nic, routed: Nic, node: MemoryNode) -> None:
    before = node.snapshot()
    lost = before[("chain", "netdev", "tap0-in")]
    del node.things[lost.key]
    del node.things[("route", PUBLIC.table, ip_network("10.77.1.2/32"), 0)]
    found = reconcile(CONFIG, node)
    assert {type(subject(change)) for change in found.changes} == {Chain, Route}
    assert found.findings == [
        "missing: ip route 10.77.1.2/32 dev tap1 table 222 proto 156",
        "missing: filter chain netdev tap0-in",
    ]
    assert node.snapshot() == before


def test_a_bridge_has_a_mac_of_this_node_and_nfdhcpd_its_queues(node: MemoryNode) -> None:
    bridge = node.link("pvn1")
    assert bridge and bridge.mac == own_mac("node1", "pvn1")
    queues = ("chain", "inet", "nfdhcpd")
    assert queues not in node.things
    reconcile(NFDHCPD, node)
    assert queues in node.things


# Who is alive.


def test_what_a_dead_nic_left_goes_and_nothing_of_the_living(bridged: Nic, routed: Nic, node: MemoryNode) -> None:
    mine = node.snapshot()
    node.unplug("tap0")
    found = survey(CONFIG, node)
    assert (found.nics, found.dead) == ([routed], [bridged])
    assert {type(thing) for thing in removed(found)} == {Record, Origin, Binding}
    assert len(found.changes) == 3
    reconcile(CONFIG, node)
    assert survey(CONFIG, node).changes == ()
    assert node.of("tap0") == set()
    assert all(node.snapshot().get(key) == thing for key, thing in mine.items() if "tap0" not in str(thing))


def test_a_nic_whose_name_has_another_device_is_dead(bridged: Nic, node: MemoryNode) -> None:
    node.unplug("tap0")
    other = node.plug(bridged)
    found = survey(CONFIG, node)
    assert (found.nics, found.dead, found.wanted) == ([], [bridged], {})
    reconcile(CONFIG, node)
    assert node.of("tap0") == set()
    tap = node.link("tap0")
    assert tap and tap.index == other.index and tap.mac == "e6:11:22:33:44:55"


def test_a_guest_elsewhere_is_alive_here_and_has_no_route(routed: Nic, node: MemoryNode) -> None:
    attach(standby(routed), CONFIG, node)
    found = survey(CONFIG, node)
    assert (found.nics, found.changes) == ([standby(routed)], ())
    assert not any(isinstance(thing, Route) and thing.device == "tap1" for thing in node.has(Route))


def test_a_pending_nic_is_told_of_first_and_attached(bridged: Nic, node: MemoryNode) -> None:
    waiting = node.plug(nic_of(ROUTED, INTERFACE="tap5", INTERFACE_UUID=SECOND))
    remember(waiting, CONFIG, node)
    found = survey(CONFIG, node)
    assert (found.nics, found.pending) == ([bridged, waiting], {"tap5"})
    assert found.findings[0] == f"not attached: i1.example.com NIC eth0 (tap5), to rt_pub; NIC {SECOND}"
    assert sum(line.startswith("not attached") for line in found.findings) == 1
    (told,) = (change for change in found.changes if isinstance(subject(change), Record))
    assert told == Alter(record_of(waiting, pending=True), record_of(waiting))
    reconcile(CONFIG, node)
    assert survey(CONFIG, node).findings == []
    assert {"Route", "Chain", "Up"} <= node.of("tap5")


# Two that want one thing.


def rival(node: MemoryNode, tap: str, nic: Nic) -> Nic:
    """Another tenant's NIC with the address of NIC, of which there is a record."""
    uuid = "3361b892-74ab-4e0a-8f25-e1c0c5a7b203"
    other = node.plug(replace(nic, tap=tap, uuid=uuid, instance="i2.example.com"))
    records.perform(Make(record_of(other)))
    return other


def test_who_was_here_first_keeps_its_address_whatever_the_taps_are_called(routed: Nic, node: MemoryNode) -> None:
    before = node.things[("route", PUBLIC.table, ip_network("10.77.1.2/32"), 0)]
    other = rival(node, "tap0", routed)
    found = survey(CONFIG, node)
    assert found.nics == [routed, other]
    assert found.wanted.keys() == {"tap1"}
    assert texts(found) == [
        f"{other.whom}: it cannot have what {routed.whom} has: ip route 10.77.1.2/32 dev tap1 table 222 proto 156"
    ]
    reconcile(CONFIG, node)
    assert node.things[before.key] == before


def test_of_two_in_a_plain_table_the_second_is_told_who_has_its_address(node: MemoryNode, tmp_path: Path) -> None:
    """There no route is asked for: the plan itself shows the clash."""
    (tmp_path / "rt_tables").write_text("99 plain\n")
    nic = node.plug(nic_of(ROUTED, INTERFACE="tap1", LINK="plain", NETWORK_UUID=None, IP="192.0.2.7"))
    attach(nic, CONFIG, node)
    other = rival(node, "tap0", nic)
    found = survey(CONFIG, node)
    (failure,) = found.trouble
    assert proper(failure).what == (
        f"{other.whom}: it cannot have what {nic.whom} has: ip route 192.0.2.7/32 dev tap1 table 99 proto 156"
    )
    assert failure.do == "note: give one of them another address: ganeti-vif status shows both"
    assert found.wanted.keys() == {"tap1"}
    assert found.changes == ()


def test_what_the_node_itself_has_is_no_nics(node: MemoryNode, tmp_path: Path) -> None:
    (tmp_path / "rt_tables").write_text("222 plain\n")
    nic = nic_of(ROUTED, LINK="plain", NETWORK_UUID=None, IP=None, TAGS="vif:0:address:10.77.1.0/24")
    records.perform(Make(record_of(node.plug(nic))))
    (failure,) = survey(CONFIG, node).trouble
    assert "it cannot have what this node has: ip route 10.77.1.0/24 dev eth1 table 222 proto 156" in failure.what


def test_a_pending_nic_comes_after_all_that_are_attached(routed: Nic, node: MemoryNode) -> None:
    """It was here first by its number; but who has the address, has it."""
    node.unplug("tap1")
    records.perform(Remove(record_of(routed)))
    early = node.plug(replace(routed, tap="tap9"))
    late = node.plug(replace(routed, tap="tap0", uuid="3361b892-74ab-4e0a-8f25-e1c0c5a7b203"))
    records.perform(Make(record_of(late)))
    records.perform(Make(record_of(early, pending=True)))
    found = survey(CONFIG, node)
    assert found.nics == [late, early]
    assert found.wanted.keys() == {"tap0"}


# In trouble.


def test_nothing_that_carries_our_mark_is_removed_while_a_live_nic_is_in_trouble(routed: Nic, node: MemoryNode) -> None:
    """A mistake in the configuration would cut the guest off: here its subnet is not in it any more."""
    node.put(STRAY)
    assert removed(survey(CONFIG, node)) == [STRAY]
    without = replace(CONFIG, public=(replace(PUBLIC, subnets=(ip_network("192.0.2.0/24"),), gateways=()),))
    found = survey(without, node)
    assert [failure.what for failure in found.trouble] == [
        f"{routed.whom}: its address 10.77.1.2 is in no subnet of the public link rt_pub"
    ]
    assert "tap1" not in found.wanted
    assert removed(found) == []
    assert found.changes  # what is missing is made all the same


def test_what_dead_nics_left_goes_all_the_same(bridged: Nic, routed: Nic, node: MemoryNode) -> None:
    node.unplug("tap0")
    node.put(STRAY)
    without = replace(CONFIG, public=(replace(PUBLIC, subnets=(ip_network("192.0.2.0/24"),), gateways=()),))
    found = survey(without, node)
    assert found.dead == [bridged]
    assert {type(thing) for thing in removed(found)} == {Record, Origin, Binding}
    assert {thing.key[1:] for thing in removed(found)} == {("tap0",), (CONFIG.bindings.directory, "tap0")}


def test_a_network_that_cannot_be_set_up_is_told_of_and_keeps_nothing_from_going(routed: Nic, node: MemoryNode) -> None:
    """No live NIC is in trouble by it: those that are on it say so themselves."""
    node.put(STRAY)
    broken = replace(CONFIG, private=(replace(FAMILY, uplink=VlanUplink("eth9", 1)),))
    found = survey(broken, node)
    assert texts(found) == ["private networks pvn*: the uplink device eth9 does not exist"]
    assert STRAY in removed(found)


def test_a_filtered_tap_without_a_record_keeps_its_filter_and_is_told_of(
    bridged: Nic, routed: Nic, node: MemoryNode
) -> None:
    records.perform(Remove(record_of(bridged)))
    node.put(STRAY)
    before = node.snapshot()
    found = survey(CONFIG, node)
    (failure,) = found.trouble
    assert (proper(failure).what, failure.do) == (
        "tap0 is filtered as a NIC of ours, but there is no readable record of its NIC",
        "ganeti-vif adopt",
    )
    assert found.changes == ()
    reconcile(CONFIG, node)
    assert node.snapshot() == before


@pytest.mark.parametrize(
    "chain",
    [
        {"hook": "egress"},
        {"policy": "accept"},
        {"device": "tap9"},
        {"device": None},
    ],
    ids=["of what reaches a guest", "that is open", "of a device that is gone", "of no device"],
)
def test_what_is_no_live_guests_filter_is_left_over(chain: dict[str, str | None], node: MemoryNode) -> None:
    node.add("tap0", kind="tun", tun="tap")
    given = {"family": "netdev", "name": "x", "hook": "ingress", "device": "tap0", "priority": 0, "policy": "drop"}
    stray = Chain(**(given | chain), rules=(FilterRule("counter drop", "all"),))  # type: ignore[arg-type]
    node.put(stray)
    found = survey(CONFIG, node)
    assert (found.trouble, removed(found)) == ([], [stray])


def test_a_nic_that_is_attached_meanwhile_is_no_orphan_and_loses_nothing(
    bridged: Nic, node: MemoryNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record and its filter came after the records were read and before the filters were."""
    node.put(STRAY)
    monkeypatch.setattr(records, "read_all", lambda: iter(()))
    found = survey(CONFIG, node)
    assert (found.nics, found.trouble, removed(found)) == ([], [], [])


def test_after_one_that_is_attached_meanwhile_the_next_orphan_is_told_of_all_the_same(
    bridged: Nic, routed: Nic, node: MemoryNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    records.perform(Remove(record_of(routed)))
    monkeypatch.setattr(records, "read_all", lambda: iter(()))
    assert [text[:4] for text in texts(survey(CONFIG, node))] == ["tap1"]


@pytest.mark.parametrize("text", ["{", "of another device"])
def test_a_record_that_says_nothing_of_this_tap_makes_it_no_orphan_less(
    text: str, bridged: Nic, node: MemoryNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = record_of(replace(bridged, index=bridged.index + 1)) if text != "{" else Record(tap="tap0", text=text)
    records.perform(Make(other))
    monkeypatch.setattr(records, "read_all", lambda: iter(()))
    assert "tap0 is filtered as a NIC of ours" in texts(survey(CONFIG, node))[0]


def test_orphans_are_told_in_the_order_of_their_names(node: MemoryNode) -> None:
    for name in ("tap3", "tap1", "tap2"):
        node.add(name, kind="tun", tun="tap")
        node.put(
            Chain(family="netdev", name=f"{name}-in", hook="ingress", device=name, priority=0, policy="drop", rules=())
        )
    assert [text[:4] for text in texts(survey(CONFIG, node))] == ["tap1", "tap2", "tap3"]


# Records.


def test_a_damaged_record_of_a_live_tap_is_told_of_and_its_guest_stays_closed(bridged: Nic, node: MemoryNode) -> None:
    records.perform(Make(Record(tap="tap0", text="{")))
    found = survey(CONFIG, node)
    assert found.damaged == {"tap0"}
    assert [text.partition(":")[0] for text in texts(found)] == [
        "the record of tap0 cannot be read",
        "tap0 is filtered as a NIC of ours, but there is no readable record of its NIC",
    ]
    assert found.changes == ()
    reconcile(CONFIG, node)
    assert {"Chain", "Up", "Origin", "Record", "Binding"} <= node.of("tap0")


def test_a_damaged_record_of_a_dead_tap_goes_with_its_origin(bridged: Nic, routed: Nic, node: MemoryNode) -> None:
    records.perform(Make(Record(tap="tap0", text="{")))
    node.unplug("tap0")
    found = survey(CONFIG, node)
    assert found.damaged == {"tap0"}
    assert {type(thing) for thing in removed(found)} == {Record, Origin, Binding}
    reconcile(CONFIG, node)
    assert node.of("tap0") == set()
    assert node.of("tap1") >= {"Record", "Origin"}


def test_a_damaged_record_keeps_no_other_nic_from_being_seen(bridged: Nic, node: MemoryNode) -> None:
    records.perform(Make(Record(tap="tap-1", text="{")))
    assert survey(CONFIG, node).nics == [bridged]


def test_what_a_killed_writer_left_is_no_record_and_goes(bridged: Nic, node: MemoryNode) -> None:
    records.perform(Make(Record(tap=".tap1", text=record_of(bridged).text)))
    found = survey(CONFIG, node)
    assert (found.nics, found.trouble, found.damaged) == ([bridged], [], set())
    assert [type(thing) for thing in removed(found)] == [Record]
    reconcile(CONFIG, node)
    assert [record.tap for record in records.read_all()] == ["tap0"]


def test_a_stray_origin_and_a_binding_of_nobody_go_and_foreign_things_stay(bridged: Nic, node: MemoryNode) -> None:
    ours = Binding(directory=CONFIG.bindings.directory, tap="tap8", text=f"{MARK}=x\n")
    theirs = Binding(directory=CONFIG.bindings.directory, tap="tap7", text="IP=192.0.2.1\n")
    foreign = Rule(family=4, priority=9, table=222, device="tap7", protocol=3)
    records.perform(Make(Origin(tap="tap8", text="{}")))
    node.put(ours, theirs, foreign)
    found = reconcile(CONFIG, node)
    assert removed(found) == [ours, Origin(tap="tap8", text="{}")]
    assert {theirs.key, foreign.key} <= node.things.keys()


def test_a_profile_that_no_nic_has_at_the_moment_stays(node: MemoryNode) -> None:
    idle = subchain(PROFILE)
    node.put(idle, VerdictMap(family="inet", name=MAP), Subchain(family="inet", name="profile-old", rules=()))
    assert removed(survey(CONFIG, node)) == [Subchain(family="inet", name="profile-old", rules=())]


# What is exchanged, and what cannot be served.


def test_an_uplink_is_exchanged_in_one_go_and_after_all_else(bridged: Nic, node: MemoryNode) -> None:
    other = replace(CONFIG, private=(replace(FAMILY, uplink=VlanUplink("eth1", 100)),))
    node.put(STRAY)
    found = survey(other, node)
    shown = [(type(change).__name__, subject(change).key[1]) for change in found.changes]
    first = shown.index(("Remove", "eth1.2991"))
    assert subject(found.changes[0]) == STRAY
    assert all("eth1." in str(name) for _, name in shown[first:])
    assert shown.index(("Make", "eth1.101")) < shown.index(("Remove", "eth1.2992"))
    reconcile(other, node)
    assert survey(other, node).changes == ()
    ports = node.devices().ports()
    assert {port.name for port in ports["pvn1"]} == {"tap0", "eth1.101"}
    assert {port.name for port in ports["pvn2"]} == {"eth1.102"}


def test_who_is_on_a_link_that_gets_another_table_is_moved(bridged: Nic, routed: Nic, node: MemoryNode) -> None:
    other = replace(CONFIG, public=(replace(PUBLIC, table=333),))
    found = survey(other, node)
    assert found.moved == [routed]
    position = {type(c).__name__ + type(subject(c)).__name__: at for at, c in enumerate(found.changes)}
    assert position["MakeRoute"] < position["AlterChain"] < position["RemoveRoute"]
    reconcile(other, node)
    assert survey(other, node).changes == ()


def test_what_a_dead_nic_left_goes_first_when_a_link_moves(routed: Nic, node: MemoryNode) -> None:
    node.unplug("tap1")
    found = survey(replace(CONFIG, public=(replace(PUBLIC, table=333),)), node)
    shown: list[Change] = [*found.changes]
    dead = next(at for at, c in enumerate(shown) if isinstance(subject(c), Record))
    last = next(at for at, c in enumerate(shown) if isinstance(c, Remove) and isinstance(c.actual, Rule))
    assert dead < last


def on(bridge: str, node: MemoryNode, tap: str, **changes: str | None) -> Nic:
    uuid = f"{tap[-1] * 8}-74ab-4e0a-8f25-e1c0c5a7b202"
    nic = node.plug(nic_of(BRIDGED, LINK=bridge, BRIDGE=bridge, INTERFACE=tap, INTERFACE_UUID=uuid, **changes))
    attach(nic, NFDHCPD, node)
    return nic


def switch(tmp_path: Path, name: str, value: str) -> None:
    directory = tmp_path / "sys" / "net" / "bridge"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"bridge-nf-call-{name}").write_text(f"{value}\n")


def test_whom_nfdhcpd_does_not_hear_on_a_bridge_of_others_is_told(node: MemoryNode, tmp_path: Path) -> None:
    reconcile(NFDHCPD, node)
    first, _ = on("br0", node, "tap0"), on("br0", node, "tap1", IP="10.9.0.3")
    on("pvn1", node, "tap2", IP="10.9.0.4")
    (failure,) = survey(NFDHCPD, node).trouble
    assert proper(failure).what == (
        f"NFDHCPD does not hear {first.whom} and 1 more: what br0 forwards does not pass netfilter"
    )
    assert failure.do == "ip link set br0 type bridge nf_call_iptables 1 nf_call_ip6tables 1"
    switch(tmp_path, "iptables", "1")
    assert survey(NFDHCPD, node).trouble
    switch(tmp_path, "ip6tables", "1")
    assert survey(NFDHCPD, node).trouble == []
    switch(tmp_path, "iptables", "0")
    assert survey(NFDHCPD, node).trouble
    node.put(BridgeNetfilter(bridge="br0", iptables=True, ip6tables=True))
    assert survey(NFDHCPD, node).trouble == []


def test_two_bridges_are_told_of_each_with_its_guests(node: MemoryNode) -> None:
    node.add("br1", kind="bridge")
    reconcile(NFDHCPD, node)
    for number, bridge in enumerate(("br0", "br1")):
        on(bridge, node, f"tap{number}", IP=f"10.9.0.{number + 2}")
    shown = texts(survey(NFDHCPD, node))
    assert [("(tap0)" in text and "br0" in text, "(tap1)" in text and "br1" in text) for text in shown] == [
        (True, False),
        (False, True),
    ]


def test_a_guest_without_ipv6_need_not_be_heard_by_it(node: MemoryNode, tmp_path: Path) -> None:
    reconcile(NFDHCPD, node)
    nic = on("br0", node, "tap0", NETWORK_SUBNET6=None, NETWORK_GATEWAY6=None)
    assert survey(NFDHCPD, node).trouble
    switch(tmp_path, "iptables", "1")
    assert survey(NFDHCPD, node).trouble == []
    attach(replace(nic, network=None), NFDHCPD, node)
    switch(tmp_path, "iptables", "0")
    assert survey(NFDHCPD, node).trouble == []  # it has no binding


def test_who_cannot_be_attached_need_not_be_heard(node: MemoryNode) -> None:
    reconcile(NFDHCPD, node)
    nic = on("br0", node, "tap0")
    node.unplug("br0")
    assert texts(survey(NFDHCPD, node)) == [f"{nic.whom}: the bridge br0 does not exist"]


def test_our_own_responder_hears_all(node: MemoryNode) -> None:
    attach(node.plug(nic_of(BRIDGED)), CONFIG, node)
    assert survey(CONFIG, node).trouble == []


def test_a_routed_guest_is_heard_by_its_tap(routed: Nic, node: MemoryNode) -> None:
    reconcile(NFDHCPD, node)
    assert survey(NFDHCPD, node).trouble == []


# Before a configuration is put in force.


def test_who_could_not_be_attached_any_more_is_named(bridged: Nic, routed: Nic, node: MemoryNode) -> None:
    assert stranded(CONFIG, node, []) == []
    (failure,) = stranded(replace(CONFIG, public=()), node, [])
    assert proper(failure).what == f"{routed.whom}: the link rt_pub is no routing table"
    assert stranded(replace(CONFIG, private=()), node, []) == []  # bridged ones stay where they are
    known = Failure("the link rt_pub is no routing table", "x")
    assert stranded(replace(CONFIG, public=()), node, [known]) == []
    assert stranded(replace(CONFIG, public=()), node, [Failure("something else", "x")]) != []


def test_a_dead_nic_is_stranded_nowhere(routed: Nic, node: MemoryNode) -> None:
    node.unplug("tap1")
    assert stranded(replace(CONFIG, public=()), node, []) == []
    node.plug(routed)
    assert stranded(replace(CONFIG, public=()), node, []) == []


# Reconcile.


def test_reconcile_does_all_that_it_can_and_names_the_rest(bridged: Nic, routed: Nic, node: MemoryNode) -> None:
    before = node.snapshot()
    for lost in (("chain", "netdev", "tap0-in"), ("binding", CONFIG.bindings.directory, "tap1")):
        del node.things[lost]
    with node.failing(0), pytest.raises(Failure, match="it is broken"):
        reconcile(CONFIG, node)
    assert len(before.keys() - node.snapshot().keys()) == 1
    assert reconcile(CONFIG, node).changes
    assert node.snapshot() == before


def test_the_proxy_of_a_dead_nic_whose_address_lives_on_stays(routed: Nic, node: MemoryNode) -> None:
    node.unplug("tap1")
    again = node.plug(replace(routed, tap="tap6"))
    attach(again, CONFIG, node)
    proxies = node.has(ProxyNeighbour)
    reconcile(CONFIG, node)
    assert node.has(ProxyNeighbour) == proxies
    assert survey(CONFIG, node).changes == ()
