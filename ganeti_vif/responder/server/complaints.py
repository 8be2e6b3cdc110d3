# SPDX-License-Identifier: BSD-2-Clause
"""What the responder has to complain of: a fault that lasts is said once, and a flood of them is cut short."""

from __future__ import annotations

import time
from collections.abc import Iterable

from ganeti_vif.responder.limit import Bucket
from ganeti_vif.system import log

RATE, BURST = 1.0, 20
"""Lines a second, and at once."""


class Complaints:
    """`last` is the last complaint, whether it was logged or not."""

    def __init__(self) -> None:
        self.last: str | None = None
        self._lasting: set[str] = set()
        self._lines = Bucket(RATE, BURST)
        self._unsaid = 0

    def say(self, line: str) -> None:
        """Log LINE."""
        self.last = line
        if not self._lines.take(time.monotonic()):
            self._unsaid += 1
            return
        if self._unsaid:
            log.say(f"responder: {self._unsaid} lines were not logged", log.Level.WARNING)
            self._unsaid = 0
        log.say(f"responder: {line}", log.Level.ERROR)

    def lasting(self, trouble: Iterable[str]) -> None:
        """Log what of all the TROUBLE that there is at this moment is new."""
        lines = set(trouble)
        for line in sorted(lines - self._lasting):
            self.say(line)
        self._lasting = lines
