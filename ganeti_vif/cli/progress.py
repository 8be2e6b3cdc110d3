# SPDX-License-Identifier: BSD-2-Clause
"""Progress on a terminal: a bar, for work that takes longer than a second, and a line, for work that others do."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType

from ganeti_vif.engine.failure import one_line

WIDTH = 40
PATIENCE = 1.0
"""Seconds until the bar appears. It is drawn again after a tenth of that."""


class Bar:
    """Shows the progress of a count on stderr, if that is a terminal. A context manager, which clears its line."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._next = time.monotonic() + PATIENCE
        self._drawn = False

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._drawn:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def show(self, done: int, total: int) -> None:
        """Show that DONE of TOTAL are done."""
        now = time.monotonic()
        if now < self._next or not sys.stderr.isatty():
            return
        self._next, self._drawn = now + PATIENCE / 10, True
        filled = WIDTH * done // max(total, 1)
        bar = "#" * filled + "." * (WIDTH - filled)
        print(f"\r{self._what} [{bar}] {done}/{total}", end="", file=sys.stderr, flush=True)


class Line:
    """Shows one line about what goes on on stderr, if that is a terminal. A context manager, which clears its line."""

    def __init__(self) -> None:
        self._drawn = False

    def __enter__(self) -> Line:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.clear()

    def show(self, text: str) -> None:
        """Show TEXT in the place of the line before."""
        if sys.stderr.isatty():
            self._drawn = True
            width = os.get_terminal_size(sys.stderr.fileno()).columns or 80
            print(f"\r\033[K{one_line(text)[: width - 1]}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the line away."""
        if self._drawn:
            self._drawn = False
            print("\r\033[K", end="", file=sys.stderr, flush=True)
