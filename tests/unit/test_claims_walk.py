# SPDX-License-Identifier: BSD-2-Clause
"""Guests of two nodes claim addresses in any order: no address ever belongs to two of them.

Two daemons' claims, on nodes in memory, with a wire between them. The wire does what a kernel does: it proxies what is
proxied, and bridged guests defend what they use, but not within the second in which they look for duplicates
themselves (RFC 4862, 5.4).
"""

from __future__ import annotations

import tempfile
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_node import MemoryNode, memory_node
from samples import BRIDGED, CONFIG, ROUTED, nic_of

from ganeti_vif.daemon import claims as claims_module
from ganeti_vif.daemon import lives as lives_module
from ganeti_vif.daemon import questions as questions_module
from ganeti_vif.daemon import refusals as refusals_module
from ganeti_vif.daemon.claims import Claims
from ganeti_vif.daemon.lives import Lives
from ganeti_vif.daemon.solicitations import Solicitations
from ganeti_vif.daemon.tasks import AgeClaims, SettleClaim, Task
from ganeti_vif.daemon.timers import Timers
from ganeti_vif.engine.objects import ProxyNeighbour
from ganeti_vif.kernel import own_addresses
from ganeti_vif.lifecycle import recorded as recorded_module
from ganeti_vif.lifecycle.attach import attach
from ganeti_vif.lifecycle.detach import detach
from ganeti_vif.lifecycle.recorded import recorded, recorded_nics
from ganeti_vif.nic import announcement
from ganeti_vif.nic.claim import Claimed, has
from ganeti_vif.nic.nic import Mode, Nic
from ganeti_vif.reconcile.survey import reconcile
from ganeti_vif.system import log, records

ROUTED_PREFIX, BRIDGED_PREFIX = IPv6Network("2001:db8:77::/64"), IPv6Network("fd00:9::/64")
DETECTION = 1.0
"""Seconds in which a guest looks for duplicates, and does not answer for its address."""


class Ear:
    """What arrives on a device of one of the nodes."""

    deaf = False

    def __init__(self, world: World, device: str) -> None:
        self.device, self._waiting = device, deque[bytes]()
        self.node = world.now
        world.ears.append(self)

    def fileno(self) -> int:
        return 7

    def listen_for(self, _: object) -> None:
        self._waiting.clear()

    def hear(self, frame: bytes) -> None:
        self._waiting.append(frame)

    def frames(self) -> Iterator[bytes]:
        while self._waiting:
            yield self._waiting.popleft()

    def close(self) -> None:
        pass


class Place:
    """One node, with its daemon's claims."""

    def __init__(self, number: int, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.number = number
        self.node = memory_node(directory, monkeypatch)
        monkeypatch.setattr(self.node, "forget", lambda: None)
        self.records = records.DIRECTORY
        reconcile(CONFIG, self.node)
        self.said: deque[Claimed] = deque()
        self.begin()

    def begin(self) -> None:
        """A new daemon: what the old one had in its memory is lost."""
        self.timers = Timers[Task]()
        lives = Lives(CONFIG, self.node, self.timers)
        socket: Any = self
        own_prefixes = Solicitations(self.node, self.timers)  # no NIC here has one
        self.claims = Claims(socket, lives, self.node, self.timers, own_prefixes, lambda _: None)

    def read(self) -> Iterable[Claimed]:
        """The daemon's end of the socket."""
        while self.said:
            yield self.said.popleft()


class World:
    """Both nodes, the wire between them, and the clock."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.time, self.now = 1000.0, 0
        self.ears: list[Ear] = []
        self.began: dict[tuple[str, IPv6Address], float] = {}
        self.places = [Place(number, directory / str(number), monkeypatch) for number in (0, 1)]
        clock: Any = lambda: self.time  # noqa: E731
        for module in (claims_module, refusals_module):
            monkeypatch.setattr(module.time, "monotonic", clock)
        monkeypatch.setattr(log, "say", lambda *_: None)
        monkeypatch.setattr(lives_module.lock, "held", lambda *_, **__: nullcontext())
        monkeypatch.setattr(lives_module, "announce", self._announce)
        monkeypatch.setattr(questions_module, "Capture", lambda device, program: Ear(self, device))
        monkeypatch.setattr(questions_module.packets, "send", self._send)
        monkeypatch.setattr(own_addresses, "ipv6", frozenset)
        monkeypatch.setattr(recorded_module, "if_indextoname", self._name_of)
        self.nics = [self._plugged(place, number) for place in (0, 1) for number in (0, 1, 2, 3)]

    @contextmanager
    def at(self, number: int) -> Iterator[Place]:
        """On that node."""
        before, self.now = self.now, number
        records.DIRECTORY = self.places[number].records
        try:
            yield self.places[number]
        finally:
            self.now = before
            records.DIRECTORY = self.places[before].records

    def _plugged(self, place: int, number: int) -> tuple[int, Nic]:
        mac = f"aa:00:09:09:0{place}:0{number}"
        kind = ROUTED if number < 2 else BRIDGED
        ip = {"IP": f"10.77.1.{10 * place + number + 2}"} if number < 2 else {"IP": f"10.9.0.{10 * place + number + 2}"}
        uuid = f"00000000-0000-4000-8000-0000000000{place}{number}"
        nic = nic_of(kind, INTERFACE=f"tap{number}", MAC=mac, INTERFACE_UUID=uuid, **ip)
        with self.at(place) as there:
            nic = there.node.plug(nic)
            attach(nic, CONFIG, there.node)
        return place, nic

    def _name_of(self, index: int) -> str:
        node = self.places[self.now].node
        return next(name for name, tap in node.taps().items() if tap == index)

    # The wire.

    def _send(self, device: str, frames: Iterable[bytes]) -> None:
        """The node NOW sends FRAMES out of DEVICE. Nobody hears what he sends himself."""
        for frame in frames:
            self._arrives(device, frame, self.now)

    def _arrives(self, device: str, frame: bytes, sender: int) -> None:
        for ear in self.ears:
            if ear.device == device and ear.node != sender:
                ear.hear(frame)
        found = announcement.discovered(frame)
        if found is None or found[0] != announcement.NEIGHBOUR_SOLICITATION:
            return
        for number, place in enumerate(self.places):
            if self._defends(number, place.node, device, found[1], sender):
                answer = announcement.neighbour_advertisement(found[1], bytes([2, 0, 0, 0, 0, number]))
                for ear in self.ears:
                    if ear.device == device and ear.node == sender:
                        ear.hear(answer)

    def _defends(self, number: int, node: MemoryNode, device: str, address: IPv6Address, sender: int) -> bool:
        """Whether the kernel of that node, or one of its guests on the bridge, answers for ADDRESS."""
        if device == "eth1":
            proxies = (one for one in node.things.values() if isinstance(one, ProxyNeighbour))
            return number != sender and any((one.device, one.address) == (device, address) for one in proxies)
        with self.at(number):
            having = [nic for nic in recorded_nics() if nic.mode is Mode.BRIDGED and has(nic, address)]
        return any(self.began.get((nic.uuid, address), 0.0) + DETECTION <= self.time for nic in having)

    def _announce(self, nic: Nic, *_: object) -> None:
        for address in nic.claims:
            if nic.mode is Mode.ROUTED:
                self._send("eth1", [announcement.neighbour_advertisement(address, bytes([2, 0, 0, 0, 0, self.now]))])

    # What happens.

    def claim(self, number: int, address: int, *, first: bool) -> None:
        place, nic = self.nics[number]
        prefix = ROUTED_PREFIX if nic.mode is Mode.ROUTED else BRIDGED_PREFIX
        with self.at(place) as there:
            if recorded(nic.tap):
                self.began[nic.uuid, prefix[address]] = self.time if first else 0.0
                there.said.append(Claimed(nic.index, nic.mac, prefix[address], first))
                there.claims.hear()
            self.listen()

    def give(self, number: int, address: int) -> None:
        """Ganeti gives the NIC an address that no NIC of another node has: it would not, and we cannot know."""
        place, nic = self.nics[number]
        if nic.mode is not Mode.ROUTED:
            return
        given = replace(nic, ip=ROUTED_PREFIX[address])
        with self.at(1 - place):
            if any(has(one, ROUTED_PREFIX[address]) for one in recorded_nics()):
                return
        with self.at(place) as there:
            if not any(has(replace(one, claims=()), ROUTED_PREFIX[address]) for one in recorded_nics()):
                attach(given, CONFIG, there.node)

    def move(self, number: int) -> None:
        """The guest goes to the other node, where nobody knows what it claimed."""
        place, nic = self.nics[number]
        with self.at(place) as there:
            detach(nic, CONFIG, there.node)
            there.node.unplug(nic.tap)
        with self.at(1 - place) as there:
            nic = there.node.plug(replace(nic, tap=f"new{number}", claims=()))
            attach(nic, CONFIG, there.node)
        self.nics[number] = 1 - place, nic

    def restart(self, number: int) -> None:
        with self.at(number % 2) as there:
            there.begin()

    def wait(self, seconds: float) -> None:
        """Time goes by, and both daemons do what is due, in the order of time."""
        end = self.time + seconds
        while True:
            due, number = min((place.timers.next(), place.number) for place in self.places)
            if due > end:
                break
            self.time = max(self.time, due)
            with self.at(number) as there:
                task = there.timers.take(self.time)
                match task:
                    case SettleClaim(tap=tap, address=address):
                        there.claims.settle(tap, address)
                    case AgeClaims(tap=tap):
                        there.claims.age(tap)
            self.listen()
        self.time = end

    def listen(self) -> None:
        for number in (0, 1):
            with self.at(number) as there:
                there.claims.hear()

    def owners(self) -> Counter[tuple[str, IPv6Address]]:
        """How many guests have each address, by the kind of their network."""
        found: Counter[tuple[str, IPv6Address]] = Counter()
        for number in (0, 1):
            with self.at(number):
                for nic in recorded_nics():
                    chosen = {*nic.claims, *([nic.ip] if isinstance(nic.ip, IPv6Address) else [])}
                    found.update((nic.link, one) for one in chosen if isinstance(one, IPv6Address))
        return found


nics, some = st.integers(0, 7), st.integers(2, 5)
steps = st.one_of(
    st.tuples(st.just("claim"), nics, some, st.booleans()),
    st.tuples(st.just("claim"), nics, some, st.booleans()),
    st.tuples(st.just("wait"), st.sampled_from([0.01, 0.2, 0.3, 0.6, 1.5, 10.0, 400.0])),
    st.tuples(st.just("wait"), st.sampled_from([0.01, 0.2, 0.3, 0.6])),
    st.tuples(st.just("give"), nics, some),
    st.tuples(st.just("move"), nics),
    st.tuples(st.just("restart"), nics),
)


@settings(max_examples=30, deadline=None)
@given(walk=st.lists(steps, min_size=5, max_size=30))
def test_no_address_ever_belongs_to_two_guests(walk: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as monkeypatch:
        world = World(Path(directory), monkeypatch)
        for what, *values in walk:
            match what:
                case "claim":
                    world.claim(values[0], values[1], first=values[2])
                case _:
                    getattr(world, what)(*values)
            assert all(count == 1 for count in world.owners().values()), world.owners()


@pytest.mark.parametrize(
    ("one", "other"),
    [(0, 1), (0, 4), (2, 3), (2, 6)],
    ids=["routed", "routed, two nodes", "bridged", "bridged, two nodes"],
)
@pytest.mark.parametrize("after", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("first", [True, False], ids=["asked", "used"])
def test_the_first_of_two_guests_has_the_address(
    one: int, other: int, after: float, first: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch)
    world.claim(one, 5, first=first)
    world.wait(after)
    world.claim(other, 5, first=first)
    world.wait(5.0)
    place, nic = world.nics[one]
    with world.at(place):
        won = recorded(nic.tap)
    assert won and len(won.claims) == 1
    assert [*world.owners().values()] == [1]
