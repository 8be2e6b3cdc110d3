# SPDX-License-Identifier: BSD-2-Clause
"""Showing a failure as two lines to the caller of this process."""

from __future__ import annotations

import os
import sys

from ganeti_vif.engine.failure import Failure, remedy
from ganeti_vif.system import log


def needs_root() -> None:
    """Raises Failure if this process does not run as root, which changes of the network need."""
    if os.geteuid() != 0:
        raise Failure("only root can change the node's network", "note: run it as root")


def complain(failure: Failure) -> None:
    """Print the two lines of FAILURE, and log the first. Ganeti shows them to the user that started the instance."""
    log.say(failure.what, log.Level.ERROR)
    sys.stderr.write(lines(failure))


def lines(failure: Failure) -> str:
    """FAILURE as its two lines."""
    return f"error: {failure.what}\n  {remedy(failure.do)}\n"
