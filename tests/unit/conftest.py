# SPDX-License-Identifier: BSD-2-Clause
"""Settings of the unit tests: where the project is, how long hypothesis may look for trouble, and no word in this
machine's own logs.

The same examples on every run, so that a red test stays red.
To look further: EXAMPLES=2000 pytest tests/unit
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ganeti_vif.system import log, signals
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


@pytest.fixture(autouse=True)
def without_signals(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """xdist sometimes runs a worker's tests in another thread than the main one (execnet before 2.1): nobody can listen
    to signals there. Tests that are about signals are skipped then, and the others do without."""
    if threading.current_thread() is not threading.main_thread():
        if request.module.__name__.endswith("test_interruption"):
            pytest.skip("signals need the main thread, and this worker of xdist is in another one")
        monkeypatch.setattr(signals, "told", lambda end: nullcontext())
