# SPDX-License-Identifier: BSD-2-Clause
"""What tags grant a NIC, which of them are about it, and what is said of those that nobody can understand."""

from __future__ import annotations

from ipaddress import IPv6Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import BRIDGED, ROUTED, nic_of, proper, refusal

from ganeti_vif.engine.failure import Failure
from ganeti_vif.nic.record import nic_of as recorded
from ganeti_vif.nic.record import record_of
from ganeti_vif.nic.tags import Grants, grants_of

UUID = BRIDGED["INTERFACE_UUID"]


@pytest.mark.parametrize("name", ["0", "eth0", UUID])
def test_a_nic_is_named_by_index_name_or_uuid(name: str) -> None:
    tags = f"vif:{name}:address:2001:db8:77:0:1::/80 vif:{name}:address:10.77.1.9 vif:{name}:mac:AA:00:77:00:00:01"
    assert nic_of(ROUTED, TAGS=f"{tags} vif:{name}:profile:web vif:{name}:unguarded").grants == Grants(
        addresses=(ip_network("10.77.1.9"), ip_network("2001:db8:77:0:1::/80")),
        macs=("aa:00:77:00:00:01",),
        unguarded=True,
        profile="web",
    )


def test_tags_of_other_nics_and_of_others_mean_nothing() -> None:
    tags = "vif:1:unguarded vif:eth1:address:nonsense other:0:unguarded synnefo:network:1:protected vifx:0:unguarded"
    assert nic_of(BRIDGED, TAGS=tags).grants == Grants()


@pytest.mark.parametrize("profile", ["protected", "limited", "unprotected"])
def test_synnefos_tags_name_a_profile(profile: str) -> None:
    assert nic_of(BRIDGED, TAGS=f"synnefo:network:eth0:{profile}").grants.profile == profile


def test_network_tags_hold_for_all_nics_of_the_network() -> None:
    granted = nic_of(BRIDGED, NETWORK_TAGS="nfdhcpd vif:unguarded vif:any-link-local").grants
    assert granted == Grants(unguarded=True, any_link_local=True)


@pytest.mark.parametrize(
    "tag",
    [
        "vif:0:address:10.0.0.1/8",
        "vif:0:address:0.0.0.0/0",
        "vif:0:address:224.0.0.1",
        "vif:0:address:fe80::1",
        "vif:0:address:127.0.0.1",
        "vif:0:address:",
        "vif:0:mac:ff:ff:ff:ff:ff:ff",
        "vif:0:mac:aa:bb",
        "vif:0:profile:",
        "vif:0:profile:Web",
        "vif:0:unguarded:yes",
        "vif:0:",
        "vif:unguarded",
        "vif:address",
        "synnefo:network:0:open",
    ],
)
def test_a_malformed_tag_is_named(tag: str) -> None:
    assert f"'{tag}'" in refusal(BRIDGED, TAGS=f"a {tag} z").what


def test_a_malformed_network_tag_is_named() -> None:
    assert "'vif:ungarded'" in refusal(BRIDGED, NETWORK_TAGS="nfdhcpd vif:ungarded").what


def test_a_nic_has_one_profile() -> None:
    failure = refusal(BRIDGED, TAGS="vif:0:profile:web synnefo:network:eth0:protected")
    assert "protected" in failure.what and "web" in failure.what


def test_no_nic_is_granted_more_rules_than_packets_should_pass() -> None:
    tags = " ".join(f"vif:0:address:10.9.0.{number}" for number in range(1, 66))
    assert "64" in refusal(BRIDGED, TAGS=tags).what


@given(st.lists(st.text("vif:0123abz./-", max_size=30), max_size=4))
def test_any_tag_is_understood_or_refused(tags: list[str]) -> None:
    try:
        grants_of(tags, tags, index=0, name="a", uuid=UUID)
    except Failure as failure:
        proper(failure)


def test_what_tags_grant_survives_in_the_record() -> None:
    tags = "vif:0:address:10.9.0.8/29 vif:0:mac:aa:00:09:00:00:01 vif:0:profile:web vif:0:unguarded"
    nic = nic_of(BRIDGED, TAGS=tags)
    assert recorded(record_of(nic)) == nic


def test_a_nic_without_grants_has_the_record_that_it_had_before_there_were_any() -> None:
    record = record_of(nic_of(BRIDGED))
    assert "grants" not in record.text
    assert recorded(record).grants == Grants()


def test_a_granted_address_is_the_nics_own_and_a_disabled_version_has_none() -> None:
    tags = "vif:0:address:10.77.1.9 vif:0:address:10.77.1.16/28 vif:0:address:2001:db8:77::9"
    nic = nic_of(ROUTED, TAGS=tags)
    assert nic.networks(4) == tuple(map(ip_network, ("10.77.1.2", "10.77.1.16/28", "10.77.1.9")))
    assert nic_of(ROUTED, TAGS=f"{tags} disable_ipv4").networks(4) == ()
    assert len(nic.networks(6)) == 2


def test_a_prefix_is_delegated() -> None:
    nic = nic_of(
        ROUTED, TAGS="vif:0:delegate:2001:db8:77:100::/56 vif:0:delegate:2001:db8:77:200::/64 vif:1:delegate:x"
    )
    prefixes = (IPv6Network("2001:db8:77:100::/56"), IPv6Network("2001:db8:77:200::/64"))
    assert nic.delegated == prefixes
    assert nic.networks(6)[1:] == prefixes
    assert recorded(record_of(nic)) == nic
    assert "delegated" not in record_of(nic_of(ROUTED, TAGS="vif:0:address:10.77.1.9")).text
    assert nic_of(ROUTED, TAGS="disable_ipv6 vif:0:delegate:2001:db8:77:100::/56").delegated == ()


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("10.77.0.0/16", "10.77.0.0/16"),
        ("2001:db8::1/64", "host bits"),
        ("2001:db8::/65", "a length from 32 to 64"),
        ("2001:db8::/31", "a length from 32 to 64"),
        ("2001:db8::", "a length from 32 to 64"),
        ("fe80::/64", "no address that a guest can have"),
        ("ff00::/64", "no address that a guest can have"),
        ("", "vif:0:delegate:"),
    ],
)
def test_what_cannot_be_delegated(value: str, why: str) -> None:
    said = refusal(ROUTED, TAGS=f"vif:0:delegate:{value}").what
    assert f"'vif:0:delegate:{value}'" in said and why in said


@pytest.mark.parametrize(
    "other", ["delegate:2001:db8:77:100::/60", "address:2001:db8:77:101::5", "address:2001:db8::/32"]
)
def test_delegated_prefixes_overlap_with_nothing_else(other: str) -> None:
    said = refusal(ROUTED, TAGS=f"vif:0:delegate:2001:db8:77:100::/56 vif:0:{other}")
    assert "overlaps with" in said.what
