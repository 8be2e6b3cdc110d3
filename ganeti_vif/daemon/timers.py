# SPDX-License-Identifier: BSD-2-Clause
"""The daemon's timers: tasks by the moment at which they are due, the earliest first, and each task once."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Generic, TypeVar

Task = TypeVar("Task", bound=Hashable)


@dataclass(slots=True)
class Timers(Generic[Task]):
    """Tasks by the moment from which they are due. Moments are seconds of any clock that never goes back."""

    _due: dict[Task, float] = field(default_factory=dict)
    _heap: list[tuple[float, int, Task]] = field(default_factory=list)
    _count: int = 0

    def at(self, when: float, task: Task) -> None:
        """Do TASK at WHEN, or earlier if it was to be done earlier."""
        if when < self._due.get(task, float("inf")):
            self._due[task] = when
            self._count += 1
            heappush(self._heap, (when, self._count, task))

    def next(self) -> float:
        """When the next task is due; infinity if there is none."""
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heappop(self._heap)  # it was to be done earlier, and has been
        return self._heap[0][0] if self._heap else float("inf")

    def take(self, now: float) -> Task | None:
        """The task that is due longest at NOW, which is then no task any more."""
        if self.next() > now:
            return None
        task = heappop(self._heap)[2]
        del self._due[task]
        return task
