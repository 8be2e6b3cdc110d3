# SPDX-License-Identifier: BSD-2-Clause
"""The records of this node's NICs, /run/ganeti-vif/nics/TAP.json, and the origins, TAP.origin in the same directory.

/run is a tmpfs, so a reboot removes the records together with their taps.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress

from ganeti_vif.engine.difference import Alter, Change, Make, Remove
from ganeti_vif.engine.failure import Failure, Gone
from ganeti_vif.engine.objects import Origin, Record

DIRECTORY = "/run/ganeti-vif/nics"


def read(wanted: Iterable[Record]) -> Iterator[Record]:
    """Those of WANTED that exist."""
    yield from (found for record in wanted if (found := read_record(record.tap)))


def read_origins(wanted: Iterable[Origin]) -> Iterator[Origin]:
    """Those of WANTED that exist."""
    yield from (found for origin in wanted if (found := read_origin(origin.tap)))


def stray_origins() -> Iterator[Origin]:
    """The origins of taps without a record: a process was killed before it wrote the record, or after it removed it."""
    with suppress(FileNotFoundError):
        for file in sorted(os.listdir(DIRECTORY)):
            tap, suffix = os.path.splitext(file)
            if suffix == ".origin" and not exists(tap) and (found := read_origin(tap)):
                yield found


def read_all() -> Iterator[Record]:
    """Every record of this node, and files that a killed process left half written (their tap begins with a dot).

    Raises Failure if one cannot be read.
    """
    try:
        names = sorted(os.listdir(DIRECTORY))
    except FileNotFoundError:
        return
    except OSError as error:
        what = f"the records in {DIRECTORY} cannot be read: {os.strerror(error.errno or 0)}"
        raise Failure(what, f"see: namei -l {DIRECTORY}") from error
    for file in names:
        tap, suffix = os.path.splitext(file)
        if suffix == ".json" and (found := read_record(tap)):
            yield found


def read_with(text: str) -> Iterator[Record]:
    """The records that contain TEXT. Of the others nothing is decoded: a VM waits. Raises Failure if one cannot be
    read."""
    with suppress(FileNotFoundError):
        for file in os.listdir(DIRECTORY):
            if file.endswith(".json") and not file.startswith("."):
                record = read_record(file.removesuffix(".json"))
                if record and text in record.text:
                    yield record


def read_record(tap: str) -> Record | None:
    """The record of the tap with this name, or None. Raises Failure if it cannot be read."""
    text = _text(f"{tap}.json")
    return None if text is None else Record(tap=tap, text=text)


def read_origin(tap: str) -> Origin | None:
    """The origin of the tap with this name, or None. Raises Failure if it cannot be read."""
    text = _text(f"{tap}.origin")
    return None if text is None else Origin(tap=tap, text=text)


def _text(name: str) -> str | None:
    try:
        with open(f"{DIRECTORY}/{name}", encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        what = f"the record {DIRECTORY}/{name} cannot be read: {os.strerror(error.errno or 0)}"
        raise Failure(what, f"see: ls -la {DIRECTORY}") from error


def exists(tap: str) -> bool:
    """Whether there is a record of TAP."""
    return os.path.exists(f"{DIRECTORY}/{tap}.json")


def age(tap: str) -> float:
    """Seconds since the record of TAP was written; infinite if there is none."""
    try:
        return max(0.0, time.time() - os.stat(f"{DIRECTORY}/{tap}.json").st_mtime)
    except FileNotFoundError:
        return float("inf")


def perform(change: Change) -> None:
    """Write or remove a record or an origin. It is written to another name and then renamed, so it is always whole.

    Raises Failure if it cannot be written, and Gone if the one to remove does not exist.
    """
    match change:
        case Make((Record() | Origin()) as wanted) | Alter(_, (Record() | Origin()) as wanted):
            try:
                _write(_name(wanted), wanted.text)
            except OSError as error:
                what = f"the record {DIRECTORY}/{_name(wanted)} cannot be written: {os.strerror(error.errno or 0)}"
                raise Failure(what, "see: df /run") from error
        case Remove((Record() | Origin()) as actual):
            try:
                os.unlink(f"{DIRECTORY}/{_name(actual)}")
            except FileNotFoundError as error:
                raise Gone(f"there is no record of {actual.tap}", "note: nothing is to be done") from error
        case _:
            raise NotImplementedError(change)


def _name(thing: Record | Origin) -> str:
    return f"{thing.tap}.{'json' if isinstance(thing, Record) else 'origin'}"


def _write(name: str, text: str) -> None:
    os.makedirs(DIRECTORY, mode=0o755, exist_ok=True)
    beside = f"{DIRECTORY}/.{name}"
    try:
        with open(beside, "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(beside, f"{DIRECTORY}/{name}")
    except OSError:
        if os.path.exists(beside):
            os.unlink(beside)
        raise
