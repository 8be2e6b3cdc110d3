# SPDX-License-Identifier: BSD-2-Clause
"""Capturing frames on a device, before our filters see them (packet(7))."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Collection, Iterator

from ganeti_vif.engine.failure import Failure
from ganeti_vif.kernel import capture_filter
from ganeti_vif.kernel.capture_filter import ETH_P_ALL, Filter

SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23
PACKET_ADD_MEMBERSHIP, PACKET_MR_ALLMULTI = 1, 2
SO_ATTACH_FILTER = 26
_INSTRUCTION = struct.Struct("=HBBI")
_ROUNDS = 64
"""Frames in one call: a guest that sends without end must not keep the daemon from its other work."""


class Capture:
    """A socket that captures incoming frames of DEVICE: gratuitous ARP, RARP, IPv6 neighbour advertisements, or all; or
    what PROGRAM lets pass.

    ALL_GROUPS: also of groups that nobody on this node is a member of. The card passes those as long as the capture is
    open. If SUBJECTS are given, only frames about one of these addresses or MACs (bytes): no other frame wakes who
    polls it. Raises Failure if the socket cannot be opened or bound.
    """

    def __init__(
        self,
        device: str,
        protocol: int = ETH_P_ALL,
        subjects: Collection[bytes] = (),
        *,
        program: Filter = (),
        all_groups: bool = False,
    ) -> None:
        self.device = device
        try:
            # Protocol 0 captures nothing, so no frame of another device gets in before bind().
            self._socket = socket.socket(
                socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0
            )
            self._socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
            if program or protocol != ETH_P_ALL:
                _attach(self._socket, program or capture_filter.of(protocol, subjects, socket.if_nametoindex(device)))
            self._socket.bind((device, protocol))
            if all_groups:
                membership = struct.pack("=iHH8x", socket.if_nametoindex(device), PACKET_MR_ALLMULTI, 0)
                self._socket.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, membership)
        except OSError as error:
            what = f"nothing can be heard on {device}: {os.strerror(error.errno or 0)}"
            raise Failure(what, f"see: ip link show {device}") from error

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def deaf(self) -> bool:
        """Whether the device is gone. The socket does not capture from another device that took the name."""
        name: str = self._socket.getsockname()[0]
        return name != self.device

    def close(self) -> None:
        self._socket.close()

    def listen_for(self, program: Filter) -> None:
        """Capture what PROGRAM lets pass from now on, and forget what came before. It takes microseconds; to close a
        capture and open another takes 13 ms, because the kernel waits for all CPUs. Raises Failure if it is refused."""
        try:
            _attach(self._socket, program)
            for _ in range(_ROUNDS):
                self._socket.recv(1)
        except BlockingIOError:
            return
        except OSError as error:
            what = f"nothing can be heard on {self.device}: {os.strerror(error.errno or 0)}"
            raise Failure(what, f"see: ip link show {self.device}") from error

    def frames(self) -> Iterator[bytes]:
        """The frames that came in on the device itself since the last call. Does not wait.

        A socket of one protocol also captures frames of a VLAN on its device, and that VLAN may be a tenant's own
        network. The kernel delivers to the sockets of the first device too (net/core/dev.c, orig_dev). So frames of
        other devices are dropped here.
        """
        for _ in range(_ROUNDS):
            try:
                frame, (device, *_) = self._socket.recvfrom(256)
            except OSError:  # no frame waits, or the device went down
                return
            if device == self.device:
                yield frame


def _attach(one: socket.socket, lines: Filter) -> None:
    code = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*line) for line in lines))
    program = struct.pack("HP", len(lines), ctypes.addressof(code))
    one.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
