# SPDX-License-Identifier: BSD-2-Clause
"""Guests that may leave this node: what is captured on the uplinks until another node says that it has them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ganeti_vif.config.model import Config
from ganeti_vif.desired import routed
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.objects import Address
from ganeti_vif.kernel import capture
from ganeti_vif.kernel.capture import Capture
from ganeti_vif.nic.announcement import announced, arrived
from ganeti_vif.nic.nic import Nic
from ganeti_vif.system import log, records

KINDS = (capture.ETH_P_RARP, capture.ETH_P_ARP, capture.ETH_P_IPV6)
"""The protocols in which another node says where a guest is."""


@dataclass(slots=True)
class _Leaving:
    """The taps of one instance by the MACs and addresses of its NICs, what is captured for them, and UNTIL when."""

    taps: dict[Address | str, str]
    captures: tuple[Capture, ...]
    until: float


class Departures:
    """The instances whose guests may leave. All of it may be lost: then the NIC is cleared when its tap goes."""

    def __init__(self) -> None:
        self._leaving: dict[str, _Leaving] = {}

    def __bool__(self) -> bool:
        return bool(self._leaving)

    @property
    def descriptors(self) -> list[int]:
        """What to poll for reading."""
        return [one.fileno() for leaving in self._leaving.values() for one in leaving.captures]

    def begin(self, instance: str, nics: Iterable[Nic], config: Config, until: float) -> bool:
        """The guests behind NICS, which are INSTANCE's, may leave from now on, UNTIL then at most.

        Returns whether it will be heard that they have left. If not, that is logged.
        """
        self.end(instance)
        nics = list(nics)
        links = [config.public_link(nic.link) for nic in nics]
        uplinks = sorted({public.uplink for public in links if public})
        try:
            captures = tuple(Capture(name, kind) for name in uplinks for kind in KINDS)
        except Failure as failure:
            log.say(f"{instance}: {failure.what}", log.Level.ERROR)
            return False
        taps = {key: nic.tap for nic in nics for key in (nic.mac, *routed.addresses(nic))}
        self._leaving[instance] = _Leaving(taps, captures, until)
        return True

    def end(self, instance: str) -> set[str]:
        """The guests of INSTANCE have left, or stay. Returns their taps."""
        leaving = self._leaving.pop(instance, None)
        if leaving is None:
            return set()
        for one in leaving.captures:
            one.close()
        return set(leaving.taps.values())

    def over(self, now: float) -> list[str]:
        """The instances that were waited for long enough, or of which nothing is here any more."""
        return [
            instance
            for instance, leaving in self._leaving.items()
            if now > leaving.until or not any(map(records.exists, leaving.taps.values()))
        ]

    def claimed(self) -> set[str]:
        """The taps of the guests that another node says to have, by the frames that came meanwhile."""
        taps = set()
        for leaving in self._leaving.values():
            frames = [frame for one in leaving.captures for frame in one.frames()]
            told = {arrived(frame) or announced(frame) for frame in frames}
            taps |= {leaving.taps[key] for key in told if key in leaving.taps}
        return taps
