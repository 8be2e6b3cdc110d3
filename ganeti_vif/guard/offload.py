# SPDX-License-Identifier: BSD-2-Clause
"""Checksums that a guest leaves unfinished: a program looks at what filter rules cannot see. Pure.

A guest with a virtio card says beside each frame where its checksum begins and where the sum goes (VIRTIO 1.2,
5.1.6.2, NEEDS_CSUM; csum_start and csum_offset in linux/virtio_net.h). The kernel, or a network card, writes these 16
bits when the frame leaves the node, long after a filter looked at them. So a sum may go to the packet's own TCP or UDP
checksum, or behind it, into data that no rule reads. Any other frame gets the packet mark LIE, and a rule drops it.

The program is of the kind that tc(8) attaches (BPF_PROG_TYPE_SCHED_CLS), and runs before nftables' ingress hook. It
reads where the sum goes from the kernel's own description of the frame (struct sk_buff). Each kernel arranges that
structure in its own way and tells how (BTF). kernel/bpf.py puts the places in when it loads the program.
"""

from __future__ import annotations

import struct

from ganeti_vif.engine.program import Part, Program, Relocation

LIE = 0x564AFFFF
"""The mark of a frame whose sum would go into what the guard reads. No mark of a public link begins like this."""

_LOAD_BYTES, _PROBE_READ_KERNEL = 26, 113
"""Helpers, by their numbers in linux/bpf.h."""
_MARK, _PROTOCOL = 8, 16
"""Offsets of these fields in struct __sk_buff, in bytes."""
_CALL, _EXIT, _JUMP = 0x85, 0x95, 0x05
_MOVE, _MOVE_WORD, _MOVE_NUMBER, _ADD, _ADD_NUMBER, _SUBTRACT, _AND_NUMBER, _SHIFT_LEFT = (
    0xBF, 0xB4, 0xB7, 0x0F, 0x07, 0x1F, 0x57, 0x67,
)  # fmt: skip
_READ_BYTE, _READ_HALF, _READ_WORD, _WRITE_WORD = 0x71, 0x69, 0x61, 0x63
_IF_IS, _IF_IS_NOT, _IF_LESS, _IF_BEFORE = 0x15, 0x55, 0xA5, 0xCD
"""The last one compares two registers, as numbers with a sign."""
_TCP, _UDP, _TCP_SUM, _UDP_SUM = 6, 17, 16, 6
_OPTIONS, _ROUTING, _DESTINATION = 0, 43, 60
_HEADERS = 4
"""How many IPv6 extension headers may come before a TCP or UDP header with an unfinished sum."""
_GO_ON = -1
"""TC_ACT_UNSPEC: the next program of tc, or nftables, decides."""
_LITTLE = struct.pack("=H", 1)[0] == 1
"""Whether this machine is little-endian. Then the two registers in one byte are swapped too."""
_BAD, _GOOD = "bad", "good"


def _swapped(number: int) -> int:
    """NUMBER, 16 bits in network order, as the processor reads it."""
    swapped: int = struct.unpack("=H", struct.pack(">H", number))[0]
    return swapped


class _Lines:
    """Instructions in order. A jump leads to a name, and the name is placed later."""

    def __init__(self) -> None:
        self._lines: list[tuple[int, int, int, int | str, int]] = []
        self._places: dict[str, int] = {}
        self._relocations: list[Relocation] = []

    def add(self, code: int, to: int = 0, by: int = 0, off: int | str = 0, number: int = 0) -> None:
        """One instruction: its code, its two registers, an offset or the name of a place, and a number."""
        self._lines.append((code, to, by, off, number))

    def place(self, name: str) -> None:
        """Let jumps to NAME lead to the next instruction."""
        self._places[name] = len(self._lines)

    def buffer(self, where: int | None, at: int, size: int) -> None:
        """Set the first four arguments of a helper that copies SIZE bytes. In the frame they begin at WHERE (None: at
        register 8), on the stack at offset AT."""
        self.add(_MOVE, 1, 6)
        if where is None:
            self.add(_MOVE, 2, 8)
        else:
            self.add(_MOVE_NUMBER, 2, number=where)
        self.add(_MOVE, 3, 10)
        self.add(_ADD_NUMBER, 3, number=at)
        self.add(_MOVE_NUMBER, 4, number=size)

    def call(self, helper: int) -> None:
        """Call a helper that must succeed, or else the frame is bad."""
        self.add(_CALL, number=helper)
        self.add(_IF_IS_NOT, 0, off=_BAD)

    def load(self, where: int | None, at: int, size: int) -> None:
        """Copy SIZE bytes of the frame to the stack."""
        self.buffer(where, at, size)
        self.call(_LOAD_BYTES)

    def field(self, name: str, size: int, at: int) -> None:
        """Copy SIZE bytes, the kernel's field NAME and what follows it, to the stack."""
        self.add(_MOVE, 1, 10)
        self.add(_ADD_NUMBER, 1, number=at)
        self.add(_MOVE_NUMBER, 2, number=size)
        self.add(_MOVE, 3, 6)
        self.relocated(_ADD_NUMBER, 3, name, Part.PLACE)
        self.call(_PROBE_READ_KERNEL)

    def relocated(self, code: int, to: int, name: str, part: Part, off: int | str = 0) -> None:
        """One instruction whose number is PART of the kernel's field NAME."""
        self._relocations.append(Relocation(at=len(self._lines), field=name, part=part))
        self.add(code, to, off=off)

    def program(self) -> Program:
        """The program, with its jumps."""
        code = b""
        for at, (kind, to, by, off, number) in enumerate(self._lines):
            registers = to | by << 4 if _LITTLE else to << 4 | by
            jump = self._places[off] - at - 1 if isinstance(off, str) else off
            code += struct.pack("=BBhi", kind, registers, jump, number)
        return Program(code=code, relocations=tuple(self._relocations))


def _is_finished(program: _Lines) -> None:
    """Of the values of ip_summed only CHECKSUM_PARTIAL has all bits set."""
    program.add(_MOVE, 6, 1)
    program.field("ip_summed", 1, -8)
    program.add(_READ_BYTE, 1, 10, -8)
    program.relocated(_AND_NUMBER, 1, "ip_summed", Part.MASK)
    program.relocated(_IF_IS_NOT, 1, "ip_summed", Part.MASK, off=_GOOD)


def _place_of_the_sum(program: _Lines) -> None:
    """Register 9 has where the sum goes, counted from the first byte of the frame."""
    program.field("csum_start", 2, -8)
    program.add(_READ_HALF, 9, 10, -8)
    program.field("mac_header", 2, -8)
    program.add(_READ_HALF, 1, 10, -8)
    program.add(_SUBTRACT, 9, 1)
    program.field("csum_offset", 2, -8)
    program.add(_READ_HALF, 1, 10, -8)
    program.add(_ADD, 9, 1)


def _ipv6(program: _Lines) -> None:
    """Register 7 has the type of the next header, register 8 where it begins."""
    program.load(14 + 6, -8, 1)
    program.add(_READ_BYTE, 7, 10, -8)
    program.add(_MOVE_NUMBER, 8, number=14 + 40)
    for header in range(_HEADERS):
        program.add(_IF_IS, 7, off="tcp", number=_TCP)
        program.add(_IF_IS, 7, off="udp", number=_UDP)
        program.add(_IF_IS, 7, off=f"header {header}", number=_OPTIONS)
        program.add(_IF_IS, 7, off=f"header {header}", number=_ROUTING)
        program.add(_IF_IS_NOT, 7, off=_BAD, number=_DESTINATION)
        program.place(f"header {header}")
        program.load(None, -8, 2)
        program.add(_READ_BYTE, 7, 10, -8)
        program.add(_READ_BYTE, 1, 10, -7)
        program.add(_ADD_NUMBER, 1, number=1)
        program.add(_SHIFT_LEFT, 1, number=3)
        program.add(_ADD, 8, 1)
    program.add(_IF_IS, 7, off="tcp", number=_TCP)
    program.add(_IF_IS, 7, off="udp", number=_UDP)
    program.add(_JUMP, off=_BAD)


def _ipv4(program: _Lines) -> None:
    """Registers as in _ipv6(). A fragment never has an honest unfinished sum."""
    program.load(14, -16, 10)
    program.add(_READ_BYTE, 8, 10, -16)
    program.add(_AND_NUMBER, 8, number=0x0F)
    program.add(_SHIFT_LEFT, 8, number=2)
    program.add(_IF_LESS, 8, off=_BAD, number=20)
    program.add(_ADD_NUMBER, 8, number=14)
    program.add(_READ_HALF, 1, 10, -16 + 6)
    program.add(_AND_NUMBER, 1, number=_swapped(0x3FFF))
    program.add(_IF_IS_NOT, 1, off=_BAD)
    program.add(_READ_BYTE, 7, 10, -16 + 9)
    program.add(_IF_IS, 7, off="tcp", number=_TCP)
    program.add(_IF_IS_NOT, 7, off=_BAD, number=_UDP)


def _has_its_place(program: _Lines) -> None:
    program.place("udp")
    program.add(_ADD_NUMBER, 8, number=_UDP_SUM)
    program.add(_JUMP, off="compare")
    program.place("tcp")
    program.add(_ADD_NUMBER, 8, number=_TCP_SUM)
    program.place("compare")
    program.add(_IF_BEFORE, 9, 8, off=_BAD)
    program.add(_JUMP, off=_GOOD)


def _program() -> Program:
    program = _Lines()
    _is_finished(program)
    _place_of_the_sum(program)
    program.add(_READ_WORD, 1, 6, _PROTOCOL)
    program.add(_IF_IS, 1, off="ipv4", number=_swapped(0x0800))
    program.add(_IF_IS_NOT, 1, off=_BAD, number=_swapped(0x86DD))
    _ipv6(program)
    program.place("ipv4")
    _ipv4(program)
    _has_its_place(program)
    program.place(_BAD)
    program.add(_MOVE_WORD, 1, number=LIE)
    program.add(_WRITE_WORD, 6, 1, _MARK)
    program.place(_GOOD)
    program.add(_MOVE_NUMBER, 0, number=_GO_ON)
    program.add(_EXIT)
    return program.program()


PROGRAM = _program()
"""The program's instructions, for the machine that this runs on."""
