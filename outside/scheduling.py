"""Which process the kernel lets run first (sched(7))."""

from __future__ import annotations

import os
from contextlib import suppress


def ensure_urgent(*, urgent: bool) -> None:
    """Run before all that is not URGENT, or no more; what is forked never does. A container may not allow it."""
    policy = os.SCHED_RR if urgent else os.SCHED_OTHER
    if os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK != policy:
        with suppress(OSError):
            os.sched_setscheduler(0, policy | os.SCHED_RESET_ON_FORK, os.sched_param(int(urgent)))
