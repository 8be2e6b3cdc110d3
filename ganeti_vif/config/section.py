# SPDX-License-Identifier: BSD-2-Clause
"""The configuration file as sections of keys and values, each with its line: every error names the line."""

from __future__ import annotations

import ast
import configparser
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ganeti_vif.engine.failure import Failure

Parser = Callable[[str], Any]
"""Makes a value from text. Raises ValueError."""
ALONE = ("bindings", "responder", "names", "daemon")
"""Sections without a name. Each may come once."""


class Section:
    """One section of the file: KIND and WORD of its heading, and its values with their lines.

    Raises Failure if there is no such section.
    """

    def __init__(self, heading: str, given: Mapping[str, str], path: str, lines: Mapping[tuple[str, str], int]) -> None:
        self.heading, self.given, self._path, self._lines = heading, given, path, lines
        self.kind, _, self.word = heading.partition(" ")
        self.word = self.word.strip()
        if self.kind not in ("private", "public", "network", *ALONE) or (self.kind in ALONE) == bool(self.word):
            alone = ", ".join(f"[{kind}]" for kind in ALONE)
            there = f"there are [private NAME], [public NAME], [network NAME], {alone}"
            raise self.failure("", f"unknown section [{heading}]", there)

    def values(
        self, parsers: Mapping[str, Parser], examples: Mapping[str, str], required: Iterable[str] = ()
    ) -> dict[str, Any]:
        """The section's values by key, parsed by PARSERS. Raises Failure if a key is unknown, a REQUIRED one is missing
        or a value is wrong. The Failure shows one of EXAMPLES."""
        for key in self.given:
            if key not in parsers:
                raise self.failure(key, f"unknown key '{key}' in [{self.heading}]", f"it knows: {', '.join(parsers)}")
        for key in required:
            if key not in self.given:
                do = f"add a line, as: {key} = {examples.get(key, 'eth1')}"
                raise self.failure("", f"[{self.heading}] lacks '{key}'", do)
        return {key: self.value(key, parsers[key], examples.get(key)) for key in self.given}

    def value(self, key: str, parser: Parser, example: str | None) -> Any:
        """The value of KEY, which must exist. Raises Failure, with EXAMPLE, if it is wrong."""
        try:
            return parser(self.given[key])
        except ValueError as error:
            do = f"mend that line{f', as: {key} = {example}' if example else ''}; each key: man ganeti-vif.conf"
            raise self.failure(key, f"{key}: {error}", do) from error

    def failure(self, key: str, what: str, do: str) -> Failure:
        """The Failure that says WHAT is wrong with the line of KEY. If KEY is empty, with the heading."""
        line = self._lines.get((self.heading, key))
        return Failure(f"{self._path}{f':{line}' if line else ''}: {what}", f"note: {do}")


def sections_of(text: str, path: str) -> list[Section]:
    """The sections of TEXT. Errors name it PATH. Raises Failure if the syntax is wrong or a section is not allowed."""
    parser = configparser.ConfigParser(
        interpolation=None, default_section="\0", delimiters=("=",), inline_comment_prefixes=(";", "#")
    )
    try:
        parser.read_string(text, path)
    except configparser.Error as error:
        raise Failure(_syntax(error, path), "note: mend that line; each key: man ganeti-vif.conf") from error
    sections = [Section(name, dict(parser[name]), path, _lines(text)) for name in parser.sections()]
    for kind in ALONE:
        if len(found := [s for s in sections if s.kind == kind]) > 1:
            raise found[1].failure("", f"[{kind}] comes twice", "leave one of them")
    return sections


def _lines(text: str) -> dict[tuple[str, str], int]:
    """The line of each (section, key). The section's own line has the key ''."""
    lines: dict[tuple[str, str], int] = {}
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("[") and "]" in line:
            section = line[1 : line.index("]")]
            lines[section, ""] = number
        elif "=" in line and not line[0].isspace():
            lines[section, line.partition("=")[0].strip().lower()] = number
    return lines


def _syntax(error: configparser.Error, path: str) -> str:
    match error:
        case configparser.MissingSectionHeaderError(lineno=line):
            return f"{path}:{line}: a value before the first [section]"
        case configparser.DuplicateOptionError(lineno=line, section=section, option=option):
            return f"{path}:{line}: the key '{option}' comes twice in [{section}]"
        case configparser.DuplicateSectionError(lineno=line, section=section):
            return f"{path}:{line}: the section [{section}] comes twice"
        case configparser.ParsingError(errors=[(line, content), *_]):
            return f"{path}:{line}: not of the form 'key = value': {_plain(content)}"
    return f"{path}: {error}"


def _plain(content: str) -> str:
    """The line that configparser quotes (its repr, with the line end), as it is in the file."""
    return str(ast.literal_eval(content)).strip() if content[:1] in "'\"" else content.strip()
