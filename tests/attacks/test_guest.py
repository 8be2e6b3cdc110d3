# SPDX-License-Identifier: BSD-2-Clause
"""A real QEMU guest with a virtio card attacks: by frames of its own, and by what its card says beside them.

The victim has an emulated card, for which the node finishes sums and cuts segments.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.kernel.attacks import ATTACKS, Cast
from tests.kernel.environment import CONFIG
from tests.kernel.forging import TCP, UDP, ether, ip4, udp
from tests.kernel.test_attacks import STRICT, essence
from tests.kernel.test_offload import REASON
from tests.kernel.unfinished import TCPV4, beside, hidden
from tests.lab import PacketSocket
from tests.lab.tap import VNET_HEADER

from .conftest import ROWS
from .grammar import Sent, hideable
from .inside import attacker
from .site import MODES, Site, essential, made

pytestmark = pytest.mark.short
LAST = b"the last word."


@dataclass(frozen=True)
class Attempt:
    """A frame that the guest sends, what of it is to be heard wherever it comes out, and why the filter drops it."""

    sent: Sent
    heard: bytes
    reason: str


@dataclass(frozen=True)
class Outcome:
    """What the victim and the bridge have come to know, what the filter dropped, who heard how many frames of the attack,
    and what came to the node: the guest's kernel and the node's refuse some of what cannot be said beside a frame."""

    news: frozenset[str]
    dropped: Counter[str]
    heard: Counter[str]
    sent: list[Attempt]


def stream(cast: Cast, source: str, port: int, options: bytes = b"") -> bytes:
    """A long TCP packet from SOURCE and PORT with OPTIONS of IPv4, which the node cuts into segments."""
    segment = struct.pack("!HHIIBBHHH", port, 4001, 1, 1, 5 << 4, 0x10, 1000, 0, 0) + b"attack" * 600
    packet = ip4(source, cast.other, TCP, options + segment)
    return ether(cast.mac, cast.to, 0x0800, bytes([0x45 + len(options) // 4]) + packet[1:])


def segments(cast: Cast) -> list[Attempt]:
    """Forged headers of segmentation (GSO)."""
    options = b"\1" * 20
    kinds = (
        (stream(cast, cast.other, 5001), 34, 16, TCPV4, "foreign IPv4 address"),
        (stream(cast, cast.ip, 5002, options), 34, 16, TCPV4, REASON),  # the sum goes into the options
        (stream(cast, cast.ip, 5003), 24, 16, TCPV4, REASON),  # into a number of TCP's
        (stream(cast, cast.ip, 5004), 34, 12, TCPV4, REASON),  # into its flags
        (cast.arp(1, cast.ip, cast.gateway), 14, 16, TCPV4, REASON),
    )
    return [
        Attempt((frame, beside(start, offset, gso=gso, headers=start + 20, size=1000)), frame[26:38], reason)
        for frame, start, offset, gso, reason in kinds
    ]


def sums(cast: Cast) -> list[Attempt]:
    """Attacks that are there only once the node has finished a sum."""
    return [Attempt(hidden(shown, meant), essence(meant), REASON) for shown, meant in hideable(cast)]


def sources(cast: Cast) -> list[Attempt]:
    """Forged frames with nothing beside them: all of the matrix of tests/kernel/test_attacks.py."""
    frames = [(build(cast), reason) for build, reason in ATTACKS.values()]
    return [Attempt((frame, VNET_HEADER), essence(frame), reason) for frame, reason in frames]


KINDS: dict[str, Callable[[Cast], list[Attempt]]] = {
    "unfinished sums": sums,
    "forged segments": segments,
    "forged frames": sources,
}


def word(cast: Cast) -> Sent:
    """The last frame of all, an honest one."""
    packet = ip4(cast.ip, cast.other, UDP, udp(cast.ip, cast.other, 4002, 4003, LAST))
    return ether(cast.mac, cast.to, 0x0800, packet), VNET_HEADER


def attack(site: Site, attempts: Sequence[Attempt], stack: ExitStack) -> Outcome:
    """Let a real guest send all ATTEMPTS."""
    frames = [*(one.sent for one in attempts), word(site.cast)]
    own = stack.enter_context(PacketSocket(site.node, site.tap))
    ears = {
        "victim": stack.enter_context(PacketSocket(site.victim, "eth0")),
        "gateway": stack.enter_context(PacketSocket(site.gateway, "eth0")),
    }
    with attacker(site, frames) as guest:
        site.forget()
        known, counted = site.knows(), site.counted()
        guest.attack()
        arrived = Counter(own.before(lambda frame: LAST in frame, "the guest's last word"))
        news = site.knows() - known
        dropped = site.counted() - counted
    heard = Counter({who: heard_of(ear, attempts) for who, ear in ears.items()})
    return Outcome(news, dropped, +heard, [one for one in attempts if arrived[one.sent[0]]])


def heard_of(ear: PacketSocket, attempts: Sequence[Attempt]) -> int:
    """How many frames of the ATTEMPTS have come to EAR so far."""
    frames = iter(lambda: ear.receive(0), None)
    return sum(any(one.heard in frame for one in attempts) for frame in frames)


@pytest.mark.parametrize("mode", MODES)
def test_a_real_guest_reaches_nobody(mode: str, stack: ExitStack) -> None:
    """By all kinds at once: a boot takes longer than they do."""
    config = CONFIG.replace("arp-source", f"{STRICT}arp-source")
    site = made(stack, mode, program=False, emulated=True, config=config)
    kinds = {name: build(site.cast) for name, build in KINDS.items()}
    every = [one for attempts in kinds.values() for one in attempts]
    found = attack(site, every, stack)
    sent = {name: sum(one in found.sent for one in attempts) for name, attempts in kinds.items()}
    row = (
        f"{mode:16} {'real guest':26} sent {', '.join(f'{count} {name}' for name, count in sent.items())}; the victim"
        f" heard {found.heard['victim']}, the gateway {found.heard['gateway']}; the filter: {essential(found.dropped)}"
    )
    ROWS.append(row)
    assert all(sent.values()), f"it sent nothing of its attack: {row}"
    wanted = Counter(one.reason for one in found.sent)
    assert {reason: found.dropped[reason] for reason in wanted} == wanted
    assert (found.heard, found.news) == (Counter(), frozenset()), row


def test_a_real_guest_without_a_guard_is_heard_and_believed(stack: ExitStack) -> None:
    """Or the test above could not fail. It sends nothing but what is hidden in sums and segments."""
    site = made(stack, "bridged", program=False, emulated=True, unguarded=True)
    found = attack(site, [*sums(site.cast), *segments(site.cast)], stack)
    ROWS.append(
        f"bridged, unguarded real guest: the victim heard {found.heard['victim']}; {'; '.join(sorted(found.news))}"
    )
    assert found.heard["victim"] > 0
    assert [one for one in found.news if one.startswith("the victim has a route")], "the router advertisement"
    assert [one for one in found.news if one.endswith(f"at {site.cast.mac}")], "ARP, or an advertisement"
