# SPDX-License-Identifier: BSD-2-Clause
"""Signals of the tests' own process: a shell that starts it in the background has it ignore Ctrl-C, and its children too."""

from __future__ import annotations

import signal
import threading


def heard() -> None:
    """From here on this process, and what it starts, is ended by Ctrl-C and by a terminal that is gone."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
