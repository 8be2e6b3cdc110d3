# SPDX-License-Identifier: BSD-2-Clause
"""Whatever kills a run of ganeti-vif, at any point, the next run leads back to the right state. See kill_runner.py.

Killed after the k-th change is killed before the next one, so each place is tried once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.lab import Node

RUNNER = Path(__file__).resolve().parent / "kill_runner.py"
SIGKILLED = -9
TIMEOUT = 300.0
OF_A_NIC = [
    ("attach-routed", "after"),
    ("attach-routed", "rename"),
    ("attach-bridged", "after"),
    ("attach-again", "after"),
    ("attach-again", "rename"),
    ("detach", "after"),
    ("give-back", "after"),
]


def deaths(node: Node, verb: str, how: str, afterwards: str = "-") -> list[dict[str, Any]]:
    """The reports of kill_runner.py, one for each place at which VERB can die."""
    done = node.run(["/usr/bin/python3", str(RUNNER), verb, how, afterwards], check=False, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    reports: list[dict[str, Any]] = json.loads(done.stdout)
    assert reports, "it never came to a change"
    return reports


@pytest.mark.parametrize(
    ("verb", "how"), [*OF_A_NIC, ("setup", "after"), ("reconcile", "after"), ("reconcile", "rename")]
)
def test_after_a_kill_the_same_again_makes_everything_right(ready: Node, verb: str, how: str) -> None:
    for report in deaths(ready, verb, how, "again"):
        assert report["status"] == SIGKILLED, report
        assert report["then"] == [0, ""], report
        assert report["check"] == [], report


@pytest.mark.parametrize(("verb", "how"), OF_A_NIC)
def test_after_a_kill_and_the_death_of_the_guest_reconcile_leaves_nothing(ready: Node, verb: str, how: str) -> None:
    for report in deaths(ready, verb, how, "vanish"):
        assert report["status"] == SIGKILLED, report
        assert report["then"] == [0, ""], report
        assert report["check"] == [], report
        assert report["left"] == [], report


def test_a_guest_that_came_and_could_not_be_answered_for_is_told_of(ready: Node) -> None:
    """Whatever failed: nobody asks for it again."""
    for report in deaths(ready, "daemon-answer", "fail"):
        assert report["check"][0].startswith("not attached: vm5.example.com"), report


@pytest.mark.parametrize("verb", ["attach-routed", "attach-bridged"])
def test_an_attach_that_fails_leaves_a_note_and_else_the_node_as_it_was(ready: Node, verb: str) -> None:
    for report in deaths(ready, verb, "fail"):
        assert report["status"] == 1, report
        assert len(report["errors"].splitlines()) == 2, report
        assert all(line.startswith("+files:") for line in report["left"]), report
        files = [line for line in report["left"] if line.startswith("+files: ==")]
        assert files == ["+files: == /run/ganeti-vif/nics/tap0.json"], report
        assert '+files:  "pending": true,' in report["left"], report
