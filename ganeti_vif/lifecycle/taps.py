# SPDX-License-Identifier: BSD-2-Clause
"""The ifindex of a tap, by its name."""

from __future__ import annotations

import socket

from ganeti_vif.nic.tap import missing


def tap_index(tap: str) -> int:
    """The ifindex of TAP. Raises Failure."""
    try:
        return socket.if_nametoindex(tap)
    except OSError as error:
        raise missing(tap) from error
