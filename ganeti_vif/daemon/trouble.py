# SPDX-License-Identifier: BSD-2-Clause
"""What the daemon cannot see or do, and has told no client yet. It is logged once, and is in the daemon's state."""

from __future__ import annotations

from ganeti_vif.engine.failure import Failure, remedy
from ganeti_vif.system import log


class Trouble:
    """What is wrong now, by what it is about."""

    def __init__(self) -> None:
        self._now: dict[str, list[Failure]] = {}

    @property
    def told(self) -> list[dict[str, str]]:
        """What is wrong now and what to do about it, each once: `trouble` in the daemon's state."""
        found = {failure.what: failure.do for failures in self._now.values() for failure in failures}
        return [{"what": what, "do": do} for what, do in found.items()]

    def say(self, about: str, *failures: Failure, quiet: bool = False) -> None:
        """From now on FAILURES, and no others, are wrong with the subject ABOUT. Log those that are new, unless QUIET:
        others decide how many there are."""
        known = {failure.what for others in self._now.values() for failure in others}
        self._now[about] = list(failures)
        for failure in failures:
            if failure.what not in known and not quiet:
                log.say(failure.what, log.Level.ERROR)
                log.say(f"  {remedy(failure.do)}", log.Level.ERROR)

    def over(self, about: str) -> None:
        """Nothing is wrong with that any more."""
        self._now.pop(about, None)
