# SPDX-License-Identifier: BSD-2-Clause
"""A change that takes itself back, whoever dies meanwhile: setup --try on an installed node."""

from __future__ import annotations

import json
from contextlib import ExitStack

import pytest

from tests.kernel.environment import bridged
from tests.kernel.responder_lab import RESPONDS
from tests.lab import Tap

from .actions import CONFIGURATION, attach, configure, daemon, install, plug, reaches, sh, until
from .machine import Machine

TRIED = RESPONDS.replace("[public", "[private lab]\nbridges = 1-2\n\n[public", 1)
BROKEN = TRIED.replace("bridges = 1-2\n", "bridges = 1-2\nuplink = vxlan missing0 +500\n")
STATE = "ip -br link; ip route show table all; nft list ruleset | grep -v packets"

pytestmark = pytest.mark.parametrize("machine", ["bookworm-systemd"], indirect=True)


def labs(machine: Machine) -> list[str]:
    return sh(machine, "ls /sys/class/net | grep ^lab", check=False).split()


def try_it(machine: Machine, seconds: int, text: str = TRIED) -> str:
    machine.path(CONFIGURATION).write_text(text)
    return sh(machine, f"ganeti-vif setup --try --timeout {seconds}", check=False)


def test_what_nobody_confirms_goes_though_the_daemon_was_killed_and_what_is_confirmed_stays(
    machine: Machine, stack: ExitStack
) -> None:
    assert TRIED not in (RESPONDS, BROKEN)
    install(machine)
    configure(machine)
    guests = [plug(machine, stack, f"tap{n}", 6 + n, f"10.0.0.{6 + n}/24") for n in range(2)]
    before = sh(machine, STATE)
    said = try_it(machine, 15)
    assert said.startswith("on trial until"), said
    assert labs(machine) == ["lab1", "lab2"]
    notes = json.loads(sh(machine, "ganeti-vif check --json"))["notes"]
    assert [note["do"] for note in notes] == ["ganeti-vif confirm"]
    assert "is on trial until" in try_it(machine, 15), "one trial at a time"
    sh(machine, f"kill -9 {daemon(machine)}")
    until(lambda: labs(machine) == [], "the configuration of before")
    until(lambda: sh(machine, "ganeti-vif check", check=False) == "", "a clean node")
    assert machine.path(CONFIGURATION).read_text() == RESPONDS
    assert machine.path(f"{CONFIGURATION}.tried").read_text() == TRIED
    assert sh(machine, STATE) == before
    reaches(guests[0], "10.0.0.7")

    try_it(machine, 600)
    assert sh(machine, "ganeti-vif confirm") == "confirmed: the configuration stays\n"
    assert sh(machine, "systemctl list-timers --all --no-legend ganeti-vif-revert.timer") == ""
    assert sh(machine, "ganeti-vif check", check=False) == ""
    assert "no configuration is on trial" in sh(machine, "ganeti-vif revert", check=False)
    assert (labs(machine), machine.path(CONFIGURATION).read_text()) == (["lab1", "lab2"], TRIED)


def test_it_goes_at_once_if_a_part_of_it_fails_at_the_next_boot_and_around_guests(
    machine: Machine, stack: ExitStack
) -> None:
    install(machine)
    configure(machine)
    said = try_it(machine, 600, BROKEN)
    assert "missing0" in said and "on trial" not in said, said
    assert (labs(machine), machine.path(CONFIGURATION).read_text()) == ([], RESPONDS)
    assert sh(machine, "ganeti-vif check", check=False) == ""

    try_it(machine, 600)
    path = machine.path("/var/lib/ganeti-vif/trial.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"boot": "the boot before"}))
    sh(machine, "systemctl restart ganeti-vif")
    assert machine.path(CONFIGURATION).read_text() == RESPONDS
    assert "no configuration is on trial" in sh(machine, "ganeti-vif confirm", check=False)
    sh(machine, "ganeti-vif teardown --private lab=1-2")

    try_it(machine, 600)
    tap = stack.enter_context(Tap(machine))
    attach(machine, bridged(tap.name, 8, link="lab1"))
    said = sh(machine, "ganeti-vif revert", check=False)
    assert f"lab1 has taps on it: {tap.name}" in said, said
    assert "fix: ganeti-vif revert" in sh(machine, "ganeti-vif check", check=False)
    sh(machine, f"ganeti-vif detach {tap.name}")
    sh(machine, "ganeti-vif revert")
    assert labs(machine) == []
    assert sh(machine, "ganeti-vif check", check=False) == ""
