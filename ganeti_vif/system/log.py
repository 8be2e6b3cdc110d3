# SPDX-License-Identifier: BSD-2-Clause
"""The log: one line for each decision. It tells an administrator later what was done on a node, and why.

Lines go to the journal or syslog, as `ganeti-vif`; where there is none, to /var/log/ganeti/vif.log. Ganeti discards the
output of a script that succeeds (ganeti lib/hypervisor/hv_base.py:257-261 at 3.0.2), so this is the only trace.
"""

from __future__ import annotations

import contextlib
import os
import syslog
import time
from enum import IntEnum
from typing import TextIO

from ganeti_vif.engine.failure import one_line

SOCKET = "/dev/log"
FILE = "/var/log/ganeti/vif.log"

verbose = False
"""Whether lines of level DEBUG are logged."""

last_resort: TextIO | None = None
"""The stream for lines when FILE is not writable: the standard error of a daemon without root and without syslog."""


class Level(IntEnum):
    """The level of a line (syslog(3))."""

    ERROR = syslog.LOG_ERR
    WARNING = syslog.LOG_WARNING
    INFO = syslog.LOG_INFO
    DEBUG = syslog.LOG_DEBUG


def say(line: str, level: Level = Level.INFO) -> None:
    """Log LINE. Never raises: a full disk must not keep a VM from its network."""
    if level is Level.DEBUG and not verbose:
        return
    line = one_line(line)
    if os.path.exists(SOCKET):
        syslog.openlog("ganeti-vif", syslog.LOG_PID, syslog.LOG_DAEMON)
        syslog.syslog(level, line)
        return
    now = time.strftime("%Y-%m-%d %H:%M:%S%z")
    line = f"{now} ganeti-vif[{os.getpid()}] {level.name.lower()}: {line}\n"
    with contextlib.suppress(OSError):
        try:
            os.makedirs(os.path.dirname(FILE), mode=0o750, exist_ok=True)
            with open(FILE, "a", encoding="ascii") as file:
                file.write(line)
        except PermissionError:
            if last_resort:
                last_resort.write(line)
