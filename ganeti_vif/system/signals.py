# SPDX-License-Identifier: BSD-2-Clause
"""The signals that ask a command to end: Ctrl-C, `kill`, a closed terminal (signal(7))."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

WISHES = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def told(end: Callable[[str], None]) -> Iterator[None]:
    """While the block runs, each of these signals calls END with the signal's name.

    A signal that is ignored stays ignored: the caller of this process did not want it to end (nohup(1)).
    """
    before = {number: signal.getsignal(number) for number in WISHES}

    def come(number: int, _: FrameType | None) -> None:
        end(signal.Signals(number).name)

    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, come)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
