# SPDX-License-Identifier: BSD-2-Clause
"""Ganeti's hooks keep a node in step: each run as Ganeti runs it, from its directory, with nothing but its variables."""

from __future__ import annotations

import os
from collections.abc import Mapping

import pytest

from tests.lab import Node

from .actions import Done, attach, differences, ip, names, run
from .conftest import MakeTap, unapplied
from .environment import PRIVATE_NETWORK, bridged, routed, uuid

DIRECTORY = "/etc/ganeti/hooks"


def hook(node: Node, path: str, phase: str = "post", **variables: str) -> Done:
    """Run the hook that is linked for PATH and PHASE."""
    directory = "watcher" if path == "watcher" else f"{path}-{phase}.d"
    common = {} if path == "watcher" else {"GANETI_HOOKS_PATH": path, "GANETI_HOOKS_PHASE": phase}
    given = common | {f"GANETI_{name}": value for name, value in variables.items()}
    script = f"{DIRECTORY}/{directory}/50-ganeti-vif"
    return node.run([script], env={"PATH": "/sbin:/bin:/usr/sbin:/usr/bin"} | given, check=False)


def instance(number: int = 5, name: str | None = None, network: Mapping[str, str] = PRIVATE_NETWORK) -> dict[str, str]:
    """What hooks say of the instance of environment.py with this number."""
    nic = {"UUID": uuid(number)} | {key: value for key, value in network.items() if key.startswith("NETWORK_")}
    return {"INSTANCE_NAME": name or f"vm{number}.example.com", "INSTANCE_TAGS": ""} | {
        f"INSTANCE_NIC0_{key}": value for key, value in nic.items()
    }


def quiet(done: Done) -> None:
    """It worked, and there was nothing to say."""
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def line(done: Done) -> str:
    """What a hook complains of: one short ASCII line that names the host."""
    assert done.returncode == 1
    (only,) = (done.stdout + done.stderr).splitlines()
    assert only.isascii() and only.startswith("ganeti-vif on ")
    return only


def test_every_link_runs_from_a_directory_that_ganeti_looks_into(ready: Node) -> None:
    listing = ready.run(["find", DIRECTORY, "-name", "50-ganeti-vif"]).stdout.split()
    assert {os.path.basename(os.path.dirname(path)) for path in listing} >= {
        *(f"instance-{what}-post.d" for what in ("start", "stop", "reboot", "migrate", "failover", "modify", "remove")),
        *(
            "network-connect-pre.d",
            "network-connect-post.d",
            "node-add-post.d",
            "node-modify-post.d",
            "node-remove-post.d",
            "cluster-verify-post.d",
            "watcher",
        ),
    }
    assert all(ready.run(["test", "-x", path], check=False).returncode == 0 for path in listing)


@pytest.mark.parametrize("path", ["instance-stop", "instance-remove", "instance-migrate", "instance-failover"])
def test_nothing_is_left_of_an_instance_that_went_away(ready: Node, tap: MakeTap, path: str) -> None:
    one = tap(ready)
    attach(ready, routed(one.name))
    one.close()
    assert differences(ready)
    quiet(hook(ready, path, **instance()))
    assert differences(ready) == []


def test_a_stop_hook_leaves_a_guest_that_still_runs_alone(ready: Node, tap: MakeTap) -> None:
    one = tap(ready)
    attach(ready, bridged(one.name))
    quiet(hook(ready, "instance-stop", **instance()))
    assert differences(ready) == []
    assert run(ready, "detach", one.name).returncode == 0, "its record is gone"


def test_a_start_hook_repairs_what_is_not_as_it_should_be(ready: Node, tap: MakeTap) -> None:
    one = tap(ready)
    attach(ready, bridged(one.name))
    ready.run(["ip", "link", "set", one.name, "nomaster"])
    quiet(hook(ready, "instance-start", **instance()))
    assert differences(ready) == []


def test_a_rename_reaches_the_binding(ready: Node, tap: MakeTap) -> None:
    one = tap(ready)
    attach(ready, bridged(one.name))
    quiet(hook(ready, "instance-rename", INSTANCE_NEW_NAME="new.example.com", **instance()))
    assert "HOSTNAME=new.example.com\n" in ready.path(f"/var/lib/nfdhcpd/{one.name}").read_text()
    assert differences(ready) == []


def test_a_modified_network_reaches_the_binding(ready: Node, tap: MakeTap) -> None:
    one = tap(ready)
    attach(ready, bridged(one.name))
    quiet(hook(ready, "instance-modify", **instance(network={**PRIVATE_NETWORK, "NETWORK_GATEWAY": "10.0.0.254"})))
    assert "GATEWAY=10.0.0.254\n" in ready.path(f"/var/lib/nfdhcpd/{one.name}").read_text()


def test_a_nic_keeps_its_network_until_its_guest_has_another(ready: Node, tap: MakeTap) -> None:
    """A modify without hotplug changes the configuration and not the guest."""
    one = tap(ready)
    attach(ready, bridged(one.name))
    before = ready.path(f"/var/lib/nfdhcpd/{one.name}").read_text()
    other = {**PRIVATE_NETWORK, "NETWORK_UUID": uuid(99), "NETWORK_SUBNET": "10.9.0.0/24"}
    quiet(hook(ready, "instance-modify", **instance(network=other)))
    assert ready.path(f"/var/lib/nfdhcpd/{one.name}").read_text() == before


def test_other_instances_are_none_of_a_hooks_business(ready: Node, tap: MakeTap) -> None:
    one = tap(ready)
    attach(ready, bridged(one.name))
    ready.run(["ip", "link", "set", one.name, "nomaster"])
    quiet(hook(ready, "instance-start", **instance(6)))
    assert differences(ready) == [f"missing: {one.name} as a port of pvn1"]


def connect(node: Node, mode: str, link: str) -> Done:
    return hook(node, "network-connect", "pre", GROUP_NAME="default", GROUP_NETWORK_MODE=mode, GROUP_NETWORK_LINK=link)


def test_a_bridge_outside_the_ranges_is_refused_before_it_is_connected(ready: Node) -> None:
    said = line(connect(ready, "bridged", "pvn4000"))
    assert "pvn4000" in said and "ganeti-vif setup" in said
    quiet(connect(ready, "bridged", "pvn1"))
    ip(ready, "link del pvn1")
    quiet(connect(ready, "bridged", "pvn1"))  # the hook that follows makes it


def test_a_bridge_of_others_must_exist(ready: Node) -> None:
    """Whoever made it; what is no bridge is none."""
    said = line(connect(ready, "bridged", "br77"))
    assert "the bridge br77 does not exist (ip link add br77 type bridge && ip link set br77 up)" in said
    ip(ready, "link add br77 type bridge", "link add pvn4000 type bridge")
    quiet(connect(ready, "bridged", "br77"))
    quiet(connect(ready, "bridged", "pvn4000"))
    assert "eth1 is no bridge" in line(connect(ready, "bridged", "eth1"))


def test_a_routed_link_must_be_a_public_link_or_a_table(ready: Node) -> None:
    said = line(connect(ready, "routed", "pubic"))
    assert "the link pubic is no routing table (add [public pubic] to /etc/ganeti-vif/ganeti-vif.conf" in said
    for link in ("public", "222", "77", "main"):
        quiet(connect(ready, "routed", link))
    ready.run(["sh", "-c", "mkdir -p /etc/iproute2/rt_tables.d; echo 99 pubic > /etc/iproute2/rt_tables.d/own.conf"])
    quiet(connect(ready, "routed", "pubic"))


def test_an_open_vswitch_bridge_must_exist(ready: Node) -> None:
    """Open vSwitch runs in no node of these tests; its own say more (test_openvswitch.py)."""
    assert "ovs" in line(connect(ready, "openvswitch", "ovs1")).lower()


def test_a_link_that_this_node_is_not_asked_for_is_not_refused(ready: Node) -> None:
    for mode, link in (("bridged", "auto"), ("ext", "anything"), ("routed", "")):
        quiet(connect(ready, mode, link))
    here = ready.run(["uname", "-n"]).stdout.strip()
    ready.path("/var/lib/ganeti").mkdir(exist_ok=True)
    capable = ready.path("/var/lib/ganeti/ssconf_node_vm_capable")
    capable.write_text(f"other.example.com=False\n{here}.example.com=True\n")
    line(connect(ready, "bridged", "br77"))
    capable.write_text(f"other.example.com=True\n{here}.example.com=False\n")
    quiet(connect(ready, "bridged", "br77"))


def test_a_bridge_that_cannot_be_made_is_refused_before_it_is_connected(ready: Node) -> None:
    ready.run(["ip", "link", "del", "pvn1"])
    ready.run(["ip", "link", "add", "pvn1", "type", "veth", "peer", "name", "other"])
    said = line(hook(ready, "network-connect", "pre", GROUP_NETWORK_MODE="bridged", GROUP_NETWORK_LINK="pvn1"))
    assert "pvn1 exists and is no bridge" in said


def test_a_connected_network_has_its_bridge_at_once(ready: Node) -> None:
    ready.run(["ip", "link", "del", "pvn1"])
    quiet(hook(ready, "network-connect", "post", GROUP_NETWORK_MODE="bridged", GROUP_NETWORK_LINK="pvn1"))
    assert "pvn1" in names(ready)
    assert differences(ready) == []


def test_the_node_that_is_added_is_set_up_and_no_other(node: Node) -> None:
    here = node.run(["uname", "-n"]).stdout.strip()
    quiet(hook(node, "node-add", NODE_NAME="elsewhere.example.com"))
    assert "pvn1" not in names(node)
    quiet(hook(node, "node-add", NODE_NAME=f"{here}.example.com"))
    assert "pvn1" in names(node)


def test_verify_says_in_one_line_what_is_wrong_and_where(ready: Node, tap: MakeTap) -> None:
    quiet(hook(ready, "cluster-verify"))
    taps = [tap(ready) for _ in range(5)]
    for number, one in enumerate(taps, 5):
        attach(ready, bridged(one.name, number))
        ready.run(["ip", "link", "set", one.name, "nomaster"])
    said = line(hook(ready, "cluster-verify"))
    assert ready.run(["uname", "-n"]).stdout.strip() in said
    assert f"missing: {taps[0].name} as a port of pvn1" in said and "and 2 more" in said


def test_the_watcher_mends_everything(ready: Node, tap: MakeTap) -> None:
    one, other = tap(ready), tap(ready)
    attach(ready, bridged(one.name))
    attach(ready, bridged(other.name, 6))
    other.close()
    ready.run(["nft", "flush", "ruleset"])
    quiet(hook(ready, "watcher"))
    assert differences(ready) == []


def test_a_hook_that_is_not_known_mends_everything_too(ready: Node, tap: MakeTap) -> None:
    one = tap(ready)
    attach(ready, bridged(one.name))
    ready.run(["nft", "flush", "ruleset"])
    env = {"PATH": "/bin:/usr/bin", "GANETI_HOOKS_PATH": "network-rename", "GANETI_HOOKS_PHASE": "post"}
    quiet(ready.run(["/usr/lib/ganeti-vif/hook"], env=env, check=False))
    assert differences(ready) == []


def test_a_broken_configuration_is_said_and_nothing_is_touched(ready: Node, tap: MakeTap) -> None:
    attach(ready, bridged(tap(ready).name))
    unapplied(ready, "[private pvn]\nbridges = x\n")
    assert "ganeti-vif.conf:2" in line(hook(ready, "cluster-verify"))
    assert "ganeti-vif.conf:2" in line(hook(ready, "instance-start", **instance()))


def test_trouble_with_one_nic_does_not_keep_the_others_from_being_cleared(ready: Node, tap: MakeTap) -> None:
    one, other = tap(ready), tap(ready)
    attach(ready, bridged(one.name))
    attach(ready, bridged(other.name, 6, INSTANCE="vm5.example.com"))
    other.close()
    ready.run(["ip", "link", "del", "pvn1"])
    assert "pvn1 does not exist" in line(hook(ready, "instance-modify", **instance()))
    assert not ready.path(f"/run/ganeti-vif/nics/{other.name}.json").exists()
