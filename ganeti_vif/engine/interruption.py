# SPDX-License-Identifier: BSD-2-Clause
"""Interrupting a run: by Ctrl-C, by `kill`, or because its terminal is lost.

The run ends between two changes. A change that has begun is completed, and so is the undoing of changes. So it is
always known which changes were made. The signals themselves are in system/signals.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Interrupted(BaseException):
    """This run ends because of SIGNAL (its name). It is no Exception: `except Exception` does not catch it."""

    def __init__(self, signal: str) -> None:
        super().__init__(signal)
        self.signal = signal


class Run:
    """The interruptible run of this process. STANDING is the number of its changes that stay made."""

    def __init__(self) -> None:
        self.standing = 0
        self._wish: str | None = None
        self._busy = 0

    def end(self, signal: str) -> None:
        """Ask for the end of the run. Raises Interrupted if no changes are being made; else due() raises it later."""
        self._wish = signal
        if not self._busy:
            raise Interrupted(signal)

    def due(self) -> None:
        """Between two changes. Raises Interrupted if somebody asked for the end of the run."""
        if self._wish:
            raise Interrupted(self._wish)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """A block that makes or undoes changes. In it only due() raises Interrupted."""
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1


RUN = Run()
"""The one Run of this process: a signal is sent to a process."""
