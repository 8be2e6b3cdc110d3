# SPDX-License-Identifier: BSD-2-Clause
"""The files that Ganeti runs, called as Ganeti calls them, with environments that were recorded from a real cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.lab import Node

from .actions import Done, answer, complaint, differences, ip, manage, shot
from .conftest import ROOT, MakeTap, configure, installed, quick
from .environment import SCRIPT, bridged, routed, uuid

CAPTURES = ROOT / "tests" / "unit" / "captures"
RECORDED = [
    "instance-start.node1.015",
    "instance-start.node1.016",
    "instance-start.node1.017",
    "hotplug-add-routed.node1.022",
    "two-migrate-to-node2.node2.026",
]

CONFIG = """\
[responder]
enabled = no
[private pvn]
bridges = 1-3

[public rt_pub]
table    = 222
uplink   = eth1
subnets  = 10.77.1.0/24 2001:db8:77::/64
gateways = 10.77.1.1 2001:db8:77::1
"""

AS_NODED = r"""
import os, subprocess, sys
os.chdir("/")
os.umask(0o077)
# noded reads until both pipes end, so a child in the background that keeps one open makes the instance wait.
with open(os.devnull, "rb") as nothing:
    done = subprocess.run([sys.argv[1]], stdin=nothing, stdout=subprocess.PIPE, stderr=subprocess.PIPE, close_fds=True)
sys.stdout.buffer.write(done.stdout)
sys.stderr.buffer.write(done.stderr)
sys.exit(done.returncode)
"""
"""How ganeti lib/utils/process.py, RunCmd, starts a program."""


@pytest.fixture
def place(stack: ExitStack) -> Node:
    """A node with the networks of the recorded cluster."""
    node = installed(quick(stack.enter_context(Node("node1"))), CONFIG)
    ip(node, "link add eth1 type veth peer name far", "link set eth1 up", "link set far up")
    manage(node, "setup")
    return node


def call(node: Node, environment: dict[str, str], script: str = SCRIPT) -> Done:
    argv = ["/usr/bin/python3", "-I", "-c", AS_NODED, script]
    return node.run(argv, env=environment, check=False)


def silent(done: Done) -> None:
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def recorded(name: str, tap: str) -> dict[str, str]:
    """A recorded environment, for a tap and the links of this node."""
    lines = (CAPTURES / f"{name}.vif.env").read_text(encoding="utf-8").splitlines()
    found = {key: value for key, _, value in (line.partition("=") for line in lines)}
    link = {"bridged": "pvn1", "routed": "rt_pub"}[found["MODE"]]
    return found | {"INTERFACE": tap, "LINK": link} | ({"BRIDGE": link} if "BRIDGE" in found else {})


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_call_succeeds_without_a_word(place: Node, tap: MakeTap, name: str) -> None:
    environment = recorded(name, tap(place).name)
    silent(call(place, environment))
    (nic,) = answer(place, "status")["nics"]
    assert (nic["uuid"], nic["mac"], nic["state"]) == (environment["INTERFACE_UUID"], environment["MAC"], "ok")
    assert (nic["binding"] is not None) == ("nfdhcpd" in environment.get("NETWORK_TAGS", ""))
    assert differences(place) == []


@pytest.mark.parametrize("mode", ["bridged", "routed"])
def test_the_scripts_of_ganeti_3_2_do_the_same(place: Node, tap: MakeTap, mode: str) -> None:
    name = RECORDED[0] if mode == "routed" else RECORDED[1]
    environment = recorded(name, tap(place).name) | {"ACTION": "up"}
    silent(call(place, environment, f"/etc/ganeti/network/{mode}/up"))
    assert [nic["mode"] for nic in answer(place, "status")["nics"]] == [mode]
    assert differences(place) == []


def test_down_changes_nothing_while_the_tap_lives(place: Node, tap: MakeTap) -> None:
    environment = recorded(RECORDED[0], tap(place).name)
    silent(call(place, environment))
    before = shot(place)
    for _ in range(2):
        silent(call(place, environment | {"ACTION": "down"}, "/etc/ganeti/network/routed/down"))
        assert shot(place) == before


def test_down_clears_up_when_the_tap_is_gone_and_is_fine_twice(place: Node, tap: MakeTap) -> None:
    before = shot(place)
    one = tap(place)
    environment = recorded(RECORDED[0], one.name)
    silent(call(place, environment))
    one.close()
    one.wait_gone()
    for _ in range(2):
        silent(call(place, environment | {"ACTION": "down"}, "/etc/ganeti/network/routed/down"))
        assert shot(place) == before
    assert differences(place) == []


def test_down_with_another_nics_uuid_does_nothing_to_whoever_has_the_tap_now(place: Node, tap: MakeTap) -> None:
    first = tap(place)
    environment = recorded(RECORDED[0], first.name)
    silent(call(place, environment))
    first.close()
    first.wait_gone()
    second = tap(place)
    assert second.name == first.name
    silent(call(place, recorded(RECORDED[1], second.name)))
    before = shot(place)
    for other in (environment, environment | {"INTERFACE_UUID": uuid(99)}):
        silent(call(place, other | {"ACTION": "down"}, "/etc/ganeti/network/routed/down"))
        assert shot(place) == before
    assert differences(place) == []


def test_down_without_a_tap_name_still_finds_the_nic_by_its_uuid(place: Node, tap: MakeTap) -> None:
    before = shot(place)
    one = tap(place)
    environment = recorded(RECORDED[1], one.name)
    silent(call(place, environment))
    one.close()
    one.wait_gone()
    silent(call(place, environment | {"ACTION": "down", "INTERFACE": ""}, "/etc/ganeti/network/bridged/down"))
    assert shot(place) == before


@pytest.mark.parametrize("script", [SCRIPT, "/etc/ganeti/network/routed/up", "/etc/ganeti/network/routed/down"])
def test_a_tap_of_instance_communication_passes_through_untouched(place: Node, script: str) -> None:
    """Even on a node whose configuration is broken."""
    ip(place, "tuntap add gnt.com.0 mode tap")
    configure(place, "[nonsense]\n")
    before = shot(place)
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "INTERFACE": "gnt.com.0", "MODE": "routed"}
    silent(call(place, environment, script))
    assert shot(place) == before


@pytest.fixture(scope="module")
def files() -> Iterator[Node]:
    """A node for a look at the files that were installed."""
    with Node("node1") as node:
        yield installed(node)


@pytest.mark.parametrize(
    "script",
    [
        SCRIPT,
        *(
            f"/etc/ganeti/network/{mode}/{action}"
            for mode in ("bridged", "routed", "openvswitch")
            for action in ("up", "down")
        ),
    ],
)
def test_the_file_that_ganeti_copies_around_is_the_stub_byte_for_byte(files: Node, script: str) -> None:
    path = files.path(script)
    assert path.read_bytes() == (ROOT / "kvm-vif-bridge").read_bytes()
    assert path.stat().st_mode & 0o777 == 0o755


def test_the_stub_says_what_to_do_on_a_node_without_the_package(place: Node, tap: MakeTap) -> None:
    place.run(["rm", "-rf", "/usr/lib/ganeti-vif"])
    one = tap(place)
    for environment in (bridged(one.name), routed(one.name)):
        done = call(place, environment)
        assert "vm5.example.com" in complaint(done) and one.name in done.stderr
        assert "apt install ganeti-vif" in done.stderr


def test_nothing_of_the_callers_environment_or_directory_is_run(place: Node, tap: MakeTap, tmp_path: Path) -> None:
    """The script runs as root: a Python path or a module in / must not get into it."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "__init__.py").write_text("raise SystemExit(99)\n")
    (tmp_path / "sitecustomize.py").write_text("raise SystemExit(98)\n")
    environment = recorded(RECORDED[1], tap(place).name) | {"PYTHONPATH": str(tmp_path), "PYTHONHOME": ""}
    silent(call(place, environment))
