# SPDX-License-Identifier: BSD-2-Clause
"""Ganeti 3.2's calls in the orders in which it makes them, the odd ones included.

It calls network/MODE/up and down with ACTION, and MIGRATION_PHASE=post for what it attaches after a migration. `down` is
no promise: it comes while the guest runs and repeatedly, or not at all, and INTERFACE may be another NIC's
(ganeti lib/hypervisor/hv_kvm/__init__.py:796-830, 1957-1969, 2437-2460, 2495-2496, 2556-2575, 2621-2636 and
lib/backend.py:2949-2995 at c35736d8a).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

import pytest

from tests.lab import Node, Tap

from .actions import answer, differences, ip, manage, shot
from .conftest import MakeTap, installed, quick
from .environment import bridged, private, public, routed
from .test_ganeti_contract import call, silent
from .test_hooks import hook, instance, quiet

Environment = Mapping[str, str]
GUEST = "vm5.example.com"


def ask(node: Node, action: str, environment: Environment, **more: str) -> None:
    """One call of Ganeti's, which works and says nothing."""
    script = f"/etc/ganeti/network/{environment['MODE']}/{action}"
    silent(call(node, {**environment, "ACTION": action, **more}, script))


def pair(node: Node, tap: MakeTap) -> tuple[list[Tap], list[dict[str, str]]]:
    """The taps of an instance with a routed and a bridged NIC, and what Ganeti says of each."""
    taps = [tap(node), tap(node)]
    # Two NICs of one guest: numbers 5 and 6 give them MACs, addresses and UUIDs of their own.
    return taps, [routed(taps[0].name, 5), bridged(taps[1].name, 6, INSTANCE=GUEST)]


def gone(*taps: Tap) -> None:
    """QEMU has ended, or unplugged them."""
    for one in taps:
        one.close()
        one.wait_gone()


def attached(node: Node) -> dict[str, tuple[str, str]]:
    """By tap: the UUID of its NIC and how that is."""
    return {nic["tap"]: (nic["uuid"], nic["state"]) for nic in answer(node, "status")["nics"]}


def as_told(*environments: Environment) -> dict[str, tuple[str, str]]:
    return {one["INTERFACE"]: (one["INTERFACE_UUID"], "ok") for one in environments}


def test_a_shutdown_asks_again_and_again_while_the_guest_still_runs(ready: Node, tap: MakeTap) -> None:
    before = shot(ready)
    taps, nics = pair(ready, tap)
    for nic in nics:
        ask(ready, "up", nic)
    running = shot(ready)
    for _ in range(3):  # ACPI, and every five seconds until it has ended
        for nic in nics:
            ask(ready, "down", nic)
    assert shot(ready) == running
    gone(*taps)
    for nic in nics:  # once more, after the forced stop
        ask(ready, "down", nic)
    assert (shot(ready), differences(ready)) == (before, [])


def test_a_soft_reboot_takes_down_twice_and_up_once(ready: Node, tap: MakeTap) -> None:
    taps, nics = pair(ready, tap)
    for nic in nics:
        ask(ready, "up", nic)
    for nic in nics * 2:
        ask(ready, "down", nic)
    gone(*taps)
    _, again = pair(ready, tap)
    for nic in again:
        ask(ready, "up", nic)
    assert (attached(ready), differences(ready)) == (as_told(*again), [])


def test_down_with_the_tap_of_another_nic_harms_nobody(ready: Node, tap: MakeTap) -> None:
    """It is called with the tap of a position in one list and the NIC of that position in another."""
    taps, nics = pair(ready, tap)
    for nic in nics:
        ask(ready, "up", nic)
    swapped = [{**nic, "INTERFACE": one.name} for nic, one in zip(nics, reversed(taps), strict=True)]
    running = shot(ready)
    for nic in swapped:
        ask(ready, "down", nic)
    assert shot(ready) == running
    gone(*taps)
    for nic in swapped:
        ask(ready, "down", nic)
    assert (attached(ready), differences(ready)) == ({}, [])


def test_a_start_that_failed_half_way_is_repeated_without_any_down(ready: Node, tap: MakeTap) -> None:
    """So does the watcher after a crash: only up."""
    taps, nics = pair(ready, tap)
    ask(ready, "up", nics[0])
    gone(*taps)
    _, again = pair(ready, tap)
    assert [one["INTERFACE"] for one in again] == [one["INTERFACE"] for one in nics]
    for nic in again:
        ask(ready, "up", nic)
    assert (attached(ready), differences(ready)) == (as_told(*again), [])


def test_another_nic_gets_the_tap_of_one_that_was_unplugged_without_down(ready: Node, tap: MakeTap) -> None:
    taps, nics = pair(ready, tap)
    for nic in nics:
        ask(ready, "up", nic)
    gone(taps[0])
    new = bridged(tap(ready).name, 7, INSTANCE=GUEST)
    assert new["INTERFACE"] == nics[0]["INTERFACE"]
    ask(ready, "up", new)
    assert (attached(ready), differences(ready)) == (as_told(new, nics[1]), [])
    ask(ready, "down", nics[0])
    assert (attached(ready), differences(ready)) == (as_told(new, nics[1]), [])


def test_up_twice_is_up_once(ready: Node, tap: MakeTap) -> None:
    _, nics = pair(ready, tap)
    for nic in nics:
        ask(ready, "up", nic)
    running = shot(ready)
    for nic in nics:
        ask(ready, "up", nic)
    assert shot(ready) == running


def test_down_of_a_nic_that_nobody_knows_is_fine(ready: Node) -> None:
    before = shot(ready)
    for nic in (routed("tap0"), bridged("", 6)):
        ask(ready, "down", nic)
    assert shot(ready) == before


@pytest.fixture
def target(stack: ExitStack) -> Node:
    """Another node, set up, with an uplink of its own."""
    node = installed(quick(stack.enter_context(Node("node2"))))
    ip(node, "link add eth1 type veth peer name far", "link set eth1 up", "link set far up")
    manage(node, "setup")
    return node


def test_a_migration(ready: Node, target: Node, tap: MakeTap) -> None:
    """Bridged NICs come up on the target before the guest does, routed ones after; down on the source in between."""
    source_before = shot(ready)
    taps, nics = pair(ready, tap)
    for nic in nics:
        ask(ready, "up", nic)
    _, coming = pair(target, tap)
    ask(target, "up", coming[1])
    running = shot(ready)
    for nic in nics:
        ask(ready, "down", nic)
    assert shot(ready) == running, "the guest may still run here"
    gone(*taps)
    ask(target, "up", coming[0], MIGRATION_PHASE="post")
    for node in (ready, target):
        quiet(hook(node, "instance-migrate", **instance()))
    assert (shot(ready), differences(ready)) == (source_before, [])
    assert (attached(target), differences(target)) == (as_told(*coming), [])


def test_a_migration_that_failed_leaves_the_guest_and_later_nothing(ready: Node, target: Node, tap: MakeTap) -> None:
    """3.2 forgets the QEMU that waits on the target: no down comes, and its taps live until somebody kills it."""
    target_before = shot(target)
    _, nics = pair(ready, tap)
    for nic in nics:
        ask(ready, "up", nic)
    waiting, coming = pair(target, tap)
    ask(target, "up", coming[1])
    assert (attached(ready), differences(ready)) == (as_told(*nics), [])
    assert differences(target) == []
    gone(*waiting)
    quiet(hook(target, "watcher"))
    assert (shot(target), differences(target)) == (target_before, [])


def test_a_second_migration_after_a_failed_one(ready: Node, target: Node, tap: MakeTap) -> None:
    """The taps of the first still wait, so the second has others; the same NIC has two taps until the first are gone."""
    waiting, first = pair(target, tap)
    ask(target, "up", first[1])
    _, second = pair(target, tap)
    ask(target, "up", second[1])
    gone(*waiting)
    ask(target, "up", second[0], MIGRATION_PHASE="post")
    quiet(hook(target, "instance-migrate", **instance()))
    assert (attached(target), differences(target)) == (as_told(*second), [])
    routes = target.run(["ip", "route", "show", "table", "222", public(5)]).stdout
    assert f"dev {second[0]['INTERFACE']} " in routes
    assert private(6) not in routes
