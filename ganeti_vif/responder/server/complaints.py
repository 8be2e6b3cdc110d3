# SPDX-License-Identifier: BSD-2-Clause
"""What the responder has to complain of: a fault that lasts is said once, and a flood of them is cut short."""

from __future__ import annotations

import time
from collections.abc import Iterable

from ganeti_vif.responder.limit import Bucket
from ganeti_vif.system import log

RATE, BURST = 1.0, 20
"""Lines a second, and at once: of what guests cause, and as many of all else."""
GUEST_RATE, GUEST_BURST = 1 / 3600, 3
"""The same of what one guest causes: it can repeat that for as long as it runs."""


class Complaints:
    """`last` is the last complaint, whether it was logged or not."""

    def __init__(self) -> None:
        self.last: str | None = None
        self._lasting: set[str] = set()
        self._own, self._guests = _Budget(), _Budget()
        self._by_guest: dict[str, Bucket] = {}
        """By the names of taps, of which there are not many more than there were guests at one time."""

    def say(self, line: str) -> None:
        """Log LINE."""
        self.last = line
        self._own.say(line)

    def caused(self, guest: str, line: str) -> None:
        """Log LINE, which is what this GUEST does: it uses up nobody else's lines."""
        self.last = line
        bucket = self._by_guest.setdefault(guest, Bucket(GUEST_RATE, GUEST_BURST))
        if bucket.take(time.monotonic()):
            self._guests.say(f"{guest}: {line}")

    def lasting(self, trouble: Iterable[str]) -> None:
        """Log what of all the TROUBLE that there is at this moment is new. What could not be logged is new the next
        time, too."""
        lines = set(trouble)
        said = set()
        for line in sorted(lines - self._lasting):
            self.last = line
            if self._own.say(line):
                said.add(line)
        self._lasting = lines & self._lasting | said


class _Budget:
    """So many lines, and a count of those that were too many."""

    def __init__(self) -> None:
        self._lines = Bucket(RATE, BURST)
        self._unsaid = 0

    def say(self, line: str) -> bool:
        """Log LINE. Returns whether there was room for it."""
        if not self._lines.take(time.monotonic()):
            self._unsaid += 1
            return False
        if self._unsaid:
            log.say(f"responder: {self._unsaid} lines were not logged", log.Level.WARNING)
            self._unsaid = 0
        log.say(f"responder: {line}", log.Level.ERROR)
        return True
