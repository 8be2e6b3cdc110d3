# SPDX-License-Identifier: BSD-2-Clause
"""A node that is measured: with the package, perhaps its daemon, and what can be known of both."""

from __future__ import annotations

import os
import select
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.caller import CONFIG, MODES, Caller, environment
from ganeti_vif.system.inotify import Watch
from tests.lab import Node, Tap, TapHolder, wire

ROOT = Path(__file__).resolve().parent.parent
RECORDS = "/run/ganeti-vif/nics"
MANAGEMENT = "198.51.100.10/24"
PATIENCE = 300.0
"""Seconds for what takes long on a node with thousands of bridges."""
TICKS = os.sysconf("SC_CLK_TCK")
MEBIBYTE = 1 << 20


class Machine:
    """NODE with an uplink to GATEWAY, so many private networks and one public link, all set up.

    Like every Ganeti node it has an address of its own, on another device. Without any the kernel would look for one on
    all devices whenever a route is made or asked for (inet_select_addr() in net/ipv4/devinet.c).
    """

    def __init__(self, node: Node, gateway: Node, bridges: int = 1) -> None:
        self.node = node
        wire(node, "eth0", gateway, "eth1")
        wire(node, "eth1", gateway, "eth0")
        node.run(["ip", "address", "add", MANAGEMENT, "dev", "eth0"])
        node.install(ROOT)
        node.path("/etc/ganeti-vif/ganeti-vif.conf").write_text(CONFIG.format(bridges=bridges))
        node.run(["ganeti-vif", "setup"], timeout=PATIENCE)
        self._daemon: subprocess.Popen[str] | None = None

    # Its NICs

    def records(self) -> set[str]:
        """The taps that there are records of."""
        directory = self.node.path(RECORDS)
        return {one.stem for one in directory.iterdir()} if directory.exists() else set()

    def attach(self, caller: Caller, mode: str, number: int) -> float:
        """Milliseconds that the attach of a fresh tap takes. Afterwards the tap is gone and the node clean."""
        with Tap(self.node) as tap:
            took = caller.call(environment(mode, tap.name, number))
        if not self._daemon:
            self.node.run(["ganeti-vif", "reconcile"])
        self._until_gone({tap.name})
        return took

    def storm(self, taps: list[str], processes: int, first: int, bridges: int = 1) -> float:
        """Seconds that PROCESSES take to attach all TAPS at once, to bridges and routed in turn. Numbers from FIRST."""
        callers = [Caller(self.node) for _ in range(processes)]

        def work(which: int) -> None:
            for place in range(which, len(taps), processes):
                mode, bridge = MODES[place % len(MODES)], f"pvn{place % bridges + 1}"
                callers[which].call(environment(mode, taps[place], first + place, bridge))

        with ThreadPoolExecutor(processes) as threads:
            began = time.monotonic()
            list(threads.map(work, range(processes)))
            return time.monotonic() - began

    def cleanup(self, caller: Caller, mode: str, number: int) -> float:
        """Milliseconds from the last close() of a tap to a clean node. The record goes last of all."""
        tap = Tap(self.node)
        caller.call(environment(mode, tap.name, number))
        with Watch(str(self.node.path(RECORDS))) as watch:
            closing = threading.Thread(target=tap.close)
            began = time.monotonic()
            closing.start()
            while tap.name in self.records():
                assert select.select([watch], [], [], PATIENCE)[0]
                watch.read()
            took = 1000 * (time.monotonic() - began)
            closing.join()
        self._must_be_clean(tap.name, number)
        return took

    def _must_be_clean(self, tap: str, number: int) -> None:
        left = self.node.run(
            ["sh", "-c", "nft list chains; ip route show table all; ip -6 route show table all; ls /var/lib/nfdhcpd"]
        )
        traces = [f'"{tap}', f" {tap} ", f"\n{tap}\n", f"10.77.{number >> 8}.{number & 255} "]
        assert not [trace for trace in traces if trace in left.stdout], left.stdout

    def _until_gone(self, taps: set[str]) -> None:
        with Watch(str(self.node.path(RECORDS))) as watch:
            while taps & self.records():
                assert select.select([watch], [], [], PATIENCE)[0]
                watch.read()

    def release(self, holder: TapHolder) -> None:
        """End all taps of HOLDER, and wait until the daemon has cleared up after them."""
        holder.kill()
        self._until_gone(set(holder.names))

    # Its daemon

    def start(self) -> None:
        """Start the daemon. It is there when it has repaired something."""
        self._daemon = self.node.popen(["ganeti-vifd", "--foreground"])
        self.have_it_look()

    def have_it_look(self) -> None:
        """Let the daemon look at the whole node; returns when it has mended what was broken for that."""
        mtu = self.node.path("/sys/class/net/pvn1/mtu")
        self.node.run(["ip", "link", "set", "pvn1", "mtu", "1400"])
        deadline = time.monotonic() + PATIENCE
        while mtu.read_text() != "1500\n":
            assert time.monotonic() < deadline and self._daemon and self._daemon.poll() is None
            time.sleep(0.1)

    def resident(self) -> float:
        """MiB of memory that the daemon has."""
        assert self._daemon
        pages = int(Path(f"/proc/{self._daemon.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / MEBIBYTE

    def cpu(self) -> float:
        """Seconds of CPU that the daemon and its children have used."""
        assert self._daemon
        fields = Path(f"/proc/{self._daemon.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / TICKS

    def stop(self) -> None:
        """Stop the daemon."""
        assert self._daemon
        self._daemon.terminate()
        self._daemon.communicate(timeout=PATIENCE)
        self._daemon = None
