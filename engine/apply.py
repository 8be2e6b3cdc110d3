"""Doing a list of changes, all or nothing; or, when clearing up, as many as possible."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from engine.difference import Change, inverse
from engine.failure import Failure, Gone


class Performer(Protocol):
    """Where changes happen: the node, or a recorder in the tests."""

    def perform(self, change: Change) -> None:
        """Make CHANGE. Raises Failure; Gone when the object to remove or alter is not there."""


def apply(changes: Iterable[Change], node: Performer, step: Callable[[Change], None] = lambda change: None) -> None:
    """Do CHANGES in order; if one fails, take back those that were done, last first, and raise its Failure.

    STEP is told of each change before it is made. What cannot be taken back is added to the failure: a reconcile
    then finds it by its mark.
    """
    done: list[Change] = []
    try:
        for change in changes:
            step(change)
            node.perform(change)
            done.append(change)
    except BaseException as reason:
        left = _undo(done, node)
        if left and isinstance(reason, Failure):
            raise Failure(f"{reason.what} (and taking it back: {'; '.join(left)})", reason.do) from reason
        raise


def _undo(done: list[Change], node: Performer) -> list[str]:
    """Take DONE back, last first. Never raises; returns what could not be taken back."""
    left: list[str] = []
    for change in reversed(done):
        try:
            node.perform(inverse(change))
        except Gone:
            pass
        except Exception as error:  # a bug of ours must not keep the rest from being taken back
            left.append(error.what if isinstance(error, Failure) else repr(error))
    return left


def clear(changes: Iterable[Change], node: Performer) -> None:
    """Do as many of CHANGES as possible, each though others fail; then raise one Failure that names all that did.

    For detach and reconcile: stopping at the first error would keep what could have been cleared.
    """
    failures: list[Failure] = []
    for change in changes:
        try:
            node.perform(change)
        except Gone:
            pass
        except Failure as failure:
            failures.append(failure)
    if failures:
        raise Failure("; ".join(f.what for f in failures), failures[0].do)
