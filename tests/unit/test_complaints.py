# SPDX-License-Identifier: BSD-2-Clause
"""What the responder's log has, whatever guests do."""

from __future__ import annotations

import pytest

from ganeti_vif.responder.server import complaints
from ganeti_vif.responder.server.complaints import BURST, Complaints
from ganeti_vif.system import log

DECLINED = "its guest declined the address, for somebody else uses it"
BAD = "/var/lib/nfdhcpd/tap7:3: no MAC; its guest is not served"


class Clock:
    """Seconds, which pass when a test says so."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(complaints, "time", clock)
    return clock


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(log, "say", lambda line, level=None: lines.append(line))
    return lines


def test_what_one_guest_causes_hides_no_complaint_about_another(clock: Clock, said: list[str]) -> None:
    found = Complaints()
    for _ in range(2 * BURST):
        found.caused("tap0", DECLINED)
    found.lasting({BAD})
    found.caused("tap1", DECLINED)
    assert sum("tap7" in line for line in said) == 1
    assert sum("tap1:" in line for line in said) == 1


def test_one_guest_fills_no_log(clock: Clock, said: list[str]) -> None:
    found = Complaints()
    for _ in range(24 * 3600):
        clock.now += 1
        found.caused("tap0", DECLINED)
    assert 1 <= len(said) <= 30


def test_what_was_not_said_is_said_when_there_is_room(clock: Clock, said: list[str]) -> None:
    found = Complaints()
    for number in range(2 * BURST):
        found.say(f"fault {number}")
    found.lasting({BAD})
    assert not any("tap7" in line for line in said)
    clock.now += 10
    found.lasting({BAD})
    found.lasting({BAD})
    assert sum("tap7" in line for line in said) == 1


def test_a_lasting_fault_is_said_again_when_it_came_back(clock: Clock, said: list[str]) -> None:
    found = Complaints()
    for trouble in ({BAD}, {BAD}, set[str](), {BAD}):
        found.lasting(trouble)
    assert len(said) == 2
