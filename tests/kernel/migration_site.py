# SPDX-License-Identifier: BSD-2-Clause
"""Two nodes with daemons on one uplink, a router that hears what they say there, and guests that move between them.

The target's QEMU is a real one that waits for a guest; what the guest would send there, the test sends.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import dpkt

from tests.lab import PATIENCE, Node, PacketSocket, Tap, wire
from tests.lab.tap import VNET_HEADER

from .actions import answer, arp, arp_of, attach, ethernet, ip, link, manage, octets
from .conftest import installed, quick
from .environment import GATEWAY, PATH, mac, public, routed, uuid
from .instance import Instance
from .responder_lab import USER
from .vifd import as_in_its_unit, until

ROUTER = "0e:00:00:00:00:01"
BEYOND = "198.51.100.1"
RARP = ethernet(mac(5), "ff:ff:ff:ff:ff:ff", 0x8035, b"\0\1\x08\0\6\4\0\3" + 2 * (octets(mac(5)) + bytes(4)))
"""What QEMU sends for its guest when that runs (qemu net/announce.c)."""
LIES = (arp(ROUTER, public(5), public(5)), RARP)
"""That the guest runs elsewhere, from the uplink."""


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
        found: set[str] = set()
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


@contextmanager
def connected(stack: ExitStack) -> Iterator[Site]:
    """The site, in nodes that live as long as STACK."""
    switch = stack.enter_context(Node("switch"))
    ip(switch, "link add br0 type bridge mcast_snooping 0", "link set br0 up")
    nodes, daemons = [], []
    for number in (1, 2):
        node = installed(quick(stack.enter_context(Node(f"node{number}"))))
        node.run(["useradd", "--system", "--no-create-home", USER], check=False)
        with_key(node)
        wire(node, "eth1", switch, f"port{number}")
        ip(switch, f"link set port{number} master br0")
        manage(node, "setup")
        daemons.append(started(node))
        nodes.append(node)
    router = stack.enter_context(Node("router"))
    wire(router, "eth0", switch, "port3")
    ip(switch, "link set port3 master br0")
    with PacketSocket(router, "eth0") as ears:
        yield Site(nodes[0], nodes[1], ears)
    for daemon in daemons:
        daemon.send_signal(signal.SIGTERM)
        daemon.communicate(timeout=PATIENCE)


def with_key(node: Node, key: str = "4a1cc2e0f2e5d8ad0b7a\n") -> None:
    """NODE is a node of the cluster that has this KEY (ganeti lib/bootstrap.py, GenerateHmacKey)."""
    path = node.path("/var/lib/ganeti/hmac.key")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(key)


def started(node: Node) -> subprocess.Popen[str]:
    daemon = node.popen(as_in_its_unit())
    until(lambda: answer(node, "status")["daemon"] is not None, "the daemon")
    return daemon


def hook(node: Node, *numbers: int, **changes: str) -> None:
    """Ganeti's hook before it migrates the guest from node1 to node2. NUMBERS are of its NICs; by default it has one."""
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
    for index, number in enumerate(numbers or (5,)):
        told = routed("x", number).items()
        nic = {names.get(name, name): value for name, value in told if name in names or "NETWORK" in name}
        env |= {f"GANETI_INSTANCE_NIC{index}_{name}": value for name, value in nic.items()}
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
        self.send(RARP)

    def send(self, frame: bytes) -> None:
        os.write(self.mouth, VNET_HEADER + frame)

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


def link_of(node: Node) -> str:
    return str(next(nic["tap"] for nic in answer(node, "status")["nics"] if nic["uuid"] == uuid(5)))


def urgent(node: Node) -> bool:
    """Whether its daemon runs before all ordinary processes."""
    return os.sched_getscheduler(answer(node, "status")["daemon"]["pid"]) & ~os.SCHED_RESET_ON_FORK == os.SCHED_RR
