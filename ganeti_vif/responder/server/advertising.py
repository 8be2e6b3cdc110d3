# SPDX-License-Identifier: BSD-2-Clause
"""Unsolicited router advertisements. Each guest has its own schedule."""

from __future__ import annotations

import heapq
import itertools
import random

from ganeti_vif.responder.server.guests import Guest, Guests

MOST = 64
"""Advertisements in one turn."""
FIRST, INITIAL = 2, 16.0
"""The first advertisements, and the most seconds between them: one may be lost (RFC 4861, 10)."""
SPREAD = 1.0
"""Seconds after our start in which all guests get one: after a restart they have no router until then."""


class Advertisements:
    """The schedule of all GUESTS. BEGAN is our start. All times are seconds of one monotonic clock."""

    def __init__(self, guests: Guests, began: float) -> None:
        self._guests, self._began = guests, began
        self._heap: list[tuple[float, int, Guest]] = []
        self._order = itertools.count()

    @property
    def due(self) -> float:
        """The time of the next advertisement; infinity if none is planned."""
        return self._heap[0][0] if self._heap else float("inf")

    def begin(self, guest: Guest, now: float) -> None:
        """Send GUEST an advertisement soon, because its service began or changed."""
        if guest.service.router6:
            guest.advertisements = 0
            # No delay later: a guest with a new binding may have solicited in vain a moment ago.
            spread = SPREAD if now < self._began + SPREAD else 0.0
            self._plan(guest, now + random.uniform(0, spread))

    def send(self, now: float) -> None:
        """Send the advertisements that are due, MOST at a time."""
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
            # At random, so that guests do not get theirs at once (RFC 4861, 6.2.4).
            self._plan(guest, now + random.uniform(0.75, 1.0) * period)

    def _plan(self, guest: Guest, when: float) -> None:
        guest.next_advertisement = when
        heapq.heappush(self._heap, (when, next(self._order), guest))
