# SPDX-License-Identifier: BSD-2-Clause
"""FORWARD chains of other programs, which drop what routed guests send: they are named, and what helps helps."""

from __future__ import annotations

import pytest

from tests.lab import Node

from .actions import answer, attach, differences, ip, no_ping, ping, run
from .conftest import MakeTap, Plug
from .environment import BEYOND, GATEWAY, bridged, public, routed

NATIVE = """\
table inet wall {
    chain zones { iifname "eth0" accept; }
    chain deep { ct state established,related accept; goto zones; }
    chain dropping { type filter hook forward priority 10; policy accept; ct status dnat accept; jump deep; reject; }
}
"""
KINDS = {
    "nft, a policy": (
        'nft "add table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }"',
        "ip filter (iptables-nft)",
    ),
    "nft, a reject behind jumps": (f"nft '{NATIVE}'", "inet wall"),
    "iptables, a policy": ("iptables-nft -P FORWARD DROP", "ip filter (iptables-nft)"),
    "iptables, as Docker": (
        "iptables-nft -P FORWARD DROP; iptables-nft -N DOCKER-USER; iptables-nft -N DOCKER-CT;"
        "iptables-nft -A FORWARD -j DOCKER-USER; iptables-nft -A FORWARD -j DOCKER-CT;"
        "iptables-nft -A DOCKER-CT -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT;"
        "iptables-nft -A FORWARD -i docker0 -j ACCEPT",
        "ip filter (iptables-nft)",
    ),
    "iptables, a state": (
        "iptables-nft -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; iptables-nft -A FORWARD -j REJECT",
        "ip filter (iptables-nft)",
    ),
    "iptables-legacy": ("iptables-legacy -P FORWARD DROP", "ip filter (iptables-legacy)"),
}


def told(node: Node, verb: str) -> list[dict[str, str]]:
    """What `check` or `doctor` says of forwarding: `what`, and what mends it."""
    found = answer(node, verb)
    rows = found["trouble"] if verb == "check" else found["findings"]
    return [{"what": row["what"], "do": row.get("do", row.get("fix"))} for row in rows if "drops what" in row["what"]]


def verdicts(node: Node, packet: str = "") -> dict[str, str]:
    """What `explain --packet` says of each chain that forwards, by its table."""
    (nic,) = answer(node, "explain", "tap5", "--packet", packet or f"to={BEYOND} proto=tcp dport=443")["nics"]
    return {f"{one['family']} {one['table']}": one["verdict"] for one in nic["packet"]["forward"]}


@pytest.fixture
def guest(ready: Node, plug: Plug) -> Node:
    """A routed guest that reaches the world."""
    guest = plug(ready, "tap5", 5, f"{public(5)}/24")
    attach(ready, routed("tap5"))
    ip(guest, f"route add default via {GATEWAY}")
    ping(guest, BEYOND)
    return guest


@pytest.mark.parametrize("kind", KINDS)
def test_a_chain_that_drops_is_named_and_what_is_printed_mends_it(ready: Node, guest: Node, kind: str) -> None:
    made, where = KINDS[kind]
    done = ready.run(["sh", "-c", made], check=False)
    if "legacy" in kind and done.returncode:
        pytest.skip(f"no iptables-legacy here: {done.stderr}")
    assert done.returncode == 0, done.stderr
    no_ping(guest, BEYOND)
    for verb in ("check", "doctor"):
        (one,) = told(ready, verb)
        assert f"the table {where} drops what vm5.example.com NIC 0 (tap5)" in one["what"]
    table = where.partition(" (")[0]
    assert (verdicts(ready)["inet ganeti_vif"], verdicts(ready)[table]) == ("passes", "is dropped")
    assert run(ready, "explain", "tap5", "--packet", f"to={BEYOND}").stdout.count("is dropped") == 1
    assert ("-I DOCKER-USER" in one["do"]) == ("Docker" in kind)
    ready.run(["sh", "-c", one["do"]])
    ping(guest, BEYOND)
    assert told(ready, "check") == told(ready, "doctor") == []
    assert verdicts(ready)[table] == "passes"


@pytest.mark.parametrize(
    "made",
    [
        'nft "add table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; iifname tap5 accept; oifname tap5 accept; }; }"',
        'nft "add table ip filter { chain FORWARD { type filter hook forward priority 0; iifname docker0 drop; tcp dport 25 drop; }; }"',
        'nft "add table ip6 filter { chain FORWARD { type filter hook input priority 0; policy drop; }; }"',
        "iptables-nft -P FORWARD DROP; iptables-nft -A FORWARD -i tap+ -s 192.0.2.0/24 -j ACCEPT; iptables-nft -A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT",
    ],
)
def test_what_lets_guests_through_is_not_blamed(ready: Node, guest: Node, made: str) -> None:
    ready.run(["sh", "-c", made])
    ping(guest, BEYOND)
    assert told(ready, "check") == told(ready, "doctor") == []
    assert differences(ready) == []


def test_explain_judges_the_packet_that_was_asked_for(ready: Node, guest: Node) -> None:
    rules = "type filter hook forward priority 0; tcp dport 25 drop; ip daddr 198.51.100.0/24 udp dport 53 counter drop; meta length > 1000 drop;"
    ready.run(["nft", f"add table ip wall {{ chain smtp {{ {rules} }}; }}"])
    for packet, verdict in (
        (f"to={BEYOND} proto=tcp dport=25", "is dropped"),
        (f"to={BEYOND} proto=udp dport=53", "is dropped"),
        (f"to={BEYOND} proto=udp dport=54", "may be dropped"),
        ("to=203.0.113.9 proto=udp dport=53", "may be dropped"),
    ):
        assert verdicts(ready, packet)["ip wall"] == verdict, packet
    assert verdicts(ready, f"from=192.0.2.77 to={BEYOND}") == {}, "it does not get that far"


def test_a_bridged_guest_is_not_forwarded(ready: Node, tap: MakeTap) -> None:
    attach(ready, bridged(tap(ready).name, 6))
    ready.run(["nft", "add table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }"])
    assert told(ready, "check") == told(ready, "doctor") == []
