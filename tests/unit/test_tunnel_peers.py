# SPDX-License-Identifier: BSD-2-Clause
"""Tunnels to the other nodes of a cluster: who these are, what a node needs for them, and in which order it changes."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import assert_golden, proper, words

from ganeti_vif.config import values
from ganeti_vif.config.model import VXLAN_GROUP, Private, VxlanUplink
from ganeti_vif.engine.chains import Chain
from ganeti_vif.engine.difference import Alter, Make, difference
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.marks import ADOPTED_GROUP, GROUP
from ganeti_vif.engine.naming import finding, findings
from ganeti_vif.engine.objects import Link, Peers
from ganeti_vif.engine.state import state
from ganeti_vif.ganeti.nodes import underlay
from ganeti_vif.kernel.netlink import peers as kernel
from ganeti_vif.kernel.netlink.links import Device, Devices
from ganeti_vif.kernel.netlink.query import attribute
from ganeti_vif.reconcile.setup import layout
from host_setup.private import Underlay, desired, leaving, networks, obstacle, tunnels

UPLINK = VxlanUplink("eth2", 10000, group=None, cluster=True)
FAMILY = Private(prefix="pvn", numbers=(1, 2), uplink=UPLINK)
ETH2 = Link(name="eth2", index=3, mtu=1500)
LINKS = {"eth2": ETH2}
SECONDARY = "node1.example.com=172.16.0.1\nnode2.example.com=172.16.0.2\nnode3.example.com=172.16.0.3\n"
HERE = "node1.example.com"


def ends(*last: int) -> frozenset[kernel.Address]:
    return frozenset(ip_address(f"172.16.0.{one}") for one in last)


def of(*last: int) -> Underlay:
    """The underlay as node 1 sees it, with these peers."""
    return Underlay(here=ip_address("172.16.0.1"), peers=ends(*last))


class TestGanetisFiles:
    """Ganeti's files about the nodes, on every node."""

    @pytest.mark.parametrize("here", ["node1.example.com", "node1", "node1.elsewhere.example"])
    def test_the_others_are_peers_and_this_node_is_not(self, here: str) -> None:
        assert underlay(here, SECONDARY, "node9=10.0.0.9\n", "", "") == of(2, 3)

    def test_without_secondary_addresses_the_primary_ones_count(self) -> None:
        for none in (None, ""):
            assert underlay(HERE, none, SECONDARY, "", "") == of(2, 3)

    def test_a_node_that_is_offline_or_runs_no_instances_is_no_peer(self) -> None:
        assert underlay(HERE, SECONDARY, None, "node2.example.com\n", "") == of(3)
        capable = "node1.example.com=False\nnode2.example.com=True\nnode3.example.com=False\n"
        assert underlay(HERE, SECONDARY, None, "", capable) == of(2)

    def test_the_full_name_counts_before_the_first_part(self) -> None:
        two = "node1.a.example=172.16.0.1\nnode1.b.example=172.16.0.2\n"
        assert underlay("node1.b.example", two, None, "", "").here == ip_address("172.16.0.2")
        with pytest.raises(Failure) as caught:
            underlay("node1", two, None, "", "")
        assert "node1.a.example, node1.b.example" in proper(caught.value).what

    @pytest.mark.parametrize("text", [None, "", "node2.example.com=172.16.0.2\n"])
    def test_a_node_that_is_not_named_is_told_so(self, text: str | None) -> None:
        with pytest.raises(Failure) as caught:
            underlay(HERE, text, None, "", "")
        assert "node1.example.com, is not among the nodes" in proper(caught.value).what

    @pytest.mark.parametrize("line", ["node2.example.com=", "node2.example.com", "node2.example.com=172.16.0"])
    def test_a_line_without_an_address_is_named(self, line: str) -> None:
        with pytest.raises(Failure) as caught:
            underlay(HERE, f"{SECONDARY}{line}\n", None, "", "")
        assert "node2.example.com" in proper(caught.value).what

    def test_addresses_of_ipv6_are_taken_and_two_nodes_behind_one_address_are_no_peers(self) -> None:
        found = underlay("a", "a=2001:db8::1\nb=2001:db8::2\nc=2001:db8::1\n", None, "", "")
        assert found == Underlay(here=ip_address("2001:db8::1"), peers=frozenset({ip_address("2001:db8::2")}))


@pytest.mark.parametrize(
    ("text", "group", "cluster"),
    [
        ("vxlan eth2 +10000", VXLAN_GROUP, False),
        ("vxlan eth2 +10000 peers cluster", None, True),
        ("vxlan eth2 +10000 group 239.1.1.1", ip_address("239.1.1.1"), False),
        ("vxlan eth2 +10000 group 239.1.1.1 peers cluster", ip_address("239.1.1.1"), True),
    ],
)
def test_the_ways_to_write_an_uplink(text: str, group: object, cluster: bool) -> None:
    assert values.uplink(text) == VxlanUplink("eth2", 10000, group=group, cluster=cluster)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "rest", ["peers", "peers all", "peers cluster group 239.1.1.1", "group 10.0.0.1 peers cluster"]
)
def test_another_way_is_refused(rest: str) -> None:
    with pytest.raises(ValueError, match="peers cluster|multicast"):
        values.uplink(f"vxlan eth2 +10000 {rest}")


def test_the_whole_plan_of_a_network_between_the_nodes_of_a_cluster() -> None:
    one, _ = networks(FAMILY, LINKS, of(3, 2))
    plan = state([tunnels([FAMILY], of(3, 2)), *desired(one, LINKS, "node1")])
    assert_golden("private-vxlan-peers", words(difference(plan, {})))


@pytest.mark.parametrize(
    ("here", "mtu", "got"), [("172.16.0.1", 1500, 1450), ("2001:db8::1", 1500, 1430), ("172.16.0.1", 9000, 8950)]
)
def test_the_mtu_is_what_the_tunnel_leaves(here: str, mtu: int, got: int) -> None:
    ends = Underlay(here=ip_address(here), peers=frozenset())
    assert {one.mtu for one in networks(FAMILY, {"eth2": replace(ETH2, mtu=mtu)}, ends)} == {got}


def test_a_group_as_well_keeps_the_kernels_entry_for_it() -> None:
    both = replace(FAMILY, uplink=replace(UPLINK, group=VXLAN_GROUP))
    one, _ = networks(both, LINKS, of(2))
    (found,) = (thing for thing in desired(one, LINKS, "node1") if isinstance(thing, Peers))
    assert found.addresses == ends(2) | {VXLAN_GROUP}
    six = replace(FAMILY, uplink=replace(UPLINK, group=ip_address("ff05::5")))
    with pytest.raises(Failure, match="two IP versions"):
        list(networks(six, LINKS, of(2)))


def test_a_device_of_a_group_is_replaced_and_one_with_other_peers_is_not() -> None:
    one, _ = networks(FAMILY, LINKS, of(2))
    (wanted,) = (thing for thing in desired(one, LINKS, "node1") if isinstance(thing, Link) and thing.kind == "vxlan")
    grouped = replace(wanted, vxlan_group=VXLAN_GROUP, vxlan_local=None)
    moved = replace(wanted, vxlan_local=ip_address("172.16.0.9"))
    for existing, gone in ((grouped, True), (moved, True), (wanted, False)):
        assert bool([*leaving(one, LINKS | {existing.name: existing}, {"pvn1": [existing]})]) == gone


def test_the_device_of_somebody_else_is_refused() -> None:
    one, _ = networks(FAMILY, LINKS, of(2))
    (wanted,) = (thing for thing in desired(one, LINKS, "node1") if isinstance(thing, Link) and thing.kind == "vxlan")
    for group in (0, ADOPTED_GROUP):
        failure = obstacle(one, LINKS | {wanted.name: replace(wanted, group=group)}, {}, {})
        assert failure and "did not make it" in proper(failure).what
    assert obstacle(one, LINKS | {wanted.name: replace(wanted, group=GROUP)}, {}, {}) is None


def test_without_known_nodes_a_family_is_refused_and_its_door_is_closed() -> None:
    other = replace(FAMILY, prefix="own", uplink=None)
    unknown = Failure("this node is not among the nodes", "note: nothing")
    plan = layout([FAMILY, other], [], Devices({"eth2": Device(ETH2, True, None)}), "node1", underlay=unknown)
    assert [unit.name for unit in plan.units] == ["own1", "own2"]
    assert [failure.what for failure in plan.refused] == ["private networks pvn*: this node is not among the nodes"]
    (door,) = (chain for chain in plan.base.values() if isinstance(chain, Chain) and chain.name == "tunnels")
    assert [rule.text for rule in door.rules][1:] == ["udp dport 4789 @th,96,24 10001-10002 counter drop"]


def test_a_group_without_peers_has_no_rule_about_them() -> None:
    grouped = Private(prefix="x", numbers=(1,), uplink=VxlanUplink("eth2", 20000))
    assert len(tunnels([grouped]).rules) == 1
    both = tunnels([grouped, FAMILY], of(2))
    assert not [rule for rule in both.rules if "20001" in rule.text and "saddr" in rule.text]


def change(before: Underlay, after: Underlay) -> list[str]:
    """The kinds of the changes from one list of peers to another, in their order: + and - for peers, door."""
    found = []
    states = []
    for ends in (before, after):
        one, _ = networks(FAMILY, LINKS, ends)
        states.append(state([tunnels([FAMILY], ends), *desired(one, LINKS, "node1")]))
    for one_change in difference(states[1], states[0]):
        match one_change:
            case Alter(Peers() as old, Peers() as new):
                found.append("+" if new.addresses > old.addresses else "-")
            case Alter(Chain(), Chain()):
                found.append("door")
    return found


def test_a_new_peer_is_let_in_before_it_is_sent_to_and_an_old_one_the_other_way() -> None:
    assert change(of(2), of(2, 3)) == ["door", "+"]
    assert change(of(2, 3), of(2)) == ["-", "door"]
    assert change(of(2), of(3)) == ["-", "door", "+"]
    assert change(of(2), of(2)) == []


@given(st.frozensets(st.integers(2, 9)), st.frozensets(st.integers(2, 9)))
def test_whatever_the_peers_were_they_become_what_they_should_be(before: frozenset[int], after: frozenset[int]) -> None:
    actual, wanted = (Peers(device="vx1", lower="eth2", addresses=ends(*one)) for one in (before, after))
    at = actual
    for step in difference(state([wanted]), state([actual])):
        assert isinstance(step, Alter) and step.actual == at
        assert isinstance(step.wanted, Peers)
        at = step.wanted
    assert at == wanted
    assert difference(state([wanted]), {}) == (Make(wanted),)


def test_a_finding_names_a_few_and_counts_the_rest() -> None:
    actual = Peers(device="vx1", addresses=ends(2))
    assert finding(Alter(actual, Peers(device="vx1", addresses=ends(2, 10, 9)))) == (
        "different: peers of vx1: 172.16.0.9, 172.16.0.10 missing"
    )
    many = Peers(device="vx1", addresses=ends(*range(2, 100)))
    assert finding(Alter(actual, many)).endswith("172.16.0.7 and 92 more missing")


def test_thousands_of_tunnels_that_lack_the_same_node_are_one_finding() -> None:
    changes = [
        Alter(Peers(device=f"vx{number}", addresses=ends(2)), Peers(device=f"vx{number}", addresses=ends(*peers)))
        for number, peers in ((1, (2, 3)), (2, (2, 3)), (3, (2, 4)), *((number, (2, 3)) for number in range(4, 4001)))
    ]
    assert findings([*changes, Make(ETH2)]) == [
        "different: peers of vx1, vx2, vx4, vx5, vx6 and 3994 more: 172.16.0.3 missing",
        "different: peers of vx3: 172.16.0.4 missing",
        "missing: device eth2",
    ]


def entry(index: int, mac: bytes, *more: bytes) -> bytes:
    return struct.pack("=BxxxiHBB", 7, index, 0xC0, 2, 0) + attribute(2, mac) + b"".join(more)


def test_the_entries_of_unknown_macs_are_read_and_no_others() -> None:
    """The kernel tells them in this form (vxlan_fdb_info): a MAC, a destination, perhaps a port or a device."""
    four, six, via = (
        attribute(1, bytes([172, 16, 0, 2])),
        attribute(1, ip_address("fe80::2").packed),
        attribute(8, b"\3\0\0\0"),
    )
    nobody, somebody = bytes(6), bytes(range(6))

    class Query:
        def gathered(self, kind: int, body: bytes, gather: object) -> object:
            return gather(self.told())  # type: ignore[operator]

        def told(self) -> Iterator[bytes]:
            yield entry(7, nobody, four)
            yield entry(7, nobody, attribute(6, bytes(2)), six, via)
            yield entry(7, somebody, attribute(1, bytes([172, 16, 0, 9])))
            yield entry(7, nobody, attribute(9, bytes(4)))  # of the bridge
            yield entry(8, nobody, four)

    wanted = {index: Peers(device=f"vx{index}", addresses=frozenset()) for index in (7, 9)}
    assert [*kernel.read(Query(), wanted)] == [  # type: ignore[arg-type]
        Peers(device="vx7", addresses=ends(2) | {ip_address("fe80::2")}),
        Peers(device="vx9", addresses=frozenset()),
    ]


class Requests:
    """Takes requests, and refuses the Nth."""

    def __init__(self, refused: int = 0) -> None:
        self.sent: list[tuple[int, int, bytes]] = []
        self._refused = refused

    def number(self) -> int:
        return len(self.sent) + 1

    def send(self, data: bytes, first: int, asked: int) -> None:
        at = 0
        while at < len(data):
            size, kind, flags, _, _ = struct.unpack_from("=IHHII", data, at)
            self.sent.append((kind, flags, bytes(data[at + 16 : at + size])))
            at += size
        self._refused -= 1
        if self._refused == 0:
            raise OSError(105, "No buffer space available")


def test_many_peers_are_one_request_for_each_two_hundred_and_only_its_last_message_is_answered() -> None:
    many = frozenset(ip_address(f"172.16.{one // 256}.{one % 256}") for one in range(450))
    requests = Requests()
    kernel.perform(requests, Make(Peers(device="vx1", addresses=many)), 7, 3)  # type: ignore[arg-type]
    assert [number for number, (_, flags, _) in enumerate(requests.sent, 1) if flags & 4] == [200, 400, 450]
    assert {kind for kind, _, _ in requests.sent} == {28}


def test_a_refusal_takes_back_what_was_added() -> None:
    peers = Peers(device="vx1", addresses=ends(2, 3))
    requests = Requests(refused=1)
    with pytest.raises(OSError, match="buffer"):
        kernel.perform(requests, Make(peers), 7, 3)  # type: ignore[arg-type]
    assert [kind for kind, _, _ in requests.sent] == [28, 28, 29, 29]


def test_new_peers_are_added_before_old_ones_are_removed() -> None:
    requests = Requests()
    one, other = (Peers(device="vx1", addresses=ends(number)) for number in (2, 3))
    kernel.perform(requests, Alter(one, other), 7, 3)  # type: ignore[arg-type]
    assert [kind for kind, _, _ in requests.sent] == [28, 29]
