# SPDX-License-Identifier: BSD-2-Clause
"""A NIC's addresses: those that it was given, and those that its guest makes of its MAC."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network

import netaddr
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from samples import BRIDGED, ROUTED, nic_of

from ganeti_vif.desired import routed
from ganeti_vif.desired.bridged import port_mac
from ganeti_vif.desired.routed import TAP_MAC
from ganeti_vif.nic.nic import eui64

MACS = st.binary(min_size=6, max_size=6).map(lambda octets: octets.hex(":"))
SUBNETS = st.integers(0, (1 << 64) - 1).map(lambda prefix: IPv6Network((prefix << 64, 64)))


@given(SUBNETS, MACS)
def test_the_guests_own_ipv6_address_is_the_one_that_netaddr_computes(subnet: IPv6Network, mac: str) -> None:
    address = eui64(subnet, mac)
    assert int(address) == int(netaddr.EUI(mac).ipv6(int(subnet.network_address)))
    assert address in subnet


@given(MACS)
def test_the_link_local_address_is_the_one_that_netaddr_computes(mac: str) -> None:
    assume(not int(mac[:2], 16) & 1 and mac != "00:00:00:00:00:00")  # no NIC can have these
    assert str(nic_of(ROUTED, MAC=mac).link_local) == str(netaddr.EUI(mac).ipv6_link_local())


@given(MACS)
def test_the_nodes_end_never_has_the_guests_mac_and_is_higher_than_any_other(mac: str) -> None:
    end = port_mac(mac)
    assert end != mac
    assert end[2:] == mac[2:]
    assert end.startswith(("fe", "fa"))
    assert not int(end[:2], 16) & 1, "a group address"
    assert int(end[:2], 16) & 2, "not a locally administered one"


@pytest.mark.parametrize(("mac", "end"), [("aa:00:00:01:02:03", "fe"), ("fe:00:00:01:02:03", "fa")])
def test_the_nodes_end_of_a_bridged_nic_is_fe_unless_the_guest_has_that(mac: str, end: str) -> None:
    assert port_mac(mac) == f"{end}:00:00:01:02:03"


def test_the_nodes_end_of_a_routed_nic_has_a_unicast_mac() -> None:
    first = int(TAP_MAC[:2], 16)
    assert (first & 1, first & 2) == (0, 2)


def test_a_nic_in_a_network_with_ipv6_has_both_addresses() -> None:
    nic = nic_of(ROUTED, MAC="aa:00:77:aa:41:95")
    assert nic.address == IPv4Address("10.77.1.2")
    assert nic.address6 == IPv6Address("2001:db8:77:0:a800:77ff:feaa:4195")
    assert routed.addresses(nic) == (nic.address, nic.address6)


def test_an_ipv6_address_that_was_given_comes_before_the_one_of_the_mac() -> None:
    nic = nic_of(ROUTED, IP="2001:db8:77::5")
    assert routed.addresses(nic) == (IPv6Address("2001:db8:77::5"),)


@pytest.mark.parametrize("subnet", ["2001:db8:77::/48", "2001:db8:77::/65", "2001:db8:77::/128"])
def test_no_ipv6_address_is_made_up_where_slaac_makes_none(subnet: str) -> None:
    assert nic_of(ROUTED, NETWORK_SUBNET6=subnet).address6 is None


def test_a_nic_in_no_network_has_no_ipv6_address_unless_it_is_given_one() -> None:
    assert nic_of(ROUTED, NETWORK_UUID=None).address6 is None
    assert nic_of(ROUTED, NETWORK_UUID=None, IP="2001:db8::9").address6 == IPv6Address("2001:db8::9")


@pytest.mark.parametrize(
    ("tags", "v4", "v6"),
    [
        ("", True, True),
        ("disable_ipv4", False, True),
        ("disable_ipv6", True, False),
        ("disable_ipv4 disable_ipv6", False, False),
    ],
)
def test_the_instance_tags_disable_a_family_of_routed_nics(tags: str, v4: bool, v6: bool) -> None:
    nic = nic_of(ROUTED, TAGS=f"other {tags}")
    assert (nic.address is not None, nic.address6 is not None) == (v4, v6)


def test_the_instance_tags_say_nothing_about_bridged_nics() -> None:
    assert nic_of(BRIDGED, TAGS="disable_ipv4 disable_ipv6").address == IPv4Address("10.9.0.2")
    assert nic_of(BRIDGED, TAGS="disable_ipv4 disable_ipv6").address6 is not None


def test_an_ipv6_address_that_was_given_can_be_disabled_too() -> None:
    assert routed.addresses(nic_of(ROUTED, IP="2001:db8:77::5", TAGS="disable_ipv6")) == ()


def test_messages_name_the_instance_the_nic_and_the_tap() -> None:
    assert nic_of(BRIDGED).whom == "i1.example.com NIC eth0 (tap0)"
    assert nic_of(BRIDGED, INTERFACE_NAME=None).whom == "i1.example.com NIC 0 (tap0)"
    assert nic_of(BRIDGED, INTERFACE_NAME=None, INTERFACE_INDEX=None).whom == "i1.example.com NIC 1161b892 (tap0)"
