# SPDX-License-Identifier: BSD-2-Clause
"""docs/attacks.md lists the frames that tests/kernel/test_attacks.py sends."""

from __future__ import annotations

import subprocess

from samples import ROOT


def test_the_appendix_is_what_the_tool_makes() -> None:
    made = subprocess.run([ROOT / "tools" / "attacks"], check=True, capture_output=True, text=True).stdout
    assert (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8") == made, "tools/attacks >docs/attacks.md"
