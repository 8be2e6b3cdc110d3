# SPDX-License-Identifier: BSD-2-Clause
"""Files of firewall profiles: what is a rule, what is refused, and with which line."""

from __future__ import annotations

from pathlib import Path

import pytest
from samples import proper

from ganeti_vif.config.model import Profile
from ganeti_vif.config.profiles import MOST, parse, profiles_of
from ganeti_vif.config.source import read
from ganeti_vif.engine.failure import Failure


def load(directory: Path) -> tuple[Profile, ...]:
    """The profiles beside the configuration file in DIRECTORY."""
    (directory / "ganeti-vif.conf").touch()
    return profiles_of(read(str(directory / "ganeti-vif.conf")).profiles)


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    (tmp_path / "profiles.d").mkdir()
    return tmp_path / "profiles.d"


def test_a_profile_is_its_rules_with_their_places(tmp_path: Path, beside: Path) -> None:
    (beside / "web.nft").write_text("# the web\n\ntcp  dport { 80, 443 }\taccept # both\nct state established accept\n")
    (beside / "notes.txt").write_text("not a profile")
    (profile,) = load(tmp_path)
    assert profile.rules == (
        ("web.nft:3", "tcp dport { 80, 443 } accept"),
        ("web.nft:4", "ct state established accept"),
    )
    assert (profile.name, profile.stateful, profile.trouble) == ("web", "web.nft:4", None)


def test_no_directory_is_no_profile(tmp_path: Path) -> None:
    assert load(tmp_path) == ()


def test_one_that_is_wrong_keeps_no_other_from_its_nics(tmp_path: Path, beside: Path) -> None:
    (beside / "good.nft").write_text("accept\n")
    (beside / "bad.nft").write_text("accept\n\nadd table inet x\n")
    (beside / "worse.nft").write_bytes(b"\xff\n")
    found = {profile.name: profile for profile in load(tmp_path)}
    assert found["good"].trouble is None
    for name, word in (("bad", "bad.nft:3"), ("worse", "worse.nft")):
        trouble = found[name].trouble
        assert trouble and word in proper(trouble).what


@pytest.mark.parametrize(
    "line",
    [
        "add rule inet filter input accept",
        "flush ruleset",
        "include /etc/passwd",
        "tcp dport { 22 accept",
        "accept; drop",
        'accept comment "mine"',
        "jump elsewhere",
        "ip saddr @other drop",
        "accept " + "x" * 500,
    ],
)
def test_a_line_that_is_no_rule_is_refused_by_its_place(line: str) -> None:
    with pytest.raises(Failure, match=r"web\.nft:2") as caught:
        parse("web", "/etc/web.nft", ["accept", line])
    proper(caught.value)


def test_a_profile_is_not_endless_and_has_a_name_that_a_tag_can_say() -> None:
    with pytest.raises(Failure, match=str(MOST)):
        parse("web", "/etc/web.nft", ["accept"] * (MOST + 1))
    with pytest.raises(Failure, match="Web"):
        parse("Web", "/etc/Web.nft", [])
