"""The records of the NICs that this node was told about: /run/ganeti-vif/nics/TAP.json.

/run is a tmpfs, so records live and die with the taps that they describe.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator

from engine.difference import Alter, Change, Make, Remove
from engine.failure import Failure, Gone
from engine.objects import Record

DIRECTORY = "/run/ganeti-vif/nics"


def read(wanted: Iterable[Record]) -> Iterator[Record]:
    """Those of WANTED that exist."""
    yield from (found for record in wanted if (found := record_of(record.tap)))


def read_all() -> Iterator[Record]:
    """Every record of this node, and what a killed writer left beside them (its tap begins with a dot).

    Raises Failure if they cannot be read.
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
        if suffix == ".json" and (found := record_of(tap)):
            yield found


def record_of(tap: str) -> Record | None:
    """The record of the tap of that name, or None."""
    try:
        with open(f"{DIRECTORY}/{tap}.json", encoding="utf-8", errors="replace") as file:
            return Record(tap=tap, text=file.read())
    except FileNotFoundError:
        return None
    except OSError as error:
        what = f"the record {DIRECTORY}/{tap}.json cannot be read: {os.strerror(error.errno or 0)}"
        raise Failure(what, f"see: ls -la {DIRECTORY}") from error


def exists(tap: str) -> bool:
    """Whether there is a record of TAP."""
    return os.path.exists(f"{DIRECTORY}/{tap}.json")


def age(tap: str) -> float:
    """Seconds since the record of TAP was written; a long time if there is none."""
    try:
        return max(0.0, time.time() - os.stat(f"{DIRECTORY}/{tap}.json").st_mtime)
    except FileNotFoundError:
        return float("inf")


def perform(change: Change) -> None:
    """Write or remove a record. It appears whole or not at all: written beside, then renamed."""
    match change:
        case Make(Record(tap=tap, text=text)) | Alter(_, Record(tap=tap, text=text)):
            try:
                _write(tap, text)
            except OSError as error:
                what = f"the record {DIRECTORY}/{tap}.json cannot be written: {os.strerror(error.errno or 0)}"
                raise Failure(what, "see: df /run") from error
        case Remove(Record(tap=tap)):
            try:
                os.unlink(f"{DIRECTORY}/{tap}.json")
            except FileNotFoundError as error:
                raise Gone(f"there is no record of {tap}", "note: nothing") from error
        case _:
            raise NotImplementedError(change)


def _write(tap: str, text: str) -> None:
    os.makedirs(DIRECTORY, mode=0o755, exist_ok=True)
    beside = f"{DIRECTORY}/.{tap}.json"
    try:
        with open(beside, "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(beside, f"{DIRECTORY}/{tap}.json")
    except OSError:
        if os.path.exists(beside):
            os.unlink(beside)
        raise
