# SPDX-License-Identifier: BSD-2-Clause
"""The encodings that DHCP, DHCPv6 and router advertisements share."""

from __future__ import annotations

import struct
from collections.abc import Iterable


def option4(code: int, value: bytes) -> bytes:
    """A DHCP option. A value of more than 255 bytes becomes several options of the same code (RFC 3396)."""
    parts = [value[at : at + 255] for at in range(0, len(value), 255)] or [b""]
    return b"".join(bytes((code, len(part))) + part for part in parts)


def option6(code: int, value: bytes) -> bytes:
    """A DHCPv6 option (RFC 8415, 21.1)."""
    return struct.pack("!HH", code, len(value)) + value


def option_nd(kind: int, value: bytes) -> bytes:
    """An option of neighbour discovery, padded to a multiple of eight bytes (RFC 4861, 4.6)."""
    value += bytes(-(len(value) + 2) % 8)
    return bytes((kind, (len(value) + 2) // 8)) + value


def names(domains: Iterable[str]) -> bytes:
    """Domain names as in DNS, without compression. All three protocols accept this form, and two require it
    (RFC 3397, RFC 3646, RFC 8106)."""
    return b"".join(
        b"".join(bytes((len(label),)) + label.encode("ascii") for label in domain.rstrip(".").split(".")) + b"\0"
        for domain in domains
    )
