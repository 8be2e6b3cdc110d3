#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""The main job of ganeti-vif, on one machine: two real guests, each with a public and a private NIC.

A node and a gateway, each in network and mount namespaces of its own, joined by a cable. The package is installed
in the node, sets up its networks, and attaches each tap when it is called as Ganeti calls it. Nothing outside the
namespaces is changed, and nothing is left running.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.lab import Guest, Image, Node, Tap, ensure, wire  # noqa: E402

CONFIG = """\
[private pvn]
bridges = 1-10
mtu     = 1400
domain  = internal.example.com

[public public]
table      = 222
uplink     = eth1
subnets    = 192.0.2.0/24 2001:db8::/64
gateways   = 192.0.2.1 2001:db8::1
arp-source = 192.0.2.254

[bindings]
for = all

[responder]
nameservers = 192.0.2.1 2001:db8::1
search      = example.com
"""
BEYOND, BEYOND6 = "198.51.100.1", "2001:db8:ffff::1"
NODE_ADDRESS = "203.0.113.7"

PUBLIC_NETWORK = {
    "NETWORK_NAME": "public",
    "NETWORK_UUID": "9696066a-7821-42d1-9e6d-aa3dcbb17b20",
    "NETWORK_SUBNET": "192.0.2.0/24",
    "NETWORK_GATEWAY": "192.0.2.1",
    "NETWORK_SUBNET6": "2001:db8::/64",
    "NETWORK_GATEWAY6": "2001:db8::1",
    "NETWORK_TAGS": "nfdhcpd ip-less-routed",
}
PRIVATE_NETWORK = {
    "NETWORK_NAME": "internal",
    "NETWORK_UUID": "1658c0f7-cf1e-4094-b400-074be8751f55",
    "NETWORK_SUBNET": "10.0.0.0/24",
    "NETWORK_TAGS": "",
}


@dataclass
class Vm:
    """An instance of the demo: its name, and a number from which its addresses are made."""

    name: str
    number: int

    @property
    def public(self) -> str:
        return f"192.0.2.{self.number}"

    @property
    def private(self) -> str:
        return f"10.0.0.{self.number}"

    def mac(self, nic: int) -> str:
        return f"aa:00:00:00:0{nic}:{self.number:02x}"

    @property
    def public6(self) -> str:
        return f"2001:db8::a800:ff:fe00:{self.number:x}"

    def environment(self, nic: int, tap: str) -> dict[str, str]:
        """What Ganeti's noded gives kvm-vif-bridge (lib/hypervisor/hv_base.py:229-255 at 3.0.2)."""
        routed = nic == 0
        return {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C",
            "INSTANCE": self.name,
            "INTERFACE": tap,
            "INTERFACE_INDEX": str(nic),
            "INTERFACE_UUID": f"{self.number:08x}-498b-449c-b73e-0000000000{nic:02x}",
            "MAC": self.mac(nic),
            "MODE": "routed" if routed else "bridged",
            "LINK": "public" if routed else "pvn1",
            "VLAN": "",
            "TAGS": "",
            "IP": self.public if routed else self.private,
        } | (PUBLIC_NETWORK if routed else PRIVATE_NETWORK | {"BRIDGE": "pvn1"})


class Failed(Exception):
    """The demo did not show what it promises."""


def say(text: str) -> None:
    print(f"\n== {text}", flush=True)


def show(node: Node, *command: str, status: int = 0) -> None:
    """Run a command in the node and show it with its output, as a terminal would."""
    print(f"{node.name}# {shlex.join(command)}", flush=True)
    done = node.run(list(command), check=False)
    print(done.stdout + done.stderr, end="", flush=True)
    if done.returncode != status:
        raise Failed(f"{' '.join(command)}: status {done.returncode}, not {status}")


def attempt(guest: Guest, what: str, command: str, *, works: bool) -> None:
    """Try something in a guest and show whether it works; it must be as expected."""
    result = guest.run(command, check=False, timeout=20)
    verdict = "works" if result.status == 0 else "does not work"
    print(f"  {guest.name}: {what:<58} {verdict}{'' if works else ', as it should be'}", flush=True)
    if (result.status == 0) != works:
        raise Failed(f"{guest.name}: {command}: {verdict}\n{result.output}")


def prepare(node: Node, gateway: Node) -> None:
    """The node with the package, and a gateway with a host beyond it."""
    wire(node, "eth1", gateway, "eth0")
    for command in (
        "ip addr add 192.0.2.1/24 dev eth0",
        "ip -6 addr add 2001:db8::1/64 dev eth0 nodad",
        f"ip addr add {BEYOND}/32 dev lo",
        f"ip -6 addr add {BEYOND6}/128 dev lo nodad",
    ):
        gateway.run(command.split())
    # The node's own address is in quite another network; the public subnet is none of its business.
    node.run(["ip", "addr", "add", f"{NODE_ADDRESS}/32", "dev", "lo"])
    node.install(ROOT)
    node.path("/etc/ganeti-vif/ganeti-vif.conf").write_text(CONFIG)


def start(node: Node, image: Image, vm: Vm) -> Guest:
    """Start an instance as Ganeti does: taps, the script for each, then QEMU with the taps' descriptors."""
    taps = [Tap(node), Tap(node)]
    for nic, tap in enumerate(taps):
        script = ["sh", "-c", "umask 077; exec /etc/ganeti/kvm-vif-bridge"]
        began = time.monotonic()
        done = node.run(script, env=vm.environment(nic, tap.name), check=False)
        took = time.monotonic() - began
        print(f"  kvm-vif-bridge for {vm.name} NIC {nic} on {tap.name}: status {done.returncode}, {took * 1000:.0f} ms")
        if done.returncode:
            raise Failed(done.stderr)
    return Guest(node, vm.name, image, [(tap, vm.mac(nic)) for nic, tap in enumerate(taps)])


def stopped(node: Node, vm: Vm) -> None:
    """The hook that Ganeti runs after an instance was stopped (lib/cmdlib/instance_operation.py:210 at 3.0.2)."""
    hook = "/etc/ganeti/hooks/instance-stop-post.d/50-ganeti-vif"
    told = {
        "PATH": "/sbin:/bin:/usr/sbin:/usr/bin",
        "GANETI_HOOKS_PATH": "instance-stop",
        "GANETI_HOOKS_PHASE": "post",
        "GANETI_INSTANCE_NAME": vm.name,
    }
    done = node.run([hook], env=told, check=False)
    if done.returncode:
        raise Failed(done.stdout)


def respond(node: Node) -> subprocess.Popen[str]:
    """Start the responder, which the package's unit does on a real node."""
    node.run(["useradd", "--system", "--no-create-home", "ganeti-vif-responder"])
    return node.popen(["ganeti-vif-responder", "--foreground"])


def keep(node: Node) -> subprocess.Popen[str]:
    """Start the daemon, as the package's unit does; return when it answers."""
    daemon = node.popen(["ganeti-vifd", "--foreground"])
    until(lambda: node.path("/run/ganeti-vif/control.sock").exists(), "ganeti-vifd")
    return daemon


def until(met: Callable[[], bool], what: str) -> None:
    """Wait for what the daemon does by itself."""
    deadline = time.monotonic() + 60
    while not met():
        if time.monotonic() > deadline:
            raise Failed(f"waited in vain for {what}")
        time.sleep(0.02)


def forgotten(node: Node, vm: Vm) -> bool:
    return vm.name not in node.run(["sh", "-c", "cat /run/ganeti-vif/nics/*.json; true"]).stdout


def end(*daemons: subprocess.Popen[str]) -> None:
    for daemon in daemons:
        daemon.terminate()
        daemon.communicate(timeout=60)


def configure(guest: Guest, vm: Vm) -> None:
    """What any guest does: its kernel makes its IPv6 address, a DHCP client gets the rest. It is told nothing by us."""
    guest.wait_ready()
    guest.run("ip link set eth1 up; ip link set eth0 up")
    attempt(guest, "DHCP on eth0, the public link", "dhcp eth0", works=True)
    guest.run("cp /etc/resolv.conf /run/resolv.conf")
    attempt(guest, "DHCP on eth1, the private network", "dhcp eth1", works=True)
    ready = f"ip -6 addr show dev eth0 | grep {vm.public6}/64 | grep -v tentative"
    attempt(guest, f"SLAAC on eth0: {vm.public6}", f"until {ready}; do sleep 0.1; done", works=True)


def leases(guest: Guest, vm: Vm) -> None:
    """Show what the guest was told, and that it has it."""
    known = "ip|mask|router|staticroutes|dns|domain|hostname|mtu|lease|serverid"
    for nic, address in (("eth0", vm.public), ("eth1", vm.private)):
        told = guest.run(f"grep -E '^({known})=' /run/lease.{nic}").output.replace("'", "").split("\n")
        print(f"  {guest.name} {nic}: {' '.join(told).strip()}")
        if f"ip={address}" not in told:
            raise Failed(f"{guest.name} {nic}: no lease of {address}")
    for command, wanted in (
        ("hostname", vm.name.partition(".")[0]),
        ("cat /run/resolv.conf", "nameserver 192.0.2.1"),
        ("cat /sys/class/net/eth1/mtu", "1400"),
        ("ip route", "default via 192.0.2.1 dev eth0"),
        # Without its time: busybox says 0 seconds whatever it is (it divides by the clock of /proc/net/psched).
        ("ip -6 route show default | cut -d' ' -f1-5", "default via fe80::"),
    ):
        shown = guest.run(command).output
        print(f"{guest.name}# {command}\n{shown}", end="")
        if wanted not in shown:
            raise Failed(f"{guest.name}: {command} does not show {wanted}")


def public_link(guests: list[Guest]) -> None:
    for guest in guests:
        attempt(guest, "ping the gateway, 192.0.2.1", "ping -c 1 -W 3 192.0.2.1", works=True)
        attempt(guest, f"ping beyond it, {BEYOND}", f"ping -c 1 -W 3 {BEYOND}", works=True)
        attempt(guest, "ping the gateway, 2001:db8::1", "ping -6 -c 1 -W 3 2001:db8::1", works=True)
        attempt(guest, f"ping beyond it, {BEYOND6}", f"ping -6 -c 1 -W 3 {BEYOND6}", works=True)


def private_network(guests: list[Guest], vms: list[Vm], bridge_mac: str) -> None:
    one, _ = guests
    attempt(one, f"ping {vms[1].name} on pvn1, {vms[1].private}", f"ping -c 1 -W 3 {vms[1].private}", works=True)
    attempt(one, f"ask on pvn1 for the node, {NODE_ADDRESS}", f"arping -c 2 -w 2 -I eth1 {NODE_ADDRESS}", works=False)
    forged = (
        f"ip neigh add 10.0.0.99 lladdr {bridge_mac} dev eth1; ip route add {NODE_ADDRESS} via 10.0.0.99 dev eth1;"
        f" ping -c 2 -W 1 {NODE_ADDRESS}"
    )
    attempt(one, "ping the node on pvn1 by its bridge's MAC", forged, works=False)


def main() -> int:
    began = time.monotonic()
    vms = [Vm("web.example.com", 5), Vm("db.example.com", 6)]
    try:
        with ExitStack() as stack:
            node, gateway = stack.enter_context(Node("node1")), stack.enter_context(Node("gateway"))
            say("A node with ganeti-vif, and an upstream gateway")
            prepare(node, gateway)
            show(node, "ganeti-vif", "setup")
            show(node, "ganeti-vif", "setup")

            daemons = keep(node), respond(node)

            say("Two instances start: Ganeti makes two taps for each and calls kvm-vif-bridge for each tap")
            image = ensure(ROOT / "build")
            guests = [stack.enter_context(start(node, image, vm)) for vm in vms]
            say("They know nothing of their networks: plain DHCP and SLAAC")
            for guest, vm in zip(guests, vms, strict=True):
                configure(guest, vm)
            leases(guests[0], vms[0])

            say("The public link: each guest reaches the gateway and beyond")
            public_link(guests)
            say("The private network pvn1: the guests reach each other, and not the node")
            private_network(guests, vms, node.run(["cat", "/sys/class/net/pvn1/address"]).stdout.strip())

            say("What the node has")
            show(node, "ganeti-vif", "status")
            show(node, "ganeti-vif", "check")
            say("The binding files")
            show(node, "sh", "-c", "cd /var/lib/nfdhcpd; grep . *")

            say(f"{vms[1].name} ends; its taps are gone at once, and nothing of it is left")
            guests[1].stop()
            until(lambda: forgotten(node, vms[1]), f"the end of {vms[1].name}")
            show(node, "ganeti-vif", "check")
            print("  Ganeti runs its hooks instance-stop-post.d, which find nothing left to do")
            stopped(node, vms[1])
            show(node, "ganeti-vif", "status")
            attempt(guests[0], "ping the gateway, 192.0.2.1", "ping -c 1 -W 3 192.0.2.1", works=True)
            say("What the responder has answered")
            counters = ["sh", "-c", "ganeti-vif status --json | grep -A 20 counts | sed /}/q"]
            show(node, *counters)

            say("The log, and the end")
            guests[0].stop()
            until(lambda: forgotten(node, vms[0]), f"the end of {vms[0].name}")
            end(*daemons)
            show(node, "grep", "tap0", "/var/log/ganeti/vif.log")
            show(node, "ganeti-vif", "teardown")
    except Failed as failure:
        print(f"\nThe demo failed: {failure}", file=sys.stderr)
        return 1
    print(f"\nDone in {time.monotonic() - began:.0f} s. Nothing is left running, this machine's network is as it was.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
