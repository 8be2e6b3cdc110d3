"""The wish of somebody that a run ends before it is done: Ctrl-C, `kill`, a terminal that is gone.

A change that is being made is made to its end, and so is the taking back of changes; between two changes the run
ends. So what is done is always known. The signals themselves: system/signals.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Interrupted(BaseException):
    """This run ends because of SIGNAL (its name). No Exception: nobody goes on after it by mistake."""

    def __init__(self, signal: str) -> None:
        super().__init__(signal)
        self.signal = signal


class Run:
    """This process, as far as it can be interrupted. STANDING is how many changes it made that stay made."""

    def __init__(self) -> None:
        self.standing = 0
        self._wish: str | None = None
        self._busy = 0

    def end(self, signal: str) -> None:
        """Somebody wants the end. Raises Interrupted, unless changes are being made: then due() does so."""
        self._wish = signal
        if not self._busy:
            raise Interrupted(signal)

    def due(self) -> None:
        """A good moment for the end. Raises Interrupted if somebody wants it."""
        if self._wish:
            raise Interrupted(self._wish)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Changes are being made or taken back: only due() ends the run meanwhile."""
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1


RUN = Run()
"""Signals are for a process, so there is one of it."""
