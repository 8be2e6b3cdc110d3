# SPDX-License-Identifier: BSD-2-Clause
"""Capturing frames on a device, before any filter of ours (packet(7))."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Iterator, Sequence

from ganeti_vif.engine.failure import Failure

ETH_P_ALL, ETH_P_ARP, ETH_P_RARP, ETH_P_IPV6 = 3, 0x0806, 0x8035, 0x86DD
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23
SO_ATTACH_FILTER = 26
_INSTRUCTION = struct.Struct("=HBBI")
_GRATUITOUS = (
    (0x20, 0, 0, 28),  # ld [28]: the sender's protocol address
    (0x07, 0, 0, 0),  # tax
    (0x20, 0, 0, 38),  # ld [38]: the target's
    (0x1D, 0, 1, 0),  # jeq x
    (0x06, 0, 0, 256),
    (0x06, 0, 0, 0),
)
_ADVERTISEMENTS = (
    (0x28, 0, 0, 12),  # ldh [12]: the EtherType
    (0x15, 0, 5, ETH_P_IPV6),
    (0x30, 0, 0, 20),  # ldb [20]: the next header
    (0x15, 0, 3, 58),
    (0x30, 0, 0, 54),  # ldb [54]: the type of ICMPv6
    (0x15, 0, 1, 136),
    (0x06, 0, 0, 256),
    (0x06, 0, 0, 0),
)
_PROGRAMS = {ETH_P_ARP: _GRATUITOUS, ETH_P_IPV6: _ADVERTISEMENTS}
"""What is heard of a protocol (kernel doc networking/filter): an uplink carries too much to be heard whole."""
_ROUNDS = 64
"""Frames at once: a guest that never rests must not keep its listener from everything else."""


class Capture:
    """A socket that hears what comes in by DEVICE: gratuitous ARP, RARP, IPv6's advertisements, or all.

    Raises Failure.
    """

    def __init__(self, device: str, protocol: int = ETH_P_ALL) -> None:
        self.device = device
        try:
            # Protocol 0 hears nothing, so no frame of another device slips in before bind().
            self._socket = socket.socket(
                socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0
            )
            self._socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
            if protocol in _PROGRAMS:
                _attach(self._socket, _PROGRAMS[protocol])
            self._socket.bind((device, protocol))
        except OSError as error:
            what = f"nothing can be heard on {device}: {os.strerror(error.errno or 0)}"
            raise Failure(what, f"see: ip link show {device}") from error

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def deaf(self) -> bool:
        """Whether its device is gone: another may have that name by now, which it does not hear."""
        name: str = self._socket.getsockname()[0]
        return name != self.device

    def close(self) -> None:
        self._socket.close()

    def frames(self) -> Iterator[bytes]:
        """What came in by the device itself meanwhile; does not wait.

        A socket of one protocol also hears what came in a VLAN of its device, which may be a tenant's own network: the
        kernel looks for listeners where a frame came in first (net/core/dev.c, orig_dev).
        """
        for _ in range(_ROUNDS):
            try:
                frame, (device, *_) = self._socket.recvfrom(256)
            except OSError:  # nothing, or the device went down
                return
            if device == self.device:
                yield frame


def _attach(one: socket.socket, lines: Sequence[tuple[int, int, int, int]]) -> None:
    code = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*line) for line in lines))
    program = struct.pack("HP", len(lines), ctypes.addressof(code))
    one.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
