# SPDX-License-Identifier: BSD-2-Clause
"""Ctrl-C, `kill` and a lost terminal: a verb of ganeti-vif ends between two changes, says in two lines what stands, and the
same command completes it."""

from __future__ import annotations

import signal
import subprocess
from typing import Any

import pytest

from tests.lab import PATIENCE, Node, wait_for

from .actions import differences, manage, names
from .conftest import configure
from .test_killed import deaths

INTERRUPTED = 130
MANY = "[private pvn]\nbridges = 1-{}\n"


def stopped_early(reports: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs that had something left to do. The last one was asked to end while it made its last change."""
    *early, last = reports
    assert (last["status"], last["errors"]) == (0, ""), last
    assert early
    return early


def two_lines(report: dict[str, Any]) -> str:
    """What it said, which is no more than two lines."""
    what, fix = report["errors"].splitlines()
    assert what.startswith("error: interrupted by SIG"), report
    assert fix.startswith("  fix: ganeti-vif "), report
    return str(what)


@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "SIGHUP", "SIGINT+SIGINT"])
def test_an_attach_leaves_nothing(ready: Node, how: str) -> None:
    for report in stopped_early(deaths(ready, "attach-by-hand", how)):
        assert report["status"] == INTERRUPTED, report
        assert "nothing was changed" in two_lines(report), report
        assert (report["left"], report["open"], report["held"]) == ([], [], []), report
        assert (report["then"], report["check"]) == ([0, ""], []), report


@pytest.mark.parametrize("verb", ["setup", "reconcile", "detach"])
def test_the_same_again_completes_it(ready: Node, verb: str) -> None:
    for report in stopped_early(deaths(ready, verb, "SIGINT")):
        assert report["status"] == INTERRUPTED, report
        assert "made by then stay" in two_lines(report), report
        assert (report["open"], report["held"]) == ([], []), report
        assert (report["then"], report["check"]) == ([0, ""], []), report


def test_a_teardown_takes_the_bridges_before_what_secludes_them(ready: Node) -> None:
    for report in stopped_early(deaths(ready, "teardown", "SIGINT")):
        assert report["status"] == INTERRUPTED, report
        two_lines(report)
        gone = [line for line in report["left"] if line.startswith("-")]
        if any("seclusion" in line for line in gone):
            assert any(line.startswith("-links") and "pvn3" in line for line in gone), report
        assert report["then"] == [0, ""], report


def interrupted(node: Node, number: signal.Signals, *arguments: str, when: str) -> tuple[int, str]:
    """Exit status and complaint of `ganeti-vif ARGUMENTS`, which is sent the signal once the device WHEN is
    there (with a minus before its name: no more)."""
    gone, device = when.startswith("-"), when.removeprefix("-")
    process = node.popen(["ganeti-vif", *arguments], stdout=subprocess.DEVNULL)
    wait_for(node, lambda: (node.ifindex(device) is None) == gone, f"{device} {'to go' if gone else 'to come'}")
    process.send_signal(number)
    _, said = process.communicate(timeout=PATIENCE)
    return process.returncode, said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_setup_and_teardown_of_many_networks(node: Node, number: signal.Signals) -> None:
    configure(node, MANY.format(400))
    status, said = interrupted(node, number, "setup", when="pvn3")
    assert status == INTERRUPTED
    what, fix = said.splitlines()
    assert what.startswith(f"error: interrupted by {number.name}: ") and what.endswith("stay, and the rest is not done")
    assert fix == "  fix: ganeti-vif setup"
    assert len(differences(node)) > 1
    manage(node, "setup")
    assert differences(node) == []
    status, said = interrupted(node, number, "teardown", when="-pvn1")
    assert status == INTERRUPTED
    assert len(said.splitlines()) == 2 and said.endswith("  fix: ganeti-vif teardown\n")
    assert {"pvn400"} <= names(node)
    manage(node, "teardown")
    assert not [name for name in names(node) if name.startswith("pvn")]


def test_who_ignores_a_signal_is_not_ended_by_it(node: Node) -> None:
    """nohup ganeti-vif setup"""
    configure(node, MANY.format(200))
    process = node.popen(["sh", "-c", "trap '' HUP; exec ganeti-vif setup"], stdout=subprocess.DEVNULL)
    wait_for(node, lambda: node.ifindex("pvn1") is not None, "pvn1")
    process.send_signal(signal.SIGHUP)
    _, said = process.communicate(timeout=PATIENCE)
    assert (process.returncode, said) == (0, "")
    assert differences(node) == []
