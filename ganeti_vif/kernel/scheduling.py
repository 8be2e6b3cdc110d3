# SPDX-License-Identifier: BSD-2-Clause
"""The scheduling policy of this process (sched(7))."""

from __future__ import annotations

import os

from ganeti_vif.engine.failure import Failure


def ensure_urgent(*, urgent: bool) -> None:
    """Run in real time if URGENT, and with the normal policy if not. Child processes always have the normal one.

    Raises Failure if the kernel refuses.
    """
    policy = os.SCHED_RR if urgent else os.SCHED_OTHER
    if os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK != policy:
        try:
            os.sched_setscheduler(0, policy | os.SCHED_RESET_ON_FORK, os.sched_param(int(urgent)))
        except OSError as error:
            what = f"the daemon may not run in real time while a guest moves: {os.strerror(error.errno or 0)}"
            raise Failure(what, "see: systemctl show ganeti-vifd -p CapabilityBoundingSet") from error
