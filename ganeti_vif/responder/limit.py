# SPDX-License-Identifier: BSD-2-Clause
"""A rate limit: a token bucket. The caller gives the time, in seconds."""

from __future__ import annotations


class Bucket:
    """RATE tokens a second, at most BURST at once. The bucket is full at first."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._tokens, self._at = 0.0, float("-inf")  # filled when it is first used

    def take(self, now: float) -> bool:
        """Take one token. Returns whether there was one."""
        if self._tokens < 1:
            self._refill(now)
            if self._tokens < 1:
                return False
        self._tokens -= 1
        return True

    def wait(self, now: float) -> float:
        """Seconds from NOW until a quarter of the bucket is full again: fewer tokens are not worth a wake-up."""
        self._refill(now)
        return max(0.0, max(1.0, self._burst / 4) - self._tokens) / self._rate

    def _refill(self, now: float) -> None:
        if now > self._at:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
            self._at = now
