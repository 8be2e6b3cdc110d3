# SPDX-License-Identifier: BSD-2-Clause
"""Claims: a capture in the switch that tells which node speaks for a guest, in the order of the frames."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address

from tests.lab import PacketSocket

from .member import Member
from .site import GATEWAY, Site

ARP, IPV4, IPV6 = b"\x08\x06", b"\x08\x00", b"\x86\xdd"
VXLAN_PORT = 4789
BROADCAST = b"\xff" * 6
INTERVAL = 0.02


def arp_request(source: bytes, sender: str, target: str) -> bytes:
    """An Ethernet broadcast from the MAC SOURCE: SENDER asks who has TARGET."""
    body = bytes.fromhex("0001 0800 06 04 0001") + source + IPv4Address(sender).packed + bytes(6)
    return (BROADCAST + source + ARP + body + IPv4Address(target).packed).ljust(60, b"\0")


def claimed(frame: bytes) -> str | None:
    """The address that the sender of FRAME says is its own: an ARP sender (RFC 826), or an advertised target (RFC 4861)."""
    if frame[12:14] == ARP:
        return str(IPv4Address(frame[28:32]))
    if frame[12:14] == IPV6 and frame[20] == 58 and frame[54:55] == b"\x88":
        return str(IPv6Address(frame[62:78]))
    return None


def inner(frame: bytes) -> bytes:
    """The Ethernet frame that FRAME carries in VXLAN (RFC 7348), or nothing."""
    if frame[12:14] != IPV4 or frame[23] != 17:
        return b""
    udp = 14 + (frame[14] & 15) * 4
    return frame[udp + 16 :] if int.from_bytes(frame[udp + 2 : udp + 4], "big") == VXLAN_PORT else b""


class Claims:
    """Listens on both of the switch's networks until the `with` block ends, and keeps asking for ASKED meanwhile.

    On the public link a node speaks for a guest's addresses; on a private network the guest itself speaks, and the
    node is the one whose VXLAN the frame comes out of.
    """

    def __init__(self, site: Site, members: Sequence[Member], *asked: str) -> None:
        self._asked = asked
        self._gateway = site.gateway
        self._names = {
            bytes.fromhex(member.do("cat", f"/sys/class/net/{cable}/address").strip().replace(":", "")): member.name
            for member in members
            for cable in ("eth0", "eth1")
        }
        self._heard: list[tuple[float, str, str]] = []
        self._stop = threading.Event()
        with contextlib.ExitStack() as stack:
            public = stack.enter_context(PacketSocket(site.switch, "public"))
            private = stack.enter_context(PacketSocket(site.switch, "management"))
            self._mouth = stack.enter_context(PacketSocket(site.gateway, "eth0"))
            self._kept = stack.pop_all()
        self._threads = [
            threading.Thread(target=self._listen, args=(public, False)),
            threading.Thread(target=self._listen, args=(private, True)),
            threading.Thread(target=self._ask),
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Claims:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._kept.close()

    def of(self, who: str) -> list[str]:
        """The nodes that spoke for a public address, or carried frames of a private MAC; each as often as it changed."""
        found: list[str] = []
        for _, claim, node in list(self._heard):
            if claim == who and found[-1:] != [node]:
                found.append(node)
        return found

    def overlap_ms(self, who: str, source: Member, target: Member) -> float:
        """For how long SOURCE went on to speak for WHO after TARGET had begun to; 0 if it did not."""
        spoke = {
            node.name: [at for at, claim, name in self._heard if (claim, name) == (who, node.name)]
            for node in (source, target)
        }
        return round(1000 * max(0.0, max(spoke[source.name]) - min(spoke[target.name])), 1)

    def wait(self, who: str, node: Member, *, timeout: float = 120) -> None:
        """Return when NODE was the last to speak for WHO."""
        deadline = time.monotonic() + timeout
        while self.of(who)[-1:] != [node.name]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{node} does not speak for {who}: {self.of(who)}")
            self._stop.wait(INTERVAL)

    def _listen(self, ears: PacketSocket, private: bool) -> None:
        while not self._stop.is_set():
            frame = ears.receive(0.1)
            if frame is None or (node := self._names.get(frame[6:12])) is None:
                continue
            claim = inner(frame)[6:12].hex(":") if private else claimed(frame)
            if claim:
                self._heard.append((time.monotonic(), claim, node))

    def _ask(self) -> None:
        source = bytes.fromhex(self._gateway.path("/sys/class/net/eth0/address").read_text().strip().replace(":", ""))
        while not self._stop.wait(INTERVAL):
            for address in self._asked:
                self._mouth.send(arp_request(source, GATEWAY, address))
