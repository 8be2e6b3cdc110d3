# SPDX-License-Identifier: BSD-2-Clause
"""Settings of the unit tests: where the project is, how long hypothesis may look for trouble, and no word in this
machine's own logs.

The same examples on every run, so that a red test stays red.
To look further: EXAMPLES=2000 pytest tests/unit
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ganeti_vif.system import log
from tests.signals import heard

heard()

_EXAMPLES = int(os.environ.get("EXAMPLES", "60"))
settings.register_profile(
    "unit",
    max_examples=_EXAMPLES,
    derandomize="EXAMPLES" not in os.environ,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("unit")


@pytest.fixture(autouse=True)
def unlogged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "SOCKET", "/nonexistent")
    monkeypatch.setattr(log, "FILE", os.devnull)
