# SPDX-License-Identifier: BSD-2-Clause
"""What chains of other programs do with a packet: known where it can be known, and never guessed."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from ganeti_vif.doctor.foreign_rules import iptables_chains, nft_chains
from ganeti_vif.doctor.forwarding import ForwardChain, Forwarded, Verdict, passages

PACKET = Forwarded(
    version=4,
    incoming="tap5",
    outgoing="eth1",
    source=ip_address("192.0.2.5"),
    destination=ip_address("198.51.100.1"),
    dport=443,
    mark=0x564900DE,
)


def saved(*rules: str, policy: str = "DROP", program: str = "iptables-nft") -> list[ForwardChain]:
    return iptables_chains(program, ["*filter", f":FORWARD {policy} [0:0]", *rules, "COMMIT"])


def verdict(chains: list[ForwardChain], packet: Forwarded = PACKET) -> Verdict:
    (*_, last) = passages(packet, chains)
    return last.verdict


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ((), Verdict.DROPPED),
        (("-A FORWARD -i tap+ -j ACCEPT",), Verdict.PASSES),
        (("-A FORWARD -i tap5 -o eth1 -j ACCEPT",), Verdict.PASSES),
        (("-A FORWARD ! -i tap5 -j ACCEPT",), Verdict.DROPPED),
        (("-A FORWARD -s 192.0.2.0/24 -j ACCEPT",), Verdict.PASSES),
        (("-A FORWARD -d 192.0.2.0/24 -j ACCEPT",), Verdict.DROPPED),
        (("-A FORWARD -p tcp -m tcp --dport 443 -j ACCEPT",), Verdict.PASSES),
        (("-A FORWARD -p tcp -m multiport --dports 80,400:500 -j ACCEPT",), Verdict.PASSES),
        (("-A FORWARD -p udp -m udp --dport 443 -j ACCEPT",), Verdict.DROPPED),
        (("-A FORWARD -m mark --mark 0x564900de -j ACCEPT",), Verdict.PASSES),
        (("-A FORWARD -m mark --mark 0x1/0x1 -j ACCEPT",), Verdict.UNKNOWN),
        (("-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",), Verdict.DROPPED),
        (("-A FORWARD -m conntrack --ctstate NEW -j ACCEPT",), Verdict.PASSES),
        (("-A FORWARD -m set --match-set friends src -j ACCEPT",), Verdict.UNKNOWN),
        (("-A FORWARD -o docker0 -m set --match-set friends src -j ACCEPT",), Verdict.DROPPED),
        (('-A FORWARD -m comment --comment "a b" -j ACCEPT',), Verdict.PASSES),
        (('-A FORWARD -j LOG --log-prefix "x "',), Verdict.DROPPED),
        (("-A FORWARD -j X", "-A X -j RETURN", "-A X -j ACCEPT"), Verdict.DROPPED),
        (("-A FORWARD -j X", "-A X -i tap5 -j ACCEPT"), Verdict.PASSES),
        (("-A FORWARD -g X", "-A FORWARD -j ACCEPT", "-A X -i tap6 -j ACCEPT"), Verdict.DROPPED),
        (("-A FORWARD -j REJECT --reject-with icmp-port-unreachable",), Verdict.DROPPED),
        (("-A FORWARD -j X", "-A X -j X"), Verdict.UNKNOWN),
    ],
)
def test_rules_of_iptables_are_judged(rules: tuple[str, ...], expected: Verdict) -> None:
    assert verdict(saved(*rules)) == expected


def test_a_rule_that_passes_a_chain_does_not_save_from_the_next_one() -> None:
    first = saved("-A FORWARD -j ACCEPT")
    second = saved(program="iptables-legacy")
    assert [one.verdict for one in passages(PACKET, [*first, *second])] == [Verdict.PASSES, Verdict.DROPPED]


def test_a_chain_of_the_other_ip_version_is_not_passed() -> None:
    assert list(passages(PACKET, saved(program="ip6tables-nft"))) == []


def listing(*rules: list[dict[str, object]], policy: str = "drop") -> dict[str, object]:
    """A table as nft prints it."""
    base = {"family": "inet", "table": "t", "name": "f", "hook": "forward", "prio": 0, "policy": policy}
    rows = [
        {"rule": {"family": "inet", "table": "t", "chain": "f", "handle": number, "expr": expressions}}
        for number, expressions in enumerate(rules)
    ]
    found = {"set": {"name": "taps", "elem": ["tap4", "tap5"]}}
    ways = {"map": {"name": "ways", "elem": [["tap5", {"accept": None}]]}}
    return {"nftables": [{"metainfo": {}}, found, ways, {"chain": base}, *rows]}


def match(left: dict[str, object], right: object, operator: str = "==") -> dict[str, object]:
    return {"match": {"op": operator, "left": left, "right": right}}


INCOMING: dict[str, object] = {"meta": {"key": "iifname"}}
STATE: dict[str, object] = {"ct": {"key": "state"}}
SOURCE: dict[str, object] = {"payload": {"protocol": "ip", "field": "saddr"}}
PORT: dict[str, object] = {"payload": {"protocol": "tcp", "field": "dport"}}
ACCEPT: dict[str, object] = {"accept": None}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ([ACCEPT], Verdict.PASSES),
        ([match(INCOMING, "tap*"), {"counter": {"packets": 1, "bytes": 1}}, ACCEPT], Verdict.PASSES),
        ([match(INCOMING, "tap5", "!="), ACCEPT], Verdict.DROPPED),
        ([match(INCOMING, "@taps"), ACCEPT], Verdict.PASSES),
        ([match(INCOMING, "@gone"), ACCEPT], Verdict.UNKNOWN),
        ([match(INCOMING, {"set": ["tap6", "tap7"]}), ACCEPT], Verdict.DROPPED),
        ([match(STATE, ["established", "related"], "in"), ACCEPT], Verdict.DROPPED),
        ([match(STATE, "new", "in"), ACCEPT], Verdict.PASSES),
        ([match({"ct": {"key": "status"}}, "dnat", "in"), ACCEPT], Verdict.DROPPED),
        ([match(SOURCE, {"prefix": {"addr": "192.0.2.0", "len": 24}}), ACCEPT], Verdict.PASSES),
        ([match(SOURCE, {"set": ["192.0.2.9", {"range": ["192.0.2.4", "192.0.2.6"]}]}), ACCEPT], Verdict.PASSES),
        ([match(PORT, {"set": [80, {"range": [440, 450]}]}), ACCEPT], Verdict.PASSES),
        ([match(PORT, "smtp"), ACCEPT], Verdict.UNKNOWN),
        ([{"limit": {"rate": 3, "per": "second"}}, ACCEPT], Verdict.UNKNOWN),
        ([{"xt": {"type": "match", "name": "conntrack"}}, ACCEPT], Verdict.UNKNOWN),
        ([{"xt": None}, ACCEPT], Verdict.UNKNOWN),
        ([{"vmap": {"key": INCOMING, "data": "@ways"}}], Verdict.PASSES),
        ([{"vmap": {"key": STATE, "data": {"set": [["new", {"drop": None}]]}}}], Verdict.DROPPED),
        ([{"queue": {"num": 0}}], Verdict.UNKNOWN),
        ([{"reject": {"type": "icmp"}}], Verdict.DROPPED),
    ],
)
def test_rules_of_nft_are_judged(rule: list[dict[str, object]], expected: Verdict) -> None:
    assert verdict(nft_chains(listing(rule))) == expected


def test_a_packet_that_may_be_anything_is_not_judged_by_what_it_may_be() -> None:
    packet = Forwarded(version=4, incoming="tap5")
    assert verdict(saved("-A FORWARD -s 192.0.2.0/24 -j ACCEPT"), packet) == Verdict.UNKNOWN
    assert verdict(saved("-A FORWARD -s 192.0.2.0/24 -i tap6 -j ACCEPT"), packet) == Verdict.DROPPED
