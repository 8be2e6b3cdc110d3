# SPDX-License-Identifier: BSD-2-Clause
"""The addresses of the node itself (netdevice(7), SIOCGIFCONF; proc(5), /proc/net/if_inet6)."""

from __future__ import annotations

import fcntl
import socket
import struct
from array import array
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from ganeti_vif.engine.objects import Address

_FILE = Path("/proc/net/if_inet6")
_SIOCGIFCONF = 0x8912
_ENTRY = 40 if struct.calcsize("P") == 8 else 32
"""The size of struct ifreq: a name of 16 bytes, and an address in bytes 20 to 24."""
_ROOM = 256 * _ENTRY


def ipv6(device: str | None = None) -> frozenset[IPv6Address]:
    """Those of DEVICE, or of all devices; tentative ones too. None on a kernel without IPv6."""
    try:
        lines = [line.split() for line in _FILE.read_text(encoding="ascii").splitlines()]
    except FileNotFoundError:
        return frozenset()
    return frozenset(IPv6Address(int(line[0], 16)) for line in lines if device in (None, line[5]))


def of(device: str | None) -> frozenset[Address]:
    """The addresses of DEVICE, or of all devices, of both IP versions."""
    return _ipv4(device) | ipv6(device)


def _ipv4(device: str | None) -> frozenset[IPv4Address]:
    room = _ROOM
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as one:
        while True:
            found = array("B", bytes(room))
            asked = struct.pack("iP", room, found.buffer_info()[0])
            length: int = struct.unpack("iP", fcntl.ioctl(one, _SIOCGIFCONF, asked))[0]
            if length + _ENTRY <= room:
                break
            room *= 2  # there may be more of them
    entries = (found[at : at + _ENTRY].tobytes() for at in range(0, length, _ENTRY))
    named = ((entry[:16].partition(b"\0")[0].partition(b":")[0].decode(), entry[20:24]) for entry in entries)
    return frozenset(IPv4Address(address) for name, address in named if device in (None, name))
