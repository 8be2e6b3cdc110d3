# SPDX-License-Identifier: BSD-2-Clause
"""The documents as what they say: each fenced block with the commands in it, what is printed for them, and the files shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TYPED = ("README.md", "docs/tutorial.md", "docs/administration.md", "docs/migration.md")
"""The documents whose commands are typed."""
_FENCE = re.compile(r"^\s*```(\w*)$")
_PROMPT = re.compile(r"^node(\d)# (.*)$")
_BARE = re.compile(r"^(gnt-|make )")
"""So begins a command without a prompt."""
REST = "..."
"""A line of a sample that stands for any lines."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command that is typed on the node of that NUMBER, and the OUTPUT that is shown for it, if any."""

    number: int
    text: str
    output: tuple[str, ...] = ()
    place: str = ""
    """The document and the line."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: where it is, in which language, and its lines."""

    place: str
    heading: str
    language: str
    lines: tuple[str, ...]

    @property
    def commands(self) -> tuple[Command, ...]:
        """What the block has somebody type, in its order; a block in a language has none."""
        found: list[Command] = []
        document, _, first = self.place.rpartition(":")
        continued = False
        for number, line in enumerate(self.lines if not self.language else (), int(first)):
            last = found[-1] if found else Command(0, "")
            if continued:
                found[-1] = Command(last.number, f"{last.text[:-1].rstrip()} {line.strip()}", (), last.place)
            elif prompt := _PROMPT.match(line):
                found.append(Command(int(prompt[1]), prompt[2], (), f"{document}:{number}"))
            elif _BARE.match(line):
                found.append(Command(1, line, (), f"{document}:{number}"))
            elif found:
                found[-1] = Command(last.number, last.text, (*last.output, line), last.place)
            continued = bool(found) and found[-1].text.endswith("\\")
        return tuple(found)


def blocks(document: str, heading: str = "") -> list[Block]:
    """The fenced blocks of DOCUMENT, or of its section whose heading begins with HEADING. Raises KeyError if there is not
    exactly one such."""
    found, headings, at = [], set(), ""
    lines = (ROOT / document).read_text(encoding="utf-8").splitlines()
    inside: tuple[int, str] | None = None
    for number, line in enumerate(lines, 1):
        if fence := _FENCE.match(line):
            if inside:
                text = tuple(lines[inside[0] : number - 1])
                found.append(Block(f"{document}:{inside[0] + 1}", at, inside[1], text))
            inside = None if inside else (number, fence[1])
        elif not inside and line.startswith("#"):
            at = line.lstrip("#").strip()
            headings |= {at} if at.startswith(heading) else set()
    if heading and len(headings) != 1:
        raise KeyError(f"{document} has {len(headings)} headings {heading}")
    return [block for block in found if block.heading in headings] if heading else found


def configuration(document: str, heading: str) -> str:
    """The configuration file that the section shows."""
    (text,) = ["\n".join(block.lines) + "\n" for block in blocks(document, heading) if block.language == "ini"]
    return text


def commands(document: str, heading: str) -> list[Command]:
    """What the section has somebody type, in its order."""
    return [command for block in blocks(document, heading) for command in block.commands]


def sample(document: str, heading: str, beginning: str) -> Block:
    """The block without commands in that section whose first line begins so."""
    (found,) = [
        block
        for block in blocks(document, heading)
        if not block.commands and block.lines and block.lines[0].startswith(beginning)
    ]
    return found


_KINDS = {
    "logged": r"[A-Z][a-z]{2} +\d+ [0-9:]{8} \S+",
    "uuid": r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "mac": r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}",
    "eui64": r"2001:db8::[0-9a-f]+(?::[0-9a-f]+)+",
    "digest": r"\b[0-9a-f]{8}(?=\")",
    "table": r"ganeti_vif-[0-9a-z]+",
    "process": r"(?<=process )\d+|(?<=\[)\d+(?=\])",
    "tap": r"(?<=\()tap\d+(?=\))",
    "clock": r"(?<=until )[0-9:]{8}",
    "count": r"\d+ (?:changes?|leftovers?)",
    "name": r"\w+\.example\.com",
}
"""What is another one each time."""
_VARIES = re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in _KINDS.items()))


def shape(line: str) -> re.Pattern[str]:
    """What matches a line that differs from LINE only in what is another one each time, and in the width of columns."""
    parts, end = [], 0
    for found in _VARIES.finditer(f"{line} "):
        parts += [_fixed(line[end : found.start()]), f"(?:{_KINDS[found.lastgroup or '']})"]
        end = found.end()
    return re.compile("".join([*parts, _fixed(f"{line} "[end:])]))


def _fixed(text: str) -> str:
    return r"\s+".join(re.escape(part) for part in re.split(r"\s+", text))


def unlike(shown: Sequence[str], printed: Sequence[str]) -> str | None:
    """The first line SHOWN that was not PRINTED in its place, or the first one printed that is not shown; None if both agree.

    A line `...` stands for any lines. Blank lines do not count.
    """
    rest = [line for line in printed if line.strip()]
    skipping = False
    for line in (line for line in shown if line.strip()):
        if line == REST:
            skipping = True
            continue
        pattern = shape(line)
        at = next((n for n, found in enumerate(rest) if pattern.fullmatch(f"{found} ")), None)
        if at is None or (at and not skipping):
            return line
        rest, skipping = rest[at + 1 :], False
    return rest[0] if rest and not skipping else None


def forgotten(touched: Iterable[str], excused: Iterable[str]) -> Iterator[str]:
    """Each block of the documents of which a command was not typed, or that was looked at by nobody, and is not EXCUSED; and
    each excuse that is for no such block. TOUCHED: the places of commands and blocks. EXCUSED: how a line of the block begins."""
    touched, excuses, used = set(touched), set(excused), set[str]()
    for document in TYPED:
        for block in blocks(document):
            missing = [one.place for one in block.commands if one.place not in touched]
            if not block.commands and block.place not in touched:
                missing = [block.place]
            reasons = {start for start in excuses if any(line.startswith(start) for line in block.lines)}
            if missing and not reasons:
                yield f"not typed, and no reason why: {', '.join(missing)}"
            used |= reasons if missing else set()
    yield from (f"there is no such block, or it is typed: {line}" for line in sorted(excuses - used))
