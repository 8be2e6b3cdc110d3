"""Sending frames of our own on a device."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable

from engine.failure import Failure


def send(device: str, frames: Iterable[bytes]) -> None:
    """Send FRAMES, whole Ethernet frames, out of DEVICE. Raises Failure."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as packets:
        try:
            packets.bind((device, 0))
            for frame in frames:
                packets.send(frame)
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise Failure(f"nothing can be sent on {device}: {reason}", f"see: ip link show {device}") from error
