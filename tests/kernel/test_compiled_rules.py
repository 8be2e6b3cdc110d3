# SPDX-License-Identifier: BSD-2-Clause
"""Rules that we put into the kernel's words ourselves are, byte for byte, those that libnftables makes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ganeti_vif.config.model import Config, Public
from ganeti_vif.desired.context import Context
from ganeti_vif.desired.needs import needs
from ganeti_vif.engine.chains import Chain
from ganeti_vif.engine.difference import Make, Remove
from ganeti_vif.engine.objects import Link
from ganeti_vif.kernel.nftables import compiled_rules, filters
from ganeti_vif.kernel.nftables.changes import Nftables
from ganeti_vif.nic.nic import Mode, Network, Nic, Vlans
from tests.lab import Node, Tap

PUBLIC = Public(
    name="public",
    table=222,
    uplink="eth1",
    subnets=(),
    gateways=(IPv4Address("192.0.2.1"), IPv6Address("2001:db8::1")),
)
NETWORK = Network(name="net", uuid="9696066a-7821-42d1-9e6d-aa3dcbb17b20")
SLAAC = replace(NETWORK, subnet6=IPv6Network("2001:db8::/64"))
FILTERED = replace(NETWORK, tags=frozenset({"private-filtered"}), mac_prefix="02:00:00")
SOME_MAC = "aa:00:00:12:34:56"


@dataclass(frozen=True)
class Kind:
    """What is common to NICs whose rules have the same shapes."""

    mode: Mode
    version: int | None = None
    network: Network | None = None
    vlans: Vlans = Vlans()
    alone: bool = False
    """Whether it has an IPv6 prefix of its own."""


KINDS = {
    "bridged": Kind(Mode.BRIDGED, 4),
    "bridged, IPv4 and SLAAC": Kind(Mode.BRIDGED, 4, SLAAC),
    "bridged, IPv6 only": Kind(Mode.BRIDGED, 6),
    "bridged, no address": Kind(Mode.BRIDGED),
    "bridged, private-filtered": Kind(Mode.BRIDGED, 4, FILTERED),
    "bridged, VLAN trunk": Kind(Mode.BRIDGED, 4, vlans=Vlans(7, frozenset({10, 11}))),
    "routed": Kind(Mode.ROUTED, 4),
    "routed, IPv4 and SLAAC": Kind(Mode.ROUTED, 4, SLAAC),
    "routed, IPv6 only": Kind(Mode.ROUTED, 6),
    "routed, a prefix of its own": Kind(Mode.ROUTED, 4, alone=True),
    "on Open vSwitch": Kind(Mode.OPENVSWITCH, 4),
}


def placeholder(number: int, size: int) -> bytes:
    """The bytes that stand for a value in what libnftables is asked to translate."""
    return compiled_rules._example(number, size)


macs = st.binary(min_size=5, max_size=5).map(lambda rest: f"02:{rest.hex(':')}")
addresses4 = st.ip_addresses(v=4).filter(lambda address: int(address) not in (0, 2**32 - 1))
addresses6 = st.ip_addresses(v=6).filter(lambda address: int(address) != 0)


def chains(kind: Kind, tap: str, mac: str, address4: IPv4Address, address6: IPv6Address) -> list[Chain]:
    """The filter of such a NIC."""
    nic = Nic(
        instance="vm.example.com",
        uuid="8ea16126-78bc-4322-b857-8acd7c0cd10e",
        tap=tap,
        index=2,
        mac=mac,
        mode=kind.mode,
        link="public" if kind.mode is Mode.ROUTED else "pvn1",
        ip={4: address4, 6: address6, None: None}[kind.version],
        vlans=kind.vlans,
        network=kind.network,
        prefix6=IPv6Network((int(address6) >> 64 << 64, 64)) if kind.alone else None,
    )
    routed = kind.mode is Mode.ROUTED
    context = Context(
        bridge=None if routed else Link(name="pvn1", mac="06:00:00:00:00:01"),
        public=PUBLIC if routed else None,
        table=PUBLIC.table if routed else None,
    )
    wanted = needs(nic, Config(public=(PUBLIC,)), context)
    return [thing for thing in wanted.own.values() if isinstance(thing, Chain)]


def in_the_kernel(chain: Chain) -> tuple[list[bytes], list[Chain]]:
    """The rules of CHAIN as the kernel has them, and what we read of them."""
    with closing(filters.netfilter()) as query:
        return filters.expressions(query, chain.family, chain.name), list(filters.chains(query, [chain]))


def learned(kind: Kind, tap: str) -> Nftables:
    """It has met the shapes of this kind twice, and may not ask libnftables any more."""
    one = Nftables()
    for number in (1, 2):
        mac = f"02:00:00:9a:bc:{number:02x}"
        for chain in chains(kind, tap, mac, IPv4Address(f"198.51.100.{number}"), IPv6Address(f"2001:db8:5::{number}")):
            one.perform(Make(chain))

    def refuse(script: str) -> NoReturn:
        raise AssertionError(f"it asks libnftables: {script}")

    one._nft.cmd = refuse
    return one


@contextmanager
def room() -> Iterator[tuple[Node, Tap]]:
    with Node("node1") as node, Tap(node) as tap:
        yield node, tap


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[Node, Tap]]:
    with room() as place:
        yield place


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_compiled_rule_is_what_libnftables_makes(place: tuple[Node, Tap], kind: Kind) -> None:
    node, tap = place

    def written(nftables: Nftables, chain: Chain) -> tuple[list[bytes], list[Chain]]:
        nftables.perform(Make(chain))
        found = in_the_kernel(chain)
        nftables.perform(Remove(chain))
        return found

    def compared() -> None:
        knows = learned(kind, tap.name)

        @settings(
            max_examples=12, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
        )
        @given(mac=macs, address4=addresses4, address6=addresses6)
        @example("02:00:00:00:00:01", IPv4Address("0.0.0.1"), IPv6Address("::1"))
        @example("02:00:00:ff:ff:ff", IPv4Address("255.255.255.254"), IPv6Address(2**128 - 1))
        @example(placeholder(0, 6).hex(":"), IPv4Address(placeholder(0, 4)), IPv6Address(placeholder(0, 16)))
        @example(placeholder(1, 6).hex(":"), IPv4Address(placeholder(1, 4)), IPv6Address(placeholder(1, 16)))
        @example(SOME_MAC, IPv4Address("127.0.0.1"), IPv6Address("fe80::1"))
        def check(mac: str, address4: IPv4Address, address6: IPv6Address) -> None:
            if kind.network is FILTERED:  # a shape for each prefix
                mac = f"02:00:00:{mac[9:]}".replace("02:00:00:00:00:00", "02:00:00:00:00:01")
            for chain in chains(kind, tap.name, mac, address4, address6):
                fresh = Nftables()
                ours, theirs = written(knows, chain), written(fresh, chain)
                fresh.close()
                assert ours == theirs
                assert ours[1] == [chain]

        check()
        knows.close()

    node.inside(compared)


def test_a_mac_that_is_its_own_prefix_is_left_to_libnftables(place: tuple[Node, Tap]) -> None:
    """The rule of its MAC prefix then has the MAC's own words: what is translated for it must fit no other."""
    node, tap = place
    kind = KINDS["bridged, private-filtered"]

    def compared() -> None:
        one = Nftables()
        for mac in (
            "02:00:00:00:00:00",
            "02:00:00:12:34:56",
            "02:00:00:00:00:00",
            "02:00:01:00:00:00",
            "02:00:02:00:00:00",
        ):
            for chain in chains(kind, tap.name, mac, IPv4Address("192.0.2.9"), IPv6Address("2001:db8::9")):
                one.perform(Make(chain))
                ours = in_the_kernel(chain)
                one.perform(Remove(chain))
                fresh = Nftables()
                fresh.perform(Make(chain))
                assert ours == in_the_kernel(chain), mac
                fresh.perform(Remove(chain))
                fresh.close()
        one.close()

    node.inside(compared)
