# SPDX-License-Identifier: BSD-2-Clause
"""Shared addresses: each leads to the NIC whose guest announced it last, on this node or on another one.

The responder hears the announcement on the tap and tells it. The address is taken from the NIC that it led to, and the
NIC of that guest is attached anew, with the address: so route, neighbour proxy and record follow by the engine. Then it
is announced on the uplink. Another node hears that and leads it to none of its NICs any more.

What is heard on the uplink is not signed. So who hears that somebody else took the address asks for it a moment later.
If nobody has it, and a guest here says that it still does, it leads here again: one lie does not cut a guest off.

The record says what leads where. All that is in memory here may be lost: a daemon that starts asks the neighbours and
the guests.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address

from ganeti_vif.daemon.lives import Lives
from ganeti_vif.daemon.tasks import AGAIN, Announce, Lead, LeadAway, RecallShared, Reconsider, Task
from ganeti_vif.daemon.timers import Timers
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.objects import Address
from ganeti_vif.kernel import packets
from ganeti_vif.lifecycle.attach import attach
from ganeti_vif.lifecycle.recorded import answering_nic, guest_behind, recorded_nics
from ganeti_vif.nic.announcement import neighbour_solicitation, question
from ganeti_vif.nic.nic import Mode, Nic
from ganeti_vif.nic.shared import Announced, leaders, leading, not_leading
from ganeti_vif.responder.limit import Bucket
from ganeti_vif.system import log
from ganeti_vif.system.node import Node

ANSWER = 0.5
"""Seconds that the neighbours have to say that they have an address."""
LISTENS = 1.0
"""Seconds from the daemon's start until it hears what it asks for."""
RATE, BURST = 1.0, 10
"""How often shared addresses move to one guest, each second and at once: a move attaches two NICs."""
LOG_RATE, LOG_BURST = 0.2, 20
"""How many moves are logged, each second and at once."""
MOST = 1024
"""Guests whose moves are counted, and addresses that are asked for, at one time."""


@dataclass(slots=True)
class _Doubt:
    """Does another machine have the address that a guest shares? TAKEN: one said so since it was asked."""

    taken: bool = False


class SharedAddresses:
    """Decides where shared addresses lead."""

    def __init__(self, lives: Lives, node: Node, timers: Timers[Task]) -> None:
        self._lives, self._node, self._timers = lives, node, timers
        self._doubts: dict[tuple[str, Address], _Doubt] = {}
        self._budgets: dict[tuple[str, int], Bucket] = {}
        self._lost: set[tuple[int, Address]] = set()
        self._log = Bucket(LOG_RATE, LOG_BURST)
        timers.at(time.monotonic() + LISTENS, RecallShared())

    # What is heard

    def announced(self, word: Announced) -> None:
        """A guest announced an address on its tap, or answered for it."""
        nic = guest_behind(word.index, word.mac)
        if nic is None or nic.mode is not Mode.ROUTED or word.address not in nic.shared:
            return
        if len(self._budgets) > MOST:
            self._budgets.clear()
        if self._budgets.setdefault((nic.tap, nic.index), Bucket(RATE, BURST)).take(time.monotonic()):
            self._timers.at(time.monotonic(), Lead(nic.tap, word.address))

    def said(self, address: Address, mac: str) -> None:
        """The machine with MAC, on the uplink, says that it has ADDRESS."""
        for (_, asked), doubt in self._doubts.items():
            if asked == address and not doubt.taken:
                doubt.taken = mac not in self._own_macs()

    def taken(self, nic: Nic, address: Address) -> None:
        """Somebody on the uplink announced ADDRESS, which leads to NIC."""
        self._timers.at(time.monotonic(), LeadAway(nic.tap, address))

    def ask(self, nic: Nic) -> None:
        """Ask the guest of NIC, which is here since a moment, which of its shared addresses it has: it may have come
        from another node, and announces them only if its driver does. What somebody else took from it since is his."""
        here = self._lives.attached(nic) if nic.shared else None
        for address in here.shared if here else ():
            if here and address not in here.leads and (here.index, address) not in self._lost:
                self._ask_guest(here, address)

    def recall(self) -> None:
        """Nobody listened for a while: see who has the shared addresses of this node's NICs."""
        for nic in recorded_nics():
            if nic.shared and answering_nic(nic.tap):
                for address in nic.shared:
                    self._doubt(nic, address)

    # What is done

    def lead(self, tap: str, address: Address) -> None:
        """From now on ADDRESS leads to TAP, and to no other tap of this node. Raises Held."""
        with self._lives.locked() as node:
            nic = answering_nic(tap)
            if nic is None or address not in nic.shared:
                return
            before = leaders(nic, address, recorded_nics())
            moved = bool(before) or address not in nic.leads
            try:
                for other in before:
                    self._lose(other, address)
                    with suppress(Failure):  # its tap is gone, and its route with it
                        attach(not_leading(other, address), self._lives.config, node, claims=True)
                self._lost.discard((nic.index, address))
                if moved:
                    attach(leading(nic, address), self._lives.config, node, claims=True)
            except Failure as failure:
                log.say(failure.what, log.Level.ERROR)
                return
        for key in [key for key in self._doubts if key[1] == address]:
            del self._doubts[key]
        if moved:
            self._say(f"{nic.whom}: {address} leads here: its guest announced it")
            for after in AGAIN:
                self._timers.at(time.monotonic() + after, Announce(nic, after))
        self._lives.announce(nic)

    def lead_away(self, tap: str, address: Address) -> None:
        """ADDRESS leads to TAP no more: it was announced on the uplink. Raises Held."""
        if nic := self._led_away(tap, address):
            self._say(f"{nic.whom}: {address} does not lead here any more: another machine announced it")
            self._doubt(nic, address)

    def reconsider(self, tap: str, address: Address) -> None:
        """The neighbours had their time. Raises Held."""
        doubt, nic = self._doubts.get((tap, address)), answering_nic(tap)
        if doubt and nic and doubt.taken and address in nic.leads:
            self._led_away(tap, address)
            self._say(f"{nic.whom}: {address} does not lead here any more: another machine has it")
        elif doubt and nic and not doubt.taken and address not in nic.leads:
            self._node.forget()
            self._ask_guest(nic, address)
        self._doubts.pop((tap, address), None)

    def _led_away(self, tap: str, address: Address) -> Nic | None:
        """The NIC of TAP, if ADDRESS led there, and does not any more. Raises Held."""
        with self._lives.locked() as node:
            nic = answering_nic(tap)
            if nic is None or address not in nic.leads:
                return None
            try:
                attach(not_leading(nic, address), self._lives.config, node, claims=True)
            except Failure as failure:
                log.say(failure.what, log.Level.ERROR)
                return None
        self._lose(nic, address)
        return nic

    def _lose(self, nic: Nic, address: Address) -> None:
        if len(self._lost) > MOST:
            self._lost.clear()
        self._lost.add((nic.index, address))

    # Questions

    def _doubt(self, nic: Nic, address: Address) -> None:
        """Ask the neighbours whether somebody has ADDRESS, and see to it when they had their time."""
        public = self._lives.config.public_link(nic.link)
        self._node.forget()
        uplink = self._node.link(public.uplink) if public else None
        if uplink is None or not uplink.mac or len(self._doubts) > MOST:
            return
        self._doubts[nic.tap, address] = _Doubt()
        self._send(uplink.name, question(address, uplink.mac))
        self._timers.at(time.monotonic() + ANSWER, Reconsider(nic.tap, address))

    def _ask_guest(self, nic: Nic, address: Address) -> None:
        """Its answer comes as an announcement does."""
        link = self._node.link(nic.tap)
        if link and link.index == nic.index and link.mac:
            if isinstance(address, IPv4Address):
                self._send(nic.tap, question(address, link.mac))
            else:
                self._send(nic.tap, neighbour_solicitation(address, link.mac, nic.mac))

    def _own_macs(self) -> set[str]:
        uplinks = (self._node.link(public.uplink) for public in self._lives.config.public)
        return {uplink.mac for uplink in uplinks if uplink and uplink.mac}

    def _send(self, device: str, frame: bytes) -> None:
        with suppress(Failure):  # nobody hears it while the device is down
            packets.send(device, [frame])

    def _say(self, line: str) -> None:
        log.say(line, log.Level.INFO if self._log.take(time.monotonic()) else log.Level.DEBUG)
