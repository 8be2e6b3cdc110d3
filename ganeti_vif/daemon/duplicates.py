# SPDX-License-Identifier: BSD-2-Clause
"""Duplicate addresses: another machine on the uplink has an address of a NIC that is attached here.

When a NIC is announced, the neighbours are asked whether they have its addresses (RFC 5227, RFC 4862). The VM does not
wait for the answer. From then on whatever says on the uplink that it has the address is heard. Neither is signed, so it
takes nothing from a guest: it is told. With `duplicates = refuse` an answer in the first moment after an attach keeps
away what leads to the address, until nobody says any more that he has it.

While a guest moves, two nodes say where it is, and that is no conflict: only a NIC that is attached, and neither leaves
nor arrives, has duplicates. All that is in memory here may be lost; the record says what is withheld.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Network

from ganeti_vif.config.model import Config, Duplicates, Public
from ganeti_vif.daemon.lives import Lives
from ganeti_vif.daemon.owner import owner
from ganeti_vif.daemon.shared import SharedAddresses
from ganeti_vif.daemon.tasks import Admit, AskAgain, ListenAgain, Task
from ganeti_vif.daemon.timers import Timers
from ganeti_vif.daemon.trouble import Trouble
from ganeti_vif.desired import routed
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.objects import Address
from ganeti_vif.kernel import capture_filter, packets
from ganeti_vif.kernel.capture import Capture
from ganeti_vif.lifecycle.attach import attach
from ganeti_vif.lifecycle.recorded import answering_nic, recorded_nics
from ganeti_vif.nic.announcement import announced, owned, question
from ganeti_vif.nic.identity import is_same
from ganeti_vif.nic.life import State
from ganeti_vif.nic.nic import Mode, Nic
from ganeti_vif.nic.withheld import withholding
from ganeti_vif.responder.limit import Bucket
from ganeti_vif.system import log, records
from ganeti_vif.system.node import Node

ANSWER = 0.5
"""Seconds that the neighbours have to answer, before a new NIC with `duplicates = refuse` is announced."""
ASK = 5.0
"""Seconds between two questions about a duplicate that is known."""
AGE = 30.0
"""Seconds after which a duplicate is over of which nothing is heard: six questions without an answer."""
RATE, BURST = 100.0, 300.0
"""Frames in a second, and at once, that are looked at on each uplink and of each IP version: for each one the kernel is
asked for a route. Another node that announces all its NICs sends 300 a second: then some are lost."""
MOST = 128
"""Duplicates of the whole node that are remembered: whoever lies on an uplink must not fill the daemon's memory."""
LOG_RATE, LOG_BURST = 0.1, 20
"""How many duplicates are logged, each second and at once. The state shows them all."""
SETTLED = frozenset({State.UNKNOWN, State.ATTACHED})
"""The states in which a NIC that is attached is not on its way: a daemon that starts anew knows nothing of it yet."""


@dataclass(slots=True)
class _Ears:
    """What is captured on the uplink of PUBLIC. Nothing is read while PAUSED."""

    public: Public
    capture: Capture
    bucket: Bucket = field(default_factory=lambda: Bucket(RATE, BURST))
    paused: bool = False


@dataclass(slots=True)
class _Duplicate:
    """The machine with MAC said that it has ADDRESS of NIC, HEARD at that moment. MAC is empty if an earlier daemon
    heard it. QUIET if that was not logged."""

    nic: Nic
    address: Address
    mac: str
    heard: float
    quiet: bool

    @property
    def about(self) -> str:
        return f"duplicate {self.nic.tap} {self.address}"


class DuplicateAddresses:
    """The uplinks that are listened to, and the duplicates that were heard there."""

    def __init__(self, lives: Lives, node: Node, timers: Timers[Task], told: Trouble, shared: SharedAddresses) -> None:
        self._lives, self._node, self._timers, self._told, self._shared = lives, node, timers, told, shared
        self._ears: dict[tuple[str, int], _Ears] = {}
        self._found: dict[tuple[str, Address], _Duplicate] = {}
        self._admitted: dict[str, Nic] = {}
        self._log = Bucket(LOG_RATE, LOG_BURST)
        timers.at(time.monotonic() + ASK, AskAgain())

    @property
    def descriptors(self) -> list[int]:
        """What to poll for reading."""
        return [ears.capture.fileno() for ears in self._ears.values() if not ears.paused]

    def listen(self, config: Config) -> list[Failure]:
        """Listen on the uplinks of CONFIG, and on no others. Returns why that is not possible on some of them."""
        wanted = {(public.name, version): public for public in config.public for version in public.versions}
        for key, ears in list(self._ears.items()):
            if ears.capture.deaf or ears.public != wanted.get(key):
                ears.capture.close()
                del self._ears[key]
        failures = []
        for key in wanted.keys() - self._ears.keys():
            try:
                self._ears[key] = _Ears(wanted[key], _capture(wanted[key], key[1]))
            except Failure as failure:
                failures.append(failure)
        return failures

    def hear(self) -> None:
        """Take in what came meanwhile. Raises Failure if the node cannot be read."""
        for ears in self._ears.values():
            if not ears.paused:
                self._hear(ears)

    def resume(self) -> None:
        """Read again what was too much."""
        for ears in self._ears.values():
            ears.paused = False

    def ask(self, nic: Nic, *, first: bool) -> bool:
        """Ask the neighbours of NIC whether they have its addresses. FIRST: it was attached a moment ago. Returns
        whether its announcement has to wait for the answer."""
        public = self._lives.config.public_link(nic.link) if nic.mode is Mode.ROUTED else None
        here = self._lives.attached(nic) if public else None
        if public is None or here is None or self._lives.state(nic.tap) not in SETTLED:
            return False
        # Whoever claimed an address asked the neighbours before.
        known = {*here.claims, *here.shared}
        self._ask(public, [one for one in routed.addresses(here) if one not in known])
        if not first or public.duplicates is not Duplicates.REFUSE:
            return False
        self._admitted[nic.tap] = here
        self._timers.at(time.monotonic() + ANSWER, Admit(nic.tap))
        return True

    def admit(self, tap: str) -> None:
        """The neighbours had their time: announce the NIC of TAP, without the addresses that others have. Raises
        Held."""
        nic = self._admitted.get(tap)
        if nic is None:
            return
        mine = [one for one in self._found.values() if is_same(one.nic, nic)]
        if mine:
            self._withhold(nic, {one.address for one in mine})
            for one in mine:
                self._say(one, quiet=True)
        self._lives.announce(nic)
        del self._admitted[tap]

    def forget_gone(self) -> None:
        """Forget the duplicates of NICs that are gone."""
        for key, one in list(self._found.items()):
            if not records.exists(one.nic.tap):
                self._told.over(one.about)
                del self._found[key]

    def ask_again(self) -> None:
        """See which duplicates are over, and ask whether the others are. Raises Held."""
        now = time.monotonic()
        self._recall(now)
        self._node.forget()
        for key, one in list(self._found.items()):
            nic = answering_nic(one.nic.tap)
            if nic is None or not is_same(nic, one.nic) or not self._lives.config.public_link(nic.link):
                self._told.over(one.about)
                del self._found[key]
            elif now - one.heard > AGE:
                if self._is_over(nic, one):
                    del self._found[key]
            elif public := self._lives.config.public_link(nic.link):
                self._ask(public, [one.address])
        if self._found:
            self._timers.at(now + ASK, AskAgain())

    # What is heard

    def _hear(self, ears: _Ears) -> None:
        for frame in ears.capture.frames():
            now = time.monotonic()
            if not ears.bucket.take(now):
                ears.paused = True
                self._timers.at(now + ears.bucket.wait(now), ListenAgain())
                return
            if found := owned(frame):
                self._shared.said(found[0], found[1])
                self._owned(*found, ears.public, now, announces=announced(frame) is not None)

    def _owned(self, address: Address, mac: str, public: Public, now: float, *, announces: bool = False) -> None:
        """The machine with MAC says that it has ADDRESS. ANNOUNCES: to all, and nobody asked."""
        self._node.forget()
        here = (one for one in self._found.values() if one.address == address)
        known = next((one for one in here if one.nic.link in (public.name, str(public.table))), None)
        nic = answering_nic(known.nic.tap) if known else None
        if known is None or nic is None or not is_same(nic, known.nic):
            known, nic = None, owner(address, public, self._node)
        uplink = self._node.link(public.uplink)
        if nic is None or uplink is None or mac in (uplink.mac, *nic.macs) or int(mac[:2], 16) & 1:
            return  # the guest itself, if it runs elsewhere on this segment by now
        if address in nic.shared:
            if announces:
                self._shared.taken(nic, address)
            return
        if self._lives.state(nic.tap) not in SETTLED:
            return
        if known:
            moved, known.mac, known.heard = known.mac != mac, mac, now
            if moved:
                self._say(known, quiet=True)
        elif len(self._found) < MOST:
            one = _Duplicate(nic, address, mac, now, quiet=not self._log.take(now))
            self._found[nic.tap, address] = one
            self._say(one, quiet=one.quiet)
            self._timers.at(now + ASK, AskAgain())

    def _say(self, one: _Duplicate, *, quiet: bool) -> None:
        nic = answering_nic(one.nic.tap) or one.nic
        public = self._lives.config.public_link(nic.link)
        where = f" on {public.uplink}" if public else ""
        what = f"{nic.whom}: its address {one.address} is also used by {one.mac or 'another machine'}{where}"
        if one.address in nic.withheld:
            what += ", and does not lead here meanwhile"
        index = nic.uuid if nic.number is None else nic.number
        other = f"gnt-instance modify --net {index}:modify,ip=ADDRESS {nic.instance}"
        self._told.say(
            one.about, Failure(what, f"note: take it from that machine, or give the NIC another: {other}"), quiet=quiet
        )

    def _is_over(self, nic: Nic, one: _Duplicate) -> bool:
        """Give NIC what was withheld. Returns whether that is done; else it is tried again. Raises Held."""
        if one.address in nic.withheld:
            if not self._withhold(nic, set(nic.withheld) - {one.address}):
                return False
            self._lives.announce(nic)
        self._told.over(one.about)
        if not one.quiet:
            log.say(f"{nic.whom}: {one.mac or 'the other machine'} does not use {one.address} any more")
        return True

    def _recall(self, now: float) -> None:
        """What an earlier daemon withheld."""
        for nic in recorded_nics():
            for address in nic.withheld:
                if (nic.tap, address) not in self._found and answering_nic(nic.tap):
                    one = self._found[nic.tap, address] = _Duplicate(nic, address, "", now, quiet=False)
                    self._say(one, quiet=True)

    # What is done

    def _ask(self, public: Public, addresses: Iterable[Address]) -> None:
        uplink = self._node.link(public.uplink)
        if uplink and uplink.mac:
            with suppress(Failure):  # nobody hears it while the uplink is down
                packets.send(uplink.name, [question(address, uplink.mac) for address in addresses])

    def _withhold(self, nic: Nic, addresses: set[Address]) -> bool:
        """Attach NIC without what leads to ADDRESSES. Returns False if that failed, which is logged. Raises Held."""
        with self._lives.locked() as node:
            now = answering_nic(nic.tap)
            if now is None or not is_same(now, nic):
                return True
            try:
                attach(withholding(now, addresses), self._lives.config, node, claims=True)
            except Failure as failure:
                log.say(failure.what, log.Level.ERROR)
                return False
        return True


def _capture(public: Public, version: int) -> Capture:
    """What machines on the uplink of PUBLIC say of addresses of its subnets. Raises Failure if it cannot be heard."""
    subnets4 = [subnet for subnet in public.subnets if isinstance(subnet, IPv4Network)]
    subnets6 = [subnet for subnet in public.subnets if isinstance(subnet, IPv6Network)]
    known = [one for one in (*public.gateways, public.arp_source) if isinstance(one, IPv4Address)]
    if version == 4:
        return Capture(
            public.uplink, capture_filter.ETH_P_ARP, program=capture_filter.senders(subnets4, dict.fromkeys(known))
        )
    return Capture(public.uplink, capture_filter.ETH_P_IPV6, program=capture_filter.advertised(subnets6))
