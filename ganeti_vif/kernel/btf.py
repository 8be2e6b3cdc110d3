# SPDX-License-Identifier: BSD-2-Clause
"""The layout of the running kernel's structures, as the kernel tells it (BTF; Documentation/bpf/btf.rst)."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO

from ganeti_vif.engine.failure import Lacking

KERNEL = Path("/sys/kernel/btf/vmlinux")
"""Linux has it since 5.4, if it was built with CONFIG_DEBUG_INFO_BTF, as Debian's kernels are."""
WITHOUT = "without it: gnt-instance modify -H vnet_hdr=false INSTANCE, and restart the instance"
_FIRST, _ALL = 1 << 18, 1 << 30
"""How much is read, in bytes: first a little, since types and names that much depends on come first."""
_HEADER = struct.Struct("=HBBIIIII")
_TYPE = struct.Struct("=III")
"""struct btf_type: name, info, and size or type. struct btf_member has the same size: name, type, offset."""
_MAGIC, _STRUCT = 0xEB9F, 4
_MORE = {1: 4, 3: 12, 14: 4, 17: 4}
"""How many bytes follow struct btf_type, by its kind. Kinds that are not here, nor below, have none."""
_MORE_EACH = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}
"""The same for kinds with members: bytes for each member."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a structure. It begins in byte PLACE. A field that is smaller than a byte has the bits in MASK there.
    For any other field MASK is 0."""

    place: int
    mask: int


class _Types:
    """The types in BTF. They have no index, so each one is found behind the one before it, as far as is needed."""

    def __init__(self, types: bytes, strings: bytes) -> None:
        self._types, self._strings = types, strings
        self._next = 0
        self._at = [0]  # number 0 is void, and not in the file

    def structure(self, name: str) -> int | None:
        """The number of the structure called NAME, if there is one."""
        place = self._strings.find(b"\0" + name.encode() + b"\0") + 1
        while place and self._next < len(self._types):
            called, kind = self._step()
            if (called, kind) == (place, _STRUCT):
                return len(self._at) - 1
        return None

    def _step(self) -> tuple[int, int]:
        name, info, _ = _TYPE.unpack_from(self._types, self._next)
        kind = info >> 24 & 0x1F
        self._at.append(self._next)
        self._next += _TYPE.size + _MORE.get(kind, 0) + _MORE_EACH.get(kind, 0) * (info & 0xFFFF)
        return name, kind

    def fields(self, number: int, before: int = 0) -> Iterator[tuple[str, Field]]:
        """The fields of structure NUMBER, which begins BEFORE bits into another one. Unnamed ones are entered."""
        while len(self._at) <= number:
            self._step()
        place = self._at[number]
        _, info, _ = _TYPE.unpack_from(self._types, place)
        for member in range(1, 1 + (info & 0xFFFF)):
            name, kind, where = _TYPE.unpack_from(self._types, place + member * _TYPE.size)
            bits, where = (where >> 24, where & 0xFFFFFF) if info >> 31 else (0, where)
            if name:
                yield self._strings[name : self._strings.index(b"\0", name)].decode(), _field(before + where, bits)
            else:
                yield from self.fields(kind, before + where)


def _field(where: int, bits: int) -> Field:
    """The field that begins WHERE (in bits) and has so many BITS; 0: it is no bit field."""
    byte, bit = divmod(where, 8)
    shift = bit if sys.byteorder == "little" else 8 - bits - bit
    return Field(byte, (1 << bits) - 1 << shift if 0 < bits < 8 - bit + 1 else 0)


@cache
def fields(structure: str) -> dict[str, Field]:
    """The fields of the kernel's STRUCTURE by their names, those in unnamed structures and unions inside it too.

    The first call takes 2 ms for a structure that is among the kernel's first ones, as struct sk_buff is.

    Raises Lacking if the kernel does not tell its layout.
    """
    try:
        with KERNEL.open("rb") as file:
            found = _fields(file, structure, _FIRST) or _fields(file, structure, _ALL)
    except OSError as error:
        raise Lacking(
            f"the kernel does not tell the layout of its structures: {KERNEL}: {error.strerror}",
            f"note: Debian's do; {WITHOUT}",
        ) from error
    if not found:
        raise Lacking(f"the kernel tells no struct {structure} of a known form in {KERNEL}", f"note: {WITHOUT}")
    return found


def _fields(file: BinaryIO, structure: str, limit: int) -> dict[str, Field]:
    """As fields(), from the first LIMIT bytes of the types and of their names. Empty if they do not tell."""
    try:
        magic, _, _, header, types, size, strings, length = _HEADER.unpack(_part(file, 0, _HEADER.size))
        if magic != _MAGIC:
            return {}
        parts = ((header + types, size), (header + strings, length))
        known = _Types(*(_part(file, at, min(much, limit)) for at, much in parts))
        number = known.structure(structure)
        return dict(known.fields(number)) if number else {}
    except (struct.error, ValueError):  # the part that was read ends in the middle
        return {}


def _part(file: BinaryIO, at: int, size: int) -> bytes:
    """The kernel gives one page for each read(2), so a buffered FILE collects them."""
    file.seek(at)
    return file.read(size)
