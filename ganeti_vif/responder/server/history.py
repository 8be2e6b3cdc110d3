# SPDX-License-Identifier: BSD-2-Clause
"""What the guest of one tap did since its binding was written: its last requests, and a line in the log for each lease.

Times are seconds since the epoch: an administrator compares them with the guest's own log.
"""

from __future__ import annotations

import time
from typing import Any

from ganeti_vif.responder.limit import Bucket
from ganeti_vif.responder.service import Service
from ganeti_vif.responder.visit import Event, Visit, legible
from ganeti_vif.system import log

RATE, BURST = 1 / 600, 5
"""Lines a second, and lines at once, in the log for one guest: a guest can ask as often as it likes."""
HELD = 60.0
"""Seconds that a guest keeps an address which it declined before, until the trouble counts as over. A client looks for
the address's other owner within ten seconds of its lease (RFC 5227), and asks again ten seconds after it declined."""
_LEVELS = {
    Event.LEASED: log.Level.INFO,
    Event.RELEASED: log.Level.INFO,
    Event.RENEWED: log.Level.DEBUG,
}


class Past:
    """A guest's requests by one IP version. A time is None if that never happened."""

    __slots__ = ("asked", "declined", "host", "kept", "leased", "vendor")

    def __init__(self) -> None:
        self.asked: float | None = None
        self.leased: float | None = None
        self.declined: float | None = None
        self.kept: float | None = None
        """The time of the first lease after the address was declined."""
        self.vendor = self.host = b""

    def note(self, visit: Visit, now: float) -> None:
        """Take note of VISIT at NOW."""
        self.asked = now
        if visit.vendor is not None and visit.host is not None:
            self.vendor, self.host = visit.vendor, visit.host
        match visit.event:
            case Event.ASKED:
                return
            case Event.LEASED | Event.RENEWED:
                self.leased = now
                self._keep(now)
            case Event.DECLINED:
                self.leased, self.declined, self.kept = None, now, None
            case Event.RELEASED:
                self.leased = None

    def _keep(self, now: float) -> None:
        if self.declined is not None:
            self.kept = self.kept or now
            if now - self.kept >= HELD:
                self.declined = self.kept = None

    def shown(self, now: float) -> dict[str, Any]:
        """This at NOW, for the responder's state. `declined` is there while the trouble lasts."""
        over = self.kept is not None and now - self.kept >= HELD
        return {
            "asked": _second(self.asked),
            "leased": _second(self.leased),
            "declined": None if over else _second(self.declined),
            "vendor_class": legible(self.vendor),
            "hostname": legible(self.host),
        }


class History:
    """What the guest of the tap NAME did, by both IP versions."""

    __slots__ = ("_by_version", "_lines", "_tap")

    def __init__(self, tap: str) -> None:
        self._tap = tap
        self._lines: Bucket | None = None
        self._by_version: dict[int, Past] = {}

    def note(self, visit: Visit, service: Service, now: float) -> None:
        """Take note of VISIT, at NOW by the loop's clock, of a guest that is served by SERVICE."""
        past = self._by_version.get(visit.version)
        if past is None:
            past = self._by_version[visit.version] = Past()
        past.note(visit, time.time())
        if visit.event is Event.ASKED:
            return
        level = _LEVELS.get(visit.event)
        if level is None or (level is log.Level.DEBUG and not log.verbose):
            return
        self._lines = self._lines or Bucket(RATE, BURST)
        if self._lines.take(now):
            said = ", ".join(text for text in map(legible, (past.vendor, past.host)) if text)
            whom = f"{self._tap} ({service.name})" if service.name else self._tap
            what = f"{visit.event.value} {service.address(visit.version)}"
            log.say(f"responder: {whom}: {what}{f' to {said}' if said else ''}", level)

    def forget(self, *versions: int) -> None:
        """Forget the requests by these IP VERSIONS: the guest has another address now."""
        for version in versions:
            self._by_version.pop(version, None)

    def shown(self) -> dict[str, Any]:
        """This for the responder's state, with a key for each IP version that the guest used."""
        return {f"ipv{version}": past.shown(time.time()) for version, past in sorted(self._by_version.items())}


def _second(when: float | None) -> int | None:
    return None if when is None else int(when)
