# SPDX-License-Identifier: BSD-2-Clause
"""What the kernel's messages mean: which device is gone, which changed, and which messages mean nothing."""

from __future__ import annotations

import struct

import pytest

from ganeti_vif.engine.marks import PROTOCOL, TABLE
from ganeti_vif.kernel.netlink import events
from ganeti_vif.kernel.netlink.events import Changed, DeviceGone, Event, Events, Rewired, Unfiltered
from ganeti_vif.kernel.netlink.links import (
    AF_BRIDGE,
    IFLA_ADDRESS,
    IFLA_AF_SPEC,
    IFLA_IFNAME,
    IFLA_INFO_KIND,
    IFLA_LINKINFO,
    IFLA_MASTER,
    IFLA_MTU,
)
from ganeti_vif.kernel.netlink.query import attribute
from ganeti_vif.kernel.netlink.routing import FRA_PROTOCOL
from ganeti_vif.kernel.nftables.filters import NFTA_CHAIN_NAME, NFTA_RULE_CHAIN, NFTA_TABLE

NEWLINK, DELLINK, DELROUTE, DELRULE = 16, 17, 25, 33
IFLA_STATS = 7


@pytest.fixture
def heard() -> Events:
    """It decodes, and has no sockets."""
    one = Events.__new__(Events)
    one._last, one._wires = {}, {}
    return one


def link(name: str, index: int = 5, *, up: bool = True, family: int = 0, **found: bytes) -> bytes:
    """A message about a device."""
    kinds = {
        "mtu": IFLA_MTU,
        "master": IFLA_MASTER,
        "stats": IFLA_STATS,
        "vlans": IFLA_AF_SPEC,
        "mac": IFLA_ADDRESS,
        "event": events.IFLA_EVENT,
        "lower": IFLA_LINKINFO,
    }
    carrier = events.IFF_LOWER_UP if up else 0
    body = struct.pack("=BxHiII", family, 1, index, int(up) | carrier, 0) + attribute(
        IFLA_IFNAME, name.encode() + b"\0"
    )
    return body + b"".join(attribute(kinds[kind], value) for kind, value in found.items())


def test_a_device_that_goes_is_told_with_its_index(heard: Events) -> None:
    assert heard._route_event(DELLINK, link("tap0", 7)) == DeviceGone("tap0", 7)


def test_a_port_that_leaves_its_bridge_lives(heard: Events) -> None:
    assert heard._route_event(DELLINK, link("tap0", 7, family=AF_BRIDGE)) == Changed("tap0")


@pytest.mark.parametrize(
    ("then", "event"),
    [
        ({"mtu": b"\1\0\0\0"}, None),
        ({"mtu": b"\1\0\0\0", "stats": b"more"}, None),
        ({"mtu": b"\2\0\0\0"}, Changed("tap0")),
        ({"mtu": b"\1\0\0\0", "master": b"\3\0\0\0"}, Changed("tap0")),
        ({"mtu": b"\1\0\0\0", "up": False}, Changed("tap0")),
    ],
)
def test_only_what_matters_counts_as_a_change(heard: Events, then: dict[str, object], event: Event | None) -> None:
    assert heard._route_event(NEWLINK, link("tap0", mtu=b"\1\0\0\0")) == Changed("tap0")
    assert heard._route_event(NEWLINK, link("tap0", **then)) == event  # type: ignore[arg-type]


def test_a_ports_vlans_are_told_apart_from_the_rest(heard: Events) -> None:
    assert heard._route_event(NEWLINK, link("tap0", family=AF_BRIDGE, vlans=b"1234")) == Changed("tap0")
    assert heard._route_event(NEWLINK, link("tap0", mtu=b"\1\0\0\0")) == Changed("tap0")
    assert heard._route_event(NEWLINK, link("tap0", family=AF_BRIDGE, vlans=b"1234")) is None
    assert heard._route_event(NEWLINK, link("tap0", family=AF_BRIDGE, vlans=b"5678")) == Changed("tap0")


def test_an_index_that_is_used_again_is_another_device(heard: Events) -> None:
    for event in (NEWLINK, DELLINK, NEWLINK):
        assert heard._route_event(event, link("tap0")) is not None


def kind_of(name: str) -> bytes:
    return attribute(IFLA_INFO_KIND, name.encode() + b"\0")


@pytest.mark.parametrize(
    ("then", "rewired"),
    [
        ({}, False),
        ({"mtu": b"\2\0\0\0"}, False),
        ({"mac": b"\2\0\0\0\0\2"}, True),
        ({"up": False}, True),
        ({"event": b"\3\0\0\0"}, True),
        ({"event": b"\4\0\0\0"}, True),
        ({"event": b"\5\0\0\0"}, False),
    ],
    ids=["the same", "its MTU", "its MAC", "its carrier", "a bond's failover", "told to announce", "IGMP"],
)
def test_a_device_may_get_other_neighbours(heard: Events, then: dict[str, object], rewired: bool) -> None:
    before: dict[str, object] = {"mac": b"\2\0\0\0\0\1"}
    assert heard._wire_event(NEWLINK, link("eth1", **before)) == Rewired("eth1", 0)  # type: ignore[arg-type]
    found = heard._wire_event(NEWLINK, link("eth1", **(before | then)))  # type: ignore[arg-type]
    assert found == (Rewired("eth1", 0) if rewired else None)


def test_the_port_of_a_bridge_leads_to_its_neighbours_unless_it_is_a_guests(heard: Events) -> None:
    master = b"\3\0\0\0"
    assert heard._wire_event(NEWLINK, link("eth1", master=master)) == Rewired("eth1", 3)
    assert heard._wire_event(NEWLINK, link("tap1", 6, lower=kind_of("tun"), master=master)) is None
    assert heard._wire_event(NEWLINK, link("veth1", 7, lower=kind_of("veth"), master=master)) == Rewired("veth1", 0)
    assert heard._wire_event(NEWLINK, link("eth2", 8, family=AF_BRIDGE, master=master)) is None


def test_a_device_that_comes_again_is_connected_anew(heard: Events) -> None:
    for kind in (NEWLINK, DELLINK, NEWLINK):
        heard._route_event(kind, link("eth1"))
        assert (heard._wire_event(kind, link("eth1")) is not None) == (kind == NEWLINK)


@pytest.mark.parametrize(("protocol", "event"), [(PROTOCOL, Changed(None)), (2, None)])
def test_routes_and_rules_are_heard_of_if_they_are_ours(heard: Events, protocol: int, event: Event | None) -> None:
    route = struct.pack("=BBBBBBBBI", 2, 32, 0, 0, 222, protocol, 0, 1, 0)
    rule = struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 222, 0, 0, 1, 0) + attribute(FRA_PROTOCOL, bytes([protocol]))
    assert heard._route_event(DELROUTE, route) == event
    assert heard._route_event(DELRULE, rule) == event


@pytest.mark.parametrize(
    ("table", "chain", "device"),
    [
        (TABLE, "profiles", None),
        (TABLE, "eth1-node", None),
        (f"{TABLE}-3", "tap0-in", "tap0"),
        (f"{TABLE}-3", "tap0-out-profile", "tap0"),
        (f"{TABLE}-63", "eth1.5-out", "eth1.5"),
        (f"{TABLE}-0", "a-b-in", "a-b"),
    ],
)
def test_of_which_device_a_filter_was_is_in_the_name_of_its_chain(table: str, chain: str, device: str | None) -> None:
    """A chain that goes was taken from us; of one that is written anew the rules go, and that is told otherwise."""
    where, name = bytes(4) + attribute(NFTA_TABLE, table.encode() + b"\0"), chain.encode() + b"\0"
    assert events._filter_event(events.NFT_DELCHAIN, where + attribute(NFTA_CHAIN_NAME, name)) == Unfiltered(device)
    assert events._filter_event(events.NFT_DELRULE, where + attribute(NFTA_RULE_CHAIN, name)) == Changed(device)
    assert events._filter_event(10 << 8 | 6, where + attribute(NFTA_RULE_CHAIN, name)) is None


@pytest.mark.parametrize(
    ("table", "chain"), [(f"{TABLE}-1", "scratch-17"), (f"{TABLE}s", "tap0-in"), ("filter", "tap0-in")]
)
def test_chains_of_others_and_those_of_a_moment_are_no_news(table: str, chain: str) -> None:
    where, name = bytes(4) + attribute(NFTA_TABLE, table.encode() + b"\0"), chain.encode() + b"\0"
    assert events._filter_event(events.NFT_DELCHAIN, where + attribute(NFTA_CHAIN_NAME, name)) is None
    assert events._filter_event(events.NFT_DELRULE, where + attribute(NFTA_RULE_CHAIN, name)) is None


def test_messages_of_one_datagram_are_taken_apart() -> None:
    def message(kind: int, body: bytes) -> bytes:
        return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body + bytes(-len(body) % 4)

    assert list(events.messages(message(16, b"abc") + message(17, b"") + b"\0\0")) == [(16, b"abc"), (17, b"")]
