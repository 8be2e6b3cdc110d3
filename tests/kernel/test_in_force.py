# SPDX-License-Identifier: BSD-2-Clause
"""One configuration for everybody: whatever comes between an edit of the file and the next thing that reads it."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.lab import Node

from .actions import attach, complaint, differences, ip, manage, run, vif_script
from .conftest import MakeTap, apply, configure
from .environment import CONFIG, bridged, routed
from .responder_lab import RESPONDS, responding, state
from .test_hooks import hook, instance, line, quiet
from .vifd import clean, said, started, stopped, until

BEFORE = CONFIG.partition("[public")[0] + "[bindings]\nfor = all\n"
"""CONFIG without its public link."""
BROKEN = CONFIG.replace("table      = 222", "table      = many")
EDITED = "/etc/ganeti-vif/ganeti-vif.conf was changed, and the change is not in force yet"


@pytest.fixture
def before(node: Node) -> Node:
    """A node that was set up before its public link was configured."""
    apply(node, BEFORE)
    return node


@pytest.fixture
def vifd(before: Node) -> Iterator[subprocess.Popen[str]]:
    """Its daemon."""
    daemon = started(before)
    yield daemon
    stopped(daemon)
    assert daemon.returncode == 0


def looked(node: Node) -> None:
    """Let the daemon look at the whole node once more, as it does every minute: it repairs what is broken for that."""

    def repairs() -> int:
        return sum("repaired: " in line and "pvn1" in line for line in said(node).splitlines())

    before = repairs()
    ip(node, "link set pvn1 mtu 1400")
    until(lambda: repairs() > before, "a look")


def has_public_link(node: Node) -> bool:
    return "dev eth1" in node.run(["ip", "route", "show", "table", "222"], check=False).stdout


def reload(node: Node, daemon: subprocess.Popen[str]) -> None:
    daemon.send_signal(signal.SIGHUP)
    until(lambda: has_public_link(node), "the public link")


class TestWithADaemon:
    def test_setup_makes_it_and_it_stays(self, before: Node, vifd: subprocess.Popen[str], tap: MakeTap) -> None:
        configure(before, CONFIG)
        before_that = len(said(before))
        manage(before, "setup")
        assert differences(before) == []
        looked(before)
        assert has_public_link(before) and differences(before) == []
        assert "left over" not in said(before)[before_that:] and "missing" not in said(before)[before_that:]
        attach(before, routed(tap(before).name))

    def test_reconcile_makes_it_and_it_stays(self, before: Node, vifd: subprocess.Popen[str]) -> None:
        configure(before, CONFIG)
        manage(before, "reconcile")
        looked(before)
        assert has_public_link(before) and differences(before) == []

    def test_a_reload_makes_it(self, before: Node, vifd: subprocess.Popen[str]) -> None:
        configure(before, CONFIG)
        reload(before, vifd)
        until(lambda: clean(before), "the rest")

    def test_a_restart_makes_it(self, before: Node, vifd: subprocess.Popen[str]) -> None:
        configure(before, CONFIG)
        stopped(vifd)
        again = started(before)
        until(lambda: has_public_link(before) and clean(before), "the public link")
        stopped(again)

    def test_an_edit_alone_changes_nothing_whoever_comes(
        self, before: Node, vifd: subprocess.Popen[str], tap: MakeTap
    ) -> None:
        configure(before, CONFIG)
        looked(before)
        attach(before, bridged(tap(before).name))
        quiet(hook(before, "watcher"))
        quiet(hook(before, "network-modify"))
        quiet(hook(before, "instance-start", **instance()))
        assert complaint(vif_script(before, routed(tap(before).name, 6))).endswith("is no routing table")
        assert run(before, "setup", "--dry-run").returncode == 0
        looked(before)
        assert not has_public_link(before)

    def test_check_and_verify_and_status_and_doctor_say_so(self, before: Node, vifd: subprocess.Popen[str]) -> None:
        assert differences(before) == []
        configure(before, BEFORE + "# a comment is no difference\n")
        assert differences(before) == []
        configure(before, CONFIG)
        assert differences(before) == [EDITED]
        assert EDITED in line(hook(before, "cluster-verify"))
        for verb in ("status", "doctor"):
            assert EDITED in run(before, verb).stdout
        manage(before, "setup")
        assert differences(before) == []

    def test_a_broken_file_harms_nobody(self, before: Node, vifd: subprocess.Popen[str], tap: MakeTap) -> None:
        manage_and_edit(before)
        attach(before, routed(tap(before).name))
        quiet(hook(before, "watcher"))
        assert "ganeti-vif.conf:" in complaint(run(before, "setup"))
        (told,) = differences(before)
        assert "table: 'many' is no number" in told and told.endswith("stays in force")
        stopped(vifd)
        attach(before, routed(tap(before).name, 6))
        again = started_anyhow(before)
        attach(before, routed(tap(before).name, 7))
        stopped(again)

    def test_a_second_daemon_puts_nothing_in_force(self, before: Node, vifd: subprocess.Popen[str]) -> None:
        configure(before, CONFIG)
        assert "is held by process" in before.run(["ganeti-vifd", "--foreground"], check=False).stderr
        looked(before)
        assert not has_public_link(before)
        assert differences(before) == [EDITED]

    def test_what_was_torn_down_stays_so(self, before: Node, vifd: subprocess.Popen[str]) -> None:
        manage(before, "teardown")
        quiet(hook(before, "watcher"))
        before.run(["ip", "route", "add", "unreachable", "203.0.113.99/32", "table", "222", "proto", "156"])
        until(lambda: "203.0.113.99" in said(before), "a look that finds what is left over")
        assert before.ifindex("pvn1") is None
        assert differences(before) == [
            "the networks of /etc/ganeti-vif/ganeti-vif.conf were torn down, and nobody makes them again"
        ]
        manage(before, "setup")
        assert before.ifindex("pvn1") is not None and differences(before) == []

    def test_a_network_that_would_come_back_is_not_torn_down(self, before: Node) -> None:
        assert "pvn2 is in the configuration in force" in complaint(run(before, "teardown", "--private", "pvn=2"))
        apply(before, BEFORE.replace("1-3", "1"))
        manage(before, "teardown", "--private", "pvn=2")
        assert before.ifindex("pvn2") is None and differences(before) == []


def manage_and_edit(node: Node) -> None:
    """The public link is set up; after that somebody breaks the file."""
    apply(node, CONFIG)
    configure(node, BROKEN)


def started_anyhow(node: Node) -> subprocess.Popen[str]:
    """A daemon that works by what was in force, for the file is broken."""
    daemon = node.popen(["ganeti-vifd", "--foreground"])
    until(lambda: "stays in force" in said(node) or daemon.poll() is not None, "its word")
    assert daemon.poll() is None, daemon.communicate()
    return daemon


class TestWithoutADaemon:
    def test_an_edit_alone_changes_nothing(self, before: Node, tap: MakeTap) -> None:
        configure(before, CONFIG)
        quiet(hook(before, "watcher"))
        assert not has_public_link(before)
        assert differences(before) == [EDITED]
        attach(before, bridged(tap(before).name))
        configure(before, BROKEN)
        attach(before, bridged(tap(before).name, 6))

    def test_before_the_first_setup_the_file_counts(self, node: Node, tap: MakeTap) -> None:
        ip(node, "link add br9 type bridge", "link set br9 up")
        attach(node, bridged(tap(node).name, LINK="br9", BRIDGE="br9"))
        assert any("pvn1" in line for line in differences(node))

    def test_a_damaged_copy_is_told_with_what_mends_it(self, before: Node) -> None:
        before.path("/run/ganeti-vif/configuration.json").write_text("{")
        done = run(before, "check")
        assert "configuration.json is damaged" in complaint(done)
        fix = done.stderr.splitlines()[1].partition("fix: ")[2]
        before.run(["sh", "-c", fix])
        assert differences(before) == []


def test_the_responder_follows_setup(node: Node, tap: MakeTap) -> None:
    apply(node, RESPONDS)
    attach(node, bridged(tap(node).name))
    with responding(node):
        until(lambda: len(state(node)["taps"]) == 1, "its guest")
        apply(node, RESPONDS.replace("[responder]\n", "[responder]\nenabled = no\n"))
        assert run(node, "status").returncode == 0
        apply(node, RESPONDS)
        until(lambda: len(state(node)["taps"]) == 1, "its guest again")


def test_the_responder_follows_the_configuration_in_force_and_no_edit(node: Node, tap: MakeTap) -> None:
    apply(node, RESPONDS)
    attach(node, bridged(tap(node).name))
    with responding(node) as daemon:
        until(lambda: len(state(node)["taps"]) == 1, "its guest")
        configure(node, RESPONDS + "lease-time = never\n")
        daemon.send_signal(signal.SIGHUP)
        until(lambda: len(state(node)["taps"]) == 1, "its guest still")


def test_a_file_that_a_group_may_read_is_copied_for_that_group_alone(node: Node) -> None:
    node.run(["chgrp", "daemon", "/etc/ganeti-vif/ganeti-vif.conf"])
    node.run(["chmod", "640", "/etc/ganeti-vif/ganeti-vif.conf"])
    manage(node, "setup")
    shown = node.run(["stat", "-c", "%a %U %G", "/run/ganeti-vif/configuration.json"]).stdout
    assert shown == "640 root daemon\n"
