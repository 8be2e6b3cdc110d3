# SPDX-License-Identifier: BSD-2-Clause
"""Whatever is wrong with a call: two lines on stderr, a status that is not 0, and a node that is as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.lab import Node, Tap

from .actions import complaint, ip, manage, refusal, shot, vif_script
from .conftest import apply, installed, quick, unapplied
from .environment import CONFIG, SCRIPT, bridged, openvswitch, routed

Given = Callable[..., dict[str, str]]


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[Node, Tap]]:
    """A node that is set up, and a tap that nobody ever succeeds to attach: every test sees to it that all is as before."""
    with ExitStack() as stack:
        node = installed(quick(stack.enter_context(Node("node1"))))
        ip(node, "link add eth1 type veth peer name far", "link set eth1 up", "link set far up")
        manage(node, "setup")
        yield node, stack.enter_context(Tap(node))


def refused(place: tuple[Node, Tap], environment: dict[str, str]) -> str:
    """What the script says as it refuses and leaves everything as it was."""
    return refusal(place[0], environment)


@pytest.mark.parametrize(
    ("given", "variable", "value"),
    [
        (bridged, "INTERFACE", None),
        (bridged, "INTERFACE", "../../etc/passwd"),
        (bridged, "INTERFACE", "a name of over 15 characters"),
        (bridged, "INTERFACE_UUID", None),
        (bridged, "INTERFACE_UUID", "7"),
        (bridged, "MAC", None),
        (bridged, "MAC", "aa:00:00:00:00"),
        (bridged, "MAC", "ff:ff:ff:ff:ff:ff"),
        (bridged, "MAC", "00:00:00:00:00:00"),
        (bridged, "MAC", "aa:00:00:00:00:0g"),
        (bridged, "MODE", None),
        (bridged, "MODE", "ovs"),
        (bridged, "LINK", None),
        (bridged, "LINK", "pvn1; rm -rf /"),
        (bridged, "IP", "10.0.0.256"),
        (bridged, "IP", "10.0.0.0/24"),
        (bridged, "VLAN", "0"),
        (bridged, "VLAN", ".4095"),
        (bridged, "VLAN", "ten"),
        (bridged, "TAGS", "vif:0:unguarded?"),
        (bridged, "TAGS", "vif:0:mac:aa:00:00"),
        (bridged, "INTERFACE_INDEX", "first"),
        (bridged, "NETWORK_NAME", None),
        (bridged, "NETWORK_SUBNET6", "fd00:1::/129"),
        (bridged, "NETWORK_TAGS", "vif:closed"),
        (routed, "NETWORK_SUBNET", "192.0.2.0"),
        (routed, "NETWORK_GATEWAY", "nobody"),
        (routed, "NETWORK_GATEWAY6", "192.0.2.1"),
        (routed, "NETWORK_SUBNET6", "2001:db8::/129"),
        (routed, "IP", "2001:db8:::1"),
        (routed, "IP", "198.18.0.1"),
    ],
)
def test_a_variable_that_is_missing_or_malformed_is_named(
    place: tuple[Node, Tap], given: Given, variable: str, value: str | None
) -> None:
    said = refused(place, given(place[1].name, **{variable: value}))
    assert "vm5.example.com" in said and "NIC" in said
    assert variable in said or (value and value in said)


@pytest.mark.parametrize("value", [None, "", "two\nlines", "'quoted'", "ünïcode", "-rf", "a" * 300])
def test_a_bad_name_of_an_instance_is_refused_on_two_lines(place: tuple[Node, Tap], value: str | None) -> None:
    assert "INSTANCE" in refused(place, bridged(place[1].name, INSTANCE=value))


def test_a_tap_that_does_not_exist(place: tuple[Node, Tap]) -> None:
    assert "tap99" in refused(place, bridged("tap99"))


@pytest.mark.parametrize("device", ["lo", "pvn2"])
def test_a_device_that_is_no_tap(place: tuple[Node, Tap], device: str) -> None:
    said = refused(place, bridged(device))
    assert device in said and "no tap" in said


def test_the_uplink_is_no_tap_either(place: tuple[Node, Tap]) -> None:
    assert "eth1" in refused(place, routed("eth1"))


@pytest.mark.parametrize(
    ("given", "changes", "names"),
    [
        (bridged, {"LINK": "absent"}, "absent"),
        (bridged, {"LINK": "lo"}, "lo"),
        (bridged, {"VLAN": ".10"}, "VLAN"),
        (routed, {"LINK": "absent"}, "absent"),
        (routed, {"LINK": "0"}, "0"),
        (routed, {"IP": None, "NETWORK_SUBNET6": None}, "address"),
        (routed, {"IP": None, "NETWORK_UUID": None}, "address"),
        (routed, {"TAGS": "disable_ipv4 disable_ipv6"}, "address"),
    ],
)
def test_what_the_node_cannot_give(
    place: tuple[Node, Tap], given: Given, changes: dict[str, str | None], names: str
) -> None:
    said = refused(place, given(place[1].name, **changes))
    assert "vm5.example.com" in said and place[1].name in said and names in said


def test_open_vswitch_that_is_not_installed(place: tuple[Node, Tap]) -> None:
    place[0].run(["rm", "-f", "/usr/bin/ovs-vsctl"])
    said = refused(place, openvswitch(place[1].name))
    assert "vm5.example.com" in said and "ovs-vsctl" in said


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[private pvn]\nbridges = 1-\n", "ganeti-vif.conf:2"),
        ("[privat pvn]\nbridges = 1\n", "ganeti-vif.conf:1"),
        ("bridges = 1\n", "ganeti-vif.conf:1"),
        ("[public public]\ntable = 254\nuplink = eth1\nsubnets = 192.0.2.0/24\n", "ganeti-vif.conf:2"),
        ("\0\0\0", "ganeti-vif.conf"),
        (None, "ganeti-vif.conf"),
    ],
)
def test_a_broken_configuration(place: tuple[Node, Tap], text: str | None, names: str) -> None:
    node, tap = place
    path = node.path("/etc/ganeti-vif/ganeti-vif.conf")
    try:
        if text is None:
            unapplied(node, "")
            path.unlink()
        else:
            unapplied(node, text)
        assert names in refused(place, bridged(tap.name))
    finally:
        apply(node, CONFIG)


def test_a_configuration_that_is_no_text(place: tuple[Node, Tap]) -> None:
    node, tap = place
    try:
        unapplied(node, "")
        node.path("/etc/ganeti-vif/ganeti-vif.conf").write_bytes(b"[private pvn]\nbridges = \xff\xfe\n")
        assert "ganeti-vif.conf" in refused(place, bridged(tap.name))
    finally:
        apply(node, CONFIG)


@pytest.mark.parametrize("missing", ["configuration", "rights"])
def test_the_instance_is_named_though_the_trouble_is_the_nodes(place: tuple[Node, Tap], missing: str) -> None:
    """Ganeti shows these lines to whoever started one of many instances."""
    node, tap = place
    script = SCRIPT
    if missing == "configuration":
        unapplied(node, "[nonsense]\n")
    else:
        script = f"setpriv --reuid nobody --regid nogroup --clear-groups -- {SCRIPT}"
    try:
        said = complaint(vif_script(node, bridged(tap.name), script))
    finally:
        apply(node, CONFIG)
    assert "vm5.example.com" in said and tap.name in said


@pytest.mark.parametrize(
    "command", [[SCRIPT], ["ganeti-vif", "setup"], ["ganeti-vif", "check"], ["ganeti-vif", "reconcile"]]
)
def test_who_is_not_root_is_told_so(place: tuple[Node, Tap], command: list[str]) -> None:
    node, tap = place
    before = shot(node)
    as_nobody = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--"]
    said = complaint(node.run([*as_nobody, *command], env=bridged(tap.name), check=False))
    assert "root" in said
    assert shot(node) == before


def test_an_uplink_that_is_missing(place: tuple[Node, Tap]) -> None:
    node, tap = place
    ip(node, "link set eth1 name eth9")
    try:
        said = refused(place, routed(tap.name))
        assert "eth1" in said and "vm5.example.com" in said
    finally:
        ip(node, "link set eth9 name eth1")


def test_a_record_that_is_damaged_is_no_obstacle(place: tuple[Node, Tap]) -> None:
    """A full /run once cut it off. It is told of, and goes."""
    node, tap = place
    before = shot(node)
    node.run(["sh", "-c", f"mkdir -p /run/ganeti-vif/nics; echo '{{' > /run/ganeti-vif/nics/{tap.name}.json"])
    done = node.run(["ganeti-vif", "check"], check=False)
    assert done.returncode == 1 and tap.name in done.stdout and "Traceback" not in done.stderr
    node.run(["ganeti-vif", "reconcile"], check=False)
    assert shot(node) == before
    manage(node, "check")


def test_a_binding_directory_that_is_a_file(place: tuple[Node, Tap]) -> None:
    """Records and filters are there before the binding fails: all of it is taken back."""
    node, tap = place
    unapplied(node, CONFIG + "directory = /var/lib/occupied\n")
    node.run(["touch", "/var/lib/occupied"])
    try:
        said = refused(place, bridged(tap.name))
        assert "/var/lib/occupied" in said and "vm5.example.com" in said
    finally:
        apply(node, CONFIG)
