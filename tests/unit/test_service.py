# SPDX-License-Identifier: BSD-2-Clause
"""What goes with a binding: the network that it belongs to, ARP for the server's own address, and how much at once."""

from __future__ import annotations

import dpkt
import pytest
from guest_frames import BINDING, GUEST, TAP, arp, packed, serving
from hypothesis import given
from hypothesis import strategies as st

from ganeti_vif.config import parse
from ganeti_vif.responder.answer import answer
from ganeti_vif.responder.limit import Bucket
from ganeti_vif.responder.service import told
from nfdhcpd_bridge.reading import reading

CONFIG = parse.parse("""
[responder]
domain = general.example.org
[private pvn]
bridges = 1-10
domain = private.example.org
[public one]
table = 222
uplink = eth1
subnets = 192.0.2.0/24 2001:db8:1::/64
domain = one.example.org
[public other]
table = 223
uplink = eth2
subnets = 198.51.100.0/24 2001:db8:2::/64
""")


@pytest.mark.parametrize(
    ("binding", "domain"),
    [
        ("INDEV=pvn7\nIP=10.0.0.5\nSUBNET=10.0.0.0/24\n", "private.example.org"),
        ("INDEV=pvn7\nIP=192.0.2.5\nSUBNET=192.0.2.0/24\n", "private.example.org"),
        ("INDEV=pvn11\nIP=10.0.0.5\nSUBNET=10.0.0.0/24\n", "general.example.org"),
        ("INDEV=tap0\nIP=192.0.2.5\nSUBNET=192.0.2.0/24\n", "one.example.org"),
        ("INDEV=tap0\nIP=198.51.100.5\nSUBNET=198.51.100.0/24\n", "general.example.org"),
        ("INDEV=tap0\nSUBNET6=2001:db8:1::/64\n", "one.example.org"),
        ("", "general.example.org"),
    ],
)
def test_a_binding_belongs_to_its_bridges_or_its_addresss_network(binding: str, domain: str) -> None:
    assert told(reading(f"MAC=aa:00:00:00:00:05\n{binding}"), CONFIG).domain == domain


def test_arp_for_the_server_is_answered_where_nobody_else_has_its_address() -> None:
    out = answer(arp("169.254.86.73"), serving(GATEWAY=None)).frame
    assert out
    ethernet = dpkt.ethernet.Ethernet(out)
    assert (ethernet.src, ethernet.dst) == (TAP, GUEST)
    found = ethernet.data
    assert (found.op, found.sha, found.spa) == (2, TAP, packed("169.254.86.73"))
    assert (found.tha, found.tpa) == (GUEST, packed("192.0.2.5"))


@pytest.mark.parametrize("frame", [arp("192.0.2.6"), arp("192.0.2.1"), arp("169.254.86.73", operation=2)])
def test_arp_for_anybody_else_is_left_alone(frame: bytes) -> None:
    assert answer(frame, serving(GATEWAY=None)).frame is None
    assert answer(arp("169.254.86.73"), serving()).frame is None
    assert answer(frame, serving()).frame is None


def test_the_same_binding_makes_the_same_service() -> None:
    """A rewrite that changes nothing is no change."""
    assert serving() == serving(BINDING + "TAGS=other\n")
    assert serving() != serving(IP="192.0.2.6")


@given(st.lists(st.floats(0, 3), max_size=300), st.integers(1, 50), st.integers(1, 100))
def test_a_bucket_gives_no_more_than_its_burst_and_its_rate(steps: list[float], rate: int, burst: int) -> None:
    bucket, now, taken = Bucket(rate, burst), 0.0, 0
    for step in steps:
        now += step
        taken += sum(bucket.take(now) for _ in range(3))
    assert taken <= burst + now * rate + 1e-6


def test_a_bucket_that_is_empty_says_when_to_come_back() -> None:
    bucket = Bucket(10, 8)
    assert [bucket.take(5.0) for _ in range(9)] == [True] * 8 + [False]
    wait = bucket.wait(5.0)
    assert wait == pytest.approx(0.2)
    assert [bucket.take(5.0 + wait + 1e-9) for _ in range(3)] == [True, True, False]


def test_a_frame_of_another_kind_is_nothing_for_us() -> None:
    assert answer(GUEST + GUEST + b"\x12\x34" + bytes(46), serving()).heard == "ignored"
