# SPDX-License-Identifier: BSD-2-Clause
"""A configuration on trial: what was in force before it, and when that comes back unless somebody confirms. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ganeti_vif.config.model import Config, Private, Public
from ganeti_vif.config.source import Source, from_json, to_json

TRIED = ".tried"
"""The end of the name of a file that keeps a text which was taken back."""


@dataclass(frozen=True, slots=True)
class Trial:
    """BEFORE comes back at the time UNTIL (seconds since the epoch), if the node still runs the boot BOOT.

    DEVICES are the names of the node's devices when the trial began: they were not made by it. TRIED was in force when
    BEFORE began to come back. None: nobody began that.
    """

    before: Source
    until: int
    boot: str
    devices: frozenset[str]
    tried: Source | None = None

    def to_json(self) -> str:
        """This trial as one JSON object."""
        tried = to_json(self.tried) if self.tried else None
        given = {"before": to_json(self.before), "until": self.until, "boot": self.boot, "tried": tried}
        return json.dumps(given | {"devices": sorted(self.devices)})


@dataclass(frozen=True, slots=True)
class Restored:
    """The file at PATH gets its text of BEFORE the trial again. None: there was no such file."""

    path: str
    before: str | None


def trial_of(text: str) -> Trial:
    """The trial in TEXT, written by Trial.to_json(). Raises ValueError if TEXT is damaged."""
    try:
        given = json.loads(text)
        devices = frozenset(str(name) for name in given["devices"])
        tried = None if given["tried"] is None else from_json(given["tried"])
        return Trial(from_json(given["before"]), int(given["until"]), str(given["boot"]), devices, tried)
    except (KeyError, TypeError) as error:
        raise ValueError(f"it lacks {error}") from error


def restored(before: Source, present: Source | None) -> Iterator[Restored]:
    """The files to write so that PRESENT (None: it cannot be read) becomes BEFORE, the configuration's file last.

    A profile that could not be read before is left as it is.
    """
    old = {one.path: one.text for one in before.profiles}
    new = {one.path: one.text for one in present.profiles} if present else {}
    unread = {one.path for one in before.profiles if one.text is None}
    for path in sorted({*old, *new} - unread):
        if old.get(path) != new.get(path) or path not in new:
            yield Restored(path, old.get(path))
    if present is None or present.text != before.text:
        yield Restored(before.path, before.text)


def only_tried(
    tried: Config, before: Config, devices: frozenset[str]
) -> tuple[tuple[Private, ...], tuple[Public, ...]]:
    """The private networks and public links that the trial made: of TRIED, not of BEFORE, and not among DEVICES."""
    kept = {name for family in before.private for name in family.bridges}
    private = (_without(family, kept | devices) for family in tried.private)
    tables = {link.table for link in before.public}
    public = tuple(link for link in tried.public if link.table not in tables)
    return tuple(family for family in private if family.numbers), public


def _without(family: Private, names: frozenset[str] | set[str]) -> Private:
    """FAMILY without its bridges that are among NAMES."""
    bridges = zip(family.numbers, family.bridges, strict=True)
    return replace(family, numbers=tuple(number for number, bridge in bridges if bridge not in names), parts=())
