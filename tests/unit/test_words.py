# SPDX-License-Identifier: BSD-2-Clause
"""What a dry run and a check print: commands that can be typed in, and differences on one line each."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kinds import ALTERED, OBJECTS, chain
from samples import assert_golden

from ganeti_vif.engine.chains import FilterRule
from ganeti_vif.engine.commands import commands
from ganeti_vif.engine.difference import Alter, Change, Make, Remove
from ganeti_vif.engine.naming import dotted, finding
from ganeti_vif.engine.objects import BridgeVlan
from ganeti_vif.engine.state import Object


def shown(changes: list[Change]) -> Iterator[str]:
    for change in changes:
        yield f"# {finding(change)}"
        yield from commands(change)


def test_everything_that_is_missing() -> None:
    assert_golden("words-make", shown([Make(thing) for thing in OBJECTS]))


def test_everything_that_is_different() -> None:
    assert_golden("words-alter", shown([Alter(actual, wanted) for actual, wanted in ALTERED]))


def test_everything_that_is_left_over() -> None:
    assert_golden("words-remove", shown([Remove(thing) for thing in OBJECTS]))


@pytest.mark.parametrize("thing", OBJECTS, ids=lambda thing: type(thing).__name__)
def test_every_change_has_words_and_each_is_one_line(thing: Object) -> None:
    for change in (Make(thing), Remove(thing), Alter(thing, thing)):
        assert finding(change).isprintable()
        assert all(line.isprintable() and line.isascii() for line in commands(change))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("net/ipv4/conf/tap0/proxy_arp", "net.ipv4.conf.tap0.proxy_arp"),
        ("net/ipv4/conf/eth1.2991/forwarding", "net.ipv4.conf.eth1/2991.forwarding"),
        ("net/ipv6/conf/a.b.c/accept_ra", "net.ipv6.conf.a/b/c.accept_ra"),
    ],
)
def test_a_dot_in_a_devices_name_is_a_slash_for_sysctl(path: str, name: str) -> None:
    assert dotted(path) == name


@given(st.lists(st.text("ab./", min_size=1, max_size=8), min_size=1, max_size=4).map("/".join))
def test_sysctl_reads_back_the_same_path(path: str) -> None:
    """sysctl(8): if the first separator is a dot, dots and slashes change places."""
    assert dotted(path).translate(str.maketrans("./", "/.")) == path


def test_a_dry_run_says_which_vlans_go() -> None:
    before = BridgeVlan(device="tap0", untagged=5, tagged=frozenset({30, 40}))
    lines = [*commands(Alter(before, BridgeVlan(device="tap0", untagged=10, tagged=frozenset({40}))))]
    assert "bridge vlan del dev tap0 vid 5" in lines
    assert "bridge vlan del dev tap0 vid 30" in lines


@pytest.mark.parametrize("text", ["a tunnel by another device than the uplink's", "'", "$(id) `id` \\ !"])
def test_a_shell_takes_a_rule_with_any_words_as_one_argument(text: str) -> None:
    rule = FilterRule("counter drop", text)
    line = [*commands(Make(replace(chain("tap0-in"), rules=(rule,))))][-1]
    assert shlex.split(line)[-1] == f'counter drop comment "{rule.comment}"'
