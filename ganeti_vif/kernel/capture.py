# SPDX-License-Identifier: BSD-2-Clause
"""Capturing frames on a device, before our filters see them (packet(7))."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from ipaddress import IPv6Address

from ganeti_vif.engine.failure import Failure

ETH_P_ALL, ETH_P_ARP, ETH_P_RARP, ETH_P_IPV6 = 3, 0x0806, 0x8035, 0x86DD
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23
SO_ATTACH_FILTER = 26
_INSTRUCTION = struct.Struct("=HBBI")
Instruction = tuple[int, int, int, int]
_ACCEPT, _DROP = (0x06, 0, 0, 256), (0x06, 0, 0, 0)
_GRATUITOUS = (
    (0x20, 0, 0, 28),  # ld [28]: the sender's protocol address
    (0x07, 0, 0, 0),  # tax
    (0x20, 0, 0, 38),  # ld [38]: the target's
    (0x1D, 1, 0, 0),  # jeq x
    _DROP,
)
_ADVERTISEMENTS = (
    (0x28, 0, 0, 12),  # ldh [12]: the EtherType
    (0x15, 0, 10, ETH_P_IPV6),
    (0x30, 0, 0, 20),  # ldb [20]: the next header
    (0x15, 0, 8, 58),
    (0x30, 0, 0, 21),  # ldb [21]: the hop limit, which a router would have lowered (RFC 4861, 7.1.2)
    (0x15, 0, 6, 255),
    (0x20, 0, 0, 38),  # ld [38] and [50]: the destination, ff02::1, where nobody asked
    (0x15, 0, 4, 0xFF020000),
    (0x20, 0, 0, 50),
    (0x15, 0, 2, 1),
    (0x30, 0, 0, 54),  # ldb [54]: the type of ICMPv6
    (0x15, 1, 0, 136),
    _DROP,
)
_PROGRAMS: Mapping[int, tuple[Instruction, ...]] = {ETH_P_ARP: _GRATUITOUS, ETH_P_IPV6: _ADVERTISEMENTS}
"""What each protocol's frames have to be (kernel doc networking/filter): what is not dropped here comes to the end. An
uplink carries too many frames to capture all."""
_SUBJECTS = {ETH_P_ARP: 28, ETH_P_RARP: 22, ETH_P_IPV6: 62}
"""Where a frame of each protocol has the address or the MAC that it is about."""
_DEVICE = 0xFFFFF000 + 8
"""SKF_AD_OFF + SKF_AD_IFINDEX (linux/filter.h): the ifindex of the device that a frame came in by."""


def about(address: IPv6Address) -> tuple[tuple[int, int, int, int], ...]:
    """The filter for neighbour discovery about ADDRESS: solicitations and advertisements with it as their target."""
    words = struct.unpack("!4I", address.packed)
    checks = [
        (0x28, 12, ETH_P_IPV6),
        (0x30, 20, 58),
        (0x30, 21, 255),
        *((0x20, 62 + 4 * number, word) for number, word in enumerate(words)),
    ]
    lines: list[tuple[int, int, int, int]] = []
    for number, (load, at, value) in enumerate(checks):
        to_the_end = 2 * (len(checks) - number) + 2
        lines += [(load, 0, 0, at), (0x15, 0, to_the_end, value)]
    return (*lines, (0x30, 0, 0, 54), (0x15, 1, 0, 135), (0x15, 0, 1, 136), (0x06, 0, 0, 256), (0x06, 0, 0, 0))


_ROUNDS = 64
"""Frames in one call: a guest that sends without end must not keep the daemon from its other work."""


class Capture:
    """A socket that captures incoming frames of DEVICE: gratuitous ARP, RARP, IPv6 neighbour advertisements, or all; or
    what PROGRAM lets pass.

    If SUBJECTS are given, only frames about one of these addresses or MACs (bytes): no other frame wakes who polls it.
    Raises Failure if the socket cannot be opened or bound.
    """

    def __init__(
        self,
        device: str,
        protocol: int = ETH_P_ALL,
        subjects: Collection[bytes] = (),
        *,
        program: Sequence[Instruction] = (),
    ) -> None:
        self.device = device
        try:
            # Protocol 0 captures nothing, so no frame of another device gets in before bind().
            self._socket = socket.socket(
                socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0
            )
            self._socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
            if program or protocol != ETH_P_ALL:
                _attach(self._socket, program or _program(protocol, subjects, socket.if_nametoindex(device)))
            self._socket.bind((device, protocol))
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


def _program(protocol: int, subjects: Collection[bytes], index: int) -> list[Instruction]:
    """What the device INDEX itself gets of PROTOCOL, and is about one of SUBJECTS; about anything if there are none."""
    lines = [(0x20, 0, 0, _DEVICE), (0x15, 1, 0, index), _DROP, *_PROGRAMS.get(protocol, ())]
    for subject in subjects:
        lines += _about(subject, _SUBJECTS[protocol])
    return [*lines, _DROP if subjects else _ACCEPT]


def _about(subject: bytes, at: int) -> list[Instruction]:
    """Accept a frame that has SUBJECT from the byte AT on, and go on if it has not."""
    parts = [subject[i : i + 4] for i in range(0, len(subject), 4)]
    lines: list[Instruction] = []
    for number, part in enumerate(parts):
        load = 0x20 if len(part) == 4 else 0x28  # ld or ldh
        lines += [(load, 0, 0, at + 4 * number), (0x15, 0, 2 * (len(parts) - number) - 1, int.from_bytes(part, "big"))]
    return [*lines, _ACCEPT]


def _attach(one: socket.socket, lines: Sequence[Instruction]) -> None:
    code = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*line) for line in lines))
    program = struct.pack("HP", len(lines), ctypes.addressof(code))
    one.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
