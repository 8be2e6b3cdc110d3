"""Routed NICs on their way from one node to another, so that their packets find them the moment their guest moves.

Ganeti configures a routed NIC on the target only when the source's QEMU is gone, a second or more after the guest runs
there (ganeti lib/hypervisor/hv_kvm/__init__.py:2550-2560 at 3.0.2). So its hook, which comes before, names the NICs. On
the target each is attached as *elsewhere*, filtered and up and reachable from nowhere, as soon as QEMU has its tap; the
guest's first frame, or QEMU's announcement of it, says that it lives here. The target says so on the uplink, the source
lets go and says that, and only then the target answers for the guest: nobody is answered by two. If the migration
fails, the guest's next frame on the source says that it lives there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ganeti_vif.config.model import Config
from ganeti_vif.daemon.arrivals import Arrivals
from ganeti_vif.daemon.tasks import Claim, Move
from ganeti_vif.daemon.trouble import Trouble
from ganeti_vif.desired import routed
from ganeti_vif.engine.difference import Change
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.objects import Address
from ganeti_vif.ganeti.hook import Migration
from ganeti_vif.kernel import capture as ears
from ganeti_vif.kernel import packets
from ganeti_vif.kernel.capture import Ear
from ganeti_vif.kernel.netlink.links import Device
from ganeti_vif.lifecycle.attach import Plan
from ganeti_vif.lifecycle.recorded import recorded_nics
from ganeti_vif.nic.announcement import announced, arrival, arrived, departed, departure
from ganeti_vif.nic.nic import Mode, Nic
from ganeti_vif.system import log, records
from ganeti_vif.system.node import Node

LONGEST = 3600.0
"""Seconds for which a NIC is expected, or may leave: a guest that writes fast takes long."""


@dataclass(slots=True)
class Leaving:
    """NICs that may be leaving by an uplink: their taps by MAC and by address. And the ears for who has them now."""

    taps: dict[Address | str, str]
    ears: tuple[Ear, ...]
    until: float


class Migrations:
    """What is known of NICs on their way. All of it may be lost: then Ganeti's own order attaches them, later.

    `to_answer` and `to_let_go` are what it takes to answer for a NIC, and to stop that, as it was seen before.
    """

    def __init__(self, trouble: Trouble) -> None:
        self.arrivals = Arrivals(trouble)
        self._leaving: dict[str, Leaving] = {}
        self._taps: dict[str, Ear] = {}
        self._claimed: dict[str, tuple[str, Ear]] = {}
        self.to_answer: dict[Nic, Plan] = {}
        self.to_let_go: dict[Nic, tuple[Change, ...]] = {}

    @property
    def descriptors(self) -> list[int]:
        """What to poll for reading."""
        uplinks = (ear for leaving in self._leaving.values() for ear in leaving.ears)
        claims = (ear for _, ear in self._claimed.values())
        return [ear.fileno() for ear in (*self._unclaimed.values(), *uplinks, *claims)]

    @property
    def _unclaimed(self) -> dict[str, Ear]:
        """What a guest sends after its first frame says nothing new, and may be a flood: nobody wakes up for it."""
        return {tap: ear for tap, ear in self._taps.items() if tap not in self._claimed}

    @property
    def under_way(self) -> bool:
        """Whether a guest may move at any moment."""
        return bool(self._leaving or self._claimed or self.to_answer)

    def begin(self, migration: Migration, here: str, config: Config, node: Node, now: float) -> list[Nic]:
        """An instance is about to move. HERE is this node's name. Returns the NICs that may leave it."""
        if _short(migration.target) == _short(here):
            if any(_has_way(nic, config) for nic in migration.nics):
                self.arrivals.begin(migration, node, now + LONGEST)
        elif _short(migration.source) == _short(here):
            return self._watch(migration.instance, config, now)
        return []

    def end(self, instance: str) -> None:
        """INSTANCE has moved, or its migration failed."""
        self.arrivals.end(instance)
        self._forget_leaving(instance)

    def _watch(self, instance: str, config: Config, now: float) -> list[Nic]:
        self._forget_leaving(instance)
        nics = [nic for nic in recorded_nics() if nic.instance == instance and _has_way(nic, config)]
        links = [config.public_link(nic.link) for nic in nics]
        uplinks = sorted({public.uplink for public in links if public})
        try:
            kinds = (ears.ETH_P_RARP, ears.ETH_P_ARP, ears.ETH_P_IPV6)
            listening = tuple(Ear(name, kind) for name in uplinks for kind in kinds)
        except Failure as failure:
            log.say(f"{instance}: {failure.what}", log.Level.ERROR)
            return []
        taps = {who: nic.tap for nic in nics for who in (nic.mac, *routed.addresses(nic))}
        self._leaving[instance] = Leaving(taps, listening, now + LONGEST)
        return nics

    def hears(self, tap: str) -> bool:
        """Whether the guest behind TAP is waited for."""
        return tap in self._taps

    def listen(self, tap: str) -> None:
        """Hear the guest behind TAP, whose NIC is elsewhere. Raises Failure."""
        if tap in self._taps and self._taps[tap].deaf:
            self.forget(tap)  # a tap of that name went, and this one came before we heard of it
        if tap not in self._taps:
            self._taps[tap] = Ear(tap)

    def claim(self, nic: Nic, config: Config, node: Node) -> None:
        """Tell the node that NIC's guest ran on that it runs here, and hear whether that lets go. Not to be able to is
        said and no failure: it hears our announcement too, later."""
        uplink = _uplink(nic, config, node)
        if uplink and uplink.link.mac:
            try:
                self._claimed[nic.tap] = nic.mac, Ear(uplink.name, ears.ETH_P_RARP)
                packets.send(uplink.name, [arrival(nic.mac, uplink.link.mac)])
            except Failure as failure:
                log.say(f"{nic.whom}: the node that it left is not told: {failure.what}", log.Level.ERROR)

    def forget_claim(self, tap: str) -> None:
        """The guest behind TAP may be claimed again."""
        if claimed := self._claimed.pop(tap, None):
            claimed[1].close()

    def forget(self, tap: str) -> None:
        """TAP is gone, or its NIC is here."""
        self.forget_plans(tap)
        self.forget_claim(tap)
        if ear := self._taps.pop(tap, None):
            ear.close()

    def forget_plans(self, tap: str | None = None) -> None:
        """What was seen of TAP, or of all, may not be so any more."""
        for plans in (self.to_answer, self.to_let_go):
            for nic in [nic for nic in plans if tap in (None, nic.tap)]:
                del plans[nic]

    def heard(self, now: float) -> Iterator[Claim | Move]:
        """What is to be done about the frames that came meanwhile."""
        for tap, ear in self._unclaimed.items():
            if any(True for _ in ear.frames()):
                yield Claim(tap)
        for tap, (mac, ear) in self._claimed.items():
            if mac in {departed(frame) for frame in ear.frames()}:
                yield Move(tap, here=True)
        for instance, leaving in list(self._leaving.items()):
            frames = [frame for ear in leaving.ears for frame in ear.frames()]
            told = {arrived(frame) or announced(frame) for frame in frames}
            yield from {Move(leaving.taps[who], here=False) for who in told if who in leaving.taps}
            if now > leaving.until or not any(map(records.exists, leaving.taps.values())):
                self._forget_leaving(instance)

    def _forget_leaving(self, instance: str) -> None:
        if leaving := self._leaving.pop(instance, None):
            for ear in leaving.ears:
                ear.close()
            for tap in set(leaving.taps.values()):
                self.forget_plans(tap)


def depart(nic: Nic, config: Config, node: Node) -> None:
    """Tell the node that NIC's guest runs on that this one speaks for it no more. Not to be able to is said and no
    failure: it waits for this, but not for long."""
    uplink = _uplink(nic, config, node)
    if uplink and uplink.link.mac:
        try:
            packets.send(uplink.name, [departure(nic.mac, uplink.link.mac)])
        except Failure as failure:
            log.say(f"{nic.whom}: the node that it is on is not told: {failure.what}", log.Level.ERROR)


def _uplink(nic: Nic, config: Config, node: Node) -> Device | None:
    public = config.public_link(nic.link)
    return node.devices([public.uplink]).by_name.get(public.uplink) if public else None


def _has_way(nic: Nic, config: Config) -> bool:
    return nic.mode is Mode.ROUTED and config.public_link(nic.link) is not None


def _short(name: str) -> str:
    return name.partition(".")[0]
