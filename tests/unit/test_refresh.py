# SPDX-License-Identifier: BSD-2-Clause
"""An instance that was renamed, retagged or whose network changed: each of its NICs here follows, and no other's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from memory_node import MemoryNode, memory_node
from samples import BRIDGED, CONFIG, ROUTED, nic_of, proper

from ganeti_vif.engine.difference import Change, Make, Remove, subject
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.objects import Record
from ganeti_vif.lifecycle.attach import attach
from ganeti_vif.lifecycle.detach import detach
from ganeti_vif.lifecycle.recorded import recorded
from ganeti_vif.lifecycle.refresh import refresh
from ganeti_vif.nic.nic import Network, Nic
from ganeti_vif.reconcile.survey import reconcile
from ganeti_vif.system import records

NAME = BRIDGED["INSTANCE"]
OTHER = "i2.example.com"
SECOND = "2261b892-74ab-4e0a-8f25-e1c0c5a7b202"
THIRD = "3361b892-74ab-4e0a-8f25-e1c0c5a7b203"


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryNode:
    found = memory_node(tmp_path, monkeypatch)
    reconcile(CONFIG, found)
    return found


@pytest.fixture
def bridged(node: MemoryNode) -> Nic:
    """The instance's first NIC."""
    return attached(node, nic_of(BRIDGED))


@pytest.fixture
def routed(node: MemoryNode) -> Nic:
    """The instance's second NIC."""
    return attached(node, nic_of(ROUTED, INTERFACE="tap1", INTERFACE_INDEX="1", INTERFACE_UUID=SECOND))


@pytest.fixture
def stranger(node: MemoryNode) -> Nic:
    """Another instance's NIC."""
    given = BRIDGED | {"INSTANCE": OTHER, "INTERFACE": "tap2", "INTERFACE_UUID": THIRD, "IP": "10.9.0.9"}
    return attached(node, nic_of(given, MAC="aa:00:09:00:00:09"))


def attached(node: MemoryNode, nic: Nic) -> Nic:
    plugged = node.plug(nic)
    attach(plugged, CONFIG, node)
    return plugged


def told(
    node: MemoryNode,
    name: str = NAME,
    tags: frozenset[str] | None = None,
    networks: Mapping[str, Network | None] | None = None,
    former: str = NAME,
) -> list[tuple[Nic, tuple[Change, ...]]]:
    """What refresh did, after a check that it returns what happened on the node and records what it returns."""
    node.done.clear()
    done = refresh(former, name, tags, networks or {}, CONFIG, node)
    assert [change for _, changes in done for change in changes] == node.done
    return done


def test_what_did_not_change_is_left(bridged: Nic, routed: Nic, stranger: Nic, node: MemoryNode) -> None:
    assert told(node) == [(bridged, ()), (routed, ())]


def test_a_renamed_instance_is_found_by_either_name(bridged: Nic, routed: Nic, stranger: Nic, node: MemoryNode) -> None:
    """A rename that was interrupted left some records with the one name and some with the other."""
    new = "new.example.com"
    half = replace(routed, instance=new)
    attach(half, CONFIG, node)
    done = told(node, new)
    assert [nic for nic, _ in done] == [replace(bridged, instance=new), half]
    assert recorded("tap0") == replace(bridged, instance=new)
    assert recorded("tap2") == stranger
    assert done[0][1] != () and done[1][1] == ()
    assert told(node, OTHER, former="nobody.example.com") == [(stranger, ())]


def test_what_drifted_is_repaired(bridged: Nic, node: MemoryNode) -> None:
    before = node.snapshot()
    del node.things[("chain", "netdev", "tap0-in")]
    node.exposed.clear()
    ((_, (change,)),) = told(node)
    assert subject(change) == before[("chain", "netdev", "tap0-in")]
    assert node.snapshot() == before


def test_a_dead_tap_is_cleared_up_after_and_named(bridged: Nic, routed: Nic, node: MemoryNode) -> None:
    node.unplug("tap0")
    (dead, changes), alive = told(node)
    assert dead == bridged
    assert changes and all(isinstance(change, Remove) for change in changes)
    assert alive == (routed, ())
    assert node.of("tap0") == set()


def test_a_tap_that_is_another_by_now_gets_nothing_of_it(bridged: Nic, node: MemoryNode) -> None:
    """The name of its tap belongs to the next device: the instance's tags must not open that one."""
    node.unplug("tap0")
    node.plug(bridged)
    ((dead, changes),) = told(node, tags=frozenset({"vif:0:unguarded"}))
    assert dead == bridged
    assert all(isinstance(change, Remove) for change in changes)
    assert node.of("tap0") == set()


def test_tags_are_taken_over_with_what_they_grant(bridged: Nic, routed: Nic, node: MemoryNode) -> None:
    tags = frozenset({"vif:0:mac:aa:00:09:00:00:05", "vif:1:address:10.77.1.32/29", "tagC"})
    told(node, tags=tags)
    first, second = recorded("tap0"), recorded("tap1")
    assert first and second
    assert first == replace(bridged, tags=tags, grants=first.grants)
    assert first.macs == (bridged.mac, "aa:00:09:00:00:05")
    assert [str(one) for one in second.grants.addresses] == ["10.77.1.32/29"]
    assert second.macs == (routed.mac,)
    assert "aa00090005" not in str(node.things[("chain", "netdev", "tap1-in")])
    told(node, tags=frozenset())
    assert recorded("tap0") == replace(bridged, tags=frozenset())
    assert recorded("tap1") == replace(routed, tags=frozenset())


@pytest.mark.parametrize("word", ["0", "eth0", BRIDGED["INTERFACE_UUID"]])
def test_a_tag_means_a_nic_by_its_number_its_name_or_its_uuid(word: str, bridged: Nic, node: MemoryNode) -> None:
    told(node, tags=frozenset({f"vif:{word}:unguarded"}))
    now = recorded("tap0")
    assert now and now.grants.unguarded


def test_what_the_network_grants_is_seen(bridged: Nic, node: MemoryNode) -> None:
    assert bridged.network
    network = replace(bridged.network, tags=bridged.network.tags | {"vif:any-link-local"})
    told(node, networks={bridged.uuid: network})
    now = recorded("tap0")
    assert now and now.grants.any_link_local


def test_tags_that_nobody_told_stay(bridged: Nic, node: MemoryNode) -> None:
    tags = frozenset({"vif:0:mac:aa:00:09:00:00:05"})
    told(node, tags=tags)
    ((now, changes),) = told(node, tags=None)
    assert (now.tags, now.macs, changes) == (tags, (bridged.mac, "aa:00:09:00:00:05"), ())


def test_the_data_of_its_network_are_taken_over(bridged: Nic, routed: Nic, node: MemoryNode) -> None:
    assert bridged.network and routed.network
    network = replace(bridged.network, gateway=IPv4Address("10.9.0.3"), name="renamed")
    told(node, networks={bridged.uuid: network, SECOND: routed.network})
    assert recorded("tap0") == replace(bridged, network=network)
    assert recorded("tap1") == routed


@pytest.mark.parametrize("gone", [False, True], ids=["another", "none"])
def test_a_nic_that_moved_to_another_network_keeps_the_old_one_until_its_next_start(
    gone: bool, bridged: Nic, node: MemoryNode
) -> None:
    """Until then its guest has the old address."""
    assert bridged.network
    other = None if gone else replace(bridged.network, uuid=SECOND, name="other")
    assert told(node, networks={bridged.uuid: other}) == [(bridged, ())]


def test_a_nic_that_had_no_network_gets_none_while_it_runs(node: MemoryNode) -> None:
    with_one = nic_of(BRIDGED)
    nic = attached(node, replace(with_one, network=None))
    assert told(node, networks={nic.uuid: with_one.network}) == [(nic, ())]


def test_malformed_tags_are_told_of_and_grant_what_they_granted_before(
    bridged: Nic, routed: Nic, node: MemoryNode
) -> None:
    tags = frozenset({"vif:0:mac:aa:00:09:00:00:05"})
    told(node, tags=tags)
    wrong = frozenset({"vif:0:mac:nonsense"})
    with pytest.raises(Failure) as caught:
        refresh(NAME, "new.example.com", wrong, {}, CONFIG, node)
    first, second = recorded("tap0"), recorded("tap1")
    assert first and second
    assert (first.instance, first.tags, first.macs) == ("new.example.com", wrong, (bridged.mac, "aa:00:09:00:00:05"))
    assert second.instance == "new.example.com"
    reason = "the instance tag 'vif:0:mac:nonsense': 'nonsense' is not a MAC address"
    assert proper(caught.value).what == f"new.example.com NIC eth0 (tap0): {reason}"
    assert caught.value.do == "note: see and mend it with: gnt-instance list-tags, remove-tags"


def test_one_that_cannot_be_done_keeps_no_other_from_it_and_all_are_named(
    bridged: Nic, routed: Nic, node: MemoryNode
) -> None:
    third = attached(node, nic_of(BRIDGED, INTERFACE="tap3", INTERFACE_INDEX="2", INTERFACE_UUID=THIRD, IP="10.9.0.8"))
    node.unplug("br0")
    with pytest.raises(Failure) as caught:
        refresh(NAME, "new.example.com", None, {}, CONFIG, node)
    now = recorded("tap1")
    assert now and now.instance == "new.example.com"
    assert recorded("tap0") == bridged
    what = "the bridge br0 does not exist"
    both = f"new.example.com NIC eth0 (tap0): {what}; new.example.com NIC eth0 (tap3): {what}"
    assert (proper(caught.value).what, caught.value.do) == (
        both,
        "ip link add br0 type bridge && ip link set br0 up",
    )
    assert recorded("tap3") == third


def test_a_detach_that_fails_is_named_and_the_rest_is_done(bridged: Nic, routed: Nic, node: MemoryNode) -> None:
    node.unplug("tap0")
    with node.failing(0), pytest.raises(Failure, match="tap0.*it is broken"):
        refresh(NAME, "new.example.com", None, {}, CONFIG, node)
    now = recorded("tap1")
    assert now and now.instance == "new.example.com"


def test_a_damaged_record_is_for_reconcile_to_tell(bridged: Nic, node: MemoryNode) -> None:
    records.perform(Make(Record(tap="tap9", text="{")))
    assert told(node) == [(bridged, ())]
    detach(bridged, CONFIG, node)
    assert told(node) == []
