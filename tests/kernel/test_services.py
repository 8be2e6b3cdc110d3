# SPDX-License-Identifier: BSD-2-Clause
"""`check`, `status`, `doctor` and `gnt-cluster verify` tell of a node that Ganeti does not call, and of daemons that do
not run though they should; and what they print mends it."""

from __future__ import annotations

import pytest

from tests.lab import Node

from .actions import answer, attach, differences, run
from .conftest import MakeTap
from .environment import SCRIPT, bridged
from .test_hooks import hook, line
from .vifd import launched

UNIT = "/etc/systemd/system/multi-user.target.wants/ganeti-vifd.service"


@pytest.fixture
def member(ready: Node) -> Node:
    """A node that is set up, of a Ganeti cluster."""
    ready.path("/var/lib/ganeti").mkdir(exist_ok=True)
    return ready


def fixes(node: Node, what: str) -> list[str]:
    """The commands that `check` prints for the findings with WHAT in them."""
    lines = run(node, "check").stdout.splitlines()
    pairs = zip(lines, lines[1:], strict=False)
    return [fix[7:] for told, fix in pairs if what in told and fix.startswith("  fix: ")]


def follow(node: Node, what: str) -> None:
    """Do what `check` says that mends it: each a command, which works."""
    commands = fixes(node, what)
    assert commands
    for command in commands:
        node.run(["bash", "-ec", command])


def test_a_predecessors_script_is_told_of_until_it_is_ours(member: Node, tap: MakeTap) -> None:
    assert differences(member) == []
    member.path(SCRIPT).unlink()
    member.path(SCRIPT).write_text("#!/bin/sh\nexit 0\n")
    member.path(SCRIPT).chmod(0o755)
    one = tap(member)
    attach(member, bridged(one.name))  # "works", and the VM has no network
    assert differences(member) == [f"{SCRIPT} is not of ganeti-vif: Ganeti does not call ganeti-vif"]
    assert "does not call ganeti-vif" in run(member, "status").stdout
    said = line(hook(member, "cluster-verify"))
    assert f"install -D -b -m 755 /usr/share/ganeti-vif/scripts/kvm-vif-bridge {SCRIPT}" in said
    follow(member, SCRIPT)
    assert member.path(f"{SCRIPT}~").read_text() == "#!/bin/sh\nexit 0\n"
    assert differences(member) == []
    attach(member, bridged(one.name))
    assert [nic["state"] for nic in answer(member, "status")["nics"]] == ["ok"]


@pytest.mark.parametrize("breakage", ["rm {0}", "chmod -x {0}", "rm {0}; ln -s /etc/ganeti/nowhere {0}"])
def test_a_script_that_ganeti_cannot_run_is_told_of(member: Node, breakage: str) -> None:
    member.run(["sh", "-c", breakage.format(SCRIPT)])
    assert "does not call ganeti-vif" in "".join(differences(member))
    follow(member, SCRIPT)
    assert differences(member) == []


def test_a_hook_that_is_not_ours_is_told_of(member: Node) -> None:
    watcher, verify = (f"/etc/ganeti/hooks/{name}/50-ganeti-vif" for name in ("watcher", "cluster-verify-post.d"))
    member.run(["rm", watcher])
    member.run(["ln", "-sf", "/bin/true", verify])
    assert len(differences(member)) == 2
    follow(member, "the hook")
    assert differences(member) == []


def test_the_scripts_of_3_2_matter_where_ganeti_calls_them(member: Node) -> None:
    there = member.path("/etc/ganeti/network/bridged")
    (there / "up").unlink()
    assert differences(member) == []
    assert "network/bridged/up is missing" in run(member, "doctor").stdout
    caller = member.path("/usr/lib/ganeti/3.2/usr/lib/ganeti")
    caller.mkdir(parents=True)
    (caller / "kvm-nic-setup").touch()
    (there / "down").unlink()
    there.rmdir()
    assert len(differences(member)) == 2
    follow(member, "network/bridged")
    assert differences(member) == []


def test_a_daemon_that_should_run_and_does_not_is_told_of(ready: Node) -> None:
    """By what an init system is told to start, whether it is systemd or not."""
    assert differences(ready) == [], "nothing starts it here"
    ready.run(["mkdir", "-p", "/run/systemd/system", UNIT.rpartition("/")[0]])
    assert "enable --now ganeti-vifd" in run(ready, "doctor").stdout, "disabled: a note"
    ready.run(["ln", "-s", "/usr/lib/systemd/system/ganeti-vifd.service", UNIT])
    (told,) = differences(ready)
    assert told.startswith("ganeti-vifd does not run")
    assert fixes(ready, "ganeti-vifd") == ["service ganeti-vifd restart"]
    assert "ganeti-vifd does not run" in line(hook(ready, "cluster-verify"))
    with launched(ready) as daemon:
        assert differences(ready) == []
        daemon.terminate()
    ready.run(["ln", "-s", "/dev/null", "/etc/systemd/system/ganeti-vifd.service"])
    assert differences(ready) == [], "masked"
    ready.run(["rm", "-r", "/run/systemd"])
    assert differences(ready) == [], "another init system, which does not start it"
    ready.run(["sh", "-c", "mkdir -p /etc/rc2.d; ln -s ../init.d/ganeti-vifd /etc/rc2.d/S01ganeti-vifd"])
    assert differences(ready) == [told]
