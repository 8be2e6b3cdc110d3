# SPDX-License-Identifier: BSD-2-Clause
"""The filter of a NIC as data: closed, few rules, and made so that one translation serves all NICs."""

from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import BRIDGED, CONFIG, ROUTED, nic_of, proper

from ganeti_vif.engine.failure import Failure
from ganeti_vif.guard import guard, tap_filter
from ganeti_vif.guard.limits import limits_of
from ganeti_vif.guard.packet import KEYS, described
from ganeti_vif.guard.rules import Verdict, decision
from ganeti_vif.guard.usual import usual
from ganeti_vif.kernel.nftables.compiled_rules import shape

NICS = {
    "routed": nic_of(ROUTED),
    "bridged": nic_of(BRIDGED),
    "of any address": nic_of(BRIDGED, IP=None, NETWORK_UUID=None),
    "granted": nic_of(BRIDGED, TAGS="vif:0:address:10.9.0.8/29 vif:0:mac:aa:00:09:00:00:01"),
    "unguarded": nic_of(BRIDGED, TAGS="vif:0:unguarded"),
    "with VLANs": nic_of(BRIDGED, VLAN=":10:20"),
}


@pytest.mark.parametrize("name", NICS)
def test_a_filter_is_closed_and_its_last_rule_takes_what_is_left(name: str) -> None:
    chain, rules = tap_filter.ingress(NICS[name]), guard.rules(NICS[name])
    assert (chain.hook, chain.policy) == ("ingress", "drop")
    assert rules[-1].matches == ()
    assert (rules[-1].verdict is Verdict.DROP) == (name != "unguarded")


@pytest.mark.parametrize("name", NICS)
def test_no_rule_has_an_anonymous_set_and_all_count(name: str) -> None:
    for rule in tap_filter.ingress(NICS[name]).rules:
        assert "{" not in rule.text
        assert "counter" in rule.text


def test_a_filter_has_few_rules() -> None:
    assert len(tap_filter.ingress(NICS["routed"], 1).rules) <= 62


@pytest.mark.parametrize("name", NICS)
def test_no_two_negated_matches_of_a_rule_touch(name: str) -> None:
    """nft makes one comparison of fields that touch, as if the packet might not have both values, not either one."""
    for rule in tap_filter.ingress(NICS[name]).rules:
        found = re.findall(r"@(\w+),([0-9]+),([0-9]+) != ", rule.text)
        ends = {(base, int(at) + int(width)) for base, at, width in found}
        assert not ends & {(base, int(at)) for base, at, _ in found}, rule.text


@pytest.mark.parametrize("given", [ROUTED, BRIDGED])
@pytest.mark.parametrize("words", ["proto=udp", "proto=icmp6 type=128"])
def test_packets_from_a_claimed_address_are_decided_as_early_as_others(given: dict[str, str], words: str) -> None:
    claimed = IPv6Address("2001:db8:77::7" if given is ROUTED else "fd00:9::7")
    nic = replace(nic_of(given), claims=(claimed,))
    found = decision(guard.rules(nic), described(f"from={claimed} {words}", nic))
    assert (found.verdict, found.reason) == (Verdict.ACCEPT, "IPv6")
    assert (found in set(usual(nic))) == ("icmp6" not in words)


@pytest.mark.parametrize("given", [ROUTED, BRIDGED])
def test_what_has_a_limit_of_its_own_has_no_early_rule(given: dict[str, str]) -> None:
    nic = nic_of(given)
    limited = [rule for rule in guard.rules(nic, limits=limits_of(nic, CONFIG)) if rule.above]
    assert limited
    for words in ("udp dport=67", "udp dport=547", "udp dport=53", "tcp dport=547", "icmp6 type=135"):
        addresses = nic.networks(6) if words.startswith("icmp6") or "547" in words else nic.networks(4)
        packet = described(f"from={addresses[0].network_address} proto={words}", nic)
        if any(rule.holds(packet) for rule in limited):
            assert not any(rule.holds(packet) for rule in usual(nic)), words


def test_a_granted_prefix_with_link_local_addresses_has_no_early_rule() -> None:
    """Where any link-local address may be used, those that other MACs make may not."""
    nic = nic_of(BRIDGED, TAGS="vif:0:address:fc00::/6", NETWORK_TAGS="vif:any-link-local")
    packet = described("from=fe80::a800:ff:fe00:7 proto=udp", nic)
    assert decision(guard.rules(nic), packet).verdict is Verdict.DROP


@pytest.mark.parametrize("given", [ROUTED, BRIDGED])
def test_the_rules_of_two_nics_have_the_same_shapes(given: dict[str, str]) -> None:
    """So that libnftables translates them once."""
    one, other = nic_of(given), nic_of(given, MAC="aa:00:09:01:02:03", IP=given["IP"].rpartition(".")[0] + ".77")
    shapes = [[shape("netdev", rule) for rule in tap_filter.ingress(nic, 7).rules] for nic in (one, other)]
    assert shapes[0] == shapes[1]
    for rule in tap_filter.ingress(one).rules:
        assert set(rule.own) <= set(rule.text.split())


def test_no_rule_names_its_nic_but_in_words_that_are_its_own() -> None:
    one = NICS["routed"]
    marks = {one.mac.replace(":", ""), str(one.address), str(one.address6), f"{int(one.address or 0):08x}"}
    for rule in tap_filter.ingress(one).rules:
        for word in set(rule.text.split()) - set(rule.own):
            assert not any(mark in word for mark in marks), rule.text


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        ("", "IPv4"),
        ("from=10.77.1.3", "foreign IPv4 address"),
        ("mac=aa:bb:cc:dd:ee:00", "foreign MAC"),
        ("vlan=5", "VLAN tag"),
        ("to-mac=01:80:c2:00:00:00", "bridge control (spanning tree, LACP, LLDP)"),
        ("proto=udp sport=67 dport=68", "DHCP server"),
        ("fragment=later proto=udp", "IPv4"),
        ("from=0.0.0.0 to=255.255.255.255 sport=68 dport=67", "DHCP client"),
        ("sport=68 dport=67 fragment=first", "DHCP in fragments"),
        ("sport=68 dport=67 chaddr=aa:bb:cc:dd:ee:00", "DHCP of another MAC"),
        ("proto=igmp type=17", "multicast router or querier"),
        ("proto=103", "multicast router or querier"),
        ("proto=112", "redundancy protocol (VRRP, HSRP)"),
        ("proto=udp dport=1985 to=224.0.0.2", "redundancy protocol (VRRP, HSRP)"),
        ("checksum=elsewhere", "checksum that would change it"),
        ("arp who-has 10.77.1.1", "ARP"),
        ("arp who-has 10.77.1.1 tell 10.77.1.3", "foreign ARP sender address"),
        ("arp reply 10.77.1.2 is-at aa:bb:cc:dd:ee:00", "foreign ARP sender MAC"),
        ("rarp=3", "RARP announcement"),
        ("ether=0x88cc", "neither IP nor ARP"),
        ("proto=icmp6 type=134", "router advertisement"),
        ("to=2001:db8::1 proto=tcp", "IPv6"),
        ("to=2001:db8::1 sport=547 dport=546", "DHCPv6 server"),
    ],
)
def test_a_described_packet_is_decided_upon(packet: str, reason: str) -> None:
    rules = guard.rules(NICS["routed"], 7)
    assert decision(rules, described(packet, NICS["routed"])).reason == reason


@pytest.mark.parametrize(
    ("packet", "word"),
    [
        ("colour=red", "colour"),
        ("from", "from"),
        ("from=10.0.0.300", "10.0.0.300"),
        ("from=10.0.0.1 to=::1", "two IP versions"),
        ("mac=nobody", "nobody"),
        ("sport=70000", "70000"),
        ("from=10.0.0.1 from=10.0.0.2", "twice"),
        ("fragment=middle", "middle"),
    ],
)
def test_a_packet_that_makes_no_sense_is_refused(packet: str, word: str) -> None:
    with pytest.raises(Failure) as caught:
        described(packet, NICS["routed"])
    assert word in proper(caught.value).what


@given(st.lists(st.tuples(st.sampled_from(KEYS), st.text("0123456789abcdef:.x", max_size=12)), max_size=5))
def test_any_description_is_understood_or_refused(words: list[tuple[str, str]]) -> None:
    try:
        packet = described(" ".join(f"{key}={value}" for key, value in words), NICS["routed"])
    except Failure as failure:
        proper(failure)
    else:
        assert decision(guard.rules(NICS["routed"]), packet).reason


def test_reasons_are_plain_words() -> None:
    for nic in NICS.values():
        for rule in guard.rules(nic, 7):
            assert re.fullmatch(r"[A-Za-z0-9 ,():'-]+", rule.reason)
