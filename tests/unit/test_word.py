# SPDX-License-Identifier: BSD-2-Clause
"""The signature under a word about a NIC: it is of this key, this NIC, this frame and this moment, and counts once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganeti_vif.nic.announcement import arrival, arrived
from ganeti_vif.nic.word import SKEW, counts, signed, signed_at

KEY, UUID = b"key", "cf66e0b2-eb39-452f-8e3a-a5f04869a156"
WORD = arrival("aa:00:00:00:00:05", "02:00:00:00:00:01")
NOW = 1_800_000_000 * 10**9
FRAME = signed(WORD, KEY, UUID, NOW)


def test_a_signed_word_is_the_same_word_to_those_that_know_no_signatures() -> None:
    assert arrived(FRAME) == "aa:00:00:00:00:05"
    assert FRAME[:42] == WORD[:42]


def test_it_is_known_by_its_key_and_its_nic() -> None:
    assert signed_at(FRAME, KEY, UUID) == NOW
    assert signed_at(FRAME, b"other", UUID) is None
    assert signed_at(FRAME, KEY, UUID.replace("c", "d")) is None
    assert signed_at(WORD, KEY, UUID) is None


@given(st.integers(0, len(FRAME) - 1), st.integers(1, 255))
def test_each_of_its_bytes_is_signed(at: int, by: int) -> None:
    assert signed_at(FRAME[:at] + bytes([FRAME[at] ^ by]) + FRAME[at + 1 :], KEY, UUID) is None


@given(st.binary(max_size=100))
def test_anything_may_come(junk: bytes) -> None:
    assert signed_at(junk, KEY, UUID) is None
    assert signed_at(WORD[:42] + junk, KEY, UUID) is None


def test_what_stands_behind_it_does_not_matter() -> None:
    assert signed_at(FRAME + bytes(18), KEY, UUID) == NOW


@pytest.mark.parametrize(
    ("when", "latest", "count"),
    [
        (NOW, NOW - 1, True),
        (NOW, NOW, False),
        (NOW - 1, NOW, False),
        (NOW - SKEW, 0, True),
        (NOW - SKEW - 1, 0, False),
        (NOW + SKEW, 0, True),
        (NOW + SKEW + 1, 0, False),
    ],
)
def test_it_counts_once_and_within_what_clocks_may_differ(when: int, latest: int, count: bool) -> None:
    assert counts(when, NOW, latest) is count
