# SPDX-License-Identifier: BSD-2-Clause
"""The address that each guest uses or asks for and may not have: for the log, `status` and `check`."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv6Address

from ganeti_vif.engine.failure import Failure
from ganeti_vif.nic.nic import Nic
from ganeti_vif.system import log

FORGOTTEN = 600.0
"""Seconds after which a refusal is forgotten, if the guest does not use the address again."""


@dataclass(slots=True)
class _Refusal:
    """NOTE says what happened to ADDRESS, WHEN (monotonic seconds) for the last time."""

    address: IPv6Address
    note: Failure
    when: float


class Refusals:
    """The last refusal of each tap: no more memory than taps. All of it may be lost: guests repeat what they do."""

    def __init__(self) -> None:
        self._last: dict[str, _Refusal] = {}

    @property
    def told(self) -> dict[str, dict[str, str]]:
        """What is refused at this time and what to do about it, by tap: `claims` in the daemon's state."""
        self._forget()
        return {tap: {"what": one.note.what, "do": one.note.do} for tap, one in self._last.items()}

    def say(self, nic: Nic, address: IPv6Address, note: Failure) -> None:
        """NOTE tells that ADDRESS is refused to the guest of NIC. It is logged once: a guest can ask as often as it
        likes."""
        self._forget()
        last = self._last.get(nic.tap)
        if last is None or last.note.what != note.what:
            log.say(note.what, log.Level.DEBUG if last else log.Level.WARNING)
        self._last[nic.tap] = _Refusal(address, note, time.monotonic())

    def over(self, tap: str, address: IPv6Address) -> None:
        """The guest of TAP has ADDRESS now."""
        if tap in self._last and self._last[tap].address == address:
            del self._last[tap]

    def keep(self, taps: Collection[str]) -> None:
        """Forget all taps but TAPS."""
        self._last = {tap: one for tap, one in self._last.items() if tap in taps}

    def _forget(self) -> None:
        end = time.monotonic() - FORGOTTEN
        self._last = {tap: one for tap, one in self._last.items() if one.when > end}
