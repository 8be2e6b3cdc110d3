# SPDX-License-Identifier: BSD-2-Clause
"""The responder's complaints in the log. It logs a lasting fault once, and limits the number of lines."""

from __future__ import annotations

import time
from collections.abc import Iterable

from ganeti_vif.responder.limit import Bucket
from ganeti_vif.system import log

RATE, BURST = 1.0, 20
"""Lines a second, and lines at once: for what guests cause, and the same again for everything else."""
GUEST_RATE, GUEST_BURST = 1 / 3600, 3
"""The same limit for what one guest causes: a guest can repeat it as long as it runs."""


class Complaints:
    """`last` is the last complaint, whether it was logged or not."""

    def __init__(self) -> None:
        self.last: str | None = None
        self._lasting: set[str] = set()
        self._own, self._guests = _Budget(), _Budget()
        self._by_guest: dict[str, Bucket] = {}
        """By tap name. Names are used again, so there are not many more than guests at one time."""

    def say(self, line: str) -> None:
        """Log LINE."""
        self.last = line
        self._own.say(line)

    def caused(self, guest: str, line: str) -> None:
        """Log LINE, which GUEST causes. It has its own limit, so that it does not use up the lines of others."""
        self.last = line
        bucket = self._by_guest.setdefault(guest, Bucket(GUEST_RATE, GUEST_BURST))
        if bucket.take(time.monotonic()):
            self._guests.say(f"{guest}: {line}")

    def lasting(self, trouble: Iterable[str]) -> None:
        """Log the new lines of TROUBLE, which is all present trouble. A line over the limit counts as new next time."""
        lines = set(trouble)
        said = set()
        for line in sorted(lines - self._lasting):
            self.last = line
            if self._own.say(line):
                said.add(line)
        self._lasting = lines & self._lasting | said


class _Budget:
    """A limit of lines, and a count of the lines over it."""

    def __init__(self) -> None:
        self._lines = Bucket(RATE, BURST)
        self._unsaid = 0

    def say(self, line: str) -> bool:
        """Log LINE. Returns False if it is over the limit."""
        if not self._lines.take(time.monotonic()):
            self._unsaid += 1
            return False
        if self._unsaid:
            log.say(f"responder: {self._unsaid} lines were not logged", log.Level.WARNING)
            self._unsaid = 0
        log.say(f"responder: {line}", log.Level.ERROR)
        return True
