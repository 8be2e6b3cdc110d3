# SPDX-License-Identifier: BSD-2-Clause
"""`ganeti-vif import`: settings of snf-network or gnt-networking as our configuration, with a report on each."""

from __future__ import annotations

import argparse
import json
import sys

from ganeti_vif.config import parse, source
from ganeti_vif.engine.failure import Failure
from ganeti_vif.predecessors import interfaces, shell
from ganeti_vif.predecessors.convert import Legacy, convert
from ganeti_vif.predecessors.interfaces import Stanza
from ganeti_vif.predecessors.report import Note
from ganeti_vif.system import new_file, settings, tables

DEFAULTS = ("/etc/default/snf-network", "/etc/default/gnt-networking")
INTERFACES = "/etc/network/interfaces"
NFDHCPD = "/etc/nfdhcpd"


def run(given: argparse.Namespace) -> int:
    """Run the verb. Returns 1 if the administrator must look at a line of the report.

    Raises Failure if there is nothing to import, or if a file cannot be read or written.
    """
    legacy, unread = read()
    text, notes = convert(legacy, wrong)
    notes = [*unread, *notes]
    if not legacy.assignments and not notes:
        what = "neither snf-network's nor gnt-networking's settings are here"
        raise Failure(what, f"note: run it where {' or '.join(DEFAULTS)} is, or {INTERFACES} with ip-routing-table")
    if not given.dry_run:
        new_file.create(given.output, text)
    if given.json:
        told = [{"place": note.place, "fate": note.fate.value, "what": note.what} for note in notes]
        print(json.dumps({"configuration": text, "report": told}, indent=2))
    else:
        _print(given, text, notes)
    return 1 if any(note.grave for note in notes) else 0


def _print(given: argparse.Namespace, text: str, notes: list[Note]) -> None:
    """Print the configuration (with --dry-run) and the report, in which the grave lines come first."""
    if given.dry_run:
        print(text)
    for note in sorted(notes, key=lambda note: not note.grave):
        sys.stdout.write(f"# {note.fate.value}: {note.place}: {note.what}\n")
    if not given.dry_run:
        print(f"written: {given.output}")
        print(f"  next: compare it with {source.PATH}, put it in its place, then: ganeti-vif setup --dry-run")


def read() -> tuple[Legacy, list[Note]]:
    """The settings on this node, and notes on lines that are not understood. Raises Failure if a file is unreadable."""
    assignments: dict[str, shell.Assignment] = {}
    unread: list[Note] = []
    for path, text in settings.texts(*DEFAULTS):
        found, notes = shell.assignments(text, path)
        assignments |= found
        unread += notes
    legacy = Legacy(
        assignments=assignments,
        stanzas=stanzas(),
        tables=tables.names(),
        nfdhcpd=settings.exists(NFDHCPD),
    )
    return legacy, unread


def stanzas(path: str = INTERFACES) -> tuple[Stanza, ...]:
    """The stanzas of the file PATH and of the files that it sources, each file once. Raises Failure if unreadable."""
    found: list[Stanza] = []
    patterns, seen = [path], set[str]()
    while patterns:
        for file, text in settings.texts(patterns.pop(0)):
            if file not in seen:
                seen.add(file)
                here, sources = interfaces.parse(text, file)
                found += here
                patterns += [settings.beside(file, source.pattern) for source in sources]
    return tuple(found)


def wrong(text: str) -> str | None:
    """The error in TEXT as sections of our configuration, or None."""
    try:
        parse.parse(text, "")
    except Failure as failure:
        return failure.what.lstrip(":0123456789 ")
    return None
