# SPDX-License-Identifier: BSD-2-Clause
"""Making a list of changes: all of them or none (apply), or as many as possible (clear)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from ganeti_vif.engine.difference import Change, inverse
from ganeti_vif.engine.failure import Failure, Gone
from ganeti_vif.engine.interruption import RUN, Interrupted


class Performer(Protocol):
    """An object that makes changes: the node, or a substitute in the tests."""

    def perform(self, change: Change) -> None:
        """Make CHANGE. Raises Gone if the object to remove or alter does not exist, Failure if the change fails."""


def apply(
    changes: Iterable[Change],
    node: Performer,
    step: Callable[[Change], None] = lambda change: None,
    *,
    keep: bool = False,
) -> None:
    """Make CHANGES in their order, all or none.

    STEP is called with each change before it is made.

    Raises Failure if a change fails. Then the changes before it are undone, the last one first. The Failure names each
    change that could not be undone. A later reconcile finds these objects by their marks.

    Raises Interrupted between two changes if somebody asked for the end of the run. Then the changes are undone, too,
    unless KEEP is true. KEEP is for changes that are useful without those after them.
    """
    done: list[Change] = []
    making: list[Change] = []
    with RUN.busy():
        try:
            for change in changes:
                RUN.due()
                step(change)
                making = [change]
                node.perform(change)
                making = []
                done.append(change)
        except BaseException as reason:
            if not (keep and isinstance(reason, Interrupted)):
                # A change that raised Failure did nothing. A change that another exception ended (a bug of ours, no
                # memory) may have done something, so it is undone as well: otherwise a device could stay up while its
                # filter is removed.
                left = _undo(done if isinstance(reason, Failure) else [*done, *making], node)
                if left and isinstance(reason, Failure):
                    raise Failure(f"{reason.what} (and taking it back: {'; '.join(left)})", reason.do) from reason
                raise
            RUN.standing += len(done)
            raise
        RUN.standing += len(done)


def _undo(done: list[Change], node: Performer) -> list[str]:
    """Undo DONE, the last change first. Returns what could not be undone. Raises nothing."""
    left: list[str] = []
    for change in reversed(done):
        try:
            node.perform(inverse(change))
        except Gone:
            pass
        except BaseException as error:
            # Even after a bug of ours, or one more Ctrl-C, the rest must be undone.
            left.append(error.what if isinstance(error, Failure) else repr(error))
    return left


def clear(changes: Iterable[Change], node: Performer) -> None:
    """Make as many of CHANGES as possible. Detach and reconcile use it, because one fault must not stop the rest.

    Gone counts as success. Raises Failure after the last change if any failed; it names all failed changes. Raises
    Interrupted between two changes if somebody asked for the end of the run. The next reconcile makes the rest.
    """
    failures: list[Failure] = []
    with RUN.busy():
        for change in changes:
            RUN.due()
            try:
                node.perform(change)
                RUN.standing += 1
            except Gone:
                pass
            except Failure as failure:
                failures.append(failure)
    if failures:
        raise Failure("; ".join(f.what for f in failures), failures[0].do)
