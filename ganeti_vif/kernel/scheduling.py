# SPDX-License-Identifier: BSD-2-Clause
"""Which process the kernel lets run first (sched(7))."""

from __future__ import annotations

import os

from ganeti_vif.engine.failure import Failure


def ensure_urgent(*, urgent: bool) -> None:
    """Run before all that is not URGENT, or no more; what is forked never does. Raises Failure if it may not."""
    policy = os.SCHED_RR if urgent else os.SCHED_OTHER
    if os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK != policy:
        try:
            os.sched_setscheduler(0, policy | os.SCHED_RESET_ON_FORK, os.sched_param(int(urgent)))
        except OSError as error:
            what = f"the daemon may not run in real time while a guest moves: {os.strerror(error.errno or 0)}"
            raise Failure(what, "see: systemctl show ganeti-vifd -p CapabilityBoundingSet") from error
