# SPDX-License-Identifier: BSD-2-Clause
"""Ganeti 3.0, of Debian 12: one node, two nodes, and the end."""

from __future__ import annotations

from .one_node import End, OneNode, db, store, web
from .two_nodes import TwoNodes

__all__ = ["db", "store", "web"]


class TestOneNode(OneNode):
    """A VM's life on one node."""


class TestTwoNodes(TwoNodes):
    """Moves between two."""


class TestEnd(End):
    """Everything goes."""
