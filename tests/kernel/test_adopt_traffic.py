# SPDX-License-Identifier: BSD-2-Clause
"""A guest that is pinged, and pings, while it is taken over: none of its packets is lost."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import pytest

from tests.lab import PATIENCE, Image, ImageError, Node, Tap, ensure, needs, wire

from .actions import differences, ip, link, manage, sysctl
from .conftest import ROOT, MakeTap
from .environment import BEYOND, GATEWAY, GATEWAY6, bridged, private, public, public6, routed
from .instance import Instance, attach_as_ganeti_does
from .test_adopt import states

pytestmark = pytest.mark.skipif(bool(needs.guest()), reason=needs.guest())

TABLE = "222"


@pytest.fixture(scope="module")
def image() -> Image:
    try:
        return ensure(ROOT / "build")
    except ImageError as error:
        pytest.skip(f"no guest image: {error}")


GAP = 1
"""Pings, one each 10 ms, that are lost when a tap that is up gets its first clsact qdisc (docs/decisions.md)."""


class Pinging:
    """A ping every 10 ms. Of those that were sent before the last answer came, each must have been answered."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._seen: set[int] = set()

    def more(self, count: int = 50) -> None:
        """Wait for so many more answers."""
        assert self._process.stdout
        enough = len(self._seen) + count
        for line in self._process.stdout:
            if match := re.search(r"seq=([0-9]+)", line):
                self._seen.add(int(match[1]))
            if len(self._seen) >= enough:
                return
        raise AssertionError("ping ended")

    def lost(self) -> set[int]:
        """The numbers of the packets that got no answer."""
        return set(range(min(self._seen), max(self._seen) + 1)) - self._seen


@contextmanager
def pinging(node: Node, address: str) -> Iterator[Pinging]:
    process = node.popen(["ping", "-n", "-i", "0.01", address])
    try:
        found = Pinging(process)
        found.more()
        yield found
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)


@pytest.fixture
def routing(node: Node, gateway: Node) -> Node:
    """A node whose administrator routes public addresses with Ganeti's own script: a table, and a proxy on the uplink."""
    ip(node, f"route add default via {GATEWAY} dev eth1 onlink table {TABLE}", f"rule add iif eth1 table {TABLE}")
    for switch in ("proxy_arp", "forwarding"):
        sysctl(node, f"net/ipv4/conf/eth1/{switch}", "1")
    sysctl(node, "net/ipv4/conf/eth1/arp_ignore", "0")
    return node


def booted(node: Node, tap: Tap, environment: Mapping[str, str], image: Image, stack: ExitStack) -> Instance:
    vm = Instance(node, environment["INSTANCE"], [(tap, environment)], image)
    assert vm.guest
    stack.enter_context(vm.guest)
    return vm


def _wait(vm: Instance, number: int) -> int:
    """Wait until the guest's own ping got an answer after the one with that NUMBER; returns the number of the last one.

    Its output comes in blocks, so the last line may be a part of one.
    """
    assert vm.guest
    last = "$(tail -n 2 /tmp/ping | sed -n '1s/.*seq=\\([0-9]*\\) .*/\\1/p')"
    script = f'until n={last}; [ -n "$n" ] && [ "$n" -gt {number} ]; do sleep 0.1; done; echo $n'
    return int(vm.guest.run(script).output)


def _lost(vm: Instance, first: int, last: int) -> list[int]:
    """The numbers from FIRST to LAST that got no answer. Found out in the guest: its console is slow."""
    assert vm.guest
    awk = '{split($2, words, " "); seen[words[1]] = 1} END {for (n = %d; n <= %d; n++) if (!(n in seen)) print n}'
    script = f"awk -F seq= '{awk % (first, last)}' /tmp/ping"
    return [int(number) for number in vm.guest.run(script).output.split()]


@pytest.mark.parametrize("setup", ["before", "by adopt"])
def test_a_routed_guest_is_taken_over_with_a_gap_of_milliseconds_at_most(
    routing: Node, gateway: Node, tap: MakeTap, image: Image, stack: ExitStack, setup: str
) -> None:
    one = tap(routing)
    environment = routed(one.name)
    attach_as_ganeti_does(routing, environment)
    before = link(routing, one.name)["address"]
    vm = booted(routing, one, environment, image, stack)
    assert vm.guest
    vm.guest.run(f"ip addr add {public(5)}/24 dev eth0; ip link set eth0 up; ip route add default via {GATEWAY}")
    vm.guest.run(f"(ping -i 0.01 {BEYOND} > /tmp/ping) & echo $! > /tmp/pid")
    with pinging(gateway, public(5)) as ping:
        # Before that, the proxies of Ganeti's script let the first packets wait for up to 0.8 s, and queues overflow.
        mark = _wait(vm, 100)
        if setup == "before":
            manage(routing, "setup")
        manage(routing, "adopt")
        ping.more(200)
        assert len(ping.lost()) <= GAP
        assert len(_lost(vm, mark, _wait(vm, mark + 200))) <= GAP
    assert link(routing, one.name)["address"] == before
    assert f"iif {one.name}" not in routing.run(["ip", "rule"]).stdout
    if setup == "by adopt":
        manage(routing, "setup")
    assert differences(routing) == []


def test_so_is_a_routed_guest_with_ipv6(
    routing: Node, gateway: Node, tap: MakeTap, image: Image, stack: ExitStack
) -> None:
    """Attached as snf-network does it: route and proxies for IPv6, too, and one MAC for all taps."""
    one = tap(routing)
    environment = routed(one.name)
    ip(routing, f"link set {one.name} address fe:dc:ba:98:76:54")
    attach_as_ganeti_does(routing, environment)
    sysctl(routing, "net/ipv6/conf/all/forwarding", "1")
    for device in ("eth1", one.name):
        sysctl(routing, f"net/ipv6/conf/{device}/proxy_ndp", "1")
    ip(
        routing,
        f"-6 route add default via {GATEWAY6} dev eth1 onlink table {TABLE}",
        f"-6 rule add iif eth1 table {TABLE}",
        f"-6 rule add dev {one.name} table {TABLE}",
        f"-6 route replace {public6(5)} dev {one.name} proto static table {TABLE}",
        f"-6 neigh add proxy {public6(5)} dev eth1",
        f"-6 neigh add proxy {GATEWAY6} dev {one.name}",
    )
    vm = booted(routing, one, environment, image, stack)
    assert vm.guest
    vm.guest.run("echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad; ip link set eth0 up")
    vm.guest.run(f"ip -6 addr add {public6(5)}/64 dev eth0")
    vm.guest.run(f"ip -6 route add default via {GATEWAY6} dev eth0")
    with pinging(gateway, public6(5)) as ping:
        manage(routing, "adopt")
        ping.more(200)
        assert len(ping.lost()) <= GAP
    assert link(routing, one.name)["address"] == "fe:dc:ba:98:76:54"
    assert f"iif {one.name}" not in routing.run(["ip", "-6", "rule"]).stdout


def test_a_bridged_guest_is_taken_over_with_a_gap_of_milliseconds_at_most(
    node: Node, tap: MakeTap, image: Image, stack: ExitStack
) -> None:
    neighbour = stack.enter_context(Node("neighbour"))
    ip(node, "link add pvn1 type bridge", "link set pvn1 up")
    wire(node, "other", neighbour, "eth0")
    ip(node, "link set other master pvn1")
    ip(neighbour, f"addr add {private(9)}/24 dev eth0")
    one = tap(node)
    environment = bridged(one.name)
    attach_as_ganeti_does(node, environment)
    vm = booted(node, one, environment, image, stack)
    assert vm.guest
    vm.guest.run(f"ip addr add {private(5)}/24 dev eth0; ip link set eth0 up")
    with pinging(neighbour, private(5)) as ping:
        manage(node, "adopt")
        ping.more(200)
        assert len(ping.lost()) <= GAP
    assert link(node, one.name)["master"] == "pvn1"
    assert states(node) == {one.name: "recorded"}
