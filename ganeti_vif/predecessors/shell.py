# SPDX-License-Identifier: BSD-2-Clause
"""Assignments of a shell file, read without running it.

It understands NAME=value with quotes, comments, and $NAME of an earlier assignment. Every other line is reported with
its number, and nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ganeti_vif.predecessors.report import Fate, Note

_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_REFERENCE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})")
_SPECIAL = set("`$();&|<>*?[]{}~!")


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The assignment of VALUE to NAME, at PLACE (file:line)."""

    name: str
    value: str
    place: str


def assignments(text: str, path: str) -> tuple[dict[str, Assignment], list[Note]]:
    """The last assignment to each name in TEXT, and notes on all other lines."""
    found: dict[str, Assignment] = {}
    notes = []
    for number, line in enumerate(text.splitlines(), 1):
        place = f"{path}:{number}"
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _ASSIGNMENT.fullmatch(line)
        value = _value(match[2], {name: one.value for name, one in found.items()}) if match else None
        if match is None or value is None:
            notes.append(Note(place=place, fate=Fate.UNREAD, what=f"no plain assignment: {line.strip()}"))
        else:
            found[match[1]] = Assignment(name=match[1], value=value, place=place)
    return found, notes


def _value(text: str, known: Mapping[str, str]) -> str | None:
    """The one word at the start of TEXT as the shell reads it, or None if it is more complicated."""
    value, at = "", 0
    while at < len(text):
        character = text[at]
        if character.isspace():
            rest = text[at:].lstrip()
            return value if not rest or rest.startswith("#") else None
        if character == "'":
            end = text.find("'", at + 1)
            if end < 0:
                return None
            value, at = value + text[at + 1 : end], end + 1
        elif character == '"':
            quoted = _quoted(text, at + 1, known)
            if quoted is None:
                return None
            value, at = value + quoted[0], quoted[1]
        elif character == "$" and (reference := _reference(text, at, known)):
            value, at = value + reference[0], reference[1]
        elif character == "\\" and at + 1 < len(text):
            value, at = value + text[at + 1], at + 2
        elif character in _SPECIAL or character == "\\":
            return None
        else:
            value, at = value + character, at + 1
    return value


def _quoted(text: str, at: int, known: Mapping[str, str]) -> tuple[str, int] | None:
    """The text between double quotes, and the offset after them. AT is the offset after the first quote."""
    value = ""
    while at < len(text):
        character = text[at]
        if character == '"':
            return value, at + 1
        if character == "\\" and text[at + 1 : at + 2] in ('"', "\\", "$", "`"):
            value, at = value + text[at + 1], at + 2
        elif character == "$" and (reference := _reference(text, at, known)):
            value, at = value + reference[0], reference[1]
        elif character in "$`":
            return None
        else:
            value, at = value + character, at + 1
    return None


def _reference(text: str, at: int, known: Mapping[str, str]) -> tuple[str, int] | None:
    match = _REFERENCE.match(text, at)
    if match is None:
        return None
    name = str(match[1] or match[2])
    return (known[name], match.end()) if name in known else None
