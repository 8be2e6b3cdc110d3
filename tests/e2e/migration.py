# SPDX-License-Identifier: BSD-2-Clause
"""Migration: what a live migration costs the guest's networks."""

from __future__ import annotations

import time
from dataclasses import dataclass

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


def measured(instance: Instance) -> dict[str, Cost]:
    """Migrate INSTANCE, whose guest is configured, with pings on its first routed and its first bridged card."""
    cards = {card.mode: card.ip for card in reversed(instance.cards) if card.ip}
    gateway = instance.cluster.site.gateway
    peers = {"routed": GATEWAY, "bridged": NEIGHBOUR}
    with instance.console() as console:
        inside = {mode: FromGuest(console, peers[mode]) for mode in cards}
        outside = {mode: FromNode(gateway, address, number) for number, (mode, address) in enumerate(cards.items(), 1)}
        _until_flowing(console, inside, outside)
    migrate(instance)
    with instance.console() as console:
        try:
            _until_flowing(console, inside, outside)
        finally:
            far = {mode: pings.stop() for mode, pings in outside.items()}
            near = {mode: pings.stop(console) for mode, pings in inside.items()}
    return {mode: Cost(from_guest=near[mode], from_network=far[mode]) for mode in cards}


def _until_flowing(console: Console, inside: dict[str, FromGuest], outside: dict[str, FromNode]) -> None:
    deadline = time.monotonic() + SLOW
    while not (all(p.flowing() for p in outside.values()) and all(p.flowing(console) for p in inside.values())):
        if time.monotonic() > deadline:
            raise AssertionError("the guest is not reached any more")
