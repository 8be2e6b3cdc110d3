# SPDX-License-Identifier: BSD-2-Clause
"""What was done to a NIC can be read later: Ganeti throws away what a script prints when it succeeds."""

from __future__ import annotations

from tests.lab import Node

from .actions import attach, run, vif_script
from .conftest import MakeTap
from .environment import bridged

LOG = "/var/log/ganeti/vif.log"


def test_each_decision_about_a_nic_is_one_line_that_names_it(ready: Node, tap: MakeTap) -> None:
    one = tap(ready)
    attach(ready, bridged(one.name))
    run(ready, "detach", one.name)
    vif_script(ready, bridged(one.name, link="pvn999"))
    lines = [line for line in ready.path(LOG).read_text().splitlines() if f"({one.name})" in line]
    attached, detached, refused = lines
    assert all("vm5.example.com NIC 0" in line for line in lines)
    assert "attached to bridged pvn1" in attached
    assert "detached" in detached
    assert "error" in refused and "pvn999 does not exist" in refused


def test_a_dry_run_decides_nothing(ready: Node, tap: MakeTap) -> None:
    before = ready.path(LOG).read_text() if ready.path(LOG).exists() else ""
    one = tap(ready)
    ready.run(["ganeti-vif", "attach", "--dry-run"], env=bridged(one.name))
    run(ready, "reconcile", "--dry-run")
    assert (ready.path(LOG).read_text() if ready.path(LOG).exists() else "") == before


def test_what_reconcile_mended_is_said(ready: Node, tap: MakeTap) -> None:
    one = tap(ready)
    attach(ready, bridged(one.name))
    ready.run(["ip", "link", "set", one.name, "nomaster"])
    run(ready, "reconcile")
    assert f"reconciled: missing: {one.name} as a port of pvn1" in ready.path(LOG).read_text().splitlines()[-1]
