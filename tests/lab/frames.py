# SPDX-License-Identifier: BSD-2-Clause
"""What a tap and a packet socket have in common: frames go out, frames come in before a deadline."""

import select
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

from .namespace import PATIENCE


class FramePort(ABC):
    """Something that Ethernet frames can be sent to and received from, one at a time."""

    @abstractmethod
    def fileno(self) -> int:
        """The descriptor that select() understands."""

    @abstractmethod
    def send(self, frame: bytes) -> None:
        """Send one whole Ethernet frame, without checksum at its end."""

    @abstractmethod
    def _read(self) -> bytes | None:
        """Take the next frame without waiting; None if what came is not for us."""

    def receive(self, timeout: float) -> bytes | None:
        """The next frame, or None if none comes within `timeout` seconds (0: only what is there already)."""
        return next(self.frames(time.monotonic() + timeout), None)

    def frames(self, until: float) -> Iterator[bytes]:
        """Every frame until the deadline on time.monotonic(); those that are there already come even after it."""
        while select.select([self], [], [], max(0.0, until - time.monotonic()))[0]:
            try:
                frame = self._read()
            except BlockingIOError:
                frame = None
            if frame is not None:
                yield frame

    def expect(self, wanted: Callable[[bytes], bool], what: str, *, timeout: float = PATIENCE) -> bytes:
        """The first frame that is `wanted`; TimeoutError says what else came in its place."""
        others = []
        for frame in self.frames(time.monotonic() + timeout):
            if wanted(frame):
                return frame
            others.append(frame.hex())
        raise TimeoutError(f"{self}: not within {timeout} s: {what}; came instead: {others or 'nothing'}")

    def before(self, wanted: Callable[[bytes], bool], what: str) -> list[bytes]:
        """The frames that come before the first that is `wanted`; TimeoutError as from `expect`."""
        found: list[bytes] = []

        def last(frame: bytes) -> bool:
            if wanted(frame):
                return True
            found.append(frame)
            return False

        self.expect(last, what)
        return found

    def clear(self) -> None:
        """Forget the frames that have come so far."""
        while self.receive(0) is not None:
            pass
