# SPDX-License-Identifier: BSD-2-Clause
"""Program: BPF instructions that read fields of the running kernel's structures."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Part(StrEnum):
    """What an instruction needs to know of a field."""

    PLACE = "place"
    """The first byte of the field, counted from the beginning of its structure."""
    MASK = "mask"
    """The bits of that byte that belong to the field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Relocation:
    """The number in instruction AT is PART of FIELD (in struct sk_buff). Each kernel has its own."""

    at: int
    field: str
    part: Part


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """CODE: instructions (struct bpf_insn), whose numbers named by RELOCATIONS are still 0."""

    code: bytes
    relocations: tuple[Relocation, ...] = ()
