# SPDX-License-Identifier: BSD-2-Clause
"""Whose a tap is: the name, the ifindex and the UUID all count, and each alone makes another NIC or no tap of its."""

from __future__ import annotations

from dataclasses import replace

import pytest
from samples import BRIDGED, TAP_INDEX, nic_of

from ganeti_vif.engine.objects import Link
from ganeti_vif.nic.identity import Identity, has_tap, identity_of, is_same, outlives
from ganeti_vif.nic.nic import Nic

NIC = nic_of(BRIDGED)
OTHER = "2261b892-74ab-4e0a-8f25-e1c0c5a7b202"


def test_the_identity_of_a_nic_is_its_tap_its_number_and_its_uuid() -> None:
    assert identity_of(NIC) == Identity(tap="tap0", ifindex=TAP_INDEX, uuid=NIC.uuid)


def test_what_else_is_said_of_a_nic_may_differ() -> None:
    assert is_same(NIC, NIC)
    assert is_same(NIC, replace(NIC, mac="aa:00:09:00:00:01", instance="renamed.example.com", link="br9", ip=None))


@pytest.mark.parametrize(
    "other",
    [None, replace(NIC, tap="tap1"), replace(NIC, index=NIC.index + 1), replace(NIC, uuid=OTHER)],
    ids=["nobody", "another name", "another number", "another UUID"],
)
def test_another_tap_or_uuid_is_another_nic(other: object) -> None:
    assert not is_same(NIC, other)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("device", "its"),
    [
        (Link(name="tap0", index=TAP_INDEX), True),
        (Link(name="tap0", index=TAP_INDEX + 1), False),
        (Link(name="tap1", index=TAP_INDEX), False),
        (Link(name="tap0"), False),
        (None, False),
    ],
    ids=["its own", "another number", "another name", "no number", "no device"],
)
def test_a_device_is_a_nics_tap_by_its_name_and_its_number(device: Link | None, its: bool) -> None:
    assert has_tap(NIC, device) is its


@pytest.mark.parametrize(
    ("other", "outlived"),
    [
        (replace(NIC, tap="tap1", index=NIC.index - 1), True),
        (replace(NIC, tap="tap1", index=NIC.index + 1), False),
        (NIC, False),
        (replace(NIC, tap="tap1", index=NIC.index - 1, uuid=OTHER), False),
    ],
    ids=["an older tap", "a newer tap", "itself", "another NIC"],
)
def test_of_two_taps_of_a_nic_the_newer_one_is_its_own(other: Nic, outlived: bool) -> None:
    assert outlives(NIC, other) == outlived
