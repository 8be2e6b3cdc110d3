# SPDX-License-Identifier: BSD-2-Clause
"""The end: nothing of ours stays, and nothing was wrong with our units all the while."""

from __future__ import annotations

from .machine import Machine
from .node import clean, faults, sh


def test_no_empty_tables_stay_after_teardown(node: Machine) -> None:
    """A chain goes with its device on older kernels, and its table is left."""
    sh(node, "systemctl stop vm5 vm6", check=False)
    clean(node)
    sh(node, "systemctl stop ganeti-vifd ganeti-vif-responder; ganeti-vif teardown")
    assert "ganeti_vif" not in sh(node, "nft list tables")
    assert faults(node) == []
