# SPDX-License-Identifier: BSD-2-Clause
"""Telling systemd how a service is (sd_notify(3)): one datagram, and nothing where there is no systemd."""

from __future__ import annotations

import os
import socket
from contextlib import suppress


def notify(message: str) -> None:
    """Send MESSAGE, as READY=1. Never raises: the service works without being watched."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as one:
        one.connect("\0" + address[1:] if address.startswith("@") else address)
        one.send(message.encode())


def watchdog_seconds() -> float | None:
    """The time within which systemd wants to hear from us, or None."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdigit() else None
