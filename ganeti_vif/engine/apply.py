"""Doing a list of changes, all or nothing; or, when clearing up, as many as possible."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from ganeti_vif.engine.difference import Change, inverse
from ganeti_vif.engine.failure import Failure, Gone
from ganeti_vif.engine.interruption import RUN, Interrupted


class Performer(Protocol):
    """Where changes happen: the node, or a recorder in the tests."""

    def perform(self, change: Change) -> None:
        """Make CHANGE. Raises Failure; Gone when the object to remove or alter is not there."""


def apply(
    changes: Iterable[Change],
    node: Performer,
    step: Callable[[Change], None] = lambda change: None,
    *,
    keep: bool = False,
) -> None:
    """Do CHANGES in order; if one fails, take back those that were done, last first, and raise its Failure.

    STEP is told of each change before it is made. What cannot be taken back is added to the failure: a reconcile
    then finds it by its mark.

    Raises Interrupted between two changes if somebody wants that. KEEP what is done by then: for changes of which each
    is good without those after it.
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
                # Of a change that failed nothing is done. Of one that anything else ended (a bug of ours, no memory,
                # a signal that nobody catches) that is not known: an interface could be up and its filter taken away.
                left = _undo(done if isinstance(reason, Failure) else [*done, *making], node)
                if left and isinstance(reason, Failure):
                    raise Failure(f"{reason.what} (and taking it back: {'; '.join(left)})", reason.do) from reason
                raise
            RUN.standing += len(done)
            raise
        RUN.standing += len(done)


def _undo(done: list[Change], node: Performer) -> list[str]:
    """Take DONE back, last first. Never raises; returns what could not be taken back."""
    left: list[str] = []
    for change in reversed(done):
        try:
            node.perform(inverse(change))
        except Gone:
            pass
        except (
            BaseException
        ) as error:  # a bug of ours, or one more Ctrl-C, must not keep the rest from being taken back
            left.append(error.what if isinstance(error, Failure) else repr(error))
    return left


def clear(changes: Iterable[Change], node: Performer) -> None:
    """Do as many of CHANGES as possible, each though others fail; then raise one Failure that names all that did.

    For detach and reconcile: stopping at the first error would keep what could have been cleared. Raises Interrupted
    between two changes if somebody wants that; the next reconcile does the rest.
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
