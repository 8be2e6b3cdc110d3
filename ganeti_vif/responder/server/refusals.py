# SPDX-License-Identifier: BSD-2-Clause
"""What guests send from IPv6 addresses that they may not have: the daemon is told of it, and then the guest.

An address in the prefix of the guest's network may become its own: the daemon asks the neighbours (RFC 6620, 3.2.3, the
data trigger). So the guest is told of no refusal before the daemon had the time for that.

The socket's filter passes only packets from addresses that the guest may not have. If there are more of them than can
be answered, the filter passes none for a while. So a guest that sends a million a second costs this process no more
than one that sends five, and its own DHCP requests do not wait behind them.
"""

from __future__ import annotations

import heapq
import itertools
from ipaddress import IPv6Address

from ganeti_vif.responder.limit import Bucket
from ganeti_vif.responder.refusal import error, refused
from ganeti_vif.responder.server.claims import Claims
from ganeti_vif.responder.server.guests import Guest

RATE, BURST = 5.0, 20
"""Packets of one guest that are looked at, each second and at once. A program sends one and waits."""
ALL_RATE, ALL_BURST = 200.0, 400
"""ICMPv6 errors to all guests."""
SETTLED = 0.9
"""Seconds until the daemon has decided about an address: it asks the neighbours for half a second. TCP repeats its
first packet after a second (RFC 6298), and that is answered."""
MOST = 64
"""Addresses of one guest whose first packet is remembered for that."""


class Refusals:
    """What was heard of all guests. All of it may be lost."""

    def __init__(self, claims: Claims) -> None:
        self._claims = claims
        self._all = Bucket(ALL_RATE, ALL_BURST)
        self._deaf: list[tuple[float, int, Guest]] = []
        self._order = itertools.count()

    @property
    def due(self) -> float:
        """The time at which resume() is to be called; infinity if there is nothing to do."""
        return self._deaf[0][0] if self._deaf else float("inf")

    def hear(self, guest: Guest, frame: bytes, now: float) -> None:
        """Answer FRAME, a packet of GUEST's own traffic, if its source is refused."""
        if guest.refusals is None:
            guest.refusals = Bucket(RATE, BURST)
        if not guest.refusals.take(now):
            guest.tally["refusals_limited"] += 1
            if guest.listens:
                guest.listen(own=False)
                heapq.heappush(self._deaf, (now + guest.refusals.wait(now), next(self._order), guest))
            return
        source = refused(frame, guest.service)
        if source is None:
            return  # it was captured before the filter changed, or comes from a group
        self._claims.say(guest, source, now)
        if not self._is_settled(guest, source, now):
            guest.tally["refusal_delayed"] += 1
        elif self._all.take(now):
            guest.send(error(frame, guest.service), "address_refused")
        else:
            guest.tally["refusals_limited"] += 1

    def _is_settled(self, guest: Guest, source: bytes, now: float) -> bool:
        """Whether GUEST may be told that SOURCE is refused."""
        prefix = guest.service.prefix6
        if prefix is None or IPv6Address(source) not in prefix:
            return True
        if source not in guest.used and len(guest.used) >= MOST:
            guest.used.clear()
        return now >= guest.used.setdefault(source, now) + SETTLED

    def resume(self, now: float) -> None:
        """Listen to the guests again that had sent too much."""
        while self.due <= now:
            _, _, guest = heapq.heappop(self._deaf)
            guest.listen(own=True)
