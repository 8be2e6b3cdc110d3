# SPDX-License-Identifier: BSD-2-Clause
"""What may be a NIC's tap, for every way in; and what a device is after it was one."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.lab import Node, Tap

from .actions import (
    attach,
    complaint,
    differences,
    ip,
    link,
    manage,
    refusal,
    run,
    shot,
    sysctl,
    vif_script,
)
from .conftest import MakeTap
from .environment import bridged, mac, routed, uuid
from .instance import Instance, attach_as_ganeti_does

NICS = "/run/ganeti-vif/nics"
KINDS = {
    "loopback": [],
    "dummy": ["link add far type dummy"],
    "veth": ["link add far type veth peer name farther"],
    "ifb": ["link add far type ifb"],
    "macvlan": ["link add far link eth1 type macvlan"],
    "ipvlan": ["link add far link eth1 type ipvlan mode l2"],
    "macvtap": ["link add far link eth1 type macvtap mode bridge"],
    "ipvtap": ["link add far link eth1 type ipvtap mode l2"],
    "vlan": ["link add far link eth1 type vlan id 5"],
    "bridge": ["link add far type bridge"],
    "tun": ["tuntap add far mode tun"],
}
"""How to make a device of each kind that is no tap. A physical card has no kind, as the loopback device."""


@pytest.fixture(params=KINDS)
def no_tap(ready: Node, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a device that is no tap, and up."""
    for command in KINDS[request.param]:
        if (done := ready.run(["ip", *command.split()], check=False)).returncode:
            pytest.skip(f"this kernel has no {request.param}: {done.stderr.strip()}")
    yield "far" if KINDS[request.param] else "lo"
    if KINDS[request.param]:
        ip(ready, "link del far")


def by_hand(device: str) -> list[str]:
    """The command by which an administrator attaches it."""
    words = f"attach --instance vm5.example.com --interface {device} --mode bridged --link pvn3 --mac {mac(5)}"
    return words.split()


def mended(node: Node, fix: str) -> str:
    """What the command says that stands in the second line of an error."""
    return node.run(shlex.split(fix.rpartition(": ")[2])).stdout


@pytest.mark.parametrize("environment", [routed, bridged])
def test_ganetis_call_takes_nothing_but_a_tap(
    ready: Node, no_tap: str, environment: Callable[..., dict[str, str]]
) -> None:
    assert f"{no_tap} is no tap but a " in refusal(ready, environment(no_tap))
    assert not ready.path(f"{NICS}/{no_tap}.json").exists()


def test_the_administrators_command_takes_nothing_but_a_tap(ready: Node, no_tap: str, tap: MakeTap) -> None:
    one = tap(ready)
    before = shot(ready)
    for flags in ([], ["--dry-run"]):
        done = run(ready, *by_hand(no_tap), *flags)
        assert f"{no_tap} is no tap but a " in complaint(done)
    assert one.name in mended(ready, done.stderr.splitlines()[1])
    assert shot(ready) == before


def test_a_nic_without_a_device_is_refused(ready: Node) -> None:
    """As with vhost-user, where QEMU and a switch share memory."""
    done = vif_script(ready, bridged("vhost0"))
    assert "vhost-user" in complaint(done)
    mended(ready, done.stderr.splitlines()[1])


def test_the_node_stays_reachable_by_what_an_older_version_took_for_a_tap(ready: Node, tap: MakeTap) -> None:
    """Its record is there: neither a hook nor reconcile attaches the device again, and detach gives the node its card."""
    one = tap(ready)
    attach(ready, bridged(one.name, 6, "pvn3"))
    ip(ready, "link add far type veth peer name farther", "link set far master pvn3 up")
    record = json.loads(ready.path(f"{NICS}/{one.name}.json").read_text())
    record |= {"tap": "far", "index": link(ready, "far")["ifindex"], "uuid": uuid(5)}
    ready.path(f"{NICS}/far.json").write_text(json.dumps(record, indent=1) + "\n")
    assert any("far is no tap but a veth" in line for line in differences(ready))
    run(ready, "reconcile")
    assert link(ready, "far")["master"] == "pvn3"
    manage(ready, "detach", "far")
    assert "UP" in link(ready, "far")["flags"]
    assert "master" not in link(ready, "far")
    assert differences(ready) == []


def test_a_tap_of_every_kind_that_ganeti_opens_is_one(ready: Node, stack: ExitStack) -> None:
    with Tap(ready, vnet_hdr=True) as one, Tap(ready, vnet_hdr=False) as other:
        for number, tap in ((5, one), (6, other)):
            attach(ready, bridged(tap.name, number))
    ip(ready, "tuntap add many mode tap multi_queue vnet_hdr")
    attach(ready, bridged("many", 7))
    manage(ready, "reconcile")
    assert differences(ready) == []


@pytest.mark.parametrize("environment", [routed, bridged])
def test_a_tap_that_was_detached_is_what_it_was(
    ready: Node, tap: MakeTap, environment: Callable[..., dict[str, str]]
) -> None:
    """Its MAC, MTU, group and switches too: another program may have made it."""
    one = tap(ready)
    ip(ready, f"link set {one.name} mtu 1400 group 7")
    sysctl(ready, f"net/ipv4/conf/{one.name}/forwarding", "0")
    before = shot(ready)
    attach(ready, environment(one.name))
    attach(ready, environment(one.name))
    manage(ready, "detach", one.name)
    assert shot(ready) == before


@pytest.mark.parametrize("environment", [routed, bridged])
def test_a_tap_that_somebody_elses_program_uses_goes_back_to_its_place(
    ready: Node, tap: MakeTap, environment: Callable[..., dict[str, str]]
) -> None:
    """A typing error: the tap of a VPN is taken for the NIC's."""
    one = tap(ready)
    ip(ready, "link add br9 type bridge", "link set br9 up", f"link set {one.name} master br9 up")
    before = shot(ready)
    attach(ready, environment(one.name))
    manage(ready, "detach", one.name)
    assert shot(ready) == before


def test_what_was_detached_stays_closed_if_its_place_is_gone(ready: Node, tap: MakeTap) -> None:
    one = tap(ready)
    ip(ready, "link add br9 type bridge", f"link set {one.name} master br9 up")
    attach(ready, bridged(one.name))
    ip(ready, "link del br9")
    manage(ready, "detach", one.name)
    assert "UP" not in link(ready, one.name)["flags"]
    assert "master" not in link(ready, one.name)


def test_an_adopted_guest_is_closed_by_a_detach(ready: Node, stack: ExitStack) -> None:
    """It was connected without a filter before, and who was filtered once is not let go without."""
    taps = [stack.enter_context(Tap(ready)) for _ in range(2)]
    nics = [bridged("tap0", 5), routed("tap1", 6)]
    addresses = []
    for nic in nics:
        attach_as_ganeti_does(ready, nic)
        addresses.append(link(ready, nic["INTERFACE"])["address"])
    Instance(ready, "vm5.example.com", list(zip(taps, nics, strict=True)))
    manage(ready, "adopt")
    for nic, address in zip(nics, addresses, strict=True):
        manage(ready, "detach", nic["INTERFACE"])
        found = link(ready, nic["INTERFACE"])
        assert ("UP" in found["flags"], found.get("master"), found["address"]) == (False, None, address)
    assert list(ready.path(NICS).iterdir()) == []


def test_the_next_owner_of_a_taps_name_gets_nothing_of_the_formers_origin(ready: Node, tap: MakeTap) -> None:
    first = tap(ready)
    ip(ready, f"link set {first.name} mtu 1400")
    attach(ready, bridged(first.name))
    first.close()
    first.wait_gone()
    second = tap(ready)
    assert second.name == first.name
    before = link(ready, second.name)
    attach(ready, routed(second.name, 6))
    manage(ready, "detach", second.name)
    after = link(ready, second.name)
    assert {key: after[key] for key in ("address", "mtu", "group", "flags")} == {
        key: before[key] for key in ("address", "mtu", "group", "flags")
    }
