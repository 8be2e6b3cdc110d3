# SPDX-License-Identifier: BSD-2-Clause
"""The nodes of a cluster side by side: what each answered, and in what their configurations differ. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

UNREACHED, MISSING = 255, 127
"""The exit status of ssh if it cannot connect, and of a shell that does not find the command (ssh(1), sh(1))."""

Line = tuple[str, str]
"""A line of a configuration, with the section that it is in."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of NODE in GROUP. TROUBLE says why there is no answer; empty if there is one.

    SHOWN is what `ganeti-vif status|check|reconcile --json` printed. CONFIGURATION is what `config show` printed.
    """

    node: str
    group: str
    trouble: str = ""
    version: str = ""
    shown: Mapping[str, Any] = field(default_factory=dict)
    configuration: str = ""


def seen(node: str, group: str, status: int | None, output: str, errors: str) -> Seen:
    """The answer of NODE: exit STATUS (None: too late), OUTPUT and ERRORS of command() on it."""
    last = errors.strip().splitlines()[-1:] or [""]
    if status is None:
        return Seen(node, group, "no answer in time")
    if status == UNREACHED:
        return Seen(node, group, last[0] or "ssh cannot connect")
    version, _, rest = output.partition("\n")
    try:
        shown, end = json.JSONDecoder().raw_decode(rest.lstrip())
        configuration, _ = json.JSONDecoder().raw_decode(rest.lstrip()[end:].lstrip())
        return Seen(node, group, "", version.rpartition(" ")[2], shown, str(configuration["configuration"]))
    except (ValueError, KeyError, TypeError):
        said = errors.strip().splitlines()[:1] or [f"its answer is not understood (status {status})"]
        return Seen(node, group, "ganeti-vif is not installed" if status == MISSING else said[0])


def command(verb: str) -> str:
    """What is run on each node, for `ganeti-vif cluster VERB`."""
    return f"ganeti-vif --version && {{ ganeti-vif {verb} --json; ganeti-vif config show --json; }}"


def differences(nodes: Sequence[Seen]) -> Iterator[str]:
    """In what the nodes of each group differ from most of them: their version, and each line of their configuration."""
    for group in sorted({one.group for one in nodes}):
        members = [one for one in nodes if one.group == group and not one.trouble]
        if not members:
            continue
        version = _most(one.version for one in members)
        usual = _most(one.configuration for one in members)
        like = next(one.node for one in members if one.configuration == usual)
        for one in members:
            if one.version != version:
                yield f"{one.node}: ganeti-vif {one.version}, and {version} on most nodes of the group {group}"
            yield from (f"{one.node}: {line}" for line in _unlike(one.configuration, usual, like))


def _most(values: Iterable[str]) -> str:
    """The most frequent of VALUES; of several the first in their order."""
    return Counter(values).most_common(1)[0][0]


def _unlike(text: str, usual: str, like: str) -> Iterator[str]:
    """The lines of TEXT that are not in USUAL, the configuration of the node LIKE, and the reverse."""
    mine, theirs = list(_lines(text)), list(_lines(usual))
    for section, line in mine:
        if (section, line) not in theirs:
            yield f"{section} {line}".rstrip() + f": not so on {like}"
    for section, line in theirs:
        if (section, line) not in mine:
            yield f"{section} {line}".rstrip() + f": only on {like}, and most nodes"


def _lines(text: str) -> Iterator[Line]:
    section = ""
    for line in text.splitlines():
        if line.startswith("["):
            section = line
            yield section, ""
        elif line:
            yield section, line
