# SPDX-License-Identifier: BSD-2-Clause
"""A guest comes to a node: the tap that is prepared for it is its own, and what is not certain is refused and said.

The daemon has the capabilities of its unit, and QEMU has all, as on a node.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.lab import PATIENCE, Node, Tap, needs

from .actions import answer, attach, differences, ip, manage
from .conftest import installed, quick
from .environment import mac, routed, uuid
from .instance import DIRECTORY, Instance, netdev
from .migration_site import hook, started
from .vifd import said, until

pytestmark = pytest.mark.skipif(bool(needs.guest()), reason=needs.guest())

NAME = "vm5.example.com"


@pytest.fixture
def node(stack: ExitStack) -> Iterator[Node]:
    """The node that the guest comes to, with its daemon."""
    node = installed(quick(stack.enter_context(Node("node2"))))
    ip(node, "link add eth1 type bridge", "link set eth1 up")
    manage(node, "setup")
    daemon = started(node)
    yield node
    daemon.send_signal(signal.SIGTERM)
    daemon.communicate(timeout=PATIENCE)


def taps_of(node: Node) -> dict[str, str]:
    """The tap of each NIC whose guest is expected, by the NIC's UUID."""
    return {nic["uuid"]: nic["tap"] for nic in answer(node, "status")["nics"] if nic["state"] == "elsewhere"}


def trouble(node: Node) -> list[dict[str, str]]:
    """What the daemon says that it cannot see."""
    ask = "import sys; sys.path.insert(0, '/usr/share/ganeti-vif'); from ganeti_vif.system.ask import ask; print(ask('state', {})[1])"
    state: dict[str, Any] = json.loads(node.run(["/usr/bin/python3", "-IS", "-c", ask]).stdout)
    found: list[dict[str, str]] = state["trouble"]
    return found


def says(node: Node, what: str) -> None:
    """Wait until the daemon says WHAT; it is in its log, once, with what to do; check says it too; nothing was prepared."""
    until(lambda: any(what in one["what"] for one in trouble(node)), f"the word that {what}")
    (told,) = [one for one in trouble(node) if what in one["what"]]
    assert said(node).count(told["what"]) == 1
    assert told["do"] in said(node)
    assert taps_of(node) == {}
    assert differences(node) == [told["what"]], "check says it, and nothing else is wrong"


def incoming(node: Node, *nics: tuple[Tap, int], nic_files: bool = True) -> Instance:
    """QEMU waits for the guest, with these taps for the NICs of these numbers, in this order."""
    cards = [(tap, routed(tap.name, number)) for tap, number in nics]
    return Instance(node, NAME, cards, None, "-incoming", "defer", nic_files=nic_files)


def nic_file(node: Node, number: int, tap: str) -> None:
    """A nic file that an earlier run left."""
    path = node.path(f"{DIRECTORY}/nic/{NAME}/{number}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(tap)


def test_each_nic_has_its_own_tap_in_whatever_order_qemu_has_them(node: Node) -> None:
    hook(node, 5, 6, 7)
    taps = [(Tap(node), number) for number in (7, 5, 6)]
    arrival = incoming(node, *taps)
    until(lambda: len(taps_of(node)) == 3, "the readiness for all")
    assert taps_of(node) == {uuid(number): tap.name for tap, number in taps}
    assert trouble(node) == []
    arrival.crash()


def test_what_an_earlier_run_left_is_not_believed(node: Node, stack: ExitStack) -> None:
    other = stack.enter_context(Tap(node))
    attach(node, routed(other.name, 9))
    nic_file(node, 0, other.name)
    hook(node)
    tap = Tap(node)
    arrival = incoming(node, (tap, 5), nic_files=False)
    says(node, "is older than its QEMU")
    arrival.name_tap(0, tap.name)
    until(lambda: taps_of(node) == {uuid(5): tap.name}, "the readiness for it")
    assert trouble(node) == []
    arrival.crash()


def test_a_file_that_is_older_than_its_qemu_is_not_believed(node: Node, stack: ExitStack) -> None:
    """The hook before this start did not reach the daemon; so the file is new to it."""
    hook(node)
    tap = Tap(node)
    arrival = incoming(node, (tap, 5), nic_files=False)
    arrival.name_tap(0, tap.name)
    path = node.path(f"{DIRECTORY}/nic/{NAME}/0")
    beside = path.with_name("beside")
    beside.write_text(tap.name)
    os.utime(beside, ns=(0, node.path(f"{DIRECTORY}/pid/{NAME}").stat().st_mtime_ns - 1))
    arrival.crash()
    hook(node)
    again = Tap(node)
    late = incoming(node, (again, 5), nic_files=False)
    beside.rename(path)
    says(node, "is older than its QEMU")
    late.crash()


@pytest.mark.parametrize("whose", ["recorded", "unrecorded", "no tap", "nobody's"])
def test_the_tap_of_somebody_else_stays_his(node: Node, whose: str, stack: ExitStack) -> None:
    other = stack.enter_context(Tap(node))
    if whose == "recorded":
        attach(node, routed(other.name, 9))
    hook(node)
    arrival = incoming(node, (Tap(node), 5), nic_files=False)
    arrival.name_tap(0, {"no tap": "eth1", "nobody's": "tap77"}.get(whose, other.name))
    says(node, "was here before" if other.name and "recorded" in whose else "is no tap")
    assert [nic["uuid"] for nic in answer(node, "status")["nics"]] == ([uuid(9)] if whose == "recorded" else [])
    arrival.crash()


def test_a_tap_that_came_meanwhile_and_is_attached_for_somebody_else_stays_his(node: Node, stack: ExitStack) -> None:
    hook(node)
    other = stack.enter_context(Tap(node))
    attach(node, routed(other.name, 9))
    arrival = incoming(node, (Tap(node), 5), nic_files=False)
    arrival.name_tap(0, other.name)
    says(node, "is the tap of vm9.example.com NIC 0")
    arrival.crash()


def test_no_two_nics_have_one_tap(node: Node) -> None:
    hook(node, 5, 6)
    tap = Tap(node)
    arrival = incoming(node, (tap, 5), (Tap(node), 6), nic_files=False)
    arrival.name_tap(1, tap.name)
    arrival.name_tap(0, tap.name)
    says(node, "one tap for two NICs")
    arrival.crash()


def test_a_nic_of_another_mac_than_the_guest_has_is_left_to_ganeti(node: Node) -> None:
    """Changed without hotplug: the hook names the new MAC, and the guest has the old one."""
    hook(node, 5, 6, GANETI_INSTANCE_NIC0_MAC=mac(77))
    five, six = Tap(node), Tap(node)
    arrival = incoming(node, (five, 5), (six, 6))
    until(lambda: taps_of(node) == {uuid(6): six.name}, "the readiness for the other")
    assert mac(77) in said(node)
    arrival.crash()


def test_a_qemu_of_another_network_is_not_this_nodes(node: Node, stack: ExitStack) -> None:
    hook(node)
    tap = stack.enter_context(Tap(node))
    pid_file, card = f"{DIRECTORY}/pid/{NAME}", netdev(routed(tap.name))
    words = ["-name", NAME, "-pidfile", pid_file, "-netdev", f"type=tap,id={card},fd=9", "-incoming", "defer"]
    words += ["-device", f"virtio-net-pci,netdev={card},mac={mac(5)}"]
    waits = "import signal, sys; print(1, flush=True); signal.pause()"
    qemu: subprocess.Popen[str] = node.popen(["unshare", "--net", "/usr/bin/python3", "-c", waits, *words])
    stack.callback(qemu.communicate, timeout=PATIENCE)
    stack.callback(qemu.kill)
    assert qemu.stdout and qemu.stdout.readline()
    node.path(pid_file).parent.mkdir(parents=True, exist_ok=True)
    node.path(pid_file).write_text(f"{qemu.pid}\n")
    nic_file(node, 0, tap.name)
    says(node, "is in another network namespace")


def test_what_cannot_be_seen_is_said_before_a_guest_comes(node: Node) -> None:
    """Here what forbids it is a directory that is a loop of links; on a node it may be a mount or a security module."""
    path = node.path(f"{DIRECTORY}/pid")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to("pid")
    node.path(f"{DIRECTORY}/nic").mkdir()
    ip(node, "link set pvn1 mtu 1400")  # it looks at the node when something changes
    says(node, f"{DIRECTORY}/pid cannot be read")
    path.unlink()
    path.mkdir()
    ip(node, "link set pvn1 mtu 1400")
    until(lambda: trouble(node) == [], "the end of it")
