# SPDX-License-Identifier: BSD-2-Clause
"""The layout of the kernel's structures, from type information that this test writes itself."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ganeti_vif.engine.failure import Lacking
from ganeti_vif.engine.program import Part, Program, Relocation
from ganeti_vif.kernel import bpf, btf

INT, ARRAY, STRUCT, UNION = 1, 3, 4, 5
WITH_BITS = 1 << 31


class Types:
    """BTF, type by type."""

    def __init__(self) -> None:
        self._types, self._strings = b"", b"\0"

    def name(self, text: str) -> int:
        self._strings += text.encode() + b"\0"
        return len(self._strings) - len(text) - 1

    def add(self, kind: int, name: str, more: bytes, members: int = 0, flag: int = 0) -> None:
        self._types += struct.pack("=III", self.name(name) if name else 0, kind << 24 | members | flag, 0) + more

    def members(self, *members: tuple[str, int, int]) -> bytes:
        """Each with its name, its type and its offset."""
        return b"".join(struct.pack("=III", self.name(name) if name else 0, of, at) for name, of, at in members)

    def file(self) -> bytes:
        head = struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(self._types), len(self._types), len(self._strings))
        return head + self._types + self._strings


def kernel() -> bytes:
    """A kernel whose packets have a mark (bits 3 and 4 of byte 9), a start in byte 12, and a place in byte 14."""
    types = Types()
    types.add(INT, "short", bytes(4))
    types.add(ARRAY, "", bytes(12))
    types.add(STRUCT, "sk_buff_head", types.members(("start", 1, 0)), 1)
    members = types.members(("length", 1, 0), ("", 5, 64), ("", 6, 96))
    types.add(STRUCT, "sk_buff", members, 3)
    bits = types.members(("other", 1, 3 << 24 | 8), ("mark", 1, 2 << 24 | 11))
    types.add(STRUCT, "", bits, 2, WITH_BITS)
    types.add(UNION, "", types.members(("start", 1, 0), ("", 7, 0)), 2)
    types.add(STRUCT, "", types.members(("first", 1, 0), ("place", 1, 16)), 2)
    return types.file()


@pytest.fixture(autouse=True)
def anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where this test's kernel tells its layout."""
    monkeypatch.setattr(btf, "KERNEL", tmp_path / "vmlinux")
    btf.fields.cache_clear()
    bpf.relocated.cache_clear()
    yield tmp_path / "vmlinux"
    btf.fields.cache_clear()
    bpf.relocated.cache_clear()


def test_fields_are_found_in_unnamed_structures_and_unions_too(anew: Path) -> None:
    anew.write_bytes(kernel())
    found = btf.fields("sk_buff")
    assert {name: field.place for name, field in found.items()} == {
        "length": 0,
        "other": 9,
        "mark": 9,
        "start": 12,
        "first": 12,
        "place": 14,
    }
    assert found["mark"].mask == (0b00011000 if sys.byteorder == "little" else 0b00011000)
    assert found["place"].mask == 0


def test_a_program_gets_the_places_and_masks_of_this_kernel(anew: Path) -> None:
    anew.write_bytes(kernel())
    program = Program(
        code=bytes(24),
        relocations=(
            Relocation(at=0, field="place", part=Part.PLACE),
            Relocation(at=2, field="mark", part=Part.MASK),
        ),
    )
    assert bpf.relocated(program) == struct.pack("=4xi8x4xi", 14, 0b00011000)


@pytest.mark.parametrize(
    ("content", "field", "part"),
    [
        (None, "place", Part.PLACE),
        (b"", "place", Part.PLACE),
        (bytes(100), "place", Part.PLACE),
        (Types().file(), "place", Part.PLACE),
        (kernel(), "elsewhere", Part.PLACE),
        (kernel(), "place", Part.MASK),
    ],
    ids=["no file", "empty", "another form", "no structure", "no field", "a field that has grown"],
)
def test_a_kernel_that_tells_something_else_lacks_the_feature(
    anew: Path, content: bytes | None, field: str, part: Part
) -> None:
    if content is not None:
        anew.write_bytes(content)
    program = Program(code=bytes(8), relocations=(Relocation(at=0, field=field, part=part),))
    with pytest.raises(Lacking):
        bpf.relocated(program)
