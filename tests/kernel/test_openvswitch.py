# SPDX-License-Identifier: BSD-2-Clause
"""NICs on a real Open vSwitch, with its datapath in user space, in a node of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.lab import Node

from .actions import attach, differences, manage, refusal, shot
from .conftest import MakeTap, configure, installed, quick
from .environment import openvswitch, uuid
from .test_hooks import connect, line, quiet

PROGRAMS = ("ovsdb-server", "ovs-vswitchd", "ovs-vsctl", "ovsdb-tool")
DATABASE = "/run/openvswitch/db.sock"


@pytest.fixture(scope="module")
def switched() -> Iterator[Node]:
    """A node with Open vSwitch: its own database and daemon, in /run/openvswitch of the node, and a bridge ovs1."""
    if missing := [program for program in PROGRAMS if not shutil.which(program, path="/usr/sbin:/usr/bin")]:
        pytest.skip(f"not installed: {', '.join(missing)} (apt install openvswitch-switch)")
    with ExitStack() as stack:
        node = installed(quick(stack.enter_context(Node("node1"))), "[private pvn]\nbridges = 1\n")
        node.run(["mkdir", "-p", "/run/openvswitch", "/var/log/openvswitch"])
        node.run(["ovsdb-tool", "create", "/run/openvswitch/conf.db", "/usr/share/openvswitch/vswitch.ovsschema"])
        daemons = {
            "ovsdb-server": ["/run/openvswitch/conf.db", f"--remote=punix:{DATABASE}"],
            "ovs-vswitchd": [f"unix:{DATABASE}", "--disable-system"],
        }
        for program, arguments in daemons.items():
            # It goes into the background when it is ready to serve.
            node.run(
                [
                    program,
                    *arguments,
                    "--detach",
                    "--no-chdir",
                    f"--pidfile=/run/openvswitch/{program}.pid",
                    f"--log-file=/run/openvswitch/{program}.log",
                ],
            )
            if program == "ovsdb-server":
                node.run(["ovs-vsctl", "--no-wait", "init"])
        made = node.run(
            ["ovs-vsctl", "--timeout=60", "add-br", "ovs1", "--", "set", "bridge", "ovs1", "datapath_type=netdev"],
            check=False,
        )
        if made.returncode or "error" in _log(node):
            pytest.skip(f"Open vSwitch has no datapath here: {made.stderr.strip() or _log(node)}")
        manage(node, "setup")
        yield node


def _log(node: Node) -> str:
    """What ovs-vswitchd complains of."""
    done = node.run(["grep", "-E", "EMER|ERR", "/run/openvswitch/ovs-vswitchd.log"], check=False)
    return done.stdout.replace("ERR", "error")


def port(node: Node, name: str) -> dict[str, Any] | None:
    """The VLANs of a port as ovs-vsctl shows them; None if there is no such port."""
    done = node.run(["ovs-vsctl", "--format=json", "--columns=tag,trunks", "find", "port", f"name={name}"])
    rows = json.loads(done.stdout)["data"]
    if not rows:
        return None
    tag, trunks = rows[0]
    return {"tag": tag if isinstance(tag, int) else None, "trunks": [trunks] if isinstance(trunks, int) else trunks[1]}


@pytest.mark.parametrize(
    ("vlan", "tag", "trunks"),
    [("", None, []), (".10", 10, []), (":20:30", None, [20, 30]), (".10:20:30", 10, [20, 30])],
)
def test_a_nic_is_a_port_with_its_vlans_until_it_is_detached(
    switched: Node, tap: MakeTap, vlan: str, tag: int | None, trunks: list[int]
) -> None:
    one = tap(switched)
    attach(switched, openvswitch(one.name, VLAN=vlan))
    assert port(switched, one.name) == {"tag": tag, "trunks": trunks}
    assert switched.run(["ovs-vsctl", "port-to-br", one.name]).stdout == "ovs1\n"
    assert differences(switched) == []
    before = shot(switched)
    attach(switched, openvswitch(one.name, VLAN=vlan))
    assert shot(switched) == before
    manage(switched, "detach", one.name)
    assert port(switched, one.name) is None
    assert differences(switched) == []


def test_vlans_that_changed_are_mended(switched: Node, tap: MakeTap) -> None:
    one = tap(switched)
    attach(switched, openvswitch(one.name, VLAN=".10:20"))
    switched.run(["ovs-vsctl", "set", "port", one.name, "tag=11"])
    assert any(one.name in line for line in differences(switched))
    manage(switched, "reconcile")
    assert port(switched, one.name) == {"tag": 10, "trunks": [20]}
    manage(switched, "detach", one.name)


def test_the_port_of_a_dead_tap_goes(switched: Node, tap: MakeTap) -> None:
    """Open vSwitch remembers ports in its database, longer than their devices live."""
    one = tap(switched)
    attach(switched, openvswitch(one.name))
    one.close()
    one.wait_gone()
    assert port(switched, one.name) is not None
    assert differences(switched) != []
    manage(switched, "reconcile")
    assert port(switched, one.name) is None
    assert differences(switched) == []


def test_a_tap_that_takes_over_the_name_of_a_dead_one_has_its_own_vlans(switched: Node, tap: MakeTap) -> None:
    first = tap(switched)
    attach(switched, openvswitch(first.name, 6, VLAN=".66"))
    first.close()
    first.wait_gone()
    second = tap(switched)
    assert second.name == first.name
    attach(switched, openvswitch(second.name, 5, VLAN=".10"))
    assert port(switched, second.name) == {"tag": 10, "trunks": []}
    manage(switched, "detach", second.name)


def test_a_port_that_a_stranger_left_is_taken_over(switched: Node, tap: MakeTap) -> None:
    one = tap(switched)
    switched.run(["ovs-vsctl", "--no-wait", "add-port", "ovs1", one.name, "tag=99"])
    attach(switched, openvswitch(one.name, VLAN=".10", INTERFACE_UUID=uuid(7)))
    assert port(switched, one.name) == {"tag": 10, "trunks": []}
    manage(switched, "detach", one.name)


def test_a_bridge_that_open_vswitch_does_not_have_is_refused(switched: Node, tap: MakeTap) -> None:
    one = tap(switched)
    said = refusal(switched, openvswitch(one.name, LINK="ovs9"))
    assert "ovs9" in said and "vm5.example.com" in said and one.name in said


@pytest.fixture
def broken(stack: ExitStack) -> Node:
    """A node whose Open vSwitch does not answer."""
    if not shutil.which("ovs-vsctl"):
        pytest.skip("not installed: ovs-vsctl (apt install openvswitch-switch)")
    node = installed(stack.enter_context(Node("node1")))
    configure(node, "[private pvn]\nbridges = 1\n")
    return node


@pytest.mark.parametrize("how", ["no database", "no ovs-vsctl"])
def test_open_vswitch_that_cannot_be_asked_is_named(broken: Node, tap: MakeTap, how: str) -> None:
    if how == "no ovs-vsctl":
        broken.run(["rm", "/usr/bin/ovs-vsctl"])
    one = tap(broken)
    said = refusal(broken, openvswitch(one.name))
    assert "vm5.example.com" in said and one.name in said
    assert ("ovs-vsctl" if how == "no ovs-vsctl" else "Open vSwitch") in said


def test_a_network_is_connected_with_a_bridge_that_there_is(switched: Node) -> None:
    quiet(connect(switched, "openvswitch", "ovs1"))
    assert "Open vSwitch has no bridge ovs2 (ovs-vsctl add-br ovs2)" in line(connect(switched, "openvswitch", "ovs2"))


def test_an_isolated_nic_with_a_rate_keeps_its_shaper_and_its_check_of_checksums(switched: Node, tap: MakeTap) -> None:
    """Open vSwitch removes queueing disciplines that it takes for its own when it gets a port."""
    one, two = tap(switched), tap(switched)
    tags = {"TAGS": "vif:0:rate:10M/20M", "NETWORK_UUID": uuid(9), "NETWORK_NAME": "n", "NETWORK_TAGS": "vif:isolated"}
    attach(switched, openvswitch(one.name) | tags)
    attach(switched, openvswitch(two.name, 6))
    assert switched.run(["ovs-vsctl", "get", "port", one.name, "other_config"]).stdout == '{protected="true"}\n'
    assert differences(switched) == []
    assert " tbf 7686: " in switched.run(["tc", "qdisc", "show", "dev", one.name, "root"]).stdout
    switched.run(["ovs-vsctl", "remove", "port", one.name, "other_config", "protected"])
    assert any("isolated is off, should be on" in line for line in differences(switched))
    manage(switched, "reconcile")
    assert differences(switched) == []
    attach(switched, openvswitch(one.name))
    assert switched.run(["ovs-vsctl", "get", "port", one.name, "other_config"]).stdout == "{}\n"
    assert differences(switched) == []
    for each in (one, two):
        manage(switched, "detach", each.name)
