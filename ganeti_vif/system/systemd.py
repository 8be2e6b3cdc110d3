# SPDX-License-Identifier: BSD-2-Clause
"""Reporting the state of a service to systemd (sd_notify(3)): one datagram. Without systemd it does nothing."""

from __future__ import annotations

import os
import socket
from contextlib import suppress


def notify(message: str) -> None:
    """Send MESSAGE, for example READY=1. Never raises: the service also works unwatched."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as one:
        one.connect("\0" + address[1:] if address.startswith("@") else address)
        one.send(message.encode())


def watchdog_seconds() -> float | None:
    """Seconds in which systemd expects a message from the service, or None."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdigit() else None
