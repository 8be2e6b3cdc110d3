# SPDX-License-Identifier: BSD-2-Clause
"""A NIC's life on a node in memory: attach, attach again, refuse, fail at each change, detach, keep for later."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, ip_network
from pathlib import Path

import pytest
from memory_node import MemoryNode, binding_of, memory_node, standby
from samples import BRIDGED, CONFIG, PUBLIC, ROUTED, nic_of, proper

from ganeti_vif.engine.chains import Chain, FilterRule, MapElement
from ganeti_vif.engine.difference import Alter, Change, Make, Remove, subject
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.objects import (
    Binding,
    BridgePort,
    Link,
    OffloadCheck,
    Origin,
    ProxyNeighbour,
    Record,
    Route,
    Rule,
    Up,
)
from ganeti_vif.engine.state import Object
from ganeti_vif.lifecycle.attach import attach, attach_plan, is_its_tap
from ganeti_vif.lifecycle.detach import detach, removable
from ganeti_vif.lifecycle.order import down, obey
from ganeti_vif.lifecycle.pending import remember, remembered
from ganeti_vif.lifecycle.recorded import former_owner
from ganeti_vif.lifecycle.standby import let_go, let_go_plan
from ganeti_vif.lifecycle.take_over import take_over
from ganeti_vif.nic.nic import Nic
from ganeti_vif.nic.record import is_pending, record_of
from ganeti_vif.reconcile.survey import reconcile
from ganeti_vif.system import records
from nfdhcpd_bridge.binding import MARK

GIVEN = {
    "bridged": nic_of(BRIDGED),
    "routed": nic_of(ROUTED),
    "openvswitch": nic_of(BRIDGED, MODE="openvswitch", LINK="ovs0", BRIDGE=None, NETWORK_TAGS="nfdhcpd"),
    "limited": nic_of(BRIDGED, TAGS="vif:0:rate:10M vif:0:packets:1k", NETWORK_TAGS="nfdhcpd vif:isolated"),
    "routed and limited": nic_of(ROUTED, TAGS="vif:0:rate:10M/none vif:0:packets:1k"),
}
OTHER_UUID = "2261b892-74ab-4e0a-8f25-e1c0c5a7b202"
OTHER_MAC = "aa:00:09:0a:0b:0c"


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryNode]:
    """A node that is set up and has no guest. No tap is ever connected without its filter, whatever a test does."""
    found = memory_node(tmp_path, monkeypatch)
    reconcile(CONFIG, found)
    found.done.clear()
    yield found
    assert found.exposed == set()


@pytest.fixture(params=GIVEN)
def nic(request: pytest.FixtureRequest, node: MemoryNode) -> Nic:
    """A NIC of each mode, whose tap QEMU has opened."""
    return node.plug(GIVEN[request.param])


@pytest.fixture
def routed(node: MemoryNode) -> Nic:
    return node.plug(GIVEN["routed"])


@pytest.fixture
def bridged(node: MemoryNode) -> Nic:
    return node.plug(GIVEN["bridged"])


def another(nic: Nic) -> Nic:
    """Another tenant's NIC behind the same device: of another UUID, MAC and address."""
    assert nic.ip
    return replace(nic, uuid=OTHER_UUID, instance="i2.example.com", mac=OTHER_MAC, ip=nic.ip + 1)


def restarted(nic: Nic, node: MemoryNode) -> Nic:
    """NIC's guest is gone, and its tap's name is given to another tenant's NIC."""
    node.unplug(nic.tap)
    return node.plug(another(nic))


def kinds(changes: tuple[Change, ...] | list[Change], kind: type) -> list[str]:
    return [type(subject(change)).__name__ for change in changes if isinstance(change, kind)]


def fresh(nic: Nic, node: MemoryNode) -> dict[tuple[object, ...], Object]:
    """What the node looks like when NIC alone was attached, and nobody before it: the tap's number apart."""
    return {
        key: replace(thing, index=None) if isinstance(thing, Link) and thing.name == nic.tap else thing
        for key, thing in node.snapshot().items()
        if not isinstance(thing, Record | Origin)
    }


# Attach.


def test_a_guest_gets_its_filter_before_its_network_and_its_record_before_all(nic: Nic, node: MemoryNode) -> None:
    changes = attach(nic, CONFIG, node)
    assert tuple(node.done) == changes
    assert [type(subject(change)) for change in changes[:2]] == [Origin, Record]
    assert records.read_record(nic.tap) == record_of(nic)
    assert node.of(nic.tap) >= {"Record", "Origin", "Chain", "Up", "Binding"}
    assert binding_of(node, CONFIG, nic.tap)[MARK] == nic.uuid


def test_attached_twice_nothing_changes(nic: Nic, node: MemoryNode) -> None:
    attach(nic, CONFIG, node)
    before = node.snapshot()
    assert attach(nic, CONFIG, node) == ()
    assert attach_plan(nic, CONFIG, node).all == ()
    assert node.snapshot() == before


def test_what_drifted_is_mended_and_the_rest_stays(nic: Nic, node: MemoryNode) -> None:
    attach(nic, CONFIG, node)
    before = node.snapshot()
    for lost in (
        thing for thing in before.values() if isinstance(thing, Chain | Binding) and nic.tap in str(thing.key)
    ):
        del node.things[lost.key]
        (change,) = attach(nic, CONFIG, node)
        assert change == Make(lost)
    assert node.snapshot() == before


def test_a_dry_run_says_what_an_attach_does_and_does_nothing(nic: Nic, node: MemoryNode) -> None:
    before = node.snapshot()
    told = attach(nic, CONFIG, node, dry_run=True)
    assert node.snapshot() == before
    assert attach(nic, CONFIG, node) == told


def test_a_plan_made_before_is_carried_out_as_it_is(nic: Nic, node: MemoryNode) -> None:
    plan = attach_plan(nic, CONFIG, node)
    del node.things[("up", "br0")]  # nobody looks again
    assert attach(nic, CONFIG, node, plan=plan) == plan.all
    assert records.read_record(nic.tap) == record_of(nic)


def test_a_plan_for_a_tap_that_is_another_by_now_is_thrown_away(nic: Nic, node: MemoryNode) -> None:
    plan = attach_plan(nic, CONFIG, node)
    restarted(nic, node)
    before = node.snapshot()
    with pytest.raises(Failure, match="is another device by now") as caught:
        attach(nic, CONFIG, node, plan=plan)
    assert proper(caught.value).what.startswith(nic.whom)
    assert node.snapshot() == before


def test_a_failure_at_any_change_leaves_the_node_as_it_was(nic: Nic, node: MemoryNode) -> None:
    before = node.snapshot()
    count = len(attach(nic, CONFIG, node, dry_run=True))
    assert count > 6
    for change in range(count):
        with node.failing(change), pytest.raises(Failure, match="it is broken") as caught:
            attach(nic, CONFIG, node)
        assert proper(caught.value).what == f"{nic.whom}: it is broken"
        assert node.snapshot() == before
    assert len(attach(nic, CONFIG, node)) == count


def test_a_failure_while_it_is_changed_leaves_the_guest_as_it_was(nic: Nic, node: MemoryNode) -> None:
    attach(nic, CONFIG, node)
    before = node.snapshot()
    changed = replace(nic, mac=OTHER_MAC, instance="renamed.example.com")
    count = len(attach(changed, CONFIG, node, dry_run=True))
    assert count > 2
    for change in range(count):
        with node.failing(change), pytest.raises(Failure, match="it is broken"):
            attach(changed, CONFIG, node)
        assert node.snapshot() == before


# Whose tap it is.


def test_the_tap_of_that_name_with_another_number_is_not_its_own(nic: Nic, node: MemoryNode) -> None:
    assert is_its_tap(nic, node)
    assert not is_its_tap(replace(nic, index=nic.index + 1), node)
    assert not is_its_tap(replace(nic, tap="tap9"), node)


def test_what_is_no_tap_is_not_its_own(nic: Nic, node: MemoryNode) -> None:
    card = node.add("eth7", kind=None)
    assert not is_its_tap(replace(nic, tap="eth7", index=card.index or 0), node)


def test_an_attach_to_a_tap_that_is_another_by_now_is_refused(nic: Nic, node: MemoryNode) -> None:
    node.unplug(nic.tap)
    node.plug(nic)
    before = node.snapshot()
    with pytest.raises(Failure, match="another device by now"):
        attach(nic, CONFIG, node)
    assert node.snapshot() == before


def test_the_next_owner_of_a_name_gets_nothing_of_the_former(nic: Nic, node: MemoryNode) -> None:
    attach(nic, CONFIG, node)
    new = restarted(nic, node)
    plan = attach_plan(new, CONFIG, node)
    assert {"Record", "Origin", "Binding"} <= set(kinds(plan.leftovers, Remove))
    assert kinds(plan.changes, Remove) == []
    attach(new, CONFIG, node)
    found = fresh(new, node)
    assert records.read_record(new.tap) == record_of(new)
    detach(new, CONFIG, node)
    attach(new, CONFIG, node)
    assert fresh(new, node) == found  # as if nobody had been before it
    assert binding_of(node, CONFIG, new.tap)[MARK] == OTHER_UUID


def test_what_a_former_owner_left_stays_gone_though_the_attach_fails(nic: Nic, node: MemoryNode) -> None:
    change, count = 0, 1
    while change < count:
        attach(nic, CONFIG, node)
        new = restarted(nic, node)
        plan = attach_plan(new, CONFIG, node)
        with node.failing(len(plan.leftovers) + change), pytest.raises(Failure, match="it is broken"):
            attach(new, CONFIG, node)
        assert node.of(nic.tap) == set()
        node.unplug(nic.tap)
        nic = node.plug(nic)
        change, count = change + 1, len(plan.changes)
    assert count > 6


def test_the_same_nic_behind_a_new_tap_has_a_new_filter_and_a_new_origin(nic: Nic, node: MemoryNode) -> None:
    """The same UUID and another ifindex: a guest that was restarted. What it had is a former owner's, for the tap is
    another: its origin must not be given back to this one."""
    attach(nic, CONFIG, node)
    node.unplug(nic.tap)
    new = node.plug(nic, mac="e6:99:99:99:99:99")
    plan = attach_plan(new, CONFIG, node)
    assert {"Record", "Origin"} <= set(kinds(plan.leftovers, Remove))
    attach(new, CONFIG, node)
    detach(new, CONFIG, node)
    tap = node.link(new.tap)
    assert tap
    assert (tap.mac, node.of(new.tap)) == ("e6:99:99:99:99:99", set())


def test_another_nic_behind_the_same_device_takes_nothing_over(nic: Nic, node: MemoryNode) -> None:
    """A hot-unplugged NIC's tap may be held open and be given to another one: the same ifindex, another UUID."""
    attach(nic, CONFIG, node)
    new = another(nic)
    plan = attach_plan(new, CONFIG, node)
    assert {"Record", "Binding", "Chain", "Up"} <= set(kinds(plan.leftovers, Remove))
    attach(new, CONFIG, node)
    assert attach(new, CONFIG, node) == ()
    assert [r.destination for r in node.has(Route) if isinstance(r, Route) and r.device == nic.tap] == [
        network for version in (4, 6) for network in new.networks(version) if new.mode.value == "routed"
    ]


def test_an_attach_that_only_changes_a_nic_takes_its_old_address_away_in_one_undo(
    routed: Nic, node: MemoryNode
) -> None:
    attach(routed, CONFIG, node)
    changed = replace(routed, ip=IPv4Address("10.77.1.9"))
    plan = attach_plan(changed, CONFIG, node)
    assert plan.leftovers == ()
    assert kinds(plan.changes, Remove) == ["Route"]
    attach(changed, CONFIG, node)
    assert {str(r.destination) for r in node.has(Route) if isinstance(r, Route) and r.device == "tap0"} == {
        "10.77.1.9/32",
        "2001:db8:77:0:a800:9ff:fe09:6336/128",
    }


def test_what_nobody_recorded_under_the_name_of_a_tap_goes(bridged: Nic, node: MemoryNode) -> None:
    """Records go with a reboot and bindings do not; a chain may outlive its device."""
    rule = (FilterRule("counter accept", "open"),)
    out = Chain(family="netdev", name="tap0-out", hook="egress", device="tap0", priority=0, policy="accept", rules=rule)
    node.put(out, Binding(directory=CONFIG.bindings.directory, tap="tap0", text=f"{MARK}={OTHER_UUID}\nIP=10.9.9.9\n"))
    plain = replace(bridged, network=None)
    plan = attach_plan(plain, CONFIG, node)
    assert sorted(kinds(plan.leftovers, Remove)) == ["Binding", "Chain"]
    attach(plain, CONFIG, node)
    assert out.key not in node.things
    assert binding_of(node, CONFIG, "tap0") == {}


def test_a_binding_that_somebody_else_wrote_is_left(bridged: Nic, node: MemoryNode) -> None:
    foreign = Binding(directory=CONFIG.bindings.directory, tap="tap0", text="IP=10.9.9.9\n")
    node.put(foreign)
    attach(replace(bridged, network=None), CONFIG, node)
    assert node.things[foreign.key] == foreign


def test_a_binding_of_ours_that_is_wanted_is_replaced(bridged: Nic, node: MemoryNode) -> None:
    node.put(Binding(directory=CONFIG.bindings.directory, tap="tap0", text=f"{MARK}={OTHER_UUID}\nIP=10.9.9.9\n"))
    attach(bridged, CONFIG, node)
    assert binding_of(node, CONFIG, "tap0")[MARK] == bridged.uuid


def test_a_damaged_record_is_nobodys_and_is_overwritten(nic: Nic, node: MemoryNode) -> None:
    records.perform(Make(Record(tap=nic.tap, text="{")))
    assert former_owner(nic.tap) is None
    attach(nic, CONFIG, node)
    assert records.read_record(nic.tap) == record_of(nic)


# Detach.


def test_a_detach_gives_the_tap_back_as_it_was(nic: Nic, node: MemoryNode) -> None:
    before = node.snapshot()
    attach(nic, CONFIG, node)
    assert detach(nic, CONFIG, node, dry_run=True)
    assert records.read_record(nic.tap)
    changes = detach(nic, CONFIG, node)
    assert node.snapshot() == before
    assert isinstance(changes[-1], Remove) and isinstance(changes[-1].actual, Origin)
    assert detach(nic, CONFIG, node) == ()


def test_a_tap_that_was_a_port_and_up_is_that_again(bridged: Nic, node: MemoryNode) -> None:
    node.add("br9", kind="bridge")
    node.put(Up(device="tap0"), BridgePort(device="tap0", bridge="br9"))
    node.exposed.clear()
    before = node.snapshot()
    attach(bridged, CONFIG, node)
    assert node.things["port", "tap0"] == BridgePort(device="tap0", bridge="br0")
    detach(bridged, CONFIG, node)
    assert node.snapshot() == before
    node.exposed.clear()  # it was somebody else's, open, and is again


def test_a_tap_whose_bridge_is_gone_stays_down_and_without(bridged: Nic, node: MemoryNode) -> None:
    node.add("br9", kind="bridge")
    node.put(Up(device="tap0"), BridgePort(device="tap0", bridge="br9"))
    node.exposed.clear()
    attach(bridged, CONFIG, node)
    node.unplug("br9")
    node.exposed.clear()
    detach(bridged, CONFIG, node)
    assert node.of("tap0") == set()


def test_what_another_device_was_is_not_given_back(nic: Nic, node: MemoryNode) -> None:
    """An origin may be left of a tap that had the name before: this tap was never what it says."""
    attach(nic, CONFIG, node)
    origin = records.read_origin(nic.tap)
    assert origin
    other = origin.text.replace(f'"index": {nic.index}', f'"index": {nic.index + 9}').replace("e6:11:22", "e6:99:99")
    assert other.count("9") > origin.text.count("9") + 3
    records.perform(Alter(origin, Origin(tap=nic.tap, text=other)))
    detach(nic, CONFIG, node)
    tap = node.link(nic.tap)
    assert tap and tap.mac and not tap.mac.startswith("e6:99:99")
    assert node.of(nic.tap) == set()


def test_what_an_adopted_nic_was_connected_to_is_not_given_back(bridged: Nic, node: MemoryNode) -> None:
    node.put(Up(device="tap0"), BridgePort(device="tap0", bridge="br0"))
    node.exposed.clear()
    take_over(bridged, CONFIG, node)
    node.exposed.clear()
    detach(bridged, CONFIG, node)
    assert node.of("tap0") == set()


def test_taking_over_removes_the_foreign_rule_that_says_the_same_and_no_other(routed: Nic, node: MemoryNode) -> None:
    same = Rule(family=4, priority=32000, table=PUBLIC.table, device="tap0", protocol=3)
    other = Rule(family=4, priority=32001, table=77, device="tap0", protocol=3)
    anybody = replace(same, device="tap7")
    node.put(same, other, anybody)
    take_over(routed, CONFIG, node, dry_run=True)
    assert same.key in node.things
    changes = take_over(routed, CONFIG, node)
    assert changes[-1] == Remove(same)
    assert same.key not in node.things
    assert {other.key, anybody.key} <= node.things.keys()


def test_the_filter_goes_last_so_that_no_guest_is_open_for_a_moment(nic: Nic, node: MemoryNode) -> None:
    attach(nic, CONFIG, node)
    changes = detach(nic, CONFIG, node)
    last = OffloadCheck | Chain | MapElement | Record | Origin
    ends = [at for at, change in enumerate(changes) if isinstance(subject(change), last)]
    assert ends == [*range(len(changes) - len(ends), len(changes))]


def test_a_detach_does_all_that_it_can_and_names_the_rest(nic: Nic, node: MemoryNode) -> None:
    change, count = 0, 1
    while change < count:
        attach(nic, CONFIG, node)
        planned = detach(nic, CONFIG, node, dry_run=True)
        with node.failing(change), pytest.raises(Failure, match="it is broken") as caught:
            detach(nic, CONFIG, node)
        assert proper(caught.value).what == f"{nic.whom}: it is broken"
        left = type(subject(planned[change])).__name__
        closed = {"Chain", "MapElement", "OffloadCheck", "Record", "Origin"} if left in CONNECTS else set[str]()
        assert node.of(nic.tap) <= {left, *closed}
        node.unplug(nic.tap)
        reconcile(CONFIG, node)
        assert node.of(nic.tap) <= {"OvsPort"}  # which Open vSwitch keeps for the name, until that is a NIC's again
        node.things.pop(("ovs", nic.tap), None)
        nic = node.plug(nic)
        change, count = change + 1, len(planned)
    assert count > 3


CONNECTS = {"Up", "BridgePort", "OvsPort", "Route"}


def test_a_tap_that_cannot_be_taken_from_its_place_stays_closed_and_is_told_of(nic: Nic, node: MemoryNode) -> None:
    attach(nic, CONFIG, node)
    planned = detach(nic, CONFIG, node, dry_run=True)
    connects = [at for at, change in enumerate(planned) if type(subject(change)).__name__ in CONNECTS]
    assert connects
    for at in connects:
        node.fail(at)
    with pytest.raises(Failure, match="it is broken"):
        detach(nic, CONFIG, node)
    assert node.exposed == set()
    assert records.read_record(nic.tap) == record_of(nic)
    detach(nic, CONFIG, node)
    assert node.of(nic.tap) == set()


def test_a_dead_nic_leaves_the_names_next_device_alone(nic: Nic, node: MemoryNode) -> None:
    attach(nic, CONFIG, node)
    node.unplug(nic.tap)
    stranger = node.add(nic.tap, kind="tun", tun="tap")
    node.put(Up(device=nic.tap), BridgePort(device=nic.tap, bridge="br0"))
    node.exposed.clear()
    assert Up(device=nic.tap) not in removable(nic, CONFIG, node).values()
    detach(nic, CONFIG, node)
    assert node.link(nic.tap) == stranger
    assert node.of(nic.tap) == {"Up", "BridgePort"}
    node.exposed.clear()  # the stranger's own affair


def test_the_address_of_a_dead_nic_that_lives_behind_another_tap_stays_there(routed: Nic, node: MemoryNode) -> None:
    """A restarted guest has its address behind a new tap before the old one's leftovers are cleared away."""
    attach(routed, CONFIG, node)
    node.unplug("tap0")
    again = node.plug(replace(routed, tap="tap1"))
    attach(again, CONFIG, node)
    proxies = node.has(ProxyNeighbour)
    assert any(isinstance(one, ProxyNeighbour) and one.device == "eth1" for one in proxies)
    detach(routed, CONFIG, node)
    assert node.has(ProxyNeighbour) == proxies
    assert attach(again, CONFIG, node) == ()
    detach(again, CONFIG, node)
    assert not node.has(ProxyNeighbour)


def test_only_the_uuid_and_a_dead_tap_make_down_clear_up(nic: Nic, node: MemoryNode) -> None:
    attach(nic, CONFIG, node)
    before = node.snapshot()
    down(nic.uuid, CONFIG, node)
    assert node.snapshot() == before
    node.unplug(nic.tap)
    down(OTHER_UUID, CONFIG, node)
    assert records.read_record(nic.tap)
    down(nic.uuid, CONFIG, node)
    assert node.of(nic.tap) == set()


def test_down_clears_up_after_a_nic_whose_name_has_another_owner(nic: Nic, node: MemoryNode) -> None:
    attach(nic, CONFIG, node)
    node.unplug(nic.tap)
    node.plug(nic)
    down(nic.uuid, CONFIG, node)
    assert node.of(nic.tap) == set()


# Pending.


def test_who_cannot_be_attached_is_remembered_and_attached_later(nic: Nic, node: MemoryNode) -> None:
    node.fail(2)
    with pytest.raises(Failure, match="it is broken"):
        obey(nic, CONFIG, node)
    found = records.read_record(nic.tap)
    assert found == record_of(nic, pending=True)
    assert found and is_pending(found)
    assert node.of(nic.tap) == {"Record"}
    obey(nic, CONFIG, node)
    assert records.read_record(nic.tap) == record_of(nic)
    assert attach(nic, CONFIG, node) == ()


def test_a_pending_nic_is_detached_without_a_word_of_what_it_would_have_needed(nic: Nic, node: MemoryNode) -> None:
    remember(nic, CONFIG, node)
    assert [*removable(nic, CONFIG, node)] == [("record", nic.tap)]
    detach(nic, CONFIG, node)
    assert node.of(nic.tap) == set()


def test_it_is_not_remembered_whose_tap_it_is_not(nic: Nic, node: MemoryNode) -> None:
    remember(replace(nic, index=nic.index + 7), CONFIG, node)
    remember(replace(nic, tap="tap9"), CONFIG, node)
    assert node.done == []


def test_who_was_attached_and_cannot_be_changed_stays_attached(nic: Nic, node: MemoryNode) -> None:
    attach(nic, CONFIG, node)
    before = node.snapshot()
    remember(nic, CONFIG, node)
    remember(replace(nic, instance="renamed.example.com"), CONFIG, node)
    assert node.snapshot() == before


def test_a_former_owner_goes_before_the_next_one_is_remembered(nic: Nic, node: MemoryNode) -> None:
    attach(nic, CONFIG, node)
    new = restarted(nic, node)
    remember(new, CONFIG, node)
    assert records.read_record(nic.tap) == record_of(new, pending=True)
    assert node.of(nic.tap) == {"Record"}


def test_the_same_uuid_behind_another_device_is_another_owner(nic: Nic, node: MemoryNode) -> None:
    attach(nic, CONFIG, node)
    node.unplug(nic.tap)
    new = node.plug(nic)
    remember(new, CONFIG, node)
    assert records.read_record(nic.tap) == record_of(new, pending=True)
    assert node.of(nic.tap) == {"Record"}


def test_what_cannot_be_remembered_hides_no_failure(nic: Nic, node: MemoryNode) -> None:
    node.fail(0)
    with pytest.raises(Failure, match="the first one"), remembered(nic, CONFIG, node):
        raise Failure("the first one", "nothing")
    assert records.read_record(nic.tap) is None


def test_what_succeeds_is_not_remembered(nic: Nic, node: MemoryNode) -> None:
    with remembered(nic, CONFIG, node):
        pass
    assert node.done == []


# A guest on another node.


def speaks(node: MemoryNode, tap: str) -> set[str]:
    """What makes others send to this node for TAP, and serves it."""
    things = [*node.has(Route, Rule, Binding), *(p for p in node.has(ProxyNeighbour) if p.key[1] != tap)]
    named = {"Route", "Rule", "Binding"}
    return {
        type(thing).__name__
        for thing in things
        if isinstance(thing, ProxyNeighbour) or (type(thing).__name__ in named and tap in str(thing))
    }


def test_a_node_says_nothing_of_a_guest_elsewhere_and_all_when_it_comes(nic: Nic, node: MemoryNode) -> None:
    attach(standby(nic), CONFIG, node)
    assert speaks(node, nic.tap) == set()
    assert {"Record", "Chain", "Up"} <= node.of(nic.tap)
    attach(nic, CONFIG, node)
    assert "Binding" in speaks(node, nic.tap)
    assert attach(nic, CONFIG, node) == ()


def test_a_guest_that_leaves_is_let_go_at_once_and_the_tap_stays_closed(nic: Nic, node: MemoryNode) -> None:
    attach(nic, CONFIG, node)
    plan = let_go_plan(nic, CONFIG, node)
    assert let_go(nic, CONFIG, node, plan=plan) == plan
    assert speaks(node, nic.tap) == set()
    assert records.read_record(nic.tap) == record_of(standby(nic))
    attach(standby(nic), CONFIG, node)
    assert attach(standby(nic), CONFIG, node) == ()
    assert speaks(node, nic.tap) == set()


def test_letting_go_tries_all_and_names_the_nic(nic: Nic, node: MemoryNode) -> None:
    attach(nic, CONFIG, node)
    with node.failing(1), pytest.raises(Failure, match="it is broken") as caught:
        let_go(nic, CONFIG, node)
    assert proper(caught.value).what == f"{nic.whom}: it is broken"
    left = len(let_go_plan(nic, CONFIG, node)) - 2
    assert len([c for c in node.done if isinstance(c, Remove)]) == left


def test_a_guest_that_came_and_cannot_be_attached_is_cut_off_and_remembered(nic: Nic, node: MemoryNode) -> None:
    """Its record says that it is elsewhere: nothing would tell that it is here and has no network."""
    attach(standby(nic), CONFIG, node)
    remember(nic, CONFIG, node)
    assert records.read_record(nic.tap) == record_of(nic, pending=True)
    assert node.of(nic.tap) <= {"Record", "Origin"}
    attach(nic, CONFIG, node)
    assert attach(nic, CONFIG, node) == ()
    detach(nic, CONFIG, node)
    assert node.of(nic.tap) == set()


def test_what_a_detach_gives_back_survives_a_stay_elsewhere(nic: Nic, node: MemoryNode) -> None:
    before = node.snapshot()
    attach(standby(nic), CONFIG, node)
    attach(nic, CONFIG, node)
    attach(standby(nic), CONFIG, node)
    detach(standby(nic), CONFIG, node)
    assert node.snapshot() == before


def test_a_route_of_another_tap_to_a_part_of_its_prefix_stands_against_it(routed: Nic, node: MemoryNode) -> None:
    node.add("tap5", kind="veth")
    node.put(Up(device="tap5"), Route(table=PUBLIC.table, destination=ip_network("10.77.1.16/32"), device="tap5"))
    granted = nic_of(ROUTED, TAGS="vif:0:address:10.77.1.16/29")
    wider = replace(granted, index=routed.index)
    with pytest.raises(Failure, match="10.77.1.16/32, which leads to tap5"):
        attach(wider, CONFIG, node)
    foreign = Route(table=PUBLIC.table, destination=ip_network("10.77.1.16/32"), device="tap5", protocol=4)
    node.put(foreign)
    attach(wider, CONFIG, node)
