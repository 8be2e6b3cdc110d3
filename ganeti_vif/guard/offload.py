# SPDX-License-Identifier: BSD-2-Clause
"""Where a guest leaves checksums to be finished: a program that looks at what the rules of a filter cannot see. Pure.

A guest with a virtio card says beside each frame where its checksum begins and where the sum goes (VIRTIO 1.2,
5.1.6.2, NEEDS_CSUM; csum_start and csum_offset in linux/virtio_net.h). The kernel, or a network card, writes these 16
bits when the frame leaves the node: long after a filter looked at them. So a sum may go where the packet's own TCP or
UDP checksum is, or behind that, in the data of which no rule asks; anything else gets LIE, a packet mark, and is
dropped by a rule.

The program is of the kind that tc(8) attaches (BPF_PROG_TYPE_SCHED_CLS), and runs before nftables' ingress hook. BPF
does not tell where a sum goes: the kernel's own fields (bpf_cast_to_kern_ctx) can be asked since Linux 6.2 only. Two
helpers depend on it, in every kernel since 4.10 (bpf-helpers(7)):

* bpf_l4_csum_replace() changes a checksum unless it is unfinished. Tried on the first two bytes of a frame, which are
  put back, it tells whether there is a sum to finish.
* bpf_skb_change_tail() refuses to make a frame so short that there is no place for its unfinished sum any more
  (__bpf_skb_min_len() in net/core/filter.c). It is asked to cut a packet off one byte before the end of its own
  checksum: of an honest packet it refuses that, and nothing has happened. A lie may be cut; it is dropped anyway.
"""

from __future__ import annotations

import struct

LIE = 0x564AFFFF
"""The mark of a frame whose sum would go into what the guard reads. No public link's mark begins like this."""

_LOAD_BYTES, _STORE_BYTES, _CSUM_REPLACE, _CHANGE_TAIL = 26, 9, 11, 38
"""Helpers, by their numbers in linux/bpf.h."""
_MARK, _PROTOCOL = 8, 16
"""Where struct __sk_buff has them."""
_CALL, _EXIT, _JUMP = 0x85, 0x95, 0x05
_MOVE, _MOVE_WORD, _MOVE_NUMBER, _ADD, _ADD_NUMBER, _AND_NUMBER, _SHIFT_LEFT = 0xBF, 0xB4, 0xB7, 0x0F, 0x07, 0x57, 0x67
_READ_BYTE, _READ_HALF, _READ_WORD, _WRITE_WORD = 0x71, 0x69, 0x61, 0x63
_IF_SAME, _IF_IS, _IF_IS_NOT, _IF_LESS = 0x1D, 0x15, 0x55, 0xA5
_TCP, _UDP, _TCP_SUM, _UDP_SUM = 6, 17, 16, 6
_OPTIONS, _ROUTING, _DESTINATION = 0, 43, 60
_HEADERS = 4
"""So many extension headers of IPv6 may come before a TCP or UDP header whose sum is unfinished."""
_EINVAL = 22
_GO_ON = -1
"""TC_ACT_UNSPEC: whatever comes next decides, other programs of tc or nftables."""
_LITTLE = struct.pack("=H", 1)[0] == 1
"""Whether this machine has a number's low bits first; so it has two registers in one byte, then."""
_BAD, _GOOD = "bad", "good"


def _swapped(number: int) -> int:
    """NUMBER, 16 bits as frames have them, as the processor reads them."""
    swapped: int = struct.unpack("=H", struct.pack(">H", number))[0]
    return swapped


class _Program:
    """Instructions as they are written down; jumps lead to names, which are placed later."""

    def __init__(self) -> None:
        self._lines: list[tuple[int, int, int, int | str, int]] = []
        self._places: dict[str, int] = {}

    def add(self, code: int, to: int = 0, by: int = 0, off: int | str = 0, number: int = 0) -> None:
        """One instruction: its code, its two registers, an offset or the name of a place, and a number."""
        self._lines.append((code, to, by, off, number))

    def place(self, name: str) -> None:
        """What is jumped to as NAME is next."""
        self._places[name] = len(self._lines)

    def buffer(self, where: int | None, at: int, size: int) -> None:
        """The first four arguments of a helper that copies: SIZE bytes of the frame from WHERE (None: register 8) on,
        and the stack AT that offset."""
        self.add(_MOVE, 1, 6)
        if where is None:
            self.add(_MOVE, 2, 8)
        else:
            self.add(_MOVE_NUMBER, 2, number=where)
        self.add(_MOVE, 3, 10)
        self.add(_ADD_NUMBER, 3, number=at)
        self.add(_MOVE_NUMBER, 4, number=size)

    def call(self, helper: int) -> None:
        """A helper that has to succeed."""
        self.add(_CALL, number=helper)
        self.add(_IF_IS_NOT, 0, off=_BAD)

    def load(self, where: int | None, at: int, size: int) -> None:
        """SIZE bytes of the frame onto the stack."""
        self.buffer(where, at, size)
        self.call(_LOAD_BYTES)

    def code(self) -> bytes:
        """The program as the kernel takes it (struct bpf_insn)."""
        lines = b""
        for at, (code, to, by, off, number) in enumerate(self._lines):
            registers = to | by << 4 if _LITTLE else to << 4 | by
            jump = self._places[off] - at - 1 if isinstance(off, str) else off
            lines += struct.pack("=BBhi", code, registers, jump, number)
        return lines


def _is_finished(program: _Program) -> None:
    program.add(_MOVE, 6, 1)
    program.load(0, -4, 2)
    program.add(_MOVE, 1, 6)
    program.add(_MOVE_NUMBER, 2, number=0)
    program.add(_MOVE_NUMBER, 3, number=0)
    program.add(_MOVE_NUMBER, 4, number=1)
    program.add(_MOVE_NUMBER, 5, number=2)  # a field of two bytes
    program.call(_CSUM_REPLACE)
    program.load(0, -8, 2)
    program.add(_READ_HALF, 1, 10, -4)
    program.add(_READ_HALF, 2, 10, -8)
    program.add(_IF_SAME, 1, 2, "unfinished")
    program.buffer(0, -4, 2)
    program.add(_MOVE_NUMBER, 5, number=0)
    program.call(_STORE_BYTES)
    program.add(_JUMP, off=_GOOD)


def _ipv6(program: _Program) -> None:
    """Register 7 is what comes next, register 8 where that begins."""
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


def _ipv4(program: _Program) -> None:
    """As above; of a fragment nobody has an unfinished sum."""
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


def _has_its_place(program: _Program) -> None:
    program.place("udp")
    program.add(_ADD_NUMBER, 8, number=_UDP_SUM + 1)
    program.add(_JUMP, off="cut")
    program.place("tcp")
    program.add(_ADD_NUMBER, 8, number=_TCP_SUM + 1)
    program.place("cut")
    program.add(_MOVE, 1, 6)
    program.add(_MOVE, 2, 8)
    program.add(_MOVE_NUMBER, 3, number=0)
    program.add(_CALL, number=_CHANGE_TAIL)
    program.add(_IF_IS, 0, off=_GOOD, number=-_EINVAL)


def _program() -> bytes:
    program = _Program()
    _is_finished(program)
    program.place("unfinished")
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
    return program.code()


PROGRAM = _program()
"""Its instructions, for the machine that this runs on."""
