# SPDX-License-Identifier: BSD-2-Clause
"""Announcing all NICs of a public link again, one after the other: the uplink has another MAC, its cable another end.

The neighbours would find that out by themselves, but only when what they know is too old: a Linux router after 24 s
(IPv4) and 40 s (IPv6), other routers after hours.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from ganeti_vif.daemon.tasks import ROUNDS, Proceed, Task
from ganeti_vif.daemon.timers import Timers
from ganeti_vif.lifecycle.announce import PACE
from ganeti_vif.nic.nic import Nic


@dataclass(slots=True)
class _Round:
    """The NICs that are still to be announced, when the rounds after this one begin, and from when on the next NIC may
    be announced."""

    waiting: deque[Nic] = field(default_factory=deque)
    later: deque[float] = field(default_factory=deque)
    pace: float = 0.0


class Rounds:
    """The rounds that are under way, by public link. NICS gives the NICs of a link, ANNOUNCE announces one of them.

    Never more than one NIC in PACE seconds and link, however often an uplink changes: a round that is under way comes
    to its end, and another one follows.
    """

    def __init__(self, timers: Timers[Task], nics: Callable[[str], list[Nic]], announce: Callable[[Nic], None]) -> None:
        self._timers = timers
        self._nics = nics
        self._announce = announce
        self._rounds: dict[str, _Round] = {}

    def begin(self, link: str, now: float) -> None:
        """Announce all NICs of LINK, now and again after each of ROUNDS."""
        found = self._rounds.setdefault(link, _Round())
        found.later = deque(now + after for after in ROUNDS)
        self._timers.at(max(now, found.pace), Proceed(link))

    def proceed(self, link: str, now: float) -> None:
        """Announce the next NIC of LINK. Raises Failure if the records cannot be read; then LINK has no more rounds."""
        found = self._rounds.pop(link, None)
        if found is None:
            return
        if not found.waiting:
            if found.later[0] > now:
                self._go_on(link, found, found.later[0])
                return
            found.later.popleft()
            found.waiting.extend(self._nics(link))
        if found.waiting:
            self._announce(found.waiting.popleft())
            found.pace = now + PACE
        if found.waiting:
            self._go_on(link, found, found.pace)
        elif found.later:
            self._go_on(link, found, max(found.pace, found.later[0]))

    def _go_on(self, link: str, found: _Round, when: float) -> None:
        self._rounds[link] = found
        self._timers.at(when, Proceed(link))
