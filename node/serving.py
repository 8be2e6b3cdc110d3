# SPDX-License-Identifier: BSD-2-Clause
"""The responder's loop: guests' requests, changes of bindings and devices, advertisements that are due, askers.

Each turn looks first at bindings and devices, then takes a few frames of each tap that has some. So no guest can keep
another waiting, nor a changed binding from being heard. Nothing that a guest sends raises out of here.
"""

from __future__ import annotations

import heapq
import itertools
import json
import os
import random
import select
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from config.model import Config
from engine.failure import Failure
from node.guests import Guest, Guests
from outside import guest_socket, log, systemd
from outside.inotify import Watch
from outside.link_events import Links
from outside.state_socket import Listener
from responder.answer import answer
from responder.limit import Bucket
from responder.packet import Malformed

FRAMES, TAPS = 4, 64
"""Frames of one tap, and taps, in one turn: some milliseconds at most."""
AGAIN = 300.0
"""Seconds between two looks at the whole directory, for what nobody tells of."""
SETTLED = 1.0
"""Seconds after which a bad binding is complained of: a file that is being written may be read half."""
FIRST, INITIAL = 2, 16.0
"""So many advertisements are followed by another within so many seconds, as the first may be lost (RFC 4861, 10)."""
SPREAD = 1.0
"""Seconds within which all guests hear of us after our start (a restart has told them that their router is gone)."""
DECLINED = ("dhcp4_decline", "dhcp6_decline")
ASKER = 5.0
"""Seconds that an asker has to take its answer."""

Configured = Callable[[], Config]


class Serving:
    """The daemon's state. SIGNALS is readable when one came."""

    def __init__(self, config: Config, signals: socket.socket) -> None:
        self._config, self._signals = config, signals
        guest_socket.probe()
        self._epoll, self._control = select.epoll(), select.epoll()
        self._epoll.register(self._control, select.EPOLLIN)
        self._links = Links()
        self._guests = Guests(config, self._links, self._joined, self._left)
        self._listener = Listener()
        self._watch = Watch(config.bindings.directory)
        for one in (signals, self._links, self._listener, self._watch):
            self._control.register(one, select.EPOLLIN)
        self._by_descriptor: dict[int, Guest] = {}
        self._askers: dict[int, tuple[socket.socket, memoryview, float]] = {}
        self._paused: list[tuple[float, int, Guest]] = []
        self._advertisements: list[tuple[float, int, Guest]] = []
        self._order = itertools.count()
        self._past: Counter[str] = Counter()
        self._lines = Bucket(1.0, 20)
        self._unsaid = 0
        self._error: str | None = None
        self._said: set[str] = set()
        self._began = self._look_again = time.monotonic()
        self._complain_at: float | None = None
        self._watchdog = (systemd.watchdog_seconds() or 2 * AGAIN) / 2

    def serve(self, obey: Callable[[], Config | None]) -> None:
        """Until OBEY, called when a signal came, gives no configuration to go on with."""
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
            if not self._take_in(obey):
                return
            for descriptor, _ in events:
                if guest := self._by_descriptor.get(descriptor):
                    self._hear(guest, now)
            self._resume(now)
            self._advertise(now)
            self._look(now)

    def close(self, *, farewell: bool = True) -> None:
        """Say good-bye to every guest (with FAREWELL), and leave nothing."""
        systemd.notify("STOPPING=1")
        self._guests.end_all(farewell=farewell)
        self._listener.close()
        self._watch.close()
        log.say("responder: stopped")

    def _patience(self, alive: float) -> float:
        due = [alive, self._look_again]
        due += [heap[0][0] for heap in (self._paused, self._advertisements) if heap]
        due += [self._complain_at] if self._complain_at else []
        due += [until for _, _, until in self._askers.values()]
        return max(0.0, min(due) - time.monotonic())

    def _take_in(self, obey: Callable[[], Config | None]) -> bool:
        """Look at everything that is no guest. Returns whether to go on."""
        for descriptor, _ in self._control.poll(0):
            if descriptor == self._signals.fileno():
                config = obey()
                if config is None:
                    return False
                self._configure(config)
                continue
            try:
                self._change(descriptor)
            except Failure as failure:  # of the kernel, which has no memory, or too many watches
                self._complain(failure.what)
        return True

    def _change(self, descriptor: int) -> None:
        """Take in what DESCRIPTOR has to say. Raises Failure."""
        if descriptor == self._links.fileno():
            self._guests.follow(self._links.read())
        elif descriptor == self._watch.fileno():
            self._reread()
        elif descriptor == self._listener.fileno():
            self._answer_asker()
        elif descriptor in self._askers:
            self._tell(descriptor)

    def _configure(self, config: Config) -> None:
        if config is self._config:
            return
        if config.bindings.directory != self._config.bindings.directory:
            try:
                watch = Watch(config.bindings.directory)
            except Failure as failure:
                self._complain(f"the old configuration stays in force: {failure.what}")
                return
            self._control.unregister(self._watch)
            self._watch.close()
            self._watch = watch
            self._control.register(watch, select.EPOLLIN)
        self._config = config
        self._guests.configure(config)
        self._complain_at = time.monotonic() + SETTLED

    def _reread(self) -> None:
        changed = self._watch.read()
        # A binding is written after its tap was made: look at the taps first, so that both are known.
        self._guests.follow(self._links.read())
        if changed is None:
            self._guests.read_all()
        else:
            self._guests.read(changed)
        self._complain_at = self._complain_at or time.monotonic() + SETTLED

    # Guests

    def _joined(self, guest: Guest) -> None:
        descriptor = guest.socket.fileno()
        if descriptor not in self._by_descriptor:
            self._by_descriptor[descriptor] = guest
            self._epoll.register(descriptor, select.EPOLLIN)
        if guest.service.router6:
            guest.advertisements = 0
            now = time.monotonic()
            # A guest whose binding is new may have asked in vain a moment ago.
            spread = SPREAD if now < self._began + SPREAD else 0.0
            self._plan(guest, now + random.uniform(0, spread))

    def _left(self, guest: Guest) -> None:
        if self._by_descriptor.pop(guest.socket.fileno(), None):
            self._stop_hearing(guest)
        if guest.index in self._links.by_index:
            guest.part()
        self._past.update(guest.tally)

    def _stop_hearing(self, guest: Guest) -> None:
        try:
            self._epoll.unregister(guest.socket.fileno())
        except (FileNotFoundError, ValueError):
            return  # it was paused

    def _hear(self, guest: Guest, now: float) -> None:
        """Answer some of what GUEST said."""
        tally = guest.tally
        for _ in range(FRAMES):
            frame = guest.socket.receive()
            if frame is None:
                return
            if not guest.bucket.take(now):
                # The rest waits in its own queue, and what has no room there the kernel drops at no cost of ours.
                tally["limited"] += 1
                self._stop_hearing(guest)
                heapq.heappush(self._paused, (now + guest.bucket.wait(now), next(self._order), guest))
                return
            try:
                heard, said, out = answer(frame, guest.service)
            except Malformed:
                tally["malformed"] += 1
                continue
            except Exception as error:  # a mistake of ours must not end the service of all others
                tally["failed"] += 1
                self._complain(f"{guest.name}: a frame that nobody was prepared for: {error!r}: {frame[:400].hex()}")
                continue
            tally[heard] += 1
            if heard in DECLINED:
                self._complain(f"{guest.name}: its guest declined the address, for somebody else uses it")
            if out is not None:
                guest.send(out, said or "")

    def _resume(self, now: float) -> None:
        while self._paused and self._paused[0][0] <= now:
            _, _, guest = heapq.heappop(self._paused)
            if self._by_descriptor.get(guest.socket.fileno()) is guest:
                self._epoll.register(guest.socket.fileno(), select.EPOLLIN)

    # Advertisements

    def _plan(self, guest: Guest, when: float) -> None:
        guest.next_advertisement = when
        heapq.heappush(self._advertisements, (when, next(self._order), guest))

    def _advertise(self, now: float) -> None:
        """Send what is due, a few at a time."""
        for _ in range(TAPS):
            if not self._advertisements or self._advertisements[0][0] > now:
                return
            when, _, guest = heapq.heappop(self._advertisements)
            router = guest.service.router6
            current = self._guests.served.get(guest.name) is guest and guest.next_advertisement == when
            if not current or router is None:
                continue
            guest.send(router.advertised(), "router_advertisement")
            period = float(guest.service.ra_period)
            if guest.advertisements < FIRST:
                period = min(INITIAL, period)
            guest.advertisements += 1
            # Not all at once, and never in step (RFC 4861, 6.2.4).
            self._plan(guest, now + random.uniform(0.75, 1.0) * period)

    # What nobody tells of, and complaints

    def _look(self, now: float) -> None:
        for descriptor in [one for one, (_, _, until) in self._askers.items() if now >= until]:
            self._dismiss(descriptor)
        if now >= self._look_again:
            self._look_again = now + AGAIN
            self._guests.read_all()
            self._complain_at = self._complain_at or now
        if self._complain_at is not None and now >= self._complain_at:
            self._complain_at = None
            trouble = set(self._trouble())
            for line in sorted(trouble - self._said):
                self._complain(line)
            self._said = trouble

    def _trouble(self) -> Iterator[str]:
        directory = self._config.bindings.directory
        for name, invalid in self._guests.invalid.items():
            place = f"{directory}/{name}" + (f":{invalid.line}" if invalid.line else "")
            yield f"{place}: {invalid.reason}; its guest is not served"
        if self._guests.unreadable:
            yield f"{self._guests.unreadable}; no guest is served"
        for name, reason in self._guests.unserved.items():
            yield f"{name} is not served: {reason}"

    def _complain(self, line: str) -> None:
        self._error = line
        if not self._lines.take(time.monotonic()):
            self._unsaid += 1
            return
        if self._unsaid:
            log.say(f"responder: {self._unsaid} lines were not logged", log.Level.WARNING)
            self._unsaid = 0
        log.say(f"responder: {line}", log.Level.ERROR)

    # Askers

    def _answer_asker(self) -> None:
        asker = self._listener.accept()
        if asker is None:
            return
        self._askers[asker.fileno()] = (asker, memoryview(json.dumps(self.state()).encode()), time.monotonic() + ASKER)
        self._control.register(asker, select.EPOLLOUT)

    def _tell(self, descriptor: int) -> None:
        asker, rest, until = self._askers[descriptor]
        try:
            rest = rest[asker.send(rest) :]
        except BlockingIOError:
            return
        except OSError:
            rest = rest[:0]
        if rest:
            self._askers[descriptor] = (asker, rest, until)
        else:
            self._dismiss(descriptor)

    def _dismiss(self, descriptor: int) -> None:
        asker, _, _ = self._askers.pop(descriptor)
        self._control.unregister(descriptor)
        asker.close()

    def state(self) -> dict[str, Any]:
        """Everything that an administrator may want to know."""
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
            "last_error": self._error,
        }


def _told_of(guest: Guest) -> dict[str, Any]:
    lease, router = guest.service.lease, guest.service.router6
    return {
        "index": guest.index,
        "mac": guest.service.guest.hex(":"),
        "address": socket.inet_ntoa(lease.address) if lease else None,
        "address6": socket.inet_ntop(socket.AF_INET6, router.own) if router and router.own else None,
        "counts": guest.tally,
    }
