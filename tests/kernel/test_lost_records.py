# SPDX-License-Identifier: BSD-2-Clause
"""Records that were lost or damaged: a guest that was closed in stays so, and is told of, until its tap goes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.lab import Node

from .actions import attach, differences, run
from .conftest import MakeTap
from .environment import bridged, routed

NICS = "/run/ganeti-vif/nics"


def lose(node: Node, tap: str) -> None:
    node.path(f"{NICS}/{tap}.json").unlink()


def damage(node: Node, tap: str) -> None:
    node.path(f"{NICS}/{tap}.json").write_text("{")


def network(node: Node) -> str:
    """What a guest lives on: filters, ports, routes, rules."""
    commands = (
        "nft -s list ruleset; ip -br link; bridge link; ip route show table all; ip -6 route show table all; ip rule"
    )
    return node.run(["sh", "-c", commands]).stdout


@pytest.mark.parametrize("harm", [lose, damage])
def test_a_guest_without_its_record_stays_closed_and_connected(
    ready: Node, tap: MakeTap, harm: Callable[[Node, str], None]
) -> None:
    one, other, well = tap(ready), tap(ready), tap(ready)
    attach(ready, bridged(one.name))
    attach(ready, routed(other.name, 6))
    attach(ready, bridged(well.name, 7))
    before = network(ready)
    for name in (one.name, other.name):
        harm(ready, name)
    told = differences(ready)
    for name in (one.name, other.name):
        assert any(name in line and "no readable record" in line for line in told)
    assert run(ready, "reconcile").returncode == 1
    assert network(ready) == before
    one.close()
    other.close()
    run(ready, "reconcile")
    assert differences(ready) == []
    assert run(ready, "detach", well.name).returncode == 0


def test_attaching_it_again_makes_it_right(ready: Node, tap: MakeTap) -> None:
    one = tap(ready)
    attach(ready, bridged(one.name))
    lose(ready, one.name)
    attach(ready, bridged(one.name))
    assert differences(ready) == []
