# SPDX-License-Identifier: BSD-2-Clause
"""A configuration on trial: what comes back, and that nothing that an administrator wrote is lost."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganeti_vif.config.parse import config_of
from ganeti_vif.config.source import ProfileText, Source, read
from ganeti_vif.config.trial import Restored, Trial, only_tried, restored, trial_of
from ganeti_vif.engine.failure import Failure
from ganeti_vif.reconcile import in_force, trial
from ganeti_vif.system import in_force as copy
from ganeti_vif.system import timer, trial_file

BEFORE = "[private pvn]\nbridges = 1-3\n"
TRIED = "[private pvn]\nbridges = 1-5\n[private lab]\nbridges = 7\n"
LINK = "[public {name}]\ntable = {table}\nuplink = eth1\nsubnets = 192.0.2.0/24\n"

texts = st.text(st.characters(blacklist_categories=("Cs",)))
names = st.sampled_from(["/etc/a.nft", "/etc/b.nft", "/etc/c.nft"])
sources = st.builds(
    lambda text, profiles: Source("/etc/x.conf", text, tuple(ProfileText(p, t) for p, t in sorted(profiles.items()))),
    texts,
    st.dictionaries(names, texts),
)


@given(st.builds(Trial, sources, st.integers(0), texts, st.frozensets(texts), st.none() | sources))
def test_a_trial_on_disk_says_what_it_said(one: Trial) -> None:
    assert trial_of(one.to_json()) == one


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7", '{"before": "{}"}'])
def test_a_damaged_trial_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        trial_of(text)


@given(sources, sources)
def test_what_is_written_makes_the_files_what_they_were(before: Source, present: Source) -> None:
    files = {present.path: present.text} | {one.path: one.text or "" for one in present.profiles}
    steps = list(restored(before, present))
    for file in steps:
        if file.before is None:
            del files[file.path]
        else:
            files[file.path] = file.before
    assert files == {before.path: before.text} | {one.path: one.text for one in before.profiles}
    assert before.path not in [file.path for file in steps[:-1]], "the configuration's own file is the last"


def test_a_profile_that_could_not_be_read_stays_as_it_is() -> None:
    before = Source("/etc/x.conf", "", (ProfileText("/etc/a.nft", None, "it is no plain text"),))
    assert list(restored(before, Source("/etc/x.conf", "", (ProfileText("/etc/a.nft", "now it is"),)))) == []


def config_from(text: str) -> Source:
    return Source("/etc/x.conf", text)


def test_only_what_the_trial_made_goes() -> None:
    before = config_of(config_from(BEFORE + LINK.format(name="public", table=222)))
    tried = config_of(config_from(TRIED + LINK.format(name="other", table=222)))
    private, public = only_tried(tried, before, frozenset({"lab7", "eth1"}))
    assert [list(family.bridges) for family in private] == [["pvn4", "pvn5"]], "lab7 was there before"
    assert public == (), "a link that only changed its name stays"
    tried = config_of(config_from(LINK.format(name="public", table=223)))
    assert [link.table for link in only_tried(tried, before, frozenset())[1]] == [223]


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a configuration in force, which was edited since."""
    for module in (copy, trial_file):
        monkeypatch.setattr(module, "DIRECTORY", str(tmp_path / module.__name__))
    monkeypatch.setattr(copy, "PATH", f"{copy.DIRECTORY}/configuration.json")
    monkeypatch.setattr(trial_file, "PATH", f"{trial_file.DIRECTORY}/trial.json")
    monkeypatch.setattr(trial_file, "boot", lambda: "this boot")
    monkeypatch.setattr(timer, "stop", lambda: None)
    etc = tmp_path / "etc"
    (etc / "profiles.d").mkdir(parents=True)
    (etc / "x.conf").write_text(BEFORE)
    (etc / "profiles.d" / "web.nft").write_text("# before\n")
    in_force.put_in_force(str(etc / "x.conf"))
    (etc / "x.conf").write_text(TRIED)
    (etc / "x.conf").chmod(0o640)
    (etc / "profiles.d" / "web.nft").write_text("# tried\n")
    (etc / "profiles.d" / "new.nft").write_text("# new\n")
    return etc


def begun(etc: Path, boot: str = "this boot") -> Trial:
    before = in_force.source_in_force()
    assert before
    one = Trial(before, 0, boot, frozenset())
    trial_file.write(one)
    return one


def test_a_boot_during_a_trial_gives_the_files_back_and_keeps_what_was_tried(etc: Path) -> None:
    begun(etc, "another boot")
    trial.end_of_another_boot()
    found = {str(path.relative_to(etc)): path.read_text() for path in etc.rglob("*") if path.is_file()}
    assert found == {
        "x.conf": BEFORE,
        "x.conf.tried": TRIED,
        "profiles.d/web.nft": "# before\n",
        "profiles.d/web.nft.tried": "# tried\n",
        "profiles.d/new.nft.tried": "# new\n",
    }
    assert (etc / "x.conf").stat().st_mode & 0o777 == 0o640
    assert trial_file.read() is None
    trial.end_of_another_boot()
    assert (etc / "x.conf.tried").read_text() == TRIED


def test_a_trial_of_this_boot_goes_on(etc: Path) -> None:
    begun(etc)
    trial.end_of_another_boot()
    assert (etc / "x.conf").read_text() == TRIED and trial_file.read()


@pytest.mark.parametrize("dies", range(5))
def test_a_process_that_dies_while_it_gives_back_loses_nothing(
    etc: Path, dies: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dead(BaseException):
        pass

    left = [dies]

    def rename(old: str, new: str) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Dead
        os.replace(old, new)

    begun(etc, "another boot")
    with monkeypatch.context() as patch:
        patch.setattr(trial_file.os, "rename", rename)
        with pytest.raises(Dead):
            trial.end_of_another_boot()
    trial.end_of_another_boot()
    assert read(str(etc / "x.conf")) == in_force.source_in_force()
    assert (etc / "x.conf.tried").read_text() == TRIED
    assert (etc / "profiles.d" / "web.nft.tried").read_text() == "# tried\n"


def test_a_file_that_was_removed_meanwhile_comes_back(etc: Path) -> None:
    begun(etc, "another boot")
    (etc / "x.conf").unlink()
    trial.end_of_another_boot()
    assert (etc / "x.conf").read_text() == BEFORE
    assert (etc / "profiles.d" / "web.nft.tried").read_text() == "# tried\n"


def test_check_tells_of_a_trial_and_of_one_that_did_not_end(etc: Path) -> None:
    one = begun(etc)
    trial_file.write(replace(one, until=1 << 40))
    assert [note.do for note in trial.running()] == ["ganeti-vif confirm"] and trial.overdue() == []
    trial_file.write(replace(one, until=1))
    assert trial.running() == [] and [failure.do for failure in trial.overdue()] == ["ganeti-vif revert"]
    trial.confirm()
    assert trial.running() == trial.overdue() == []
    with pytest.raises(Failure, match="no configuration is on trial"):
        trial.confirm()


def test_without_systemd_no_trial_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timer.units, "systemd", lambda: False)
    with pytest.raises(Failure, match="nobody would take the configuration back"):
        timer.start(60, ["true"])


def test_a_file_that_is_a_link_stays_a_link(etc: Path) -> None:
    (etc / "x.conf").rename(etc / "real")
    (etc / "x.conf").symlink_to("real")
    trial_file.give_back(Restored(str(etc / "x.conf"), BEFORE))
    assert (etc / "x.conf").is_symlink() and (etc / "real").read_text() == BEFORE


def test_what_is_being_taken_back_cannot_be_confirmed(etc: Path) -> None:
    one = begun(etc)
    trial_file.write(replace(one, tried=one.before))
    with pytest.raises(Failure, match="is being taken back already"):
        trial.confirm()
    assert trial_file.read()


def test_a_power_cut_right_after_the_beginning_of_a_trial_does_not_lose_it(
    etc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    rename, sync = os.rename, os.fsync

    def renamed(old: str, new: str) -> None:
        rename(old, new)
        done.append("renamed")

    def synced(file: int) -> None:
        sync(file)
        done.append(os.readlink(f"/proc/self/fd/{file}"))

    monkeypatch.setattr(trial_file.os, "rename", renamed)
    monkeypatch.setattr(trial_file.os, "fsync", synced)
    begun(etc)
    assert done[-2:] == ["renamed", trial_file.DIRECTORY]
