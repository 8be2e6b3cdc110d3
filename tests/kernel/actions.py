# SPDX-License-Identifier: BSD-2-Clause
"""What the tests do to a node: call Ganeti's script and the administrator's command, ping, and send frames."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import dpkt

from tests.lab import PATIENCE, CommandFailed, Node, wait_for_room
from tests.lab.shared import fills

from . import snapshot
from .environment import SCRIPT

FULL = "No buffer space available"
BROADCAST = "ff:ff:ff:ff:ff:ff"
NOBODY = "00:00:00:00:00:00"

Done = subprocess.CompletedProcess[str]


def vif_script(node: Node, environment: Mapping[str, str], script: str = SCRIPT) -> Done:
    """Call Ganeti's script as noded does: umask 077, no arguments, no stdin."""
    return node.run(["sh", "-c", f"umask 077; exec {script}"], env=environment, check=False)


def attach(node: Node, environment: Mapping[str, str]) -> None:
    """Attach a NIC, which works and says nothing."""
    done = vif_script(node, environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def complaint(done: Done) -> str:
    """What a refusal says: its first line. The second says what to do, and there is no third."""
    assert done.returncode != 0
    lines = done.stderr.splitlines()
    assert len(lines) == 2, done.stderr
    assert all(line.isprintable() and line.isascii() and line.strip() for line in lines), done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]


def refusal(node: Node, environment: Mapping[str, str]) -> str:
    """What the script says as it refuses a NIC and leaves everything as it was, but for a note that it was asked.

    The note is there if the NIC could be attached one day: its tap lives, and nothing is wrong with its description.
    """
    before = shot(node)
    said = complaint(vif_script(node, environment))
    tap = environment.get("INTERFACE", "")
    if tap and node.path(f"/run/ganeti-vif/nics/{tap}.json").is_file():
        assert [nic["state"] for nic in answer(node, "status")["nics"] if nic["tap"] == tap] == ["not attached"]
        manage(node, "detach", tap)
    assert shot(node) == before
    return said


def run(node: Node, *arguments: str) -> Done:
    """Run the administrator's command to its end, whatever that is."""
    return node.run(["ganeti-vif", *arguments], check=False)


def manage(node: Node, *arguments: str) -> str:
    """Run the administrator's command, which works and has nothing to complain of; returns what it prints."""
    done = run(node, *arguments)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def answer(node: Node, *arguments: str) -> Any:
    """What the administrator's command says with --json, whatever its status."""
    done = run(node, *arguments, "--json")
    assert done.returncode in (0, 1), done
    return json.loads(done.stdout)


def differences(node: Node) -> list[str]:
    """What `ganeti-vif check` finds, without what mends it, and without notes; its status must fit."""
    done = run(node, "check")
    lines = [line for line in done.stdout.splitlines() if not line.startswith(("  ", "note: "))]
    assert (done.returncode, done.stderr) == (1 if lines else 0, ""), done
    return lines


def shot(node: Node) -> snapshot.Snapshot:
    """Everything on NODE that ganeti-vif may change."""
    return snapshot.parse(node.run(["sh", "-c", snapshot.SCRIPT]).stdout)


def ip(node: Node, *commands: str) -> None:
    """Run commands of iproute2 in NODE, each written without its leading `ip`.

    Again, if the machine's one table of neighbours is full: that is other work's doing, and passes.
    """
    for command in commands:
        try:
            node.run(["ip", *command.split()])
        except CommandFailed as failed:
            if FULL not in failed.stderr:
                raise
            print(f"ip {command}: {FULL}: {fills()}; again when there is room")
            wait_for_room()
            node.run(["ip", *command.split()])


def link(node: Node, name: str) -> dict[str, Any]:
    """The network device of that name, with its details, as iproute2 shows it."""
    found: list[dict[str, Any]] = json.loads(node.run(["ip", "-d", "-j", "link", "show", name]).stdout)
    return found[0]


def names(node: Node) -> set[str]:
    """The names of all network devices."""
    return {device["ifname"] for device in json.loads(node.run(["ip", "-j", "link"]).stdout)}


def sysctl(node: Node, name: str, value: str | None = None) -> str:
    """The value of a sysctl, after setting it to VALUE if there is one. NAME with slashes: eth1.5 is one word."""
    if value is not None:
        node.run(["sh", "-c", f"echo {value} > /proc/sys/{name}"])
    return node.run(["cat", f"/proc/sys/{name}"]).stdout.strip()


def ping(node: Node, address: str) -> None:
    """One answer from ADDRESS, sooner or later: ping itself gives up at the first error that comes back."""
    again = 'for _ in 1 2 3 4 5; do ping -n -c 1 -w 10 "$0" && exit; done; ip neigh; ip -6 neigh; exit 1'
    node.run(["sh", "-c", again, address], timeout=2 * PATIENCE)


def no_ping(node: Node, address: str) -> None:
    """No answer from ADDRESS. On a slow machine a late answer goes unnoticed: look at the frames too where you can."""
    done = node.run(["ping", "-n", "-c", "2", "-i", "0.2", "-W", "1", address], check=False)
    assert done.returncode != 0, done.stdout


def octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def ethernet(source: str, destination: str, kind: int, payload: bytes) -> bytes:
    """An Ethernet frame, padded to its least length."""
    return (octets(destination) + octets(source) + kind.to_bytes(2, "big") + payload).ljust(60, b"\0")


def arp(
    source: str,
    sender: str,
    target: str,
    *,
    operation: int = 1,
    destination: str = BROADCAST,
    hardware: str | None = None,
) -> bytes:
    """An ARP frame from the MAC SOURCE (or with HARDWARE as its sender) for the address SENDER, about TARGET."""
    packet = dpkt.arp.ARP(
        op=operation,
        sha=octets(hardware or source),
        spa=IPv4Address(sender).packed,
        tha=octets(NOBODY),
        tpa=IPv4Address(target).packed,
    )
    return ethernet(source, destination, dpkt.ethernet.ETH_TYPE_ARP, bytes(packet))


def udp(
    source: str, destination: str, sender: str, target: str, text: str, *, ports: tuple[int, int] = (4000, 4001)
) -> bytes:
    """A frame with a UDP packet of either IP version that carries TEXT."""
    datagram = dpkt.udp.UDP(sport=ports[0], dport=ports[1], data=text.encode())
    datagram.ulen = len(datagram)
    if ":" in target:
        packet: dpkt.Packet = dpkt.ip6.IP6(
            nxt=17,
            hlim=64,
            src=IPv6Address(sender).packed,
            dst=IPv6Address(target).packed,
            plen=len(datagram),
            data=datagram,
            extension_hdrs={},
            all_extension_headers=[],
        )
        datagram.sum = dpkt.in_cksum(
            IPv6Address(sender).packed
            + IPv6Address(target).packed
            + len(datagram).to_bytes(4, "big")
            + b"\0\0\0\x11"
            + bytes(datagram)
        )
        return ethernet(source, destination, dpkt.ethernet.ETH_TYPE_IP6, bytes(packet))
    packet = dpkt.ip.IP(
        p=17,
        ttl=64,
        src=IPv4Address(sender).packed,
        dst=IPv4Address(target).packed,
        data=datagram,
    )
    packet.len = len(packet)
    return ethernet(source, destination, dpkt.ethernet.ETH_TYPE_IP, bytes(packet))


def arp_of(frame: bytes) -> dpkt.arp.ARP | None:
    """The ARP packet in FRAME, if it is one."""
    packet = dpkt.ethernet.Ethernet(frame)
    return packet.data if isinstance(packet.data, dpkt.arp.ARP) else None
