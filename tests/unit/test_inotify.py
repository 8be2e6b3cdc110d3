# SPDX-License-Identifier: BSD-2-Clause
"""Watching a directory: every way in which a file comes, changes and goes, and a directory that does the same."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator, Set
from pathlib import Path

import pytest

from ganeti_vif.system.inotify import Watch

Act = Callable[[Path], object]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "below" / "bindings"
    path.mkdir(parents=True)
    (path / "tap0").write_text("old")
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "tap0").write_text("new")
    return path


@pytest.fixture
def watch(directory: Path) -> Iterator[Watch]:
    with Watch(str(directory)) as one:
        yield one


def told(watch: Watch) -> frozenset[str] | None:
    """What the watch says when its descriptor is readable, which is at once: the kernel queues as it changes things."""
    readable = select.select([watch], [], [], 0)[0]
    said = watch.read()
    assert bool(readable) or said == frozenset()
    return said


def renamed_in(directory: Path) -> None:
    (directory.parent.parent / "beside" / "tap0").rename(directory / "tap0")


def renamed_while_open(directory: Path) -> None:
    beside = directory.parent.parent / "beside" / "tap1"
    with beside.open("w") as file:
        beside.rename(directory / "tap1")
        file.write("whole")


@pytest.mark.parametrize(
    ("act", "names"),
    [
        (lambda d: (d / "tap1").write_text("new"), {"tap1"}),
        (lambda d: (d / "tap0").write_text("new"), {"tap0"}),
        (lambda d: (d / "tap0").unlink(), {"tap0"}),
        (lambda d: (d / "tap0").rename(d / "tap1"), {"tap0", "tap1"}),
        (lambda d: (d / "tap0").rename(d.parent / "away"), {"tap0"}),
        (lambda d: (d / "tap1").symlink_to("/etc/hostname"), {"tap1"}),
        (lambda d: (d / "tap1").hardlink_to(d / "tap0"), {"tap1"}),
        (renamed_in, {"tap0"}),
        (renamed_while_open, {"tap1"}),
        (lambda d: (d / "tap0").read_text(), set()),
        (lambda d: (d.parent / "tap7").write_text("elsewhere"), set()),
    ],
)
def test_what_happens_in_the_directory_is_told_by_name(
    directory: Path, watch: Watch, act: Act, names: Set[str]
) -> None:
    act(directory)
    assert told(watch) == names
    assert told(watch) == frozenset()


def replaced(directory: Path) -> None:
    directory.rename(directory.with_name("old"))
    directory.mkdir()


def removed(directory: Path) -> None:
    (directory / "tap0").unlink()
    directory.rmdir()


def removed_with_its_parent(directory: Path) -> None:
    removed(directory)
    directory.parent.rmdir()


def made_again(directory: Path) -> None:
    removed(directory)
    directory.mkdir()


@pytest.mark.parametrize("act", [replaced, removed, removed_with_its_parent, made_again])
def test_a_directory_that_goes_changes_everything_and_the_next_one_is_watched(
    directory: Path, watch: Watch, act: Act
) -> None:
    act(directory)
    assert told(watch) is None
    assert watch.armed == directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    while told(watch) is None:
        pass
    assert watch.armed
    (directory / "tap5").write_text("here")
    assert told(watch) == frozenset({"tap5"})


def test_a_directory_that_is_not_there_yet_is_watched_when_it_comes(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c"
    with Watch(str(path)) as watch:
        assert not watch.armed
        for step in (path.parent.parent, path.parent, path):
            (tmp_path / "noise").write_text("")
            step.mkdir()
            assert told(watch) is None
        assert watch.armed
        (path / "tap0").write_text("here")
        assert told(watch) == {"tap0"}


def test_a_file_in_its_place_is_no_directory(tmp_path: Path) -> None:
    path = tmp_path / "bindings"
    path.write_text("")
    path.chmod(0o755)
    with Watch(str(path)) as watch:
        assert not watch.armed
        path.unlink()
        path.mkdir()
        assert told(watch) is None
        assert watch.armed


def test_lost_events_change_everything(directory: Path, watch: Watch) -> None:
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    for number in range(most + 100):
        os.close(os.open(directory / f"tap{number % 2}", os.O_WRONLY | os.O_CREAT))
    assert told(watch) is None


def test_a_watch_that_moves_on_leaves_none_behind(directory: Path, watch: Watch) -> None:
    for _ in range(20):
        replaced(directory)
        assert watch.read() is None
        for old in directory.parent.glob("old*"):
            for file in old.iterdir():
                file.unlink()
            old.rmdir()
    information = Path(f"/proc/self/fdinfo/{watch.fileno()}").read_text()
    assert information.count("inotify wd:") == 1
