# SPDX-License-Identifier: BSD-2-Clause
"""Answering neighbour solicitations on the uplinks for the prefixes that NICs have alone (desired/own_prefix.py).

The kernel answers for single addresses only, by its neighbour proxies. It does so for the address that SLAAC makes of
the NIC's MAC, also while no daemon runs; here all others of the prefix are answered for. The solicitation is sent to
one of 2^24 groups, so the card of the uplink must pass all groups.

A guest that moves tells by neighbour advertisements which addresses it has (Linux does, when QEMU says that it moved).
The neighbours hear them no further than the tap, so they are repeated on the uplink.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_network

from ganeti_vif.config.model import Config, Public
from ganeti_vif.daemon.tasks import Solicit, Task
from ganeti_vif.daemon.timers import Timers
from ganeti_vif.desired import routed
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.marks import PROTOCOL
from ganeti_vif.kernel import capture_filter, packets
from ganeti_vif.kernel.capture import Capture
from ganeti_vif.lifecycle.recorded import answering_nic
from ganeti_vif.nic.announcement import Solicitation, announcements, neighbour_answer, solicitation
from ganeti_vif.nic.identity import has_tap
from ganeti_vif.nic.nic import Nic
from ganeti_vif.responder.limit import Bucket
from ganeti_vif.system import records
from ganeti_vif.system.node import Node

RATE, BURST = 2000.0, 4000.0
"""Solicitations in a second, and at once, that are read on each uplink. More than that wait, and are lost in a
flood."""
ANSWERS, MOST_ANSWERS = 200.0, 400.0
"""Those of them that are looked into, in a second and at once: each takes the daemon a millisecond."""
NIC_RATE, NIC_BURST = 20.0, 100.0
"""The same for one prefix. Somebody may scan it: that must not keep others from their answers."""
YOUNG = 60.0
"""Seconds after a NIC came to this node in which its guest's own advertisements are repeated on the uplink."""
MOST = 4096
"""Prefixes whose answers are counted. If there are more, the count begins again."""


@dataclass(slots=True)
class _Ears:
    """What is captured on the uplink of PUBLIC. Nothing is read while PAUSED."""

    public: Public
    capture: Capture
    bucket: Bucket = field(default_factory=lambda: Bucket(RATE, BURST))
    answers: Bucket = field(default_factory=lambda: Bucket(ANSWERS, MOST_ANSWERS))
    paused: bool = False


class Solicitations:
    """The uplinks that are listened to. All of it may be lost: then only the kernel's proxies answer."""

    def __init__(self, node: Node, timers: Timers[Task]) -> None:
        self._node, self._timers = node, timers
        self._ears: dict[str, _Ears] = {}
        self._buckets: dict[bytes, Bucket] = {}

    @property
    def descriptors(self) -> list[int]:
        """What to poll for reading."""
        return [ears.capture.fileno() for ears in self._ears.values() if not ears.paused]

    def listen(self, config: Config) -> list[Failure]:
        """Listen on the uplinks of CONFIG, and on no others. Returns why that is not possible on some of them."""
        wanted = {public.name: public for public in config.public if public.pool6}
        for name, ears in list(self._ears.items()):
            if ears.capture.deaf or ears.public != wanted.get(name):
                ears.capture.close()
                del self._ears[name]
        failures = []
        for name in wanted.keys() - self._ears.keys():
            public = wanted[name]
            assert public.pool6
            program = capture_filter.solicitations(public.pool6)
            try:
                capture = Capture(public.uplink, capture_filter.ETH_P_IPV6, program=program, all_groups=True)
                self._ears[name] = _Ears(public, capture)
            except Failure as failure:
                failures.append(failure)
        return failures

    def hear(self) -> None:
        """Answer the solicitations that came meanwhile. Raises Failure if an answer cannot be given."""
        for ears in self._ears.values():
            if not ears.paused:
                self._hear(ears)

    def resume(self) -> None:
        """Read again what was too much."""
        for ears in self._ears.values():
            ears.paused = False

    def moved(self, nic: Nic, address: IPv6Address, config: Config) -> None:
        """The guest of NIC says that it has ADDRESS. If that is in its own prefix, and NIC is YOUNG here, tell the
        neighbours on the uplink. Raises Failure if that cannot be done."""
        public = config.public_link(nic.link)
        if nic.prefix6 is None or address not in nic.prefix6 or public is None:
            return
        if records.age(nic.tap) > YOUNG or not self._may_answer(address):
            return
        self._node.forget()
        uplink = self._node.link(public.uplink)
        if uplink and uplink.mac:
            packets.send(uplink.name, announcements([address], uplink.mac))

    def _hear(self, ears: _Ears) -> None:
        for frame in ears.capture.frames():
            now = time.monotonic()
            if not ears.bucket.take(now):
                ears.paused = True
                self._timers.at(now + ears.bucket.wait(now), Solicit())
                return
            question = solicitation(frame)
            if question and self._may_answer(question.target) and ears.answers.take(now):
                self._answer(question, ears.public)

    def _may_answer(self, address: IPv6Address) -> bool:
        if len(self._buckets) > MOST:
            self._buckets.clear()
        bucket = self._buckets.setdefault(address.packed[:8], Bucket(NIC_RATE, NIC_BURST))
        return bucket.take(time.monotonic())

    def _answer(self, question: Solicitation, public: Public) -> None:
        self._node.forget()
        nic = self._owner(question.target, public)
        uplink = self._node.link(public.uplink)
        # The guest itself asks if it is on this segment by now.
        if nic is None or uplink is None or not uplink.mac or question.mac in nic.macs:
            return
        # The kernel's proxies answer what is asked of all. A question to this node alone is to be forwarded, for them
        # (net/ipv6/ip6_output.c, ip6_forward_proxy_check(): conf/all/proxy_ndp).
        if not (question.to_group and question.target in routed.addresses(nic)):
            packets.send(uplink.name, [neighbour_answer(question, uplink.mac)])

    def _owner(self, address: IPv6Address, public: Public) -> Nic | None:
        """The NIC of this node in whose own prefix ADDRESS is, if this node answers for it."""
        for route in self._node.routes_over([ip_network(address)], public.table, public.mark):
            if route.protocol == PROTOCOL and route.device not in (None, public.uplink):
                nic = answering_nic(route.device or "")
                own = nic is not None and nic.prefix6 is not None and address in nic.prefix6
                named = nic is not None and nic.link in (public.name, str(public.table))
                if nic and own and named and has_tap(nic, self._node.link(nic.tap)):
                    return nic
        return None
