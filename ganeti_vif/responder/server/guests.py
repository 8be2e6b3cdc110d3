# SPDX-License-Identifier: BSD-2-Clause
"""The guests that are served: the guest of each tap that exists and has a valid binding. Either may come first.

A guest is served by the present content of its binding, or not at all. If a binding becomes invalid, its service ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

from ganeti_vif.config.model import Config
from ganeti_vif.engine.failure import Failure, Gone
from ganeti_vif.kernel.guest_socket import LARGEST, NOTHING_ELSE, GuestSocket, interesting, refused
from ganeti_vif.kernel.netlink.link_events import Links, ServedDevice
from ganeti_vif.responder.lease import SERVER
from ganeti_vif.responder.limit import Bucket
from ganeti_vif.responder.server.history import History
from ganeti_vif.responder.service import Service, service, told
from ganeti_vif.responder.visit import Visit
from nfdhcpd_bridge import files
from nfdhcpd_bridge.reading import Invalid, Reading, reading

_PROGRAM = interesting(int(SERVER))
CLAIM_RATE, CLAIM_BURST = 5.0, 32
"""How often the daemon is told of addresses that one guest chose: times a second, and times at once."""
BURST = 2
"""A guest may send this many seconds of its rate at once."""
AGAIN = 3.0
"""Seconds in which a second solicitation for one address is a repetition: hosts repeat it each second, twice (RFC 4861,
10: RETRANS_TIMER, MAX_MULTICAST_SOLICIT)."""
CLOSERS = 64
"""Threads that close sockets. They mostly wait. All are busy only when thousands of sockets close at once."""


class Guest:
    """The guest of the tap NAME with this INDEX, its socket and its counters. Raises Gone, Failure as GuestSocket."""

    __slots__ = (
        "_asked",
        "advertisements",
        "announced",
        "bucket",
        "claims",
        "history",
        "index",
        "listens",
        "name",
        "next_advertisement",
        "refusals",
        "service",
        "socket",
        "tally",
        "told",
        "used",
    )

    def __init__(self, device: ServedDevice, given: Service, rate: int) -> None:
        self.name, self.index = device.name, device.index
        self.socket = GuestSocket(device.index, _program(given))
        self.service = given
        self.listens = True
        """Whether it hears packets from addresses that the guest may not have (server/refusals.py)."""
        self.refusals: Bucket | None = None
        self.used: dict[bytes, float] = {}
        """When the guest was first heard to use an address that was not its own."""
        self.bucket = Bucket(rate, rate * BURST)
        self.claims = Bucket(CLAIM_RATE, CLAIM_BURST)
        self.told: dict[bytes, float] = {}
        self.announced: dict[bytes, float] = {}
        self.tally: Counter[str] = Counter()
        self.history: History | None = None
        self.next_advertisement = 0.0
        self._asked = float("-inf")
        self.advertisements = 0

    def send(self, frame: bytes, what: str) -> None:
        self.tally[what if self.socket.send(frame) else "unsent"] += 1

    def note(self, visit: Visit, now: float) -> None:
        """Take note of VISIT at NOW. The memory of most guests is empty for a long time, so it takes no memory."""
        if self.history is None:
            self.history = History(self.name)
        self.history.note(visit, self.service, now)

    def asks_again(self, now: float) -> bool:
        """Whether the guest asked for its router's address within the last AGAIN seconds before NOW."""
        again = now - self._asked < AGAIN
        self._asked = now
        return again

    def listen(self, *, own: bool) -> None:
        """From now on hear packets from addresses that the guest may not have, or (not OWN) do not hear them."""
        self.listens = own
        try:
            self.socket.listen_for(_program(self.service, own=own))
        except Failure:
            self.tally["unheard"] += 1  # no memory: what is heard is looked at again, and this guest is told later

    def allow(self, given: Service) -> None:
        """Serve by GIVEN from now on, which only says anew from where the guest may send."""
        self.service = given
        self.listen(own=self.listens)
        if self.used and given.sources6:
            gone = [one for one in self.used if any(IPv6Address(one) in prefix for prefix in given.sources6)]
            for one in gone:
                del self.used[one]

    def serve(self, given: Service) -> None:
        """Serve by GIVEN from now on. What the router told the guest and tells no longer is taken back."""
        router = self.service.router6
        if router and (frame := router.changed(given.router6)):
            self.send(frame, "router_advertisement")
        if self.history:
            self.history.forget(
                *(version for version in (4, 6) if given.address(version) != self.service.address(version))
            )
        if _of_sources(given) != _of_sources(self.service):
            self.allow(given)
        self.service = given

    def part(self, *, withdraw: bool) -> None:
        """Tell the guest that its router is gone. With WITHDRAW its prefix is gone, too."""
        if router := self.service.router6:
            self.send(router.farewell(prefix=withdraw), "router_advertisement")


def _of_sources(given: Service) -> tuple[object, ...]:
    """What of GIVEN is in the guest's socket filter."""
    return given.guest, given.sources6, given.shared, bool(given.router6)


def _program(given: Service, *, own: bool = True) -> bytes:
    """The socket filter for the guest of GIVEN. Without OWN it passes nothing of the guest's own packets; nor with more
    addresses than the kernel compares."""
    shared = [int(one) for one in given.shared if isinstance(one, IPv4Address)]
    # Hardly any guest shares an address, and the others share one filter.
    begin = interesting(int(SERVER), shared) if shared else _PROGRAM
    if own and given.router6 and given.sources6 is not None:
        program = begin + refused(given.guest, given.sources6)
        if len(program) <= LARGEST:
            return program
    return begin + NOTHING_ELSE


class Guests:
    """All guests of the node. JOINED is called when a service begins or changes, LEFT when it ends."""

    def __init__(
        self, config: Config, links: Links, joined: Callable[[Guest], None], left: Callable[[Guest], None]
    ) -> None:
        self._config, self._links, self._joined, self._left = config, links, joined, left
        self._closers = ThreadPoolExecutor(CLOSERS, thread_name_prefix="close")
        self._stamps: Mapping[str, files.Stamp] = {}
        self._readings: dict[str, Reading] = {}
        self._behind: dict[str, set[str]] = {}
        self.served: dict[str, Guest] = {}
        self.invalid: dict[str, Invalid] = {}
        self.unserved: dict[str, str] = {}
        """Taps with a valid binding that cannot be served, and the reason. A missing tap is no trouble."""
        self.unreadable: str | None = None
        """The reason if the directory itself cannot be read."""

    @property
    def bindings(self) -> int:
        return len(self._readings) + len(self.invalid)

    def configure(self, config: Config) -> None:
        """Serve all guests by CONFIG from now on."""
        self._config = config
        self.read_all()
        for name in list(self._readings):
            self._settle(name)
        for guest in self.served.values():
            guest.bucket = Bucket(config.responder.rate, config.responder.rate * BURST)

    def read_all(self) -> None:
        """Read all bindings that changed since the last time."""
        directory = self._config.bindings.directory
        self.unreadable = None
        try:
            found = files.stamps(directory) if self._config.responds else {}
        except Failure as failure:
            self.unreadable, found = failure.what, {}
        known = self._stamps.keys() | self._readings.keys() | self.invalid.keys()
        changed = {name for name in found.keys() | known if name not in found or found[name] != self._stamps.get(name)}
        self._stamps = found
        self.read(changed)

    def read(self, names: Iterable[str]) -> None:
        """Read the bindings of these taps."""
        directory = self._config.bindings.directory
        for name in names:
            if name.startswith("."):
                continue
            self._forget(name)
            try:
                binding = files.binding_of(directory, name) if self._config.responds else None
                if binding:
                    self._remember(name, reading(binding.text))
            except Invalid as invalid:
                self.invalid[name] = invalid
            except Failure as failure:
                self.invalid[name] = Invalid(0, failure.what)
            self._settle(name)

    def _remember(self, name: str, binding: Reading) -> None:
        self._readings[name] = binding
        if binding.router and binding.router != name:
            self._behind.setdefault(binding.router, set()).add(name)

    def _forget(self, name: str) -> None:
        self.invalid.pop(name, None)
        old = self._readings.pop(name, None)
        if old and old.router in self._behind:
            self._behind[old.router].discard(name)
            if not self._behind[old.router]:
                del self._behind[old.router]

    def follow(self, changed: Iterable[str]) -> None:
        """Begin, change or end services because the devices with these names changed."""
        for name in changed:
            for tap in (name, *self._behind.get(name, ())):
                if tap in self._readings or tap in self.served:
                    self._settle(tap)

    def _settle(self, name: str) -> None:
        """Begin, change or end the service of the tap NAME, as device and binding require."""
        self.unserved.pop(name, None)
        device, binding, guest = self._links.by_name.get(name), self._readings.get(name), self.served.get(name)
        if guest and (device is None or binding is None or guest.index != device.index):
            self._end(guest)
            guest = None
        if device is None or binding is None:
            return
        given = self._service(binding, device)
        if guest is None:
            try:
                guest = self.served[name] = Guest(device, given, self._config.responder.rate)
            except Gone:
                return  # the event of its removal comes soon
            except Failure as failure:
                self.unserved[name] = failure.what
                return
        elif guest.service == given:
            return
        elif replace(guest.service, sources6=given.sources6) == given:
            guest.allow(given)  # it claimed an address: nothing that it was told changes
            return
        guest.serve(given)
        self._joined(guest)

    def _service(self, binding: Reading, device: ServedDevice) -> Service:
        """The service for the guest of DEVICE. Its router is the binding's INDEV, or else the tap's bridge."""
        router = self._links.by_name.get(binding.router) if binding.router else None
        router = router or self._links.by_index.get(device.master) or device
        return service(binding, told(binding, self._config), router.mac, routed=router.index == device.index)

    def _end(self, guest: Guest) -> None:
        del self.served[guest.name]
        if guest.index in self._links.by_index:
            # If we merely stop to serve, or cannot read the binding, the guest's prefix is as good as before.
            gone = self._config.responds and guest.name not in self._readings and guest.name not in self.invalid
            guest.part(withdraw=gone)
        self._left(guest)
        # In a thread: closing waits for all CPUs, and other guests must not wait for it.
        self._closers.submit(guest.socket.close)

    def end_all(self, *, farewell: bool) -> None:
        """End every service, with or without a FAREWELL, and wait until all sockets are closed."""
        for guest in list(self.served.values()):
            if farewell:
                self._end(guest)
            else:
                self._closers.submit(guest.socket.close)
        self._closers.shutdown()
