# SPDX-License-Identifier: BSD-2-Clause
"""What becomes of a packet in the chains through which this node forwards it: ours, and those of other programs. Pure.

A packet passes every base chain of the hook `forward`, in the order of their priorities. Each of them can drop it, and
none can save it from another one. Not every rule can be judged from outside. So the answer for a chain is one of three.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import ip_address, ip_network

from ganeti_vif.engine.objects import Address

DEEPEST = 16
"""Jumps into each other that the kernel allows (NFT_JUMP_STACK_SIZE)."""


class Verdict(Enum):
    """What a chain does with a packet."""

    PASSES = "passes"
    DROPPED = "is dropped"
    UNKNOWN = "may be dropped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarded:
    """A packet on its way through this node. None means that it may be anything."""

    version: int
    incoming: str | None = None
    outgoing: str | None = None
    incoming_group: int | None = None
    outgoing_group: int | None = None
    source: Address | None = None
    destination: Address | None = None
    protocol: str | None = "tcp"
    sport: int | None = None
    dport: int | None = None
    mark: int | None = None
    state: str = "new"
    """Its state in conntrack: `new`, or `established` for an answer."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Whether a FIELD of Forwarded is among VALUES, or NEGATED: is not. An empty field: nobody can say."""

    field: str = ""
    values: tuple[str, ...] = ()
    negated: bool = False

    def holds(self, packet: Forwarded) -> bool | None:
        """Whether PACKET is so. None if that cannot be known."""
        if self.field == "status":
            return self.negated  # nobody has translated it on its way
        actual = getattr(packet, self.field) if self.field else None
        if actual is None:
            return None
        found = [_is(actual, value) for value in self.values]
        if True in found:
            return not self.negated
        return None if None in found else self.negated


def _is(actual: object, value: str) -> bool | None:
    try:
        if isinstance(actual, int):
            low, _, high = value.partition("-")
            return int(low, 0) <= actual <= int(high or low, 0)
        if isinstance(actual, str):
            return actual.startswith(value[:-1]) if value.endswith(("*", "+")) else actual == value
        low, dash, high = value.partition("-")
        address = ip_address(str(actual))
        if dash:
            return int(ip_address(low)) <= int(address) <= int(ip_address(high))
        return address in ip_network(value, strict=False)
    except ValueError:
        return None  # a name, or a set that is kept elsewhere


@dataclass(frozen=True, slots=True)
class ForeignRule:
    """If all TESTS hold, VERDICT: accept, drop, return, `jump CHAIN`, `goto CHAIN`; empty if the rule only counts or
    changes something; `?` if it cannot be known. TEXT is what its administrator knows it by."""

    tests: tuple[Condition, ...]
    verdict: str
    text: str

    def matches(self, packet: Forwarded) -> bool | None:
        """Whether the rule applies to PACKET. None if that cannot be known."""
        found = [test.holds(packet) for test in self.tests]
        return False if False in found else None if None in found else True


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardChain:
    """A base chain of the hook `forward`, with the other CHAINS of its table. PROGRAM is iptables-legacy or its like;
    empty for one of nft. VERSIONS: the IP versions of the packets that pass it."""

    program: str = ""
    family: str
    table: str
    name: str
    priority: int
    policy: str
    versions: frozenset[int]
    chains: Mapping[str, tuple[ForeignRule, ...]] = field(default_factory=dict, hash=False)

    @property
    def where(self) -> str:
        """How the administrator names it."""
        how = f" ({self.program})" if self.program else ""
        chain = f"the chain {self.name} of " if self.name else ""
        return f"{chain}the table {self.family} {self.table}{how}"


@dataclass(frozen=True, slots=True)
class Passage:
    """What CHAIN does with a packet, and BY what."""

    chain: ForwardChain
    verdict: Verdict
    by: str


def passages(packet: Forwarded, chains: Iterable[ForwardChain]) -> Iterator[Passage]:
    """What each of CHAINS does with PACKET, in their order, up to the one that certainly drops it."""
    for chain in sorted(chains, key=lambda one: one.priority):
        if packet.version in chain.versions:
            passage = _passage(packet, chain)
            yield passage
            if passage.verdict is Verdict.DROPPED:
                return


def _passage(packet: Forwarded, chain: ForwardChain) -> Passage:
    found, falls = _walk(packet, chain, chain.name, 0)
    if falls:
        found.setdefault(chain.policy, f"its policy is {chain.policy}")
    if found.keys() == {"drop"}:
        return Passage(chain, Verdict.DROPPED, found["drop"])
    if found.keys() == {"accept"}:
        return Passage(chain, Verdict.PASSES, found["accept"])
    doubt = {"drop": "dropped", "accept": "accepted", "?": "judged by a rule that only the kernel understands"}
    return Passage(chain, Verdict.UNKNOWN, ", or ".join(f"{doubt[one]}: {by}" for one, by in found.items()))


def _walk(packet: Forwarded, chain: ForwardChain, name: str, depth: int) -> tuple[dict[str, str], bool]:
    """The possible ends of PACKET in the chain NAME, each with its first reason; and whether it may come to the end of
    that chain."""
    found: dict[str, str] = {}
    returns = False
    for rule in chain.chains.get(name, ()):
        applies = rule.matches(packet) if rule.verdict else False
        if applies is False:
            continue
        word, _, target = rule.verdict.partition(" ")
        back = False
        if target and depth < DEEPEST:
            ends, back = _walk(packet, chain, target, depth + 1)
            for end, by in ends.items():
                found.setdefault(end, by)
        elif word in ("accept", "drop"):
            found.setdefault(word, rule.text)
        elif word != "return":
            found.setdefault("?", rule.text)
            back = True
        if word in ("return", "goto") and (back or word == "return"):
            returns = True
        if applies and not (word in ("jump", "?") and back):
            return found, returns
    return found, True
