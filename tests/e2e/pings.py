# SPDX-License-Identifier: BSD-2-Clause
"""Pings at 10 ms intervals, from the gateway to a guest and from a guest to the gateway, and what of them got lost."""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass

from tests.lab import Node

from .console import Console

INTERVAL = 0.01
ECHO_REQUEST, ECHO_REPLY = 8, 0
FLOW = 20
"""So many answers in a row are a path that works."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Of a stretch of pings: how many were not answered, and for how long none was, in milliseconds."""

    lost: int
    gap_ms: float


def checksum(data: bytes) -> int:
    """RFC 1071; DATA of even length."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class FromNode:
    """A node pings a guest, by a clock that stands still for nobody."""

    def __init__(self, node: Node, address: str, number: int) -> None:
        """NUMBER tells this pinger's echoes from those of others on the same node."""
        self._address, self._number = address, number
        self._socket = node.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
        self._socket.settimeout(0.1)
        self._sent: dict[int, float] = {}
        self._answered: set[int] = set()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send), threading.Thread(target=self._receive)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        sequence, due = 0, time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            sequence, due = sequence + 1, due + INTERVAL
            head = struct.pack("!BBHHHd", ECHO_REQUEST, 0, 0, self._number, sequence & 0xFFFF, float(sequence))
            packet = head[:2] + struct.pack("!H", checksum(head)) + head[4:]
            self._sent[sequence] = time.monotonic()
            try:
                self._socket.sendto(packet, (self._address, 0))
            except OSError:
                continue  # no neighbour just now: lost like any other

    def _receive(self) -> None:
        while not self._stop.is_set():
            try:
                packet, (sender, _) = self._socket.recvfrom(2048)
            except TimeoutError:
                continue
            icmp = packet[(packet[0] & 15) * 4 :]
            if icmp[0] == ECHO_REPLY and sender == self._address and len(icmp) >= 16:
                _, _, _, number, _, sequence = struct.unpack("!BBHHHd", icmp[:16])
                if number == self._number:
                    self._answered.add(int(sequence))

    def flowing(self) -> bool:
        """Whether the latest pings are answered."""
        last = len(self._sent) - 10
        return last > FLOW and self._answered.issuperset(range(last - FLOW, last))

    def stop(self) -> Loss:
        """End it. The last pings, which may still be under way, do not count."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._socket.close()
        return loss(self._sent, self._answered)


def loss(sent: dict[int, float], answered: Collection[int]) -> Loss:
    """Of what was SENT, each with its time in seconds, up to the last that was ANSWERED."""
    counted = sorted(number for number in sent if number <= max(answered, default=0))
    ends = [sent[number] for number in counted if number in answered]
    gaps = [later - earlier for earlier, later in zip(ends, ends[1:], strict=False)]
    return Loss(lost=sum(number not in answered for number in counted), gap_ms=round(1000 * max(gaps, default=0.0), 1))


class FromGuest:
    """A guest pings a node, by its own clock: while it is stopped for the last copy of its memory it sends nothing."""

    def __init__(self, console: Console, address: str) -> None:
        self._log = f"/tmp/pings.{address}"
        # Two forks: the agent's shell must not be the one to whom its end is told (see image/init).
        console.run(f"( ping -i {INTERVAL} {address} > {self._log} 2>&1 & echo $! > {self._log}.pid )")

    def flowing(self, console: Console) -> bool:
        """Whether the guest gets answers now: more of them at a second look."""
        count = f"grep -c seq= {self._log}"
        first = int(console.run(count, check=False).output or 0)
        return int(console.run(f"sleep 0.5; {count}", check=False).output or 0) >= first + FLOW

    def condition(self, console: Console) -> str:
        """Whether it still runs, and what it said last."""
        runs = console.run(f"kill -0 $(cat {self._log}.pid) && echo runs", check=False).output.strip()
        return (
            f"{self._log}: {runs or 'has ended'}: {console.run(f'tail -n 2 {self._log}', check=False).output.strip()}"
        )

    def stop(self, console: Console) -> Loss:
        """End it and count, in the guest's own time: a ping every 10 ms."""
        console.run(f"kill -INT $(cat {self._log}.pid)")
        text = console.run(f"grep -o 'seq=[0-9]*' {self._log}; rm {self._log}*").output
        answered = {int(number) for number in re.findall(r"seq=(\d+)", text)}
        sent = {number: number * INTERVAL for number in range(max(answered, default=0) + 1)}
        return loss(sent, answered)
