# SPDX-License-Identifier: BSD-2-Clause
"""The filter of each kind of NIC, rule for rule and in its order, as nft gets it: golden/guard-NAME.txt.

What the rules let through is judged elsewhere: by described packets in test_guard.py, by real ones in tests/kernel. Here
no rule, no word and no reason changes without being read.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Network

import pytest
from samples import BRIDGED, CONFIG, ROUTED, assert_golden, nic_of

from ganeti_vif.guard import guard, tap_filter
from ganeti_vif.guard.limits import limits_of
from ganeti_vif.guard.packet import described
from ganeti_vif.guard.rules import Verdict, decision
from ganeti_vif.nic.nic import Nic

OPEN_NETWORK = "vif:any-link-local"
NICS: dict[str, tuple[Nic, int | None, bool]] = {
    "routed": (nic_of(ROUTED), 0x564900DE, False),
    "routed-ipv4": (nic_of(ROUTED, NETWORK_UUID=None), None, False),
    "routed-ipv6": (nic_of(ROUTED, IP=None), 0x564900DE, False),
    "routed-own-prefix": (replace(nic_of(ROUTED), prefix6=IPv6Network("2001:db8:77:2::/64")), 0x564900DE, True),
    "bridged": (nic_of(BRIDGED), None, False),
    "bridged-ipv4": (nic_of(BRIDGED, NETWORK_SUBNET6=None, NETWORK_GATEWAY6=None), None, False),
    "of-any-address": (nic_of(BRIDGED, IP=None, NETWORK_UUID=None), None, False),
    "of-any-link-local": (nic_of(BRIDGED), None, True),
    "granted": (nic_of(BRIDGED, TAGS="vif:0:address:10.9.0.8/29 vif:0:address:fd00:9::8/125 vif:0:mac:aa:00:09:00:00:01"), None, False),
    "trunk": (nic_of(BRIDGED, VLAN=":10:20"), None, False),
    "unguarded": (nic_of(BRIDGED, TAGS="vif:0:unguarded"), 7, False),
    "unguarded-trunk": (nic_of(BRIDGED, TAGS="vif:0:unguarded", VLAN=":10:20", NETWORK_TAGS="nfdhcpd"), None, False),
}  # fmt: skip


@pytest.mark.parametrize("name", NICS)
def test_the_whole_filter_of_a_nic(name: str) -> None:
    nic, mark, any_link_local = NICS[name]
    found = guard.rules(nic, mark, any_link_local=any_link_local)
    chain = tap_filter.ingress(nic, mark, any_link_local=any_link_local)
    verdicts = [rule.verdict.name if isinstance(rule.verdict, Verdict) else "MARK" for rule in found]
    assert len(verdicts) == len(chain.rules)
    lines = [f"{verdict} {rule.reason}: {rule.text}" for verdict, rule in zip(verdicts, chain.rules, strict=True)]
    assert_golden(f"guard-{name}", lines)


def test_a_network_tag_and_the_configuration_open_the_same() -> None:
    tagged = nic_of(BRIDGED, NETWORK_TAGS=f"{BRIDGED['NETWORK_TAGS']} {OPEN_NETWORK}")
    assert tagged.grants.any_link_local
    assert guard.rules(tagged) == guard.rules(nic_of(BRIDGED), any_link_local=True)
    assert guard.rules(tagged) != guard.rules(nic_of(BRIDGED))


def test_a_routed_nic_without_an_address_sends_nothing_of_that_version() -> None:
    nothing = replace(nic_of(ROUTED, NETWORK_UUID=None), ip=None)
    accepted = [rule for rule in guard.rules(nothing) if rule.verdict is Verdict.ACCEPT]
    assert [rule.reason for rule in accepted] == ["RARP announcement"]


@pytest.mark.parametrize("name", ["routed", "bridged", "of-any-address"])
@pytest.mark.parametrize("fragment", ["first", "later"])
def test_a_fragment_to_all_neighbours_may_hide_what_it_is(name: str, fragment: str) -> None:
    nic, _, _ = NICS[name]
    packet = described(f"to=ff02::1 proto=icmp6 type=128 fragment={fragment}", nic)
    found = decision(guard.rules(nic), packet)
    assert (found.verdict, found.reason) == (Verdict.DROP, "fragment that may hide what it is")


def test_the_limits_in_the_filter_of_a_nic() -> None:
    nic = nic_of(ROUTED, TAGS="vif:0:rate:1G/100M+1M vif:0:packets:none/20k")
    chain = tap_filter.ingress(nic, 0x564900DE, limits=limits_of(nic, CONFIG))
    assert_golden("guard-limited", [f"{rule.reason}: {rule.text}" for rule in chain.rules if "limit rate" in rule.text])
    (out,) = tap_filter.reaching(nic, None, limits_of(nic_of(ROUTED, TAGS="vif:0:packets:5k/none"), CONFIG))
    assert [rule.text for rule in out.rules] == [
        "meta protocol 0x88b5 accept",
        "limit rate over 5000/second burst 500 packets counter drop",
    ]
