# SPDX-License-Identifier: BSD-2-Clause
"""Guests that may leave this node: what is captured on the uplinks until another node says that it has them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from ganeti_vif.config.model import Config
from ganeti_vif.daemon.uplink import key_of_the_cluster
from ganeti_vif.desired import routed
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.objects import Address
from ganeti_vif.kernel import capture_filter
from ganeti_vif.kernel.capture import Capture
from ganeti_vif.nic.announcement import announced, arrived
from ganeti_vif.nic.nic import Nic
from ganeti_vif.nic.word import SKEW, counts, signed_at
from ganeti_vif.system import log, records

MOST = 32
"""Addresses in one filter."""


@dataclass(slots=True)
class _Leaving:
    """The NICs of one instance by their MACs and addresses, what is captured for them, and UNTIL when. KEY is the
    cluster's, if it has one."""

    nics: dict[Address | str, Nic]
    captures: tuple[Capture, ...]
    until: float
    key: bytes | None

    @property
    def taps(self) -> dict[str, Nic]:
        return {nic.tap: nic for nic in self.nics.values()}


@dataclass(slots=True)
class Words:
    """The taps of the guests that run on another node, as somebody says: PROVEN by a signature that counts, or not."""

    proven: set[str] = field(default_factory=set)
    doubtful: dict[str, Nic] = field(default_factory=dict)


class Departures:
    """The instances whose guests may leave. All of it may be lost: then the NIC is cleared when its tap goes."""

    def __init__(self) -> None:
        self._leaving: dict[str, _Leaving] = {}
        self._started = time.time_ns()
        self._latest: dict[str, int] = {}
        """When the last signed word about a NIC was signed, by its UUID. It outlives the migration: a word of the last
        one must not count in the next."""

    @property
    def descriptors(self) -> list[int]:
        """What to poll for reading."""
        return [one.fileno() for leaving in self._leaving.values() for one in leaving.captures]

    @property
    def nics(self) -> Iterator[Nic]:
        """The NICs whose guests may leave."""
        for leaving in self._leaving.values():
            yield from leaving.taps.values()

    def begin(self, instance: str, nics: Iterable[Nic], config: Config, until: float) -> bool:
        """The guests behind NICS, which are INSTANCE's, may leave from now on, UNTIL then at most.

        Returns whether it will be heard that they have left. If not, that is logged.
        """
        self.end(instance)
        self._latest = {uuid: when for uuid, when in self._latest.items() if when > time.time_ns() - 2 * SKEW}
        nics = list(nics)
        by_subject = {key: nic for nic in nics for key in (nic.mac, *_told(nic))}
        captures: list[Capture] = []
        try:
            for uplink in sorted({public.uplink for nic in nics if (public := config.public_link(nic.link))}):
                for kind, subjects in _subjects(nics).items():
                    captures += [Capture(uplink, kind, some) for some in _portions(subjects)]
        except Failure as failure:
            for one in captures:
                one.close()
            log.say(f"{instance}: {failure.what}", log.Level.ERROR)
            return False
        self._leaving[instance] = _Leaving(by_subject, tuple(captures), until, key_of_the_cluster())
        return True

    def end(self, instance: str) -> set[str]:
        """The guests of INSTANCE have left, or stay. Returns their taps."""
        leaving = self._leaving.pop(instance, None)
        if leaving is None:
            return set()
        for one in leaving.captures:
            one.close()
        return set(leaving.taps)

    def over(self, now: float) -> list[str]:
        """The instances that were waited for long enough, or of which nothing is here any more."""
        return [
            instance
            for instance, leaving in self._leaving.items()
            if now > leaving.until or not any(map(records.exists, leaving.taps))
        ]

    def words(self) -> Words:
        """What others say about these guests, by the frames that came meanwhile."""
        words = Words()
        for leaving in self._leaving.values():
            for frame in (frame for one in leaving.captures for frame in one.frames()):
                nic = leaving.nics.get(arrived(frame) or announced(frame) or "")
                if nic and self._is_proven(frame, nic, leaving.key):
                    words.proven.add(nic.tap)
                elif nic:
                    words.doubtful[nic.tap] = nic
        return words

    def _is_proven(self, frame: bytes, nic: Nic, key: bytes | None) -> bool:
        when = signed_at(frame, key, nic.uuid) if key else None
        if when is None or not counts(when, time.time_ns(), self._latest.get(nic.uuid, self._started)):
            return False
        self._latest[nic.uuid] = when
        return True


def _portions(subjects: Iterable[bytes]) -> Iterator[list[bytes]]:
    """SUBJECTS, as many at a time as the kernel takes in one filter (net.core.optmem_max)."""
    left = sorted(subjects)
    while left:
        some, left = left[:MOST], left[MOST:]
        yield some


def _told(nic: Nic) -> list[Address]:
    """The addresses by which another node says that NIC's guest is there. An address that NIC shares says nothing: it
    may lead to another guest by now."""
    return [one for one in routed.led(nic) if one not in nic.shared]


def _subjects(nics: Iterable[Nic]) -> dict[int, set[bytes]]:
    """The MACs and addresses of NICS, by the protocols in which another node says where their guests are."""
    found: dict[int, set[bytes]] = {}
    for nic in nics:
        found.setdefault(capture_filter.ETH_P_RARP, set()).add(bytes.fromhex(nic.mac.replace(":", "")))
        for address in _told(nic):
            match address:
                case IPv4Address():
                    found.setdefault(capture_filter.ETH_P_ARP, set()).add(address.packed)
                case IPv6Address():
                    found.setdefault(capture_filter.ETH_P_IPV6, set()).add(address.packed)
    return found
