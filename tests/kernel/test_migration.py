# SPDX-License-Identifier: BSD-2-Clause
"""A routed guest moves between two nodes of one uplink: at each moment one node answers for it, the right one.

Its QEMU on the target is a real one that waits for a guest; what the guest would send there, the test sends.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import dpkt
import pytest

from doors.tasks import AGAIN
from tests.lab import PATIENCE, Node, PacketSocket, Tap, wire

from .actions import (
    answer,
    arp,
    arp_of,
    attach,
    complaint,
    differences,
    ethernet,
    ip,
    link,
    manage,
    octets,
    udp,
    vif_script,
)
from .conftest import installed, quick
from .environment import GATEWAY, PATH, mac, public, public6, routed, uuid
from .instance import Instance
from .vifd import until

ROUTER = "0e:00:00:00:00:01"
BEYOND = "198.51.100.1"
RARP = ethernet(mac(5), "ff:ff:ff:ff:ff:ff", 0x8035, b"\0\1\x08\0\6\4\0\3" + 2 * (octets(mac(5)) + bytes(4)))
"""What QEMU sends for its guest when that runs (qemu net/announce.c)."""


@dataclass
class Site:
    """Two nodes with daemons, and the ears of the router between them."""

    source: Node
    target: Node
    router: PacketSocket

    def asked(self) -> set[str]:
        """The nodes whose uplinks answer an ARP question for the guest's address, after all that was said before."""
        uplinks = {link(node, "eth1")["address"]: node.name for node in (self.source, self.target)}
        self.router.clear()
        self.router.send(arp(ROUTER, GATEWAY, public(5)))
        self.router.send(arp(ROUTER, GATEWAY, public(77)))  # a guest that never moves: its node's answer comes last
        found = set()
        while True:
            reply = arp_of(self.router.expect(_is_reply, "an answer for one of them"))
            assert reply
            if bytes(reply.spa) == octets_of(public(77)):
                return found
            found.add(uplinks[reply.sha.hex(":")])

    def told(self, node: Node) -> set[str]:
        """Wait until NODE announces the guest's address. Returns the MACs that announced it until then."""
        own, tellers = link(node, "eth1")["address"], set()

        def gratuitous(frame: bytes) -> bool:
            found = arp_of(frame)
            if found and found.spa == found.tpa == octets_of(public(5)):
                tellers.add(found.sha.hex(":"))
            return own in tellers

        self.router.expect(gratuitous, f"{node.name}'s announcement")
        return tellers


def octets_of(address: str) -> bytes:
    return bytes(map(int, address.split(".")))


def _is_reply(frame: bytes) -> bool:
    found = arp_of(frame)
    return found is not None and found.op == dpkt.arp.ARP_OP_REPLY and found.tpa == octets_of(GATEWAY)


@pytest.fixture
def site(stack: ExitStack) -> Iterator[Site]:
    switch = stack.enter_context(Node("switch"))
    ip(switch, "link add br0 type bridge mcast_snooping 0", "link set br0 up")
    nodes, daemons = [], []
    for number in (1, 2):
        node = installed(quick(stack.enter_context(Node(f"node{number}"))))
        wire(node, "eth1", switch, f"port{number}")
        ip(switch, f"link set port{number} master br0")
        manage(node, "setup")
        daemons.append(started(node))
        nodes.append(node)
    router = stack.enter_context(Node("router"))
    wire(router, "eth0", switch, "port3")
    ip(switch, "link set port3 master br0")
    with PacketSocket(router, "eth0") as ears:
        yield Site(*nodes, ears)
    for daemon in daemons:
        daemon.send_signal(signal.SIGTERM)
        daemon.communicate(timeout=PATIENCE)


def started(node: Node) -> subprocess.Popen[str]:
    daemon = node.popen(["ganeti-vifd", "--foreground"])
    until(lambda: answer(node, "status")["daemon"] is not None, "the daemon")
    return daemon


def hook(node: Node, **changes: str) -> None:
    """Ganeti's hook before it migrates the guest from node1 to node2."""
    env = {
        "PATH": PATH,
        "GANETI_HOOKS_PATH": "instance-migrate",
        "GANETI_HOOKS_PHASE": "pre",
        "GANETI_INSTANCE_NAME": "vm5.example.com",
        "GANETI_INSTANCE_PRIMARY": "node1.example.com",
        "GANETI_OLD_PRIMARY": "node1.example.com",
        "GANETI_NEW_PRIMARY": "node2.example.com",
        "GANETI_MIGRATE_LIVE": "True",
        "GANETI_MIGRATE_CLEANUP": "False",
    }
    names = {"INTERFACE_UUID": "UUID", "MAC": "MAC", "IP": "IP", "MODE": "MODE", "LINK": "LINK"}
    nic = {names.get(name, name): value for name, value in routed("x").items() if name in names or "NETWORK" in name}
    env |= {f"GANETI_INSTANCE_NIC0_{name}": value for name, value in nic.items()}
    done = node.run(["/etc/ganeti/hooks/instance-migrate-pre.d/50-ganeti-vif"], env=env | changes, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def state(node: Node) -> str | None:
    """What status says of the guest's NIC."""
    return next((nic["state"] for nic in answer(node, "status")["nics"] if nic["uuid"] == uuid(5)), None)


def still(node: Node, stack: ExitStack) -> Tap:
    """A guest that does not move."""
    tap = stack.enter_context(Tap(node))
    attach(node, routed(tap.name, 77))
    return tap


@dataclass
class Arrival:
    """The target's QEMU, which waits; and the mouth of the guest that will run in it."""

    instance: Instance
    mouth: int

    def speak(self) -> None:
        os.write(self.mouth, RARP)

    def die(self) -> None:
        os.close(self.mouth)
        self.instance.crash()


def arriving(node: Node) -> Arrival:
    tap = Tap(node)
    mouth = os.dup(tap.fd)
    return Arrival(Instance(node, "vm5.example.com", [(tap, routed(tap.name))], None, "-incoming", "defer"), mouth)


def moving(site: Site, stack: ExitStack) -> tuple[Tap, Arrival]:
    """A guest on the source, which Ganeti is about to migrate, and the target is ready for it. Another does not move."""
    still(site.target, stack)
    before = stack.enter_context(Tap(site.source))
    attach(site.source, routed(before.name))
    assert site.asked() == {"node1"}
    for node in (site.source, site.target):
        hook(node)
    arrival = arriving(site.target)
    until(lambda: state(site.target) == "elsewhere", "the target's readiness")
    return before, arrival


def test_a_guest_is_answered_for_where_it_runs(site: Site, stack: ExitStack) -> None:
    before, arrival = moving(site, stack)
    assert site.asked() == {"node1"}, "nothing is said of it before it runs there"
    assert differences(site.target) == []
    site.router.clear()
    arrival.speak()
    site.told(site.target)
    until(lambda: state(site.source) == "elsewhere", "the source's leave")
    assert site.asked() == {"node2"}
    assert differences(site.source) == differences(site.target) == []
    late = udp(ROUTER, link(site.source, "eth1")["address"], BEYOND, public(5), "late")
    with PacketSocket(site.target, "eth1") as ears:
        site.router.send(late)
        ears.expect(lambda frame: b"late" in frame, "what still went to the source")
    attach(site.target, routed(link_of(site.target)))  # Ganeti's own call, a second later
    before.close()
    until(lambda: state(site.source) is None, "the end of it on the source")
    assert site.asked() == {"node2"}
    assert differences(site.source) == differences(site.target) == []
    arrival.die()


def link_of(node: Node) -> str:
    return next(nic["tap"] for nic in answer(node, "status")["nics"] if nic["uuid"] == uuid(5))


def test_a_guest_that_comes_back_is_answered_for_again(site: Site, stack: ExitStack) -> None:
    """The migration failed at the last moment: the target's QEMU is killed, and the source's goes on."""
    before, arrival = moving(site, stack)
    arrival.speak()
    until(lambda: state(site.source) == "elsewhere", "the source's leave")
    arrival.die()
    until(lambda: state(site.target) is None, "the end of it on the target")
    site.router.clear()
    before.send(arp(mac(5), public(5), GATEWAY))
    site.told(site.source)
    assert site.asked() == {"node1"}
    assert differences(site.source) == differences(site.target) == []


def test_a_guest_that_cannot_be_answered_for_is_told_of_and_answered_for_as_soon_as_it_can(
    site: Site, stack: ExitStack
) -> None:
    """Whether it speaks again or not: Ganeti does not ask a second time."""
    _, arrival = moving(site, stack)
    with Tap(site.target) as other:
        attach(site.target, routed(other.name, 9, IP=public(5)))
        arrival.speak()
        until(lambda: state(site.target) == "not attached", "the refusal")
        until(lambda: state(site.source) == "elsewhere", "the source's leave")
        assert differences(site.target)[0].startswith("not attached: vm5.example.com NIC 0")
        assert link_of(site.target) in answer(site.target, "status")["daemon"]["retrying"]
    until(lambda: state(site.target) == "ok", "the answers for it")
    assert site.asked() == {"node2"}
    assert differences(site.source) == differences(site.target) == []
    until(lambda: not answer(site.target, "status")["daemon"]["retrying"], "no more attempts")
    arrival.die()


def test_what_ganeti_is_refused_after_a_move_is_told_although_the_guest_is_silent(site: Site, stack: ExitStack) -> None:
    _, arrival = moving(site, stack)
    with Tap(site.target) as other:
        attach(site.target, routed(other.name, 9, IP=public(5)))
        complaint(vif_script(site.target, routed(link_of(site.target))))
        assert state(site.target) == "not attached"
        assert differences(site.target)[0].startswith("not attached: vm5.example.com NIC 0")
    until(lambda: state(site.target) == "ok", "the answers for it")
    until(lambda: state(site.source) == "elsewhere", "the source's leave")
    assert site.asked() == {"node2"}
    assert differences(site.source) == differences(site.target) == []
    arrival.die()


def test_a_guest_that_could_not_be_attached_is_not_attached_after_it_has_left(site: Site, stack: ExitStack) -> None:
    still(site.target, stack)
    with Tap(site.source) as other:
        attach(site.source, routed(other.name, 9, IP=public6(5)))
        before = stack.enter_context(Tap(site.source))
        complaint(vif_script(site.source, routed(before.name)))
        for node in (site.source, site.target):
            hook(node)
        arrival = arriving(site.target)
        until(lambda: state(site.target) == "elsewhere", "the target's readiness")
        arrival.speak()
        until(lambda: state(site.source) == "elsewhere", "the source's leave")
        assert differences(site.source) == [], "what is the other's stays"
    until(lambda: len(answer(site.source, "status")["nics"]) == 1, "the end of the other")
    until(lambda: state(site.target) == "ok", "the answers for it")
    assert site.asked() == {"node2"}
    assert differences(site.source) == differences(site.target) == []
    arrival.die()


def test_a_guest_that_floods_while_it_moves_is_answered_for(site: Site, stack: ExitStack) -> None:
    """Whatever it sends: it is answered for, by one node, and both daemons still answer questions."""
    _, arrival = moving(site, stack)
    stop = threading.Event()

    def floods() -> None:
        while not stop.is_set():
            arrival.speak()

    flood = threading.Thread(target=floods)
    flood.start()
    try:
        site.told(site.target)
        until(lambda: state(site.source) == "elsewhere", "the source's leave")
        until(lambda: state(site.target) == "ok", "the answers for it")
        assert site.asked() == {"node2"}
    finally:
        stop.set()
        flood.join()
    assert differences(site.source) == differences(site.target) == []
    arrival.die()


@pytest.mark.parametrize("how", ["detached", "record removed"])
def test_a_guest_that_nobody_waits_for_any_more_leaves_nothing(site: Site, how: str, stack: ExitStack) -> None:
    """Its record goes before its tap. Whoever listened to that tap would be deaf to the next one of its name."""
    _, arrival = moving(site, stack)
    tap = link_of(site.target)
    if how == "detached":
        manage(site.target, "detach", tap)
    else:
        site.target.path(f"/run/ganeti-vif/nics/{tap}.json").unlink()
    arrival.die()
    until(lambda: not urgent(site.target), "the end of it")
    hook(site.target)
    again = arriving(site.target)
    until(lambda: state(site.target) == "elsewhere", "the target's readiness")
    assert link_of(site.target) == tap
    again.speak()
    until(lambda: state(site.target) == "ok", "the answers for it")
    assert site.asked() == {"node2"}
    again.die()


def test_a_guest_that_nobody_announced_is_attached_when_ganeti_asks(site: Site, stack: ExitStack) -> None:
    still(site.target, stack)
    arrival = arriving(site.target)
    tap = "tap1"
    assert "UP" not in link(site.target, tap)["flags"]
    attach(site.target, routed(tap))
    assert site.asked() == {"node2"}
    arrival.die()


@pytest.mark.parametrize("changes", [{"GANETI_MIGRATE_CLEANUP": "True"}, {"GANETI_NEW_PRIMARY": "node3.example.com"}])
def test_what_is_no_move_to_this_node_prepares_nothing(site: Site, changes: dict[str, str], stack: ExitStack) -> None:
    still(site.target, stack)
    hook(site.target, **changes)
    arrival = arriving(site.target)
    assert site.asked() == set()
    assert state(site.target) is None
    arrival.die()


def test_a_guest_that_is_announced_elsewhere_is_let_go(site: Site, stack: ExitStack) -> None:
    """The target's first word was lost. What only asks for the address is none."""
    still(site.target, stack)
    one = stack.enter_context(Tap(site.source))
    attach(site.source, routed(one.name))
    hook(site.source)
    assert site.asked() == {"node1"}
    site.router.send(arp(ROUTER, public(5), public(5)))
    until(lambda: state(site.source) == "elsewhere", "the source's leave")
    assert differences(site.source) == []


def test_a_node_announces_no_guest_that_has_left(site: Site, stack: ExitStack) -> None:
    """It moves as soon as it was started: its node would still repeat the first announcement."""
    arrival = arriving(site.target)
    before = stack.enter_context(Tap(site.source))
    attach(site.source, routed(before.name))
    for node in (site.source, site.target):
        hook(node)
    until(lambda: state(site.target) == "elsewhere", "the target's readiness")
    arrival.speak()
    here = link(site.target, "eth1")["address"]
    until(lambda: state(site.source) == "elsewhere", "the source's leave")
    site.router.clear()
    for _ in range(2 * len(AGAIN)):  # a request and a reply each time
        assert site.told(site.target) == {here}
    arrival.die()


def test_a_migration_that_failed_is_over_when_ganeti_clears_up_after_it(site: Site, stack: ExitStack) -> None:
    """What is announced then is not heard, and nobody is waited for."""
    _, arrival = moving(site, stack)
    arrival.die()
    until(lambda: state(site.target) is None, "the end of it on the target")
    for node in (site.source, site.target):
        hook(node, GANETI_MIGRATE_CLEANUP="True")
    until(lambda: not (urgent(site.source) or urgent(site.target)), "the end of it")
    site.router.send(arp(ROUTER, public(5), public(5)))
    assert site.asked() == {"node1"}
    assert state(site.source) == "ok"
    assert differences(site.source) == differences(site.target) == []


def test_a_daemon_runs_before_all_others_while_a_guest_may_move(site: Site, stack: ExitStack) -> None:
    before = stack.enter_context(Tap(site.source))
    attach(site.source, routed(before.name))
    assert [urgent(site.source), urgent(site.target)] == [False, False]
    for node in (site.source, site.target):
        hook(node)
    until(lambda: urgent(site.source), "the source's readiness")
    assert not urgent(site.target), "what it waits for may never come"
    arrival = arriving(site.target)
    until(lambda: state(site.target) == "elsewhere" and urgent(site.target), "the target's readiness")
    arrival.speak()
    until(lambda: state(site.source) == "elsewhere", "the source's leave")
    before.close()
    until(lambda: not (urgent(site.source) or urgent(site.target)), "the end of it")
    arrival.die()


def urgent(node: Node) -> bool:
    """Whether its daemon runs before all ordinary processes."""
    return os.sched_getscheduler(answer(node, "status")["daemon"]["pid"]) & ~os.SCHED_RESET_ON_FORK == os.SCHED_RR


def test_an_announcement_by_somebody_else_takes_no_address_from_a_guest_that_stays(
    site: Site, stack: ExitStack
) -> None:
    still(site.target, stack)
    one = stack.enter_context(Tap(site.source))
    attach(site.source, routed(one.name))
    site.router.send(arp(ROUTER, public(5), public(5)))
    assert site.asked() == {"node1"}
    assert state(site.source) == "ok"
