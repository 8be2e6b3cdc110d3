# SPDX-License-Identifier: BSD-2-Clause
"""docs/threats.md: each thing that an attacker may never do names tests, and they exist."""

from __future__ import annotations

import re

import pytest
from samples import ROOT

TEXT = (ROOT / "docs" / "threats.md").read_text(encoding="utf-8")
ATTACKERS = (
    "A tenant:",
    "A tenant on another node",
    "A host beyond the uplink",
    "A host on the underlay",
    "A local user",
)
NAMED = re.compile(r"`(tests/[a-z_0-9/]+\.py)(?:::(\w+))?`")
ROW = re.compile(r"^\| (?!may never|---)(.+?) \| (.+?) \| (.+?) \|$", re.MULTILINE)


def section(attacker: str) -> str:
    return TEXT.partition(f"\n## {attacker}")[2].partition("\n## ")[0]


@pytest.mark.parametrize("attacker", ATTACKERS)
def test_each_attacker_has_limits_with_tests_and_what_remains_is_said(attacker: str) -> None:
    text = section(attacker)
    rows = ROW.findall(text)
    assert rows
    assert "\nRemains: " in text
    assert [what for what, _, tests in rows if not NAMED.search(tests)] == []


def test_each_test_is_there() -> None:
    named = NAMED.findall(TEXT)
    assert named
    for path, name in named:
        assert (ROOT / path).is_file(), path
        assert not name or f"\ndef {name}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path}::{name}"
