# SPDX-License-Identifier: BSD-2-Clause
"""Questions to the neighbours on an uplink or a bridge: does anybody have an address that a guest chose?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address

from ganeti_vif.engine.failure import Failure
from ganeti_vif.kernel import capture_filter, packets
from ganeti_vif.kernel.capture import Capture
from ganeti_vif.nic.announcement import (
    NEIGHBOUR_ADVERTISEMENT,
    discovered,
    neighbour_advertisement,
    neighbour_solicitation,
)
from ganeti_vif.nic.nic import Mode, Nic
from ganeti_vif.system import log

TENTATIVE = 0.5
"""Seconds in which somebody else may say that it has the address (RFC 6620, 3.2.3: TENT_LT)."""
PROBES = 2
"""How often neighbours are asked, within that time, of an address that its guest uses without having asked them itself
(RFC 6620, 3.2.3, the data trigger). A guest that asked repeats that by its own rules."""
DEFENDED = 1.0
"""Seconds for which the node answers for a bridged guest that has just got its address. The guest itself looks for
duplicates that long, and answers no question meanwhile (RFC 4862, 5.4.5). For a routed guest the kernel answers."""
IDLE = 64
"""Captures that are kept for the next questions."""


@dataclass(slots=True)
class Question:
    """Who else has ADDRESS? NIC claims it. ANSWERS captures what the neighbours say; None if there are none to ask.
    PROBES is how often they are still to be asked. WON: nobody has it, so NIC does; whoever asks is told."""

    nic: Nic
    address: IPv6Address
    answers: Capture | None = None
    mac: str = ""
    taken: bool = False
    probes: int = 0
    won: bool = False


class Questions:
    """The questions that are open. All of it may be lost."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, IPv6Address], Question] = {}
        self._idle: list[Capture] = []

    def __len__(self) -> int:
        return len(self._open)

    @property
    def descriptors(self) -> list[int]:
        """What to poll for reading."""
        return [one.answers.fileno() for one in self._open.values() if one.answers]

    def of(self, tap: str) -> int:
        """How many addresses the guest of TAP claims at this moment."""
        return sum(one == tap and not question.won for (one, _), question in self._open.items())

    def is_open(self, tap: str, address: IPv6Address) -> bool:
        """Whether the neighbours are being asked of ADDRESS for TAP."""
        return (tap, address) in self._open

    def about(self, address: IPv6Address) -> Iterator[Nic]:
        """The NICs whose guests claim ADDRESS at this moment."""
        return (one.nic for one in self._open.values() if one.address == address)

    def ask(self, nic: Nic, address: IPv6Address, device: str | None, mac: str, probes: int) -> float:
        """Ask the neighbours on DEVICE, which has MAC, so many times; nobody if there is no DEVICE. Returns the seconds
        after which to settle the question. Raises Failure if nothing can be sent or heard there."""
        question = Question(nic, address, mac=mac, probes=probes)
        if device:
            try:
                question.answers = self._capture(device, address)
                self._probe(question)
            except Failure:
                self._give_back(question)
                raise
        self._open[nic.tap, address] = question
        return TENTATIVE / probes if device else 0.0

    def settle(self, tap: str, address: IPv6Address) -> Question | float | None:
        """The question about ADDRESS, which is closed now: the neighbours had their time. Or the seconds that they have
        left, because they were asked again. None if there is no such question."""
        question = self._open.get((tap, address))
        if question is None:
            return None
        self._listen(question)
        if question.answers and question.probes and not question.taken:
            try:
                self._probe(question)
            except Failure as failure:
                log.say(failure.what, log.Level.DEBUG)  # the first one was sent
            else:
                return TENTATIVE / PROBES
        return question

    def close(self, question: Question) -> None:
        """Forget QUESTION, whatever came out of it."""
        self._give_back(question)
        del self._open[question.nic.tap, question.address]

    def listen(self) -> None:
        """Take in what the neighbours said meanwhile."""
        for question in self._open.values():
            self._listen(question)

    def _probe(self, question: Question) -> None:
        """Raises Failure if it cannot be sent."""
        assert question.answers
        question.probes -= 1
        packets.send(question.answers.device, [neighbour_solicitation(question.address, question.mac)])

    def _listen(self, question: Question) -> None:
        """Somebody has the address; or somebody else asks for it at this moment, and hears that he comes too late."""
        for frame in question.answers.frames() if question.answers else ():
            found = discovered(frame)
            if found is None or found[1] != question.address or frame[6:12].hex(":") == question.nic.mac:
                continue
            if found[0] == NEIGHBOUR_ADVERTISEMENT:
                question.taken = not question.won
            elif question.answers and not question.taken:  # else it is the other who was first
                mac = question.nic.mac if question.nic.mode is Mode.BRIDGED else question.mac
                hardware = bytes.fromhex(mac.replace(":", ""))
                say(question.answers.device, neighbour_advertisement(question.address, hardware))

    def _capture(self, device: str, address: IPv6Address) -> Capture:
        """What neighbours on DEVICE say of ADDRESS. Raises Failure if it cannot be heard."""
        program = capture_filter.about(address)
        for one in self._idle:
            if one.device == device and not one.deaf:
                self._idle.remove(one)
                try:
                    one.listen_for(program)
                except Failure:
                    one.close()
                    raise
                return one
        return Capture(device, program=program)

    def _give_back(self, question: Question) -> None:
        """Its capture serves the next question on that device, unless many are kept."""
        if question.answers:
            self._idle.append(question.answers)
        for one in [one for one in self._idle if one.deaf] or self._idle[:-IDLE]:
            self._idle.remove(one)
            one.close()


def say(device: str, frame: bytes) -> None:
    """Send FRAME out of DEVICE. That it cannot be sent is of no consequence: the next one may be."""
    try:
        packets.send(device, [frame])
    except Failure as failure:
        log.say(failure.what, log.Level.DEBUG)
