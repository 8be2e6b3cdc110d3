# SPDX-License-Identifier: BSD-2-Clause
"""Guests that are on their way to this node: which tap is which NIC's, as soon as Ganeti has started their QEMU.

A wrong answer would give one tenant the network of another. So all of the following must be true, or the NIC is
refused; Ganeti's own call then attaches it, a second after its guest came. The nic files are of this start
(system/qemu/incoming.py). Each names a tap, the tap is new since the hook, and no record gives it to another NIC.
QEMU's name for the NIC is made of the UUID in the hook, and its MAC is the hook's. All of it is true before the taps
are read and after that: QEMU lived meanwhile, and a tap lives as long as the QEMU that holds it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from ganeti_vif.daemon.trouble import Trouble
from ganeti_vif.engine.failure import Failure
from ganeti_vif.ganeti.hook import Migration
from ganeti_vif.lifecycle.recorded import recorded_nics
from ganeti_vif.nic.identity import is_tap_of
from ganeti_vif.nic.nic import Mode, Nic
from ganeti_vif.system import log
from ganeti_vif.system.node import Node
from ganeti_vif.system.qemu import incoming
from ganeti_vif.system.qemu.incoming import Card, NotYet
from ganeti_vif.system.qemu.process import UNNAMED

DOUBT = 10.0
"""Seconds for which a QEMU may wait for its guest until its taps are known: it is still starting, at first."""
SIGHT = "incoming guests"
"""What the trouble is about if nothing can be seen of any of them."""


@dataclass(slots=True)
class _Expected:
    """A migration, until when it is waited for, and the nic files and taps that were here before. SINCE when its QEMU
    is here and its taps are not clear."""

    migration: Migration
    until: float
    files: Mapping[str, incoming.Stamp]
    taps: Mapping[str, int]
    since: float | None = None


class Arrivals:
    """The instances whose NICs have not come yet. All of it may be lost: then Ganeti's own call attaches them."""

    def __init__(self, trouble: Trouble) -> None:
        self._trouble = trouble
        self._expected: dict[str, _Expected] = {}

    @property
    def expected(self) -> list[str]:
        """The instances whose NICs have not come yet."""
        return list(self._expected)

    def begin(self, migration: Migration, node: Node, until: float) -> None:
        """MIGRATION is about to begin, and comes here."""
        self._expected.pop(migration.instance, None)
        try:
            before = incoming.nic_files(migration.instance)
            self._expected[migration.instance] = _Expected(migration, until, before, node.taps())
        except Failure as failure:
            self._trouble.say(SIGHT, failure)

    def end(self, instance: str) -> None:
        """INSTANCE has moved, or its migration failed."""
        self._expected.pop(instance, None)
        self._trouble.over(_about(instance))

    def come(self, node: Node, now: float) -> Iterator[Nic]:
        """The NICs whose QEMU waits for its guest by now, each once, with their taps."""
        for instance, expected in list(self._expected.items()):
            try:
                nics = _nics(expected, node)
            except NotYet as failure:
                expected.since = now if expected.since is None else expected.since
                if now > expected.since + DOUBT:
                    self._trouble.say(_about(instance), failure)
                nics = None
            except Failure as failure:
                self._trouble.say(_about(instance), failure)
                nics = []
            if nics:
                self._trouble.over(SIGHT)
                self._trouble.over(_about(instance))
            if nics is not None or now > expected.until:
                del self._expected[instance]
                yield from nics or []


def _about(instance: str) -> str:
    return f"the taps of {instance}"


def _nics(expected: _Expected, node: Node) -> list[Nic] | None:
    """The NICs that have come, with their taps; None while no QEMU waits for the guest. Raises NotYet and Failure."""
    instance = expected.migration.instance
    cards = incoming.cards(instance, expected.files)
    if not cards:
        return None
    taps = node.taps()
    if incoming.cards(instance, expected.files) != cards:
        return None  # looked at again
    recorded = recorded_nics()
    for card in cards:
        if refused := _refused(card, instance, taps, expected.taps, recorded):
            raise refused
    found = []
    known = {nic.uuid for nic in recorded}
    for nic in expected.migration.nics:
        if nic.mode is Mode.ROUTED and nic.uuid not in known:
            if one := _card(nic, cards):
                found.append(replace(nic, tap=one.tap, index=taps[one.tap]))
            else:
                log.say(
                    f"{instance} NIC {nic.number}: its guest has no such NIC with the MAC {nic.mac}; Ganeti attaches it"
                )
    return found


def _refused(
    card: Card, instance: str, taps: Mapping[str, int], before: Mapping[str, int], recorded: list[Nic]
) -> Failure | None:
    """Why the tap that Ganeti's nic file names for CARD cannot be its own, or None."""
    index = taps.get(card.tap)
    if index is None:
        why, do = f"{card.tap} is no tap of this node", f"see: ip -d link show dev {card.tap}"
    elif before.get(card.tap) == index:
        why, do = f"{card.tap} was here before its migration", "see: ganeti-vif status"
    elif other := next((nic for nic in recorded if is_tap_of(nic, card.tap, index) and not _is(nic, card)), None):
        why, do = f"{card.tap} is the tap of {other.whom}", "see: ganeti-vif status"
    else:
        return None
    return Failure(f"{instance}: not prepared for its guest: Ganeti's nic file names a tap, but {why}", do)


def _is(nic: Nic, card: Card) -> bool:
    return card.mac == nic.mac and (card.netdev == nic.netdev or UNNAMED.fullmatch(card.netdev) is not None)


def _card(nic: Nic, cards: tuple[Card, ...]) -> Card | None:
    """The one of CARDS that is NIC: by its UUID, or by its MAC alone where Ganeti gave it a number for a name."""
    found = [card for card in cards if _is(nic, card)]
    return found[0] if len(found) == 1 else None
