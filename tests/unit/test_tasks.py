# SPDX-License-Identifier: BSD-2-Clause
"""The times that the daemon keeps."""

from __future__ import annotations

from ganeti_vif.daemon.tasks import LONGEST, retry_after


def test_a_nic_is_tried_again_after_twice_as_long_each_time_and_then_every_minute() -> None:
    assert [retry_after(attempts) for attempts in range(9)] == [1, 2, 4, 8, 16, 32, LONGEST, LONGEST, LONGEST]
