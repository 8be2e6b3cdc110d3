# SPDX-License-Identifier: BSD-2-Clause
"""The signature under the word of a node that a guest runs there. Frames and values in, frames and values out.

The signature stands behind the RARP packet, where Ethernet's padding is: a node that knows no signatures reads the
packet and ignores the rest. docs/architecture.md says which words a node believes.
"""

from __future__ import annotations

import hmac
import struct

SKEW = 150 * 10**9
"""Nanoseconds by which the clocks of two nodes may differ: Ganeti's NODE_MAX_CLOCK_SKEW (gnt-cluster verify)."""
_MAGIC = b"gvif\1"
_PACKET = 42
"""Bytes of an Ethernet header and a RARP packet (RFC 903)."""
_TRAILER = struct.Struct("!5sQ16s")
"""The magic number, the time in nanoseconds since 1970, and the first half of the digest."""


def signed(frame: bytes, key: bytes, uuid: str, when: int) -> bytes:
    """FRAME, a RARP packet about the NIC with this UUID, signed with KEY at WHEN, in nanoseconds since 1970."""
    packet = frame[:_PACKET]
    return packet + _TRAILER.pack(_MAGIC, when, _digest(packet, key, uuid, when))


def signed_at(frame: bytes, key: bytes, uuid: str) -> int | None:
    """When FRAME was signed with KEY, as a word about the NIC with this UUID. None if it was not."""
    if len(frame) < _PACKET + _TRAILER.size:
        return None
    magic, when, digest = _TRAILER.unpack_from(frame, _PACKET)
    right = magic == _MAGIC and hmac.compare_digest(digest, _digest(frame[:_PACKET], key, uuid, when))
    return int(when) if right else None


def counts(when: int, now: int, latest: int) -> bool:
    """Whether a word that was signed at WHEN counts at NOW, if the LATEST one that counted was signed at that time.

    A word that somebody recorded and sends again does not.
    """
    return latest < when and abs(now - when) <= SKEW


def _digest(packet: bytes, key: bytes, uuid: str, when: int) -> bytes:
    text = b"ganeti-vif hand-over\0" + packet + struct.pack("!Q", when) + uuid.encode()
    return hmac.digest(key, text, "sha256")[:16]
