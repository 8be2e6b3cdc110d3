# SPDX-License-Identifier: BSD-2-Clause
"""Ctrl-C and its like end a run between two changes: a change is made whole, and so is the taking back of changes."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from samples import ROOT

from ganeti_vif.cli import command_line as cli
from ganeti_vif.engine import apply as engine
from ganeti_vif.engine.difference import Change, Make, Remove
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.interruption import RUN, Interrupted
from ganeti_vif.engine.objects import Up
from ganeti_vif.kernel import privileges
from ganeti_vif.system import lock, signals

CHANGES: list[Change] = [Make(Up(device=f"tap{number}")) for number in range(4)]


class Recorder:
    """A node on which something happens during one change."""

    def __init__(self, at: Change, happens: Callable[[], None]) -> None:
        self.there: list[str] = []
        self._at, self._happens = at, happens

    def perform(self, change: Change) -> None:
        match change:
            case Make(Up(device=device)):
                self.there.append(device)
            case Remove(Up(device=device)):
                self.there.remove(device)
        if change == self._at:
            self._happens()


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A run that nobody has interrupted yet, to which signals are told."""
    monkeypatch.setattr(RUN, "standing", 0)
    monkeypatch.setattr(RUN, "_wish", None)
    with signals.told(RUN.end):
        yield


def press() -> None:
    signal.raise_signal(signal.SIGINT)


def test_all_or_nothing_is_nothing() -> None:
    node = Recorder(CHANGES[1], press)
    with pytest.raises(Interrupted):
        engine.apply(CHANGES, node)
    assert (node.there, RUN.standing) == ([], 0)


def test_who_is_impatient_while_it_is_taken_back_changes_nothing() -> None:
    node = Recorder(Remove(Up(device="tap1")), press)

    def refused(change: Change) -> None:
        if change == CHANGES[2]:
            raise Failure("no", "nothing")

    with pytest.raises(Failure, match="no"):
        engine.apply(CHANGES, node, refused)
    assert node.there == []


def test_a_run_that_keeps_what_it_did_ends_at_the_next_change() -> None:
    node = Recorder(CHANGES[1], press)
    with pytest.raises(Interrupted):
        engine.apply(CHANGES, node, keep=True)
    assert (node.there, RUN.standing) == (["tap0", "tap1"], 2)


def test_what_stands_is_counted_over_all_that_a_run_does() -> None:
    def nothing() -> None:
        pass

    engine.apply(CHANGES, Recorder(CHANGES[0], nothing))
    engine.apply(CHANGES, Recorder(CHANGES[0], nothing))
    assert RUN.standing == 2 * len(CHANGES)
    with pytest.raises(Interrupted):
        engine.apply(CHANGES, Recorder(CHANGES[0], press), keep=True)
    assert RUN.standing == 2 * len(CHANGES) + 1


def test_what_fails_is_taken_back_even_if_the_rest_would_be_kept() -> None:
    def fail() -> None:
        raise Failure("no", "nothing")

    node = Recorder(CHANGES[2], fail)
    with pytest.raises(Failure):
        engine.apply(CHANGES, node, keep=True)
    assert node.there == ["tap2"]  # a Failure says that nothing is done of the change that failed; this recorder lies


def test_clearing_up_ends_at_the_next_change() -> None:
    node = Recorder(CHANGES[2], press)
    with pytest.raises(Interrupted):
        engine.clear(CHANGES, node)
    assert (node.there, RUN.standing) == (["tap0", "tap1", "tap2"], 3)


def test_who_is_asked_to_end_during_the_last_change_is_done() -> None:
    node = Recorder(CHANGES[-1], press)
    engine.apply(CHANGES, node)
    assert len(node.there) == RUN.standing == len(CHANGES)


def test_of_a_change_that_something_unforeseen_ended_nothing_stays() -> None:
    """A KeyboardInterrupt of Python's own, no memory, a mistake of ours: it may be half made, or made."""

    def unforeseen() -> None:
        raise KeyboardInterrupt

    node = Recorder(CHANGES[1], unforeseen)
    with pytest.raises(KeyboardInterrupt):
        engine.apply(CHANGES, node)
    assert node.there == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_verb_that_is_interrupted_says_so_in_two_lines(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def waits(_: argparse.Namespace, __: Mapping[str, str]) -> int:
        with lock.held("node", directory=str(tmp_path)):
            signal.raise_signal(number)
        return 0

    monkeypatch.setattr(cli, "VERBS", {**cli.VERBS, "setup": (waits, True, "wait")})
    monkeypatch.setattr(privileges, "is_root", lambda: True)
    assert cli.main(["setup", "--private", "pvn=1-3"], {}) == 130
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        f"error: interrupted by {number.name}: nothing was changed\n  fix: ganeti-vif setup --private pvn=1-3\n"
    )
    with lock.held("node", wait=0.0, directory=str(tmp_path)):
        pass


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.told(RUN.end):
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_before_anything_is_loaded_shows_no_traceback() -> None:
    """The interpreter is stopped where the command has set its own rule and imports the first module."""
    script = (ROOT / "ganeti_vif" / "entry" / "ganeti-vif").read_text(encoding="utf-8")
    head, _, _ = script.partition("from ganeti_vif")
    code = head.replace("__file__", repr(str(ROOT / "ganeti_vif" / "entry" / "ganeti-vif")))
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"{code}\nos.kill(os.getpid(), signal.SIGINT)"],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")
