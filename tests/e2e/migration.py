# SPDX-License-Identifier: BSD-2-Clause
"""Migration: what a live migration costs the guest's networks."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

from tests.lab.agent import GuestError

from .console import Console
from .instance import Instance
from .machine import SLOW
from .pings import FromGuest, FromNode, Loss
from .site import GATEWAY, NEIGHBOUR


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of one card during one migration, as its guest saw it and as the network did."""

    from_guest: Loss
    from_network: Loss

    @property
    def worse(self) -> Loss:
        """What the side lost that lost more."""
        both = (self.from_guest, self.from_network)
        return Loss(lost=max(side.lost for side in both), gap_ms=max(side.gap_ms for side in both))


def migrate(instance: Instance) -> None:
    """Migrate a running instance to the other node. Raises CommandFailed."""
    target = instance.cluster.other(instance.home)
    instance.cluster.gnt("instance", "migrate", "-f", "-n", target.name, instance.name)


class GuestLost(Exception):
    """The guest is silent on its serial console, which no network has a part in: QEMU lost it on the way.

    Software emulation loses a guest's last writes now and then, if it migrates under traffic; the guest's kernel panics
    (seen with QEMU 7.2: an skb whose route was not there any more).
    """


def measured(instance: Instance, *, attempts: int = 3) -> dict[str, Cost]:
    """Migrate INSTANCE, whose guest is configured, with pings on its first routed and its first bridged card.

    A migration in which QEMU lost the guest counts for nothing: that is said on standard error, the guest is started
    again, and another one is made.
    """
    for _ in range(attempts - 1):
        try:
            return _measured(instance)
        except GuestLost as lost:
            print(f"{instance.name}: QEMU lost the guest on its way: {lost}", file=sys.stderr)
            instance.cluster.gnt("instance", "reboot", "-t", "hard", "--shutdown-timeout=0", instance.name)
            instance.configure()
    return _measured(instance)


def _measured(instance: Instance) -> dict[str, Cost]:
    """The same, once. Raises GuestLost if the guest is silent before or after: it may die of an earlier migration, too."""
    cards = {card.mode: card.ip for card in reversed(instance.cards) if card.ip}
    gateway = instance.cluster.site.gateway
    peers = {"routed": GATEWAY, "bridged": NEIGHBOUR}
    outside: dict[str, FromNode] = {}
    try:
        with instance.console() as console:
            inside = {mode: FromGuest(console, peers[mode]) for mode in cards}
            for number, (mode, address) in enumerate(cards.items(), 1):
                outside[mode] = FromNode(gateway, address, number)
            _until_flowing(console, inside, outside)
        migrate(instance)
        with instance.console() as console:
            _until_flowing(console, inside, outside)
            near = {mode: pings.stop(console) for mode, pings in inside.items()}
    except GuestError as silent:
        raise GuestLost(str(silent)) from silent
    finally:
        far = {mode: pings.stop() for mode, pings in outside.items()}
    return {mode: Cost(from_guest=near[mode], from_network=far[mode]) for mode in cards}


def _until_flowing(console: Console, inside: dict[str, FromGuest], outside: dict[str, FromNode]) -> None:
    deadline = time.monotonic() + SLOW
    while not (all(p.flowing() for p in outside.values()) and all(p.flowing(console) for p in inside.values())):
        if time.monotonic() > deadline:
            outer = {mode: one.flowing() for mode, one in outside.items()}
            inner = [one.condition(console) for one in inside.values()]
            raise AssertionError(f"the guest is not reached any more: from outside {outer}, from inside {inner}")
