# SPDX-License-Identifier: BSD-2-Clause
"""The site for each kind of NIC, and a table of what each attack did, at the end."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
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
"""What each attack did, one line each."""


@pytest.fixture(autouse=True)
def room() -> None:
    """No test begins while other work on this machine would make it fail."""
    wait_for_room()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Whatever a test enters here is left at its end."""
    with ExitStack() as stack:
        yield stack


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    if ROWS:
        terminalreporter.section("what each attack did")
    for row in ROWS:
        terminalreporter.line(row)
