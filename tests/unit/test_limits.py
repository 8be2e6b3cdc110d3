# SPDX-License-Identifier: BSD-2-Clause
"""Limits of a NIC: how they are written, which place counts, and what they are on the tap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import BRIDGED, CONFIG, PUBLIC, ROUTED, context, nic_of, proper, refusal

from ganeti_vif.config import limits, parse
from ganeti_vif.config.limits import USUAL, Flood, Limits, PacketRate, Rate
from ganeti_vif.config.model import Private
from ganeti_vif.desired.needs import needs
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.objects import BridgePort, Shaper
from ganeti_vif.guard import guard
from ganeti_vif.guard.limits import limits_of, shaper
from ganeti_vif.guard.packet import described
from ganeti_vif.guard.rules import Verdict, decision
from ganeti_vif.nic.record import nic_of as recorded
from ganeti_vif.nic.record import record_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("100M", (Rate(100_000_000), Rate(100_000_000))),
        ("1G/200M", (Rate(1_000_000_000), Rate(200_000_000))),
        ("none/64k", (None, Rate(64_000))),
        ("10G+4M/none", (Rate(10_000_000_000, 4_000_000), None)),
        ("none", (None, None)),
        ("1500000", (Rate(1_500_000), Rate(1_500_000))),
    ],
)
def test_a_rate_is_read_and_written(text: str, expected: limits.Rates) -> None:
    assert limits.rates(text) == expected
    assert limits.rates(limits.rates_text(expected)) == expected


def test_packets_a_second_have_a_tenth_of_a_second_at_once() -> None:
    assert limits.packet_rates("20k/none") == (PacketRate(20_000, 2_000), None)
    assert limits.packet_rates("5+7") == (PacketRate(5, 7), PacketRate(5, 7))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "fast",
        "100",
        "63k",
        "101G",
        "1M/",
        "1M/2M/3M",
        "-1M",
        "1.5G",
        "1M+",
        "1M+0",
        "64k+1M",
        "1 M",
        "1T",
        "NONE",
    ],
)
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        limits.rates(text)


@pytest.mark.parametrize("text", ["", "arp", "arp 5 nd", "tcp 5", "arp -1", "arp 5 arp 6", "arp 2000k"])
def test_what_is_no_limit_of_frames_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        limits.floods(text)


BOTH_WAYS: list[tuple[Callable[[str], Any], Callable[[Any], str]]] = [
    (limits.rates, limits.rates_text),
    (limits.packet_rates, limits.packet_rates_text),
    (limits.floods, limits.floods_text),
]


@given(st.text("0123456789kMG+/none -", max_size=12))
def test_any_text_is_understood_or_refused(text: str) -> None:
    for parser, writer in BOTH_WAYS:
        try:
            found = parser(text)
        except ValueError:
            continue
        assert parser(writer(found)) == found


TAGS = "vif:0:rate:100M/50M vif:0:packets:10k/none vif:0:limit:arp:7 vif:0:limit:multicast:0 vif:1:rate:1M"


def test_tags_of_an_instance_come_before_those_of_its_network() -> None:
    nic = nic_of(BRIDGED, TAGS=TAGS, NETWORK_TAGS="vif:rate:1G vif:limit:nd:9 vif:limit:arp:9 vif:isolated")
    assert nic.grants.limits == Limits(
        rate=(Rate(100_000_000), Rate(50_000_000)),
        packets=(PacketRate(10_000, 1_000), None),
        floods=((Flood.ARP, 7), (Flood.DISCOVERY, 9), (Flood.MULTICAST, 0)),
    )
    assert nic.grants.isolated
    assert recorded(record_of(nic)) == nic


@pytest.mark.parametrize(
    "tag",
    [
        "vif:0:rate:",
        "vif:0:rate:fast",
        "vif:0:packets:0",
        "vif:0:limit:arp",
        "vif:0:limit:arp:x",
        "vif:0:limit:tcp:5",
        "vif:rate:100M",
        "vif:limit:arp:5",
    ],
)
def test_a_malformed_limit_of_an_instance_is_named(tag: str) -> None:
    failure = refusal(BRIDGED, TAGS=tag)
    assert f"the instance tag '{tag}'" in failure.what
    proper(failure)


@pytest.mark.parametrize("tag", ["vif:rate:fast", "vif:packets:", "vif:limit:arp", "vif:isolated:yes", "vif:0:rate:1M"])
def test_a_malformed_limit_of_a_network_is_named(tag: str) -> None:
    failure = refusal(BRIDGED, NETWORK_TAGS=tag)
    assert f"the network tag '{tag}'" in failure.what
    proper(failure)


def test_two_tags_that_differ_are_refused_and_two_that_agree_are_not() -> None:
    assert "another tag says something else" in refusal(BRIDGED, TAGS="vif:0:rate:1M vif:eth0:rate:2M").what
    assert "another tag says something else" in refusal(BRIDGED, TAGS="vif:0:limit:arp:1 vif:eth0:limit:arp:2").what
    assert nic_of(BRIDGED, TAGS="vif:0:rate:1M vif:eth0:rate:1M/1M").grants.limits.rate


def test_the_configuration_counts_where_tags_say_nothing() -> None:
    of_link = Limits(rate=(Rate(64_000), None), floods=((Flood.ARP, 3),))
    config = replace(CONFIG, public=(replace(PUBLIC, limits=of_link),), private=(Private(prefix="br", numbers=(0,)),))
    assert limits_of(nic_of(ROUTED), config) == limits.merged(of_link, USUAL)
    assert limits_of(nic_of(ROUTED, TAGS="vif:0:rate:none"), config).rate == (None, None)
    assert limits_of(nic_of(BRIDGED), config) == USUAL
    assert limits_of(nic_of(BRIDGED, LINK="other"), config) == USUAL


def test_both_kinds_of_links_have_limits_in_the_configuration() -> None:
    said = "guest-rate = 1G/200M\nguest-packets = 20k\nguest-limits = arp 5 multicast 0\n"
    config = parse.parse(
        f"[private pvn]\nbridges = 1\n{said}[public p]\ntable = 5\nuplink = e\nsubnets = 192.0.2.0/24\n{said}"
    )
    expected = Limits(
        rate=(Rate(1_000_000_000), Rate(200_000_000)),
        packets=(PacketRate(20_000, 2_000),) * 2,
        floods=((Flood.ARP, 5), (Flood.MULTICAST, 0)),
    )
    assert (config.private[0].limits, config.public[0].limits) == (expected, expected)


@pytest.mark.parametrize(
    "line",
    ["guest-rate = fast", "guest-rate = 1M/2M/3M", "guest-packets = 0", "guest-limits = arp", "guest-limits = x 5"],
)
def test_a_mistake_in_the_configuration_is_named_with_its_line(line: str) -> None:
    with pytest.raises(Failure) as raised:
        parse.parse(f"[private pvn]\nbridges = 1\n{line}\n", "ganeti-vif.conf")
    proper(raised.value)
    assert raised.value.what.startswith(f"ganeti-vif.conf:3: {line.partition(' ')[0]}: ")


@pytest.mark.parametrize(
    ("rate", "mtu", "burst"),
    [
        (Rate(64_000), 1500, 16_384),
        (Rate(1_000_000), 9000, 18_000),
        (Rate(10_000_000_000), 1500, 12_500_000),
        (Rate(1_000_000, 50_000), None, 50_000),
        (Rate(10_000_000_000, 50_000), 1500, 12_500_000),
    ],
)
def test_a_shaper_lets_a_frame_of_the_mtu_through_and_not_much_more(rate: Rate, mtu: int | None, burst: int) -> None:
    """With less than a frame it would drop each of them, with much more the frames of others would wait."""
    assert [*shaper(nic_of(ROUTED), Limits(rate=(rate, None)), mtu)] == [
        Shaper(device="tap0", rate=rate.bits // 8, burst=burst)
    ]


def test_a_packet_that_is_alone_is_above_no_limit() -> None:
    nic, chosen = nic_of(ROUTED), limits.merged(Limits(rate=limits.rates("64k")), USUAL)
    rules = guard.rules(nic, limits=chosen)
    assert any(rule.above for rule in rules)
    for words in ("arp=request", "to=192.0.2.1 proto=udp dport=53", "proto=udp sport=68 dport=67"):
        assert decision(rules, described(words, nic)) == decision(guard.rules(nic), described(words, nic))


def test_limits_drop_and_never_let_pass() -> None:
    for environment in (ROUTED, BRIDGED):
        nic = nic_of(environment)
        rules = guard.rules(
            nic, limits=limits.merged(Limits(rate=limits.rates("1M"), packets=limits.packet_rates("5")), USUAL)
        )
        assert [rule for rule in rules if not rule.above] == [*guard.rules(nic)]
        assert {rule.verdict for rule in rules if rule.above} == {Verdict.DROP}


def test_an_unguarded_nic_has_its_rate_and_no_other_limits() -> None:
    nic = nic_of(BRIDGED, TAGS="vif:0:unguarded")
    rules = guard.rules(nic, limits=limits.merged(Limits(rate=limits.rates("1M")), USUAL))
    assert [rule.reason for rule in rules if rule.above] == ["above its rate"]


def test_a_nic_without_a_rate_needs_no_shaper() -> None:
    """So its attach has no request more than before there were rates."""
    for environment in (ROUTED, BRIDGED):
        nic = nic_of(environment)
        wanted = needs(nic, CONFIG, replace(context(nic), limits=limits_of(nic, CONFIG))).own
        assert not [thing for thing in wanted.values() if isinstance(thing, Shaper)]


def test_guests_of_an_isolated_network_are_isolated_ports() -> None:
    nic = nic_of(BRIDGED, NETWORK_TAGS="vif:isolated")
    assert needs(nic, CONFIG, context(nic)).own["port", "tap0"] == BridgePort(
        device="tap0", bridge="br0", isolated=True
    )
