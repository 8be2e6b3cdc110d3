# SPDX-License-Identifier: BSD-2-Clause
"""Work in a process of its own: its answer, or nothing if it died; and nothing of its parent's is kept open."""

from __future__ import annotations

import fcntl
import os
import select
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import pytest

from ganeti_vif.system import log
from ganeti_vif.system.child import Child


def answer_of(child: Child) -> Any:
    """What CHILD answers when it is over."""
    while not child.done():
        select.select([child.descriptor], [], [])
    return child.answer()


@pytest.mark.parametrize("value", [None, [], {"repaired": ["x"], "trouble": []}, "y" * 300_000])
def test_what_its_work_returns_is_its_answer(value: object) -> None:
    assert answer_of(Child(lambda: value)) == value


def test_one_that_raises_or_is_killed_has_no_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def raises() -> NoReturn:
        raise ValueError

    monkeypatch.setattr(log, "FILE", str(tmp_path / "vif.log"))
    assert answer_of(Child(raises)) is None
    assert "bug: ValueError()" in (tmp_path / "vif.log").read_text()
    assert answer_of(Child(lambda: os.kill(os.getpid(), signal.SIGKILL))) is None


def test_it_is_not_over_before_it_has_answered() -> None:
    child = Child(lambda: signal.pause())
    assert not child.done()
    os.kill(child.pid, signal.SIGKILL)
    assert answer_of(child) is None


def test_nobody_is_left_when_it_is_over() -> None:
    child = Child(lambda: 1)
    answer_of(child)
    with pytest.raises(ChildProcessError):
        os.waitpid(child.pid, os.WNOHANG)


def test_it_ends_at_a_signal_though_its_parent_does_not(tmp_path: Path) -> None:
    ready = tmp_path / "ready"

    def waits() -> None:
        ready.touch()
        signal.pause()

    former = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        child = Child(waits)
        while not ready.exists():
            assert not child.done()
        os.kill(child.pid, signal.SIGTERM)
        assert answer_of(child) is None
    finally:
        signal.signal(signal.SIGTERM, former)


def test_it_holds_no_lock_of_its_parents(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    ours = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(ours, fcntl.LOCK_EX)
    held = answer_of(Child(_open))
    assert str(path) not in held
    os.close(ours)


def _open() -> list[str]:
    """What this process has open."""
    found = []
    for one in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{one}"))
    return found
