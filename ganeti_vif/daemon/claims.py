# SPDX-License-Identifier: BSD-2-Clause
"""Claims of this node's guests: who asks for an address, whether somebody has it, and when it is free again.

A guest tells of an address by neighbour discovery. nic/claim.py says whether it may have such an address. If no NIC of
this node has it, the neighbours are asked. If none answers for TENTATIVE seconds, the NIC is attached anew, with the
address: so its filter, its route and its neighbour proxy follow by the engine, and its record keeps the claim. A guest
waits for a second before it uses an address (RFC 4862, 5.4; RetransTimer in RFC 4861, 10).

All that is in memory here may be lost: guests that use an address tell of it again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import IPv6Address

from ganeti_vif.config.model import CLAIMS, LinkLocal, Public
from ganeti_vif.daemon.lives import Lives
from ganeti_vif.daemon.questions import DEFENDED, PROBES, Questions, say
from ganeti_vif.daemon.refusals import Refusals
from ganeti_vif.daemon.solicitations import Solicitations
from ganeti_vif.daemon.tasks import AgeClaims, SettleClaim, Task
from ganeti_vif.daemon.timers import Timers
from ganeti_vif.desired.notes import refused
from ganeti_vif.engine.failure import Failure
from ganeti_vif.kernel import own_addresses
from ganeti_vif.lifecycle.attach import attach
from ganeti_vif.lifecycle.context import link_local_of
from ganeti_vif.lifecycle.recorded import guest_behind, recorded, recorded_nics
from ganeti_vif.nic.announcement import neighbour_solicitation
from ganeti_vif.nic.claim import Claimed, has, owner, refusal, shares, without
from ganeti_vif.nic.identity import has_tap, is_same
from ganeti_vif.nic.nic import Mode, Nic
from ganeti_vif.nic.shared import Announced
from ganeti_vif.responder.limit import Bucket
from ganeti_vif.system import log, records
from ganeti_vif.system.claim_socket import ClaimSocket
from ganeti_vif.system.node import Node

AGE = 300.0
"""Seconds after which a guest is asked whether it still uses an address (RFC 6620, 3.2.3: DEFAULT_LT)."""
STRIKES = 3
"""How many times it is asked in vain. A guest that is paused for longer claims the address again."""
CROWDED = 2.0
"""Seconds that a guest with all its claims has to say which of them it uses, when it claims one more."""
REPEATED = 2.0
"""Seconds in which the responder tells once that a guest uses an address."""
MOST = 256
"""Claims of the whole node that are looked into at one time."""
RATE, BURST = 0.5, 20
"""How many claims of one guest are looked into, each second and at once: each takes the daemon some milliseconds."""


class Claims:
    """Decides about the claims that come in by SOCKET. ANNOUNCED decides about shared addresses."""

    def __init__(
        self,
        claim_socket: ClaimSocket,
        lives: Lives,
        node: Node,
        timers: Timers[Task],
        solicitations: Solicitations,
        announced: Callable[[Announced], None],
    ) -> None:
        self._socket, self._lives, self._node, self._timers = claim_socket, lives, node, timers
        self._solicitations = solicitations
        self._announced = announced
        self._questions = Questions()
        self._seen: dict[tuple[str, IPv6Address], float] = {}
        self._strikes: dict[tuple[str, IPv6Address], int] = {}
        self._crowded: dict[str, tuple[float, IPv6Address]] = {}
        self._budgets: dict[tuple[str, int], Bucket] = {}
        self._heard = float("-inf")
        self._refusals = Refusals()
        timers.at(time.monotonic() + AGE, AgeClaims())

    @property
    def descriptors(self) -> list[int]:
        """What to poll for reading."""
        return [self._socket.fileno(), *self._questions.descriptors]

    @property
    def refused(self) -> dict[str, dict[str, str]]:
        """The last refusal of each tap that has a record: what is refused, and what to do."""
        self._refusals.keep({tap for tap in self._refusals.told if records.exists(tap)})
        return self._refusals.told

    def hear(self) -> None:
        """Take in what came meanwhile: claims, and the answers of neighbours."""
        for word in self._socket.read():
            self._heard = time.monotonic()
            try:
                if isinstance(word, Announced):
                    self._announced(word)
                else:
                    self._claimed(word)
            except Failure as failure:
                log.say(failure.what, log.Level.ERROR)
        self._questions.listen()

    def settle(self, tap: str, address: IPv6Address) -> None:
        """The neighbours had their time: the NIC of TAP gets ADDRESS, or not. Raises Held."""
        question = self._questions.settle(tap, address)
        if question is None:
            return
        if isinstance(question, float):
            self._timers.at(time.monotonic() + question, SettleClaim(tap, address))
            return
        if question.taken:
            self._refuse(question.nic, address, "another machine has it")
        elif not question.won:
            question.won = self._change(question.nic, f"its guest chose {address}", won=address)
            if question.won and question.nic.mode is Mode.BRIDGED:
                self._timers.at(time.monotonic() + DEFENDED, SettleClaim(tap, address))
                return
        self._questions.close(question)

    def age(self, tap: str = "") -> None:
        """Ask the guests whether they still use what they claimed, and take back what they do not use. Only the guest
        of TAP if it is given: it wants one address more than it may have. Raises Held."""
        if tap:
            self._make_room(tap)
            return
        self._timers.at(time.monotonic() + AGE, AgeClaims())
        nics = recorded_nics()
        for nic in nics:
            if not nic.claims or nic.standby:
                continue
            lost = [one for one in nic.claims if self._is_over(nic, one) or owner(one, nic, nics)]
            if lost:
                self._take_back(nic, lost)
            self._ask_guest(nic)
        known = {(nic.tap, one) for nic in nics for one in nic.claims}
        self._seen = {key: when for key, when in self._seen.items() if key in known}
        self._strikes = {key: count for key, count in self._strikes.items() if key in known}
        taps = {(nic.tap, nic.index) for nic in nics}
        self._refusals.keep({tap for tap, _ in taps})
        self._budgets = {tap: bucket for tap, bucket in self._budgets.items() if tap in taps}

    # Claims

    def _claimed(self, claimed: Claimed) -> None:
        nic = guest_behind(claimed.index, claimed.mac)
        if nic is None or nic.grants.unguarded:
            return
        address, key = claimed.address, (nic.tap, claimed.address)
        if has(nic, address):
            self._seen[key] = time.monotonic()
            self._strikes.pop(key, None)
            if not claimed.first:
                self._solicitations.moved(nic, address, self._lives.config)
            return
        any_link_local = link_local_of(nic, self._lives.config) is LinkLocal.ANY or nic.grants.any_link_local
        if self._questions.is_open(*key) or (address.is_link_local and any_link_local):
            return
        public = self._public(nic)
        gateways = [one for one in (public.gateways if public else ()) if isinstance(one, IPv6Address)]
        if why := refusal(nic, address, gateways):
            self._refuse(nic, address, why)
        elif len(nic.claims) + self._questions.of(nic.tap) >= self._most(nic):
            self._crowd(nic, address)
        elif len(self._questions) < MOST and self._budget(nic).take(time.monotonic()):
            if taken := self._taken(nic, address):
                self._refuse(nic, address, taken)
            else:
                self._ask_neighbours(nic, address, 1 if claimed.first else PROBES)

    def _taken(self, nic: Nic, address: IPv6Address) -> str | None:
        """Who on this node has ADDRESS, or claims it at this moment: nobody hears the node's own questions here."""
        if address in own_addresses.ipv6():
            return "it is the node's own"
        if any(one.uuid != nic.uuid and shares(one, nic) for one in self._questions.about(address)):
            return "another guest claims it"
        other = owner(address, nic, recorded_nics())
        return f"{other.whom} has it" if other else None

    def _budget(self, nic: Nic) -> Bucket:
        return self._budgets.setdefault((nic.tap, nic.index), Bucket(RATE, BURST))

    def _public(self, nic: Nic) -> Public | None:
        return self._lives.config.public_link(nic.link) if nic.mode is Mode.ROUTED else None

    def _most(self, nic: Nic) -> int:
        config = self._lives.config
        of_link = config.public_link(nic.link) if nic.mode is Mode.ROUTED else config.private_network(nic.link)
        return of_link.claims if of_link else CLAIMS

    def _refuse(self, nic: Nic, address: IPv6Address, why: str) -> None:
        self._refusals.say(nic, address, refused(nic, address, why, self._public(nic)))

    def _ask_neighbours(self, nic: Nic, address: IPv6Address, probes: int) -> None:
        """Those on the uplink, or on the bridge."""
        device, mac = self._segment(nic), ""
        if address.is_link_local and nic.mode is Mode.ROUTED:
            device = None  # the node alone is on that link
        if device:
            self._node.forget()
            link = self._node.link(device)
            if link is None or not link.mac:
                return
            mac = link.mac
        try:
            after = self._questions.ask(nic, address, device, mac, probes)
        except Failure as failure:
            self._refuse(nic, address, failure.what)
            return
        self._timers.at(time.monotonic() + after, SettleClaim(nic.tap, address))

    def _segment(self, nic: Nic) -> str | None:
        if nic.mode is Mode.BRIDGED:
            return nic.link
        public = self._public(nic)
        return public.uplink if public else None

    # Age

    def _is_over(self, nic: Nic, address: IPv6Address) -> bool:
        key = nic.tap, address
        if time.monotonic() - self._heard > AGE:
            return False  # the responder tells nothing, so no guest can be heard
        if time.monotonic() - self._seen.setdefault(key, time.monotonic()) < AGE:
            return False
        self._strikes[key] = self._strikes.get(key, 0) + 1
        return self._strikes[key] > STRIKES

    def _ask_guest(self, nic: Nic) -> None:
        link = self._node.link(nic.tap)
        if has_tap(nic, link) and link and link.mac:
            for address in nic.claims:
                say(nic.tap, neighbour_solicitation(address, link.mac, nic.mac))

    def _crowd(self, nic: Nic, address: IPv6Address) -> None:
        """It has all its claims. Perhaps it does not use some of them any more."""
        self._refuse(nic, address, f"it has {self._most(nic)} already")
        if nic.tap not in self._crowded and nic.claims:
            self._crowded[nic.tap] = time.monotonic(), address
            self._node.forget()
            self._ask_guest(nic)
            self._timers.at(time.monotonic() + CROWDED, AgeClaims(nic.tap))

    def _make_room(self, tap: str) -> None:
        since, address = self._crowded[tap]
        nic = recorded(tap) if records.exists(tap) else None
        if nic and not nic.standby:
            silent = [one for one in nic.claims if self._seen.get((tap, one), 0.0) < since - REPEATED]
            if silent:
                self._take_back(nic, silent)
                self._claimed(Claimed(nic.index, nic.mac, address))
        del self._crowded[tap]

    # Changes

    def _take_back(self, nic: Nic, addresses: list[IPv6Address]) -> None:
        self._change(nic, f"its guest does not use {', '.join(map(str, addresses))} any more", lost=addresses)

    def _change(self, nic: Nic, why: str, *, won: IPv6Address | None = None, lost: Iterable[IPv6Address] = ()) -> bool:
        """Attach NIC with WON, and without what it LOST. Returns whether that is done. Raises Held. What else cannot be
        done is logged."""
        with self._lives.locked() as node:
            try:
                now = recorded(nic.tap) if records.exists(nic.tap) else None
                if now is None or not is_same(nic, now) or now.standby or now.mac != nic.mac:
                    return False
                wanted = without(now, lost)
                if won and (other := owner(won, now, recorded_nics())):  # Ganeti gave it to another NIC meanwhile
                    self._refuse(nic, won, f"{other.whom} has it")
                    return False
                if won and not has(wanted, won):
                    wanted = replace(wanted, claims=(*wanted.claims, won))
                attach(wanted, self._lives.config, node, claims=True)
            except Failure as failure:
                log.say(failure.what, log.Level.ERROR)
                if won:
                    self._refusals.say(nic, won, failure)
                return False
        log.say(f"{nic.whom}: {why}")
        if won:
            self._refusals.over(nic.tap, won)
        if won and not won.is_link_local:
            self._lives.announce(wanted)
        return True
