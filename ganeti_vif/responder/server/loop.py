# SPDX-License-Identifier: BSD-2-Clause
"""The responder's loop: requests of guests, changes of bindings and devices, clients of its state, and timers.

Each turn first reads changes of bindings and devices, then a few frames of each tap that has some. So no guest can
delay another guest, or a change of a binding. No frame of a guest can raise an error out of the loop.
"""

from __future__ import annotations

import heapq
import itertools
import os
import select
import socket
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Protocol

from ganeti_vif.config.model import Config
from ganeti_vif.engine.failure import Failure
from ganeti_vif.kernel import guest_socket
from ganeti_vif.kernel.netlink.link_events import Links
from ganeti_vif.responder.answer import answer
from ganeti_vif.responder.packet import Malformed
from ganeti_vif.responder.refusal import is_own
from ganeti_vif.responder.server.advertising import Advertisements
from ganeti_vif.responder.server.claims import PAUSE, Claims
from ganeti_vif.responder.server.complaints import Complaints
from ganeti_vif.responder.server.guests import Guest, Guests
from ganeti_vif.responder.server.refusals import Refusals
from ganeti_vif.responder.visit import Event
from ganeti_vif.system import log, systemd
from ganeti_vif.system.inotify import Watch
from ganeti_vif.system.state_socket import Askers

FRAMES, TAPS = 4, 64
"""Frames of each tap, and taps, in one turn. A turn takes some milliseconds at most."""
AGAIN = 300.0
"""Seconds between two reads of the whole directory, for changes without an event."""
SETTLED = 1.0
"""Seconds until an invalid binding is logged: it may have been read while it was written."""


class Orders(Protocol):
    """The process that runs a Serving, and gives it its orders."""

    def obey(self) -> Config | None:
        """The configuration to go on with, or None to end. Call it after a signal."""

    def config(self) -> Config:
        """The configuration in force."""


class Serving:
    """The responder's state. SIGNALS is readable after a signal. Raises Failure if it cannot open a socket or watch."""

    def __init__(self, config: Config, signals: socket.socket) -> None:
        self._config, self._signals = config, signals
        log.verbose = config.verbose
        guest_socket.probe()
        self._epoll, self._control = select.epoll(), select.epoll()
        self._epoll.register(self._control, select.EPOLLIN)
        self._links = Links()
        self._guests = Guests(config, self._links, self._joined, self._left)
        self._askers = Askers()
        self._watch = Watch(config.bindings.directory)
        for one in (signals, self._links, self._askers, self._watch):
            self._control.register(one, select.EPOLLIN)
        self._by_descriptor: dict[int, Guest] = {}
        self._paused: list[tuple[float, int, Guest]] = []
        self._advertisements = Advertisements(self._guests, time.monotonic())
        self._order = itertools.count()
        self._past: Counter[str] = Counter()
        self._complaints = Complaints()
        self._claims = Claims()
        self._refusals = Refusals(self._claims)
        self._claims_wait = False
        self._began = self._look_again = time.monotonic()
        self._complain_at: float | None = None
        self._watchdog = (systemd.watchdog_seconds() or 2 * AGAIN) / 2

    def serve(self, orders: Orders) -> None:
        """Serve until ORDERS, asked after a signal, give no configuration to go on with."""
        self._guests.read_all()
        self._complain_at = self._began
        log.say(f"responder: {len(self._guests.served)} taps served by {self._guests.bindings} bindings")
        systemd.notify("READY=1")
        alive = time.monotonic() + self._watchdog
        while True:
            events = self._epoll.poll(self._patience(alive), TAPS)
            now = time.monotonic()
            if now >= alive:
                systemd.notify("WATCHDOG=1")
                alive = now + self._watchdog
            if not self._take_in(orders):
                return
            for descriptor, _ in events:
                if guest := self._by_descriptor.get(descriptor):
                    self._hear(guest, now)
            self._claims_wait = not self._claims.tell()
            self._resume(now)
            self._refusals.resume(now)
            self._advertisements.send(now)
            self._look(now)

    def close(self, *, farewell: bool = True) -> None:
        """Stop all services. With FAREWELL each guest learns that its router is gone."""
        systemd.notify("STOPPING=1")
        self._guests.end_all(farewell=farewell)
        self._askers.close()
        self._claims.close()
        self._watch.close()
        log.say("responder: stopped")

    def _patience(self, alive: float) -> float:
        due = [alive, self._look_again, self._advertisements.due, self._askers.due, self._refusals.due]
        due += [self._paused[0][0]] if self._paused else []
        due += [self._complain_at] if self._complain_at else []
        due += [time.monotonic() + PAUSE] if self._claims_wait else []
        return max(0.0, min(due) - time.monotonic())

    def _take_in(self, orders: Orders) -> bool:
        """Serve all descriptors except those of guests. Returns whether to go on."""
        heard = self._control.poll(0)
        if heard:
            self._configure(orders.config())  # before a client gets our state
        for descriptor, _ in heard:
            if descriptor == self._signals.fileno():
                config = orders.obey()
                if config is None:
                    return False
                self._configure(config)
                continue
            try:
                self._change(descriptor)
            except Failure as failure:  # the kernel has no memory, or too many watches
                self._complaints.say(failure.what)
        return True

    def _change(self, descriptor: int) -> None:
        """Serve DESCRIPTOR, which is readable. Raises Failure if the kernel refuses a watch or an answer."""
        if descriptor == self._links.fileno():
            self._guests.follow(self._links.read())
        elif descriptor == self._watch.fileno():
            self._reread()
        elif descriptor == self._askers.fileno():
            self._askers.answer(self.state, time.monotonic())

    def _configure(self, config: Config) -> None:
        if config is self._config:
            return
        if config.bindings.directory != self._config.bindings.directory:
            try:
                watch = Watch(config.bindings.directory)
            except Failure as failure:
                self._complaints.say(f"the old configuration stays in force: {failure.what}")
                return
            self._control.unregister(self._watch)
            self._watch.close()
            self._watch = watch
            self._control.register(watch, select.EPOLLIN)
        self._config = config
        log.verbose = config.verbose
        self._guests.configure(config)
        self._complain_at = time.monotonic() + SETTLED

    def _reread(self) -> None:
        changed = self._watch.read()
        # A binding is written after its tap was made. Read the taps now, so that both are known.
        self._guests.follow(self._links.read())
        if changed is None:
            self._guests.read_all()
        else:
            self._guests.read(changed)
        self._complain_at = self._complain_at or time.monotonic() + SETTLED

    def _joined(self, guest: Guest) -> None:
        descriptor = guest.socket.fileno()
        if descriptor not in self._by_descriptor:
            self._by_descriptor[descriptor] = guest
            self._epoll.register(descriptor, select.EPOLLIN)
        self._advertisements.begin(guest, time.monotonic())

    def _left(self, guest: Guest) -> None:
        if self._by_descriptor.pop(guest.socket.fileno(), None):
            self._stop_hearing(guest)
        self._past.update(guest.tally)

    def _stop_hearing(self, guest: Guest) -> None:
        try:
            self._epoll.unregister(guest.socket.fileno())
        except (FileNotFoundError, ValueError):
            return  # it was paused

    def _hear(self, guest: Guest, now: float) -> None:
        """Answer up to FRAMES frames of GUEST."""
        tally = guest.tally
        for _ in range(FRAMES):
            frame = guest.socket.receive()
            if frame is None:
                return
            own = is_own(frame)  # it takes nothing from the guest's requests
            if not own and not guest.bucket.take(now):
                # The other frames wait in its own queue. If that is full, the kernel drops them at no cost to us.
                tally["limited"] += 1
                self._stop_hearing(guest)
                heapq.heappush(self._paused, (now + guest.bucket.wait(now), next(self._order), guest))
                return
            try:
                if own:
                    self._refusals.hear(guest, frame, now)
                    continue
                self._claims.hear(guest, frame, now)
                heard, said, out, visit, spare = answer(frame, guest.service)
            except Malformed:
                tally["malformed"] += 1
                continue
            except Exception as error:  # a bug must not end the service of all guests
                tally["failed"] += 1
                what = f"a frame that nobody was prepared for: {error!r}: {frame[:400].hex()}"
                self._complaints.caused(guest.name, what)
                continue
            tally[heard] += 1
            if visit is not None:
                guest.note(visit, now)
                if visit.event is Event.DECLINED:
                    self._complaints.caused(guest.name, "its guest declined the address, for somebody else uses it")
            if out is not None and (not spare or guest.asks_again(now)):
                guest.send(out, said or "")

    def _resume(self, now: float) -> None:
        while self._paused and self._paused[0][0] <= now:
            _, _, guest = heapq.heappop(self._paused)
            if self._by_descriptor.get(guest.socket.fileno()) is guest:
                self._epoll.register(guest.socket.fileno(), select.EPOLLIN)

    def _look(self, now: float) -> None:
        self._askers.dismiss(now)
        if now >= self._look_again:
            self._look_again = now + AGAIN
            self._guests.read_all()
            self._complain_at = self._complain_at or now
        if self._complain_at is not None and now >= self._complain_at:
            self._complain_at = None
            self._complaints.lasting(self._trouble())

    def _trouble(self) -> Iterator[str]:
        directory = self._config.bindings.directory
        for name, invalid in self._guests.invalid.items():
            place = f"{directory}/{name}" + (f":{invalid.line}" if invalid.line else "")
            yield f"{place}: {invalid.reason}; its guest is not served"
        if self._guests.unreadable:
            yield f"{self._guests.unreadable}; no guest is served"
        for name, reason in self._guests.unserved.items():
            yield f"{name} is not served: {reason}"

    def state(self) -> dict[str, Any]:
        """The state for `ganeti-vif`, as a JSON object."""
        counts = Counter(self._past)
        for guest in self._guests.served.values():
            counts.update(guest.tally)
        return {
            "pid": os.getpid(),
            "seconds": round(time.monotonic() - self._began),
            "enabled": self._config.responds,
            "directory": self._config.bindings.directory,
            "bindings": self._guests.bindings,
            "counts": counts,
            "taps": {guest.name: _told_of(guest) for guest in self._guests.served.values()},
            "invalid": [
                {"file": f"{self._config.bindings.directory}/{name}", "line": bad.line, "reason": bad.reason}
                for name, bad in sorted(self._guests.invalid.items())
            ],
            "unserved": [{"tap": name, "reason": why} for name, why in sorted(self._guests.unserved.items())],
            "unreadable": self._guests.unreadable,
            "last_error": self._complaints.last,
        }


def _told_of(guest: Guest) -> dict[str, Any]:
    return {
        "index": guest.index,
        "mac": guest.service.guest.hex(":"),
        "address": guest.service.address(4),
        "address6": guest.service.address(6),
        "counts": guest.tally,
        "guest": guest.history.shown() if guest.history else {},
    }
