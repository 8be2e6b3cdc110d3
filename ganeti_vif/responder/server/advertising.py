# SPDX-License-Identifier: BSD-2-Clause
"""Router advertisements that nobody asked for, to each guest in its own time."""

from __future__ import annotations

import heapq
import itertools
import random

from ganeti_vif.responder.server.guests import Guest, Guests

MOST = 64
"""Advertisements in one turn."""
FIRST, INITIAL = 2, 16.0
"""So many advertisements are followed by another within so many seconds, as the first may be lost (RFC 4861, 10)."""
SPREAD = 1.0
"""Seconds within which all guests hear of us after our start (a restart has told them that their router is gone)."""


class Advertisements:
    """Those of GUESTS, from BEGAN on: seconds of the clock whose moments the methods are told."""

    def __init__(self, guests: Guests, began: float) -> None:
        self._guests, self._began = guests, began
        self._heap: list[tuple[float, int, Guest]] = []
        self._order = itertools.count()

    @property
    def due(self) -> float:
        """When the next one is; infinity if none is planned."""
        return self._heap[0][0] if self._heap else float("inf")

    def begin(self, guest: Guest, now: float) -> None:
        """GUEST, whose service began or changed, hears of its router soon."""
        if guest.service.router6:
            guest.advertisements = 0
            # A guest whose binding is new may have asked in vain a moment ago.
            spread = SPREAD if now < self._began + SPREAD else 0.0
            self._plan(guest, now + random.uniform(0, spread))

    def send(self, now: float) -> None:
        """Send what is due, a few at a time."""
        for _ in range(MOST):
            if self.due > now:
                return
            when, _, guest = heapq.heappop(self._heap)
            router = guest.service.router6
            current = self._guests.served.get(guest.name) is guest and guest.next_advertisement == when
            if not current or router is None:
                continue
            guest.send(router.advertised(), "router_advertisement")
            period = float(guest.service.ra_period)
            if guest.advertisements < FIRST:
                period = min(INITIAL, period)
            guest.advertisements += 1
            # Not all at once, and never in step (RFC 4861, 6.2.4).
            self._plan(guest, now + random.uniform(0.75, 1.0) * period)

    def _plan(self, guest: Guest, when: float) -> None:
        guest.next_advertisement = when
        heapq.heappush(self._heap, (when, next(self._order), guest))
