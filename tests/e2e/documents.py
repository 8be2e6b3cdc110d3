# SPDX-License-Identifier: BSD-2-Clause
"""The documents as what they say: the commands of a section, in their order, and the files that it shows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^```(\w*)$")
_PROMPT = re.compile(r"^node(\d)# (.*)$")


@dataclass(frozen=True, slots=True)
class Command:
    """A command that is typed on the node of that NUMBER, and the OUTPUT that is shown for it, if any."""

    number: int
    text: str
    output: tuple[str, ...] = ()


def section(document: str, heading: str) -> list[str]:
    """The lines of DOCUMENT below the heading that begins with HEADING, up to the next one. Raises KeyError."""
    lines = (ROOT / document).read_text(encoding="utf-8").splitlines()
    starts = [
        number for number, line in enumerate(lines) if line.lstrip("#").strip().startswith(heading) and line[:1] == "#"
    ]
    if len(starts) != 1:
        raise KeyError(f"{document} has {len(starts)} headings {heading}")
    rest = lines[starts[0] + 1 :]
    fenced = False
    for number, line in enumerate(rest):
        fenced ^= _FENCE.match(line) is not None
        if not fenced and line.startswith("#"):
            return rest[:number]
    return rest


def blocks(document: str, heading: str) -> list[tuple[str, list[str]]]:
    """The fenced blocks of that section: what language each names, and its lines."""
    found: list[tuple[str, list[str]]] = []
    inside = False
    for line in section(document, heading):
        if fence := _FENCE.match(line):
            inside = not inside
            if inside:
                found.append((fence[1], []))
        elif inside:
            found[-1][1].append(line)
    return found


def configuration(document: str, heading: str) -> str:
    """The configuration file that the section shows."""
    (text,) = ["\n".join(lines) + "\n" for language, lines in blocks(document, heading) if language == "ini"]
    return text


def commands(document: str, heading: str) -> list[Command]:
    """What the section has somebody type, in its order."""
    found: list[Command] = []
    for language, lines in blocks(document, heading):
        continued = False
        for line in lines if not language else ():
            if continued:
                found[-1] = Command(found[-1].number, f"{found[-1].text[:-1]} {line.strip()}")
            elif prompt := _PROMPT.match(line):
                found.append(Command(int(prompt[1]), prompt[2]))
            elif found:
                found[-1] = Command(found[-1].number, found[-1].text, (*found[-1].output, line))
            continued = bool(found) and found[-1].text.endswith("\\")
    return found
