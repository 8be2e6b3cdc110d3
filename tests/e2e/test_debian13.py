# SPDX-License-Identifier: BSD-2-Clause
"""Ganeti 3.1, of Debian 13, in its own root: one node, and the end."""

from __future__ import annotations

import shutil
from concurrent.futures import Future
from pathlib import Path

import pytest

from .conftest import ROOT
from .one_node import End, OneNode, db, in_step, store, web

__all__ = ["db", "in_step", "store", "web"]


@pytest.fixture(scope="module")
def root(debian13_root: Future[Path]) -> Path:
    """Made here if there is none yet; skipped where that cannot be."""
    if not (ROOT / "build" / "debian13").exists() and not shutil.which("mmdebstrap"):
        pytest.skip("a root with Debian 13 needs mmdebstrap")
    return debian13_root.result()


class TestOneNode(OneNode):
    """A VM's life on one node."""


class TestEnd(End):
    """Everything goes."""
