# SPDX-License-Identifier: BSD-2-Clause
"""Ganeti 3.1, of Debian 13, in its own root: one node, and the end."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

import pytest

from .one_node import End, OneNode, db, store, web

__all__ = ["db", "store", "web"]


@pytest.fixture(scope="module")
def root(debian13_root: Future[Path]) -> Path:
    """Made here if there is none yet; skipped where that cannot be."""
    return debian13_root.result()


class TestOneNode(OneNode):
    """A VM's life on one node."""


class TestEnd(End):
    """Everything goes."""
