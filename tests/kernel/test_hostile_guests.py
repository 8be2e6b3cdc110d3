# SPDX-License-Identifier: BSD-2-Clause
"""A guest that sends half a million frames made to break us: we go on, answer the others, and grow by nothing."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

from tests.lab import PATIENCE, Node, Tap
from tests.unit import guest_frames as good

from .actions import ip
from .conftest import MakeTap, configure
from .environment import public
from .guest_frames import asks, offered, offers
from .responder_lab import DIRECTORY, RESPONDS, bind, responding, said, state

FRAMES = int(os.environ.get("HOSTILE_FRAMES", "500000"))
AT_ONCE = 24
"""Fewer than what the queue of one tap holds, so that each of them is really looked at."""
WARM = 5
"""Parts of a hundred after which memory is looked at for the first time."""


def samples() -> list[bytes]:
    """Good requests of every kind."""
    client, server = (1, b"\0\3\0\1" + good.GUEST), (2, b"\0\3\0\1" + good.TAP)
    identity = (3, b"\0\0\0\7" + bytes(8) + b"\0\5\0\x18" + good.packed("2001:db8::5") + bytes(8))
    asked = [(55, good.ASKED), (61, b"\1" + good.GUEST), (57, b"\5\xdc"), (50, good.packed("192.0.2.5"))]
    return [
        *(good.dhcp(kind, asked) for kind in range(10)),
        good.dhcp(3, [(54, good.packed("192.0.2.1")), *asked]),
        good.dhcp(3, client="192.0.2.5", source="192.0.2.5", destination="192.0.2.1"),
        good.dhcp(1, [(52, b"\3"), (119, bytes(255)), (119, bytes(255))]),
        good.router_solicitation(),
        good.router_solicitation(options=b"\1\1" + good.GUEST),
        *(good.neighbour_solicitation(target) for target in ("2001:db8::1", good.ROUTER, "2001:db8::77")),
        *(good.dhcp6(kind, client, server, identity) for kind in range(14)),
        *(good.dhcp6(kind, client, identity, (6, b"\0\x17\0\x18"), (14, b"")) for kind in range(14)),
        good.arp("169.254.86.73"),
    ]


def mutations(dice: random.Random) -> Iterator[bytes]:
    """Good requests with something wrong, without end. Checksums are mended in most, so that more of us is reached."""
    corpus = samples()
    while True:
        frame = bytearray(dice.choice(corpus))
        for _ in range(dice.randrange(1, 6)):
            at = dice.randrange(6 if dice.random() < 0.02 else 14, len(frame))
            match dice.randrange(6):
                case 0:
                    frame[at] ^= 1 << dice.randrange(8)
                case 1:
                    frame[at] = dice.choice((0, 1, 4, 16, 127, 128, 254, 255))
                case 2:
                    frame[at : at + dice.randrange(1, 9)] = bytes(dice.randrange(1, 9))
                case 3:
                    frame[at:at] = dice.randbytes(dice.randrange(1, 40))
                case 4:
                    del frame[max(at, 20) :]
                case 5:
                    frame += dice.randbytes(dice.randrange(1, 1400 if dice.random() < 0.1 else 30))
            if len(frame) < 20:
                break
        yield bytes(mended(frame) if dice.random() < 0.8 else frame)


def mended(frame: bytearray) -> bytearray:
    """FRAME with right lengths and checksums, where there is room for them."""
    if frame[12:14] == b"\x08\0" and len(frame) > 42:
        length = len(frame) - 14
        frame[14:24] = bytes((0x45, 0, length >> 8, length & 255, 0, 0, 0, 0, 64, 17))
        frame[24:26] = b"\0\0"
        frame[24:26] = good.dpkt.in_cksum(bytes(frame[14:34])).to_bytes(2, "big")
        frame[36:42] = b"\0\x43" + (length - 20).to_bytes(2, "big") + b"\0\0"
    elif frame[12:14] == b"\x86\xdd" and len(frame) > 62:
        length = len(frame) - 54
        frame[18:20] = length.to_bytes(2, "big")
        at = {58: 56, 17: 60}.get(frame[20])
        if at:
            if frame[20] == 17:
                frame[56:60] = b"\x02\x23" + length.to_bytes(2, "big")
            frame[at : at + 2] = b"\0\0"
            pseudo = bytes(frame[22:54]) + length.to_bytes(4, "big") + b"\0\0\0" + bytes(frame[20:21])
            checksum = good.dpkt.in_cksum(pseudo + bytes(frame[54:]))
            frame[at : at + 2] = checksum.to_bytes(2, "big")
    return frame


def resident(pid: int) -> int:
    """Bytes of memory that the process has for itself."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_half_a_million_frames(node: Node, tap: MakeTap) -> None:
    configure(node, RESPONDS + "rate = 100000\ndhcpv6 = stateful\n")
    node.path(DIRECTORY).mkdir(parents=True, exist_ok=True)
    hostile, other = tap(node), tap(node)
    for number, one in ((5, hostile), (6, other)):
        ip(node, f"link set {one.name} up")
        bind(node, one.name, number)
    frames = mutations(random.Random(20261122))
    with responding(node) as daemon:
        warm = 0
        for part in range(100):
            for _ in range(FRAMES // 100 // AT_ONCE + 1):
                for _ in range(AT_ONCE):
                    hostile.send(next(frames))
                heard_out(hostile)
            assert offered(other, asks(6), PATIENCE).address == public(6)
            if part == WARM:
                warm = resident(daemon.pid)
        grown = resident(daemon.pid) - warm
        counts = state(node)["taps"][hostile.name]["counts"]
        assert "Traceback" not in said(node) and "nobody was prepared for" not in said(node)
    assert grown < 1 << 20
    assert counts.get("failed", 0) == 0
    heard = sum(
        number for name, number in counts.items() if not name.endswith(("offer", "ack", "nak", "advertisement"))
    )
    assert heard > FRAMES * 0.7  # the rest is of no kind that the socket lets through
    for name in ("malformed", "spoofed", "dhcp4_discover", "router_solicitation", "neighbour_solicitation"):
        assert counts[name] > 100, counts
    assert counts["dhcp6_advertise"] > 10


def heard_out(tap: Tap) -> None:
    """Return when everything that was sent has been heard: what is asked last is answered after it."""
    tap.send(asks(5))
    deadline = time.monotonic() + PATIENCE
    for frame in tap.frames(deadline):
        if offers(frame) and frame[46:50] == b"\0\0\0\5":
            return
    raise TimeoutError(f"{tap}: no answer to a good request")


def test_a_flood_does_not_keep_others_waiting(node: Node, tap: MakeTap) -> None:
    configure(node, RESPONDS)
    node.path(DIRECTORY).mkdir(parents=True, exist_ok=True)
    hostile, other = tap(node), tap(node)
    for number, one in ((5, hostile), (6, other)):
        ip(node, f"link set {one.name} up")
        bind(node, one.name, number)
    frame = asks(5)
    with responding(node):
        for _ in range(50):
            for _ in range(400):
                hostile.send(frame)
            other.clear()
            other.send(asks(6))
            other.expect(offers, "an answer to the only request")
        counts = state(node)["taps"][hostile.name]["counts"]
        assert counts["limited"] > 0
        assert counts["dhcp4_discover"] < 20000
