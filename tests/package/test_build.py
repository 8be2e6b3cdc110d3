# SPDX-License-Identifier: BSD-2-Clause
"""What is built: the same bytes from the same tree, and nothing that Debian would object to."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from .actions import install, sh
from .conftest import ROOT, Boot, build
from .root import SUITES


def test_two_builds_are_the_same(tmp_path: Path, shared: Path) -> None:
    other = build(tmp_path / "elsewhere", TZ="Asia/Tokyo", LC_ALL="C", LANGUAGE="de")
    assert other.read_bytes() == (shared / "this.deb").read_bytes()


def test_lintian_has_nothing_to_say(shared: Path) -> None:
    command = ["lintian", "--pedantic", "--allow-root", "--fail-on", "error,warning,pedantic", str(shared / "this.deb")]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_no_complaint_of_lintians_is_overridden() -> None:
    assert list((ROOT / "debian").rglob("*lintian-overrides*")) == []


@pytest.mark.parametrize("suite", SUITES)
def test_every_module_is_compiled_and_none_is_in_anybodys_way(suite: str, boot: Boot) -> None:
    machine = boot(suite, "sysv")
    install(machine)
    shared = "/usr/share/ganeti-vif"
    modules = sh(machine, f"cd {shared}; find . -name '*.py' | sort").split()
    compiled = sh(
        machine, f"cd {shared}; find . -name '*.pyc' | sed 's/__pycache__.//; s/[.]cpython-3[0-9]*[.]pyc$/.py/' | sort"
    )
    assert "./ganeti_vif/system/ask.py" in modules
    assert compiled.split() == modules
    assert "ModuleNotFoundError" in sh(machine, "python3 -c 'import ganeti_vif'", check=False)
