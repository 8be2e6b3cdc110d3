# SPDX-License-Identifier: BSD-2-Clause
"""Answering ARP probes on the uplinks: somebody asks whether an address is free before he takes it (RFC 5227).

A probe has the sender 0.0.0.0. Linux answers it for its own addresses only, and never by proxy (net/ipv4/arp.c,
arp_process()). For IPv6 the kernel's proxies answer the same question by themselves.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from ganeti_vif.config.model import Config, Public
from ganeti_vif.daemon.owner import owner
from ganeti_vif.daemon.tasks import Defend, Task
from ganeti_vif.daemon.timers import Timers
from ganeti_vif.engine.failure import Failure
from ganeti_vif.kernel import capture_filter, packets
from ganeti_vif.kernel.capture import Capture
from ganeti_vif.nic.announcement import arp_answer, arp_probe
from ganeti_vif.responder.limit import Bucket
from ganeti_vif.system.node import Node

RATE, BURST = 50.0, 100.0
"""Probes in a second, and at once, that are looked at on each uplink. A machine that takes an address sends three. More
than that are lost: a flood must not keep the daemon from its other work."""


@dataclass(slots=True)
class _Ears:
    """What is captured on the uplink of PUBLIC. Nothing is read while PAUSED."""

    public: Public
    capture: Capture
    bucket: Bucket = field(default_factory=lambda: Bucket(RATE, BURST))
    paused: bool = False


class Defence:
    """The uplinks that are listened to. All of it may be lost: then probes are not answered."""

    def __init__(self, node: Node, timers: Timers[Task]) -> None:
        self._node = node
        self._timers = timers
        self._ears: dict[str, _Ears] = {}

    @property
    def descriptors(self) -> list[int]:
        """What to poll for reading."""
        return [ears.capture.fileno() for ears in self._ears.values() if not ears.paused]

    def listen(self, config: Config) -> list[Failure]:
        """Listen on the uplinks of CONFIG, and on no others. Returns why that is not possible on some of them."""
        wanted = {public.name: public for public in config.public if 4 in public.versions}
        for name, ears in list(self._ears.items()):
            if ears.capture.deaf or ears.public != wanted.get(name):
                ears.capture.close()
                del self._ears[name]
        failures = []
        for name in wanted.keys() - self._ears.keys():
            public = wanted[name]
            program = capture_filter.probes([subnet for subnet in public.subnets if isinstance(subnet, IPv4Network)])
            try:
                self._ears[name] = _Ears(public, Capture(public.uplink, capture_filter.ETH_P_ARP, program=program))
            except Failure as failure:
                failures.append(failure)
        return failures

    def hear(self) -> None:
        """Answer the probes that came meanwhile. Raises Failure if an answer cannot be given."""
        for ears in self._ears.values():
            if not ears.paused:
                self._hear(ears)

    def resume(self) -> None:
        """Read again what was too much."""
        for ears in self._ears.values():
            ears.paused = False

    def _hear(self, ears: _Ears) -> None:
        for frame in ears.capture.frames():
            now = time.monotonic()
            if not ears.bucket.take(now):
                ears.paused = True
                self._timers.at(now + ears.bucket.wait(now), Defend())
                return
            probe = arp_probe(frame)
            if probe:
                self._answer(*probe, ears.public)

    def _answer(self, address: IPv4Address, asker: str, public: Public) -> None:
        self._node.forget()
        nic = owner(address, public, self._node)
        uplink = self._node.link(public.uplink)
        # The guest itself asks if it runs elsewhere on this segment by now.
        if nic and asker not in nic.macs and uplink and uplink.mac:
            packets.send(uplink.name, [arp_answer(address, uplink.mac, asker)])
