# SPDX-License-Identifier: BSD-2-Clause
"""Hooks as real Ganeti 3.0.2 ran them (captures/hooks), and environments that no Ganeti gives."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import variables

from ganeti_vif.ganeti.hook import Hook, hook_of
from ganeti_vif.nic.nic import Mode
from hooks.hook import ACTIONS

HOOKS = sorted((Path(__file__).parent / "captures" / "hooks").glob("*.env"))


def recorded(name: str) -> Hook:
    """The recorded call of the hook NAME, as `instance-start-post`."""
    (path,) = (path for path in HOOKS if path.name.endswith(f".hook-{name}.env"))
    return hook_of(variables(path))


@pytest.mark.parametrize("path", HOOKS, ids=lambda path: path.stem)
def test_a_recorded_hook_is_known_by_its_name(path: Path) -> None:
    assert hook_of(variables(path)).name == path.stem.partition(".hook-")[2]


def test_a_start_tells_each_nics_network() -> None:
    instance = recorded("instance-start-post").instance
    assert instance and instance.name == "inst1.gnt.test" and instance.tags == frozenset({"initialtag"})
    public = instance.networks["8ea16126-78bc-4322-b857-7c8bb2f50c1e"]
    assert public and (public.name, str(public.subnet)) == ("pubnet", "10.77.1.0/24")
    assert instance.networks["5b23d1aa-498b-449c-b73e-37c3b9ff8c03"] is None


def test_a_rename_tells_both_names() -> None:
    instance = recorded("instance-rename-post").instance
    assert instance and (instance.former_name, instance.name) == ("inst1.gnt.test", "inst1b.gnt.test")


def test_a_migration_is_told_before_it_begins_with_its_nics() -> None:
    migration = recorded("instance-migrate-pre").migration
    assert migration and (migration.source, migration.target) == ("node1.gnt.test", "node2.gnt.test")
    public, private = migration.nics
    assert (public.mode, public.link, str(public.ip)) == (Mode.ROUTED, "rt_pub", "10.77.1.2")
    assert public.netdev == "nic-99716d24-b5fa-4c04" and public.network_tags == {"nfdhcpd"}
    assert private.mode is Mode.BRIDGED


def test_after_it_nothing_is_about_to_move() -> None:
    """Ganeti then has the target for the old primary (ganeti lib/hooksmaster.py:112-152 at 3.0.2)."""
    assert recorded("instance-migrate-post").migration is None


def test_a_cleanup_and_a_start_move_nobody() -> None:
    (path,) = (path for path in HOOKS if path.name.endswith(".hook-instance-migrate-pre.env"))
    assert hook_of(variables(path) | {"GANETI_MIGRATE_CLEANUP": "True"}).migration is None
    assert recorded("instance-start-post").migration is None


def test_connecting_a_network_tells_mode_and_link() -> None:
    hook = recorded("network-connect-pre")
    assert (hook.mode, hook.link, hook.instance) == ("bridged", "pvn1", None)


def test_adding_a_node_names_it() -> None:
    assert recorded("node-add-post").node_name == "node2.gnt.test"


def test_the_watcher_gives_nothing() -> None:
    assert hook_of({"PATH": "/bin", "LC_ALL": "C"}).name == "watcher-post"


def test_no_pre_hook_but_connecting_can_stop_an_operation() -> None:
    assert [name for name in ACTIONS if name.endswith("-pre")] == ["network-connect-pre"]


NAMES = st.sampled_from(
    ["HOOKS_PATH", "HOOKS_PHASE", "INSTANCE_NAME", "INSTANCE_TAGS", "INSTANCE_NIC0_UUID", "INSTANCE_NIC0_NETWORK_UUID"]
    + ["INSTANCE_NIC0_NETWORK_NAME", "INSTANCE_NIC0_NETWORK_SUBNET", "POST_INSTANCE_NIC0_NETWORK_TAGS", "NODE_NAME"]
)


@given(st.dictionaries(NAMES, st.text(max_size=20), max_size=8))
def test_whatever_the_environment_is_it_is_survived(given_: dict[str, str]) -> None:
    hook = hook_of({f"GANETI_{name}": value for name, value in given_.items()})
    assert hook.name


def test_a_network_that_cannot_be_read_is_left_out() -> None:
    hook = hook_of(
        {
            "GANETI_INSTANCE_NAME": "i1",
            "GANETI_INSTANCE_NIC0_UUID": "u0",
            "GANETI_INSTANCE_NIC0_NETWORK_UUID": "1658c0f7-cf1e-4094-b400-074be8751f55",
            "GANETI_INSTANCE_NIC0_NETWORK_NAME": "n",
            "GANETI_INSTANCE_NIC0_NETWORK_SUBNET": "10.0.0.0/33",
            "GANETI_INSTANCE_TAGS": "a 'b'",
        }
    )
    assert hook.instance and (hook.instance.networks, hook.instance.tags) == ({}, frozenset({"a", "'b'"}))
