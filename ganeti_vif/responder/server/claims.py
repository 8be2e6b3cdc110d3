# SPDX-License-Identifier: BSD-2-Clause
"""Telling the daemon what guests say of their addresses, not too often: claims, and announcements of shared ones."""

from __future__ import annotations

from collections import deque

from ganeti_vif.responder.claim import claimed
from ganeti_vif.responder.limit import Bucket
from ganeti_vif.responder.server.guests import Guest
from ganeti_vif.responder.shared import announces, packed
from ganeti_vif.system.claim_socket import ClaimSender

ALL_RATE, ALL_BURST = 200.0, 1000
"""Messages about all guests: each second, and at once."""
PAUSE = 0.02
"""Seconds after which a daemon that had too much to do is told again."""
AGAIN = 2.0
"""Seconds between two messages about one address that its guest already uses."""
ANNOUNCED_AGAIN = 0.2
"""Seconds between two messages about one shared address. Who takes one announces it several times in a row."""
MOST = 64
"""Addresses of one guest that are remembered for that."""


class Claims:
    """What was told of each guest. All of it may be lost."""

    def __init__(self) -> None:
        self._sender = ClaimSender()
        self._all = Bucket(ALL_RATE, ALL_BURST)
        self._all_announced = Bucket(ALL_RATE, ALL_BURST)
        """Of their own: a flood of claims does not keep an address from the guest that takes it over."""
        self._waiting: deque[tuple[Guest, bytes, bool, bool]] = deque(maxlen=ALL_BURST)

    def close(self) -> None:
        self._sender.close()

    def hear(self, guest: Guest, frame: bytes, now: float) -> None:
        """Tell the daemon what FRAME of GUEST says."""
        self._announced(guest, frame, now)
        found = claimed(frame, guest.service)
        if found is None:
            return
        address, first = found
        self.say(guest, address, now, first=first)

    def say(self, guest: Guest, address: bytes, now: float, *, first: bool = False) -> None:
        """Tell the daemon that GUEST has ADDRESS, or (FIRST) asks whether anybody has it."""
        if not first and now < guest.told.get(address, float("-inf")) + AGAIN:
            return
        if not (guest.claims.take(now) and self._all.take(now)):
            guest.tally["claims_limited"] += 1
            return
        if len(guest.told) >= MOST:
            guest.told.clear()
        if not first:
            guest.told[address] = now
        self._waiting.append((guest, address, first, False))

    def _announced(self, guest: Guest, frame: bytes, now: float) -> None:
        found = announces(frame, guest.service)
        if found is None:
            return
        address = packed(found)
        if now < guest.announced.get(address, float("-inf")) + ANNOUNCED_AGAIN:
            return
        if not (guest.claims.take(now) and self._all_announced.take(now)):
            guest.tally["claims_limited"] += 1
            return
        if len(guest.announced) >= MOST:
            guest.announced.clear()
        guest.announced[address] = now
        self._waiting.append((guest, address, False, True))

    def tell(self) -> bool:
        """Tell the daemon what waits. Returns whether all is told; else call it again after PAUSE seconds."""
        while self._waiting:
            guest, address, first, announced = self._waiting[0]
            try:
                who = guest.index, guest.service.guest, address
                told = self._sender.say(*who, first=first, announced=announced)
            except BlockingIOError:
                return False
            guest.tally[("announced" if announced else "claim") if told else "claims_untold"] += 1
            self._waiting.popleft()
        return True
