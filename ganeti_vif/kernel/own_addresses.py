# SPDX-License-Identifier: BSD-2-Clause
"""The IPv6 addresses of the node itself (proc(5), /proc/net/if_inet6): asked for without a request to the kernel."""

from __future__ import annotations

from ipaddress import IPv6Address
from pathlib import Path

_FILE = Path("/proc/net/if_inet6")


def ipv6() -> frozenset[IPv6Address]:
    """Those of all devices; tentative ones too. None on a kernel without IPv6."""
    try:
        lines = [line.split() for line in _FILE.read_text(encoding="ascii").splitlines()]
    except FileNotFoundError:
        return frozenset()
    return frozenset(IPv6Address(int(line[0], 16)) for line in lines)
