# SPDX-License-Identifier: BSD-2-Clause
"""Ganeti 3.0 of Debian 12: one node, two nodes, and the end."""

from __future__ import annotations

from .one_node import End, OneNode, db, in_step, web

__all__ = ["db", "in_step", "web"]


class TestOneNode(OneNode):
    pass


class TestEnd(End):
    pass
