# SPDX-License-Identifier: BSD-2-Clause
"""The configuration in force: a copy that keeps everything, and what of it a teardown leaves."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganeti_vif.config.parse import config_of
from ganeti_vif.config.source import ProfileText, Source, from_json, read, to_json, without_networks
from ganeti_vif.engine.failure import Failure
from ganeti_vif.reconcile import in_force as module
from ganeti_vif.system import in_force as copy

BOTH = """\
; the whole node
[private pvn]
bridges = 1-3
[bindings]
for = all
[public public]
table = 222
uplink = eth1
subnets = 192.0.2.0/24
[responder]
rate = 7
"""


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration file, on a node on which nothing is in force."""
    monkeypatch.setattr(copy, "DIRECTORY", str(tmp_path / "run"))
    monkeypatch.setattr(copy, "PATH", str(tmp_path / "run" / "configuration.json"))
    path = tmp_path / "ganeti-vif.conf"
    path.write_text(BOTH)
    return path


texts = st.text(st.characters(blacklist_categories=("Cs",)))


@given(texts, st.lists(st.builds(ProfileText, texts, st.none() | texts, texts), max_size=3))
def test_the_copy_says_what_the_file_said(text: str, profiles: list[ProfileText]) -> None:
    source = Source("/etc/ganeti-vif/ganeti-vif.conf", text, tuple(profiles))
    assert from_json(to_json(source)) == source


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "7", '{"path": "x"}', '{"path": "x", "text": "", "profiles": [1]}']
)
def test_a_damaged_copy_is_an_error_and_no_configuration(text: str, conf: Path) -> None:
    with pytest.raises(ValueError):
        from_json(text)
    module.put_in_force(str(conf))
    Path(copy.PATH).write_text(text)
    with pytest.raises(Failure, match="damaged"):
        module.in_force(str(conf))


def test_a_teardown_leaves_all_but_the_networks(conf: Path) -> None:
    left = config_of(without_networks(read(str(conf))))
    before = config_of(read(str(conf)))
    assert (left.private, left.public) == ((), ())
    assert (left.bindings, left.responder) == (before.bindings, before.responder)


def test_the_file_counts_until_something_is_in_force(conf: Path) -> None:
    assert module.in_force(str(conf)).config.private
    assert module.unapplied(str(conf)) is None
    conf.write_text("[private pvn]\nbridges = 9\n")
    assert list(module.in_force(str(conf)).config.private[0].bridges) == ["pvn9"]


def test_an_edit_is_told_and_changes_nothing(conf: Path) -> None:
    known = module.put_in_force(str(conf))
    conf.write_text(BOTH + "# a comment\n")
    assert module.unapplied(str(conf)) is None
    conf.write_text(BOTH.replace("1-3", "1-4"))
    told = module.unapplied(str(conf))
    assert told and "not in force" in told.what and told.do == "ganeti-vif setup --dry-run && ganeti-vif setup"
    assert module.in_force(str(conf)) == known and not known.is_old()
    assert module.put_in_force(str(conf)).config != known.config and known.is_old()


def test_a_broken_file_is_told_with_its_line_and_leaves_what_is_in_force(conf: Path) -> None:
    known = module.put_in_force(str(conf))
    conf.write_text("[private pvn]\nbridges = x\n")
    with pytest.raises(Failure, match="ganeti-vif.conf:2"):
        module.put_in_force(str(conf))
    assert module.in_force(str(conf)) == known
    told = module.unapplied(str(conf))
    assert told and "ganeti-vif.conf:2" in told.what


def test_a_torn_down_node_is_told_and_set_up_again(conf: Path) -> None:
    module.put_in_force(str(conf))
    assert module.put_down(str(conf)).config.private == ()
    told = module.unapplied(str(conf))
    assert told and "torn down" in told.what
    module.put_in_force(str(conf))
    assert module.unapplied(str(conf)) is None


def test_another_file_in_force_is_told(conf: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.conf"
    other.write_text(BOTH)
    module.put_in_force(str(other))
    told = module.unapplied(str(conf))
    assert told and told.what.startswith(f"{other} is in force")


def test_the_same_again_is_no_news(conf: Path) -> None:
    known = module.put_in_force(str(conf))
    module.put_in_force(str(conf))
    assert not known.is_old()
