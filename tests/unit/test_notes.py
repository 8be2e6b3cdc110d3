# SPDX-License-Identifier: BSD-2-Clause
"""What is told of a NIC although nothing on the node is wrong: a network's prefix of which no guest makes an address."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest
from samples import BRIDGED, CONFIG, PUBLIC, ROUTED, context, nic_of, proper

from ganeti_vif.config.model import Bindings, Config, Consumer
from ganeti_vif.desired.needs import needs
from ganeti_vif.desired.notes import notes, refused
from ganeti_vif.engine.objects import Binding
from nfdhcpd_bridge.binding import parse

LONG = {"NETWORK_SUBNET6": "2001:db8:77:0:f6::/80", "NETWORK_GATEWAY6": "fe80::1"}
GRANTED = {"TAGS": "vif:0:address:2001:db8:77:0:f6::5"}


@pytest.mark.parametrize("environment", [BRIDGED, ROUTED])
def test_a_prefix_that_is_no_64_is_told_with_what_gives_the_guest_an_address(environment: dict[str, str]) -> None:
    (note,) = notes(nic_of(environment, **LONG))
    proper(note)
    assert "no IPv6 address" in note.what
    assert "2001:db8:77:0:f6::/80" in note.what
    assert "gnt-instance add-tags i1.example.com vif:0:address:ADDRESS" in note.do


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"NETWORK_SUBNET6": None},
        {"NETWORK_UUID": None},
        {**LONG, **GRANTED},
        {**LONG, "TAGS": "disable_ipv6"},
        {**LONG, "IP": "2001:db8:77:0:f6::5"},
    ],
)
def test_where_a_guest_has_its_address_or_shall_have_none_there_is_nothing_to_know(
    changes: dict[str, str | None],
) -> None:
    assert list(notes(nic_of(ROUTED, **changes))) == []


def told(environment: dict[str, str], changes: dict[str, str], config: Config = CONFIG) -> dict[str, str]:
    nic = nic_of(environment, **changes)
    (text,) = (thing.text for thing in needs(nic, config, context(nic)).own.values() if isinstance(thing, Binding))
    return parse(text)


def test_what_the_note_says_gives_the_guest_its_address_by_dhcpv6() -> None:
    for environment in (BRIDGED, ROUTED):
        found = told(environment, LONG | GRANTED)
        assert (found["IP6"], found["SUBNET6"]) == ("2001:db8:77:0:f6::5", LONG["NETWORK_SUBNET6"])
        assert found["GATEWAY6"] == "fe80::1"


@pytest.mark.parametrize(
    "tag",
    ["vif:0:address:2001:db8:77:0:f6:1::/96", "vif:0:address:2001:db8:77::5", "vif:1:address:2001:db8:77:0:f6::5"],
)
def test_a_prefix_and_an_address_of_elsewhere_are_no_address_to_tell(tag: str) -> None:
    assert "SUBNET6" not in told(ROUTED, LONG | {"TAGS": tag})


def test_a_claimed_address_is_the_guests_own_affair() -> None:
    nic = replace(nic_of(ROUTED, **LONG), claims=(IPv6Address("2001:db8:77:0:f6::7"),))
    (text,) = (thing.text for thing in needs(nic, CONFIG, context(nic)).own.values() if isinstance(thing, Binding))
    assert "IP6" not in parse(text)
    assert list(notes(nic)) == []


def test_nfdhcpd_cannot_be_told() -> None:
    nfdhcpd = Config(public=CONFIG.public, bindings=Bindings(consumer=Consumer.NFDHCPD))
    assert "SUBNET6" not in told(ROUTED, LONG | GRANTED, nfdhcpd)


def test_in_a_64_a_granted_address_changes_nothing_of_what_slaac_makes() -> None:
    found = told(ROUTED, {"TAGS": "vif:0:address:2001:db8:77::5"})
    assert "IP6" not in found
    assert found["SUBNET6"] == ROUTED["NETWORK_SUBNET6"]


def test_a_shared_address_needs_a_guest_that_is_heard() -> None:
    nic = nic_of(ROUTED)
    shares = replace(nic, grants=replace(nic.grants, shared=(IPv4Address("192.0.2.100"),)))
    (note,) = notes(shares, served=False)
    assert note.what.startswith("nothing leads to 192.0.2.100")
    assert (
        list(notes(shares))
        == list(notes(nic, served=False))
        == list(notes(replace(shares, standby=True), served=False))
        == []
    )


def test_a_refused_address_is_told_with_what_to_do_in_the_guest_and_its_tag_if_that_could_grant_it() -> None:
    nic = nic_of(BRIDGED)
    foreign, local = IPv6Address("2001:db8:99::5"), IPv6Address("fe80::5")
    note = refused(nic, foreign, "it is not in fd00:9::/64", None)
    proper(note)
    assert note.what == f"{nic.whom}: its guest may not have 2001:db8:99::5: it is not in fd00:9::/64"
    assert "ip -6 addr del 2001:db8:99::5 dev DEVICE" in note.do
    assert "gnt-instance add-tags i1.example.com vif:0:address:2001:db8:99::5" in note.do
    for address in (IPv6Address("fd00:9::1"), local):
        assert "add-tags" not in refused(nic, address, "somebody has it", None).do
    assert "add-tags" not in refused(nic_of(ROUTED), foreign, "it is not in 2001:db8:77::/64", PUBLIC).do
