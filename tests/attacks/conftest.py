# SPDX-License-Identifier: BSD-2-Clause
"""The site for each kind of NIC, and a table of what each attack did, at the end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from _pytest.terminal import TerminalReporter

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

if os.geteuid() != 0:
    pytest.skip("only root can make network namespaces", allow_module_level=True)

from tests.lab import wait_for_room  # noqa: E402
from tests.signals import heard  # noqa: E402

heard()
ROWS: list[str] = []
"""What the attacks of the running test did, one line each."""
_DONE: list[str] = []


@pytest.fixture(autouse=True)
def room() -> None:
    """No test begins while other work on this machine would make it fail."""
    wait_for_room()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Whatever a test enters here is left at its end."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture(autouse=True)
def told(record_property: Callable[[str, object], None]) -> Iterator[None]:
    """What a test found goes with its report: it may have run in another process (-n)."""
    yield
    for row in ROWS:
        record_property("what it did", row)
    ROWS.clear()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "teardown":
        _DONE.extend(str(row) for name, row in report.user_properties if name == "what it did")


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    if _DONE:
        terminalreporter.section("what each attack did")
    for row in _DONE:
        terminalreporter.line(row)
