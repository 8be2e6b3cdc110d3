# SPDX-License-Identifier: BSD-2-Clause
"""Instances as Ganeti runs them: a real QEMU that has taps, and the files that Ganeti keeps of it.

Files and names: ganeti lib/hypervisor/hv_kvm/__init__.py:213-228, 856-869, 1732-1744 and 1915-2042 at 3.0.2. What Ganeti's
own script does to a tap: tools/net-common.in:57-64, 141-156 and 179-210.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from tests.lab import PATIENCE, Guest, Image, Node, Tap

from .actions import ip, link, sysctl

DIRECTORY = "/run/ganeti/kvm-hypervisor"


def netdev(environment: Mapping[str, str]) -> str:
    """What QEMU calls the NIC of that environment: at most 30 characters of its UUID fit."""
    return "nic-" + "-".join(environment["INTERFACE_UUID"].split("-")[:3])


def entry(environment: Mapping[str, str]) -> dict[str, Any]:
    """The NIC of that environment as a runtime file has it."""
    nic: dict[str, Any] = {
        "mac": environment["MAC"],
        "nicparams": {"mode": environment["MODE"], "link": environment["LINK"], "vlan": environment.get("VLAN", "")},
        "hvinfo": {"driver": "virtio-net-pci", "id": netdev(environment), "bus": "pci.0", "addr": "0xc"},
        "uuid": environment["INTERFACE_UUID"],
    }
    nic |= {"ip": environment["IP"]} if "IP" in environment else {}
    if "NETWORK_UUID" in environment:
        keys = {
            "NETWORK_NAME": "name",
            "NETWORK_UUID": "uuid",
            "NETWORK_SUBNET": "network",
            "NETWORK_GATEWAY": "gateway",
            "NETWORK_SUBNET6": "network6",
            "NETWORK_GATEWAY6": "gateway6",
        }
        nic["netinfo"] = {key: environment[name] for name, key in keys.items() if name in environment}
        nic["netinfo"]["tags"] = environment.get("NETWORK_TAGS", "").split()
        nic["network"] = environment["NETWORK_UUID"]
    return nic


class Instance:
    """A running instance. Without an IMAGE its QEMU has no guest in it, which is enough to hold taps."""

    def __init__(
        self,
        node: Node,
        name: str,
        nics: Sequence[tuple[Tap, Mapping[str, str]]],
        image: Image | None = None,
        *qemu_args: str,
        nic_files: bool = True,
    ) -> None:
        self.node, self.name = node, name
        for directory in ("conf", "pid", "ctrl", f"nic/{name}"):
            node.path(f"{DIRECTORY}/{directory}").mkdir(parents=True, exist_ok=True)
        self.write([environment for _, environment in nics])
        ids = [netdev(environment) for _, environment in nics]
        arguments = ["-pidfile", f"{DIRECTORY}/pid/{name}", "-qmp", f"unix:{self.control},server,nowait", *qemu_args]
        cards = [(tap, environment["MAC"]) for tap, environment in nics]
        self.guest: Guest | None = None
        if image:
            self.guest = Guest(node, name, image, cards, ids=ids, qemu_args=arguments)
            self.guest.wait_ready()
        else:
            self._bare(cards, ids, arguments)
        for number, (tap, _) in enumerate(nics if nic_files else []):
            self.name_tap(number, tap.name)

    def name_tap(self, number: int, tap: str) -> None:
        """Write the nic file NUMBER, as Ganeti does after it has started QEMU: beside, and renamed."""
        path = self.node.path(f"{DIRECTORY}/nic/{self.name}/{number}")
        beside = path.with_name(f"{number}.new")
        beside.write_text(tap)
        beside.rename(path)

    def _bare(self, cards: Sequence[tuple[Tap, str]], ids: Sequence[str], arguments: Sequence[str]) -> None:
        argv = ["qemu-system-x86_64", "-name", self.name, "-machine", "pc", "-accel", "tcg", "-m", "32", "-nodefaults"]
        argv += ["-no-user-config", "-display", "none", "-S", "-daemonize", *arguments]
        for (tap, mac), card in zip(cards, ids, strict=True):
            argv += ["-netdev", f"type=tap,id={card},fd={tap.fd}"]
            argv += ["-device", f"virtio-net-pci,id={card},netdev={card},mac={mac},romfile="]
        # Its first process ends when the second is ready.
        with self.node.popen(argv, pass_fds=[tap.fd for tap, _ in cards]) as starter:
            _, stderr = starter.communicate(timeout=PATIENCE)
        assert starter.returncode == 0, stderr
        for tap, _ in cards:
            tap.hand_over()

    @property
    def control(self) -> str:
        return f"{DIRECTORY}/ctrl/{self.name}.qmp"

    def write(self, nics: Sequence[Mapping[str, str]]) -> None:
        """Write the runtime file, with these NICs in this order."""
        path = self.node.path(f"{DIRECTORY}/conf/{self.name}.runtime")
        path.write_text(json.dumps([["/usr/bin/kvm"], [entry(nic) for nic in nics], {"use_chroot": False}, []]))

    def crash(self) -> None:
        """Kill its QEMU, which leaves all files."""
        handle = os.pidfd_open(int(self.node.path(f"{DIRECTORY}/pid/{self.name}").read_text()))
        try:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            assert select.select([handle], [], [], PATIENCE)[0], "it does not die"
        finally:
            os.close(handle)

    def hot_add(self, tap: Tap, environment: Mapping[str, str]) -> None:
        """Plug a NIC in, as QmpConnection.HotAddNic does; the runtime file is the caller's business."""
        card = netdev(environment)
        device = {"driver": "virtio-net-pci", "id": card, "netdev": card, "mac": environment["MAC"], "romfile": ""}
        with self._qmp() as qmp:
            qmp.do("getfd", {"fdname": card}, tap.fd)
            qmp.do("netdev_add", {"type": "tap", "id": card, "fd": card})
            qmp.do("device_add", device)
        tap.hand_over()

    def hot_remove(self, environment: Mapping[str, str]) -> None:
        """Unplug a NIC whose guest does not object."""
        card = netdev(environment)
        with self._qmp() as qmp:
            qmp.do("device_del", {"id": card})
            # A guest that has not booted answers no ACPI request; a reset completes it.
            qmp.do("system_reset", {})
            qmp.wait("DEVICE_DELETED")
            qmp.do("netdev_del", {"id": card})

    def _qmp(self) -> Qmp:
        return Qmp(str(self.node.path(self.control)))


class Qmp:
    """A conversation with a monitor. While it lasts, nobody else gets an answer there."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE)
        self._socket.connect(path)
        self._lines = self._socket.makefile("rb")
        self._events: list[str] = []
        assert "QMP" in json.loads(self._lines.readline())
        self.do("qmp_capabilities", {})

    def __enter__(self) -> Qmp:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._socket.close()

    def do(self, command: str, arguments: Mapping[str, Any], *descriptors: int) -> Any:
        question = json.dumps({"execute": command, "arguments": arguments}).encode()
        socket.send_fds(self._socket, [question], descriptors)
        while "event" in (answer := json.loads(self._lines.readline())):
            self._events.append(answer["event"])
        assert "return" in answer, answer
        return answer["return"]

    def wait(self, event: str) -> None:
        while event not in self._events:
            answer = json.loads(self._lines.readline())
            self._events.append(answer.get("event", ""))


def attach_as_ganeti_does(node: Node, environment: Mapping[str, str], table: str = "222") -> None:
    """What Ganeti's own kvm-ifup does to a tap that is routed or bridged."""
    tap = environment["INTERFACE"]
    if environment["MODE"] == "routed":
        ip(node, f"link set {tap} up", f"rule add dev {tap} table {table}")
        ip(node, f"route replace {environment['IP']} table {table} proto static dev {tap}")
        for switch in ("ipv4/conf/{}/proxy_arp", "ipv4/conf/{}/forwarding", "ipv6/conf/{}/proxy_ndp"):
            sysctl(node, f"net/{switch.format(tap)}", "1")
    else:
        address = link(node, tap)["address"]
        ip(node, f"link set {tap} address fe{address[2:]}", f"link set {tap} up", f"link set {tap} mtu 1500")
        ip(node, f"link set {tap} master {environment['LINK']}")
