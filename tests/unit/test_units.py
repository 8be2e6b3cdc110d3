# SPDX-License-Identifier: BSD-2-Clause
"""What the units may do: each right has its reason in docs/architecture.md, and there is none without."""

from __future__ import annotations

import re

import pytest
from samples import ROOT

UNITS = {
    "ganeti-vif": "ganeti-vif.service",
    "ganeti-vifd": "ganeti-vif.ganeti-vifd.service",
    "ganeti-vif-responder": "ganeti-vif.ganeti-vif-responder.service",
}
RIGHTS = ("CapabilityBoundingSet", "AmbientCapabilities", "RestrictAddressFamilies", "ReadWritePaths", "BindPaths")
"""Settings that give; the others of a unit take something away, and what they leave is nobody's special right."""


def settings(unit: str) -> dict[str, list[str]]:
    """The values of each setting in UNIT."""
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^([A-Za-z]+)=(.*)$", (ROOT / "debian" / UNITS[unit]).read_text(), re.MULTILINE):
        found.setdefault(key, []).extend(value.split())
    return found


def explained(unit: str) -> dict[str, str]:
    """The reason for each right of UNIT."""
    table = (ROOT / "docs" / "architecture.md").read_text().partition("\n## What each unit may do\n")[2]
    rows = re.findall(r"^\| (\S+) \| (\S+) \| (.+) \|$", table.partition("\n## ")[0], re.MULTILINE)
    return {right: why for whose, right, why in rows if whose == unit}


def test_every_unit_is_here() -> None:
    assert {path.name for path in (ROOT / "debian").glob("*.service")} == {*UNITS.values()}


@pytest.mark.parametrize("unit", UNITS)
def test_each_right_has_its_reason_and_no_reason_is_for_nothing(unit: str) -> None:
    given = {right for name in RIGHTS for right in settings(unit).get(name, [])}
    assert given == explained(unit).keys()


@pytest.mark.parametrize("unit", UNITS)
def test_none_may_look_into_other_processes(unit: str) -> None:
    """A unit that does not say what it may have has everything."""
    allowed = settings(unit)["CapabilityBoundingSet"]
    assert allowed
    assert not {"CAP_SYS_PTRACE", "CAP_SYS_ADMIN"} & {*allowed}
    assert settings(unit)["NoNewPrivileges"] == ["yes"]
