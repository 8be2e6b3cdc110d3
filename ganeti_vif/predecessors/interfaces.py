# SPDX-License-Identifier: BSD-2-Clause
"""/etc/network/interfaces as data (interfaces(5)): its stanzas, and the other files that it names."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """The option KEY with VALUE, at PLACE (file:line)."""

    key: str
    value: str
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stanza:
    """`iface DEVICE FAMILY ...` at PLACE, and its options in order."""

    device: str
    family: str
    place: str
    options: tuple[Option, ...] = ()

    def values(self, key: str) -> list[str]:
        """The values of all options KEY."""
        return [option.value for option in self.options if option.key == key]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A pattern, as in the shell, of other files or directories to read."""

    pattern: str


_OTHERS = ("auto", "mapping", "no-auto-down", "no-scripts", "rename", "template")
"""The words, besides allow-…, that end a stanza and begin something that we do not read."""


def parse(text: str, path: str) -> tuple[list[Stanza], list[Source]]:
    """The iface stanzas of TEXT, and its sources."""
    stanzas: list[Stanza] = []
    sources = []
    inside = False
    for number, line in _lines(text):
        words = line.split()
        place = f"{path}:{number}"
        match words:
            case ["iface", device, *rest]:
                inside = True
                stanzas.append(Stanza(device=device, family=rest[0] if rest else "inet", place=place))
            case ["source", pattern]:
                inside = False
                sources.append(Source(pattern=pattern))
            case ["source-directory", directory]:
                inside = False
                sources.append(Source(pattern=f"{directory}/*"))
            case [first, *_] if first in _OTHERS or first.startswith("allow-"):
                inside = False
            case [key, *_] if inside:
                last = stanzas.pop()
                option = Option(key=key, value=line.strip()[len(key) :].strip(), place=place)
                stanzas.append(
                    Stanza(device=last.device, family=last.family, place=last.place, options=(*last.options, option))
                )
    return stanzas, sources


def _lines(text: str) -> list[tuple[int, str]]:
    """The lines of TEXT with their numbers, without comments. Lines that end in a backslash are joined."""
    joined: list[tuple[int, str]] = []
    open_line = False
    for number, line in enumerate(text.splitlines(), 1):
        if open_line:
            first, before = joined.pop()
            joined.append((first, before[:-1] + line))
        elif line.lstrip().startswith("#"):
            continue
        else:
            joined.append((number, line))
        open_line = line.endswith("\\")
    return joined
