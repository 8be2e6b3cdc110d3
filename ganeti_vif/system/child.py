# SPDX-License-Identifier: BSD-2-Clause
"""Work in a child process, so that the daemon can serve NICs meanwhile."""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import syslog
from collections.abc import Callable
from typing import Any

from ganeti_vif.engine.failure import Failure
from ganeti_vif.system import log

MOST = 1 << 20
"""Bytes of an answer: enough for a thousand lines of trouble."""


class Child:
    """A process that runs WORK and answers with its result, or with None if it dies. Poll `descriptor` for reading.

    The result must be JSON. Raises Failure if no process can be made.
    """

    def __init__(self, work: Callable[[], Any]) -> None:
        self.descriptor, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            self.pid = os.fork()
        except OSError as error:
            os.close(self.descriptor)
            os.close(theirs)
            raise Failure(f"no new process: {os.strerror(error.errno or 0)}", "see: ps aux --sort -rss") from error
        if self.pid == 0:
            _work(work, theirs)
        os.close(theirs)
        self._answer = b""

    def done(self) -> bool:
        """Whether the process has ended and its whole answer was read. Does not wait."""
        while len(self._answer) < MOST:
            try:
                data = os.read(self.descriptor, 1 << 16)
            except BlockingIOError:
                return False
            if not data:
                break
            self._answer += data
        os.close(self.descriptor)
        os.waitpid(self.pid, 0)
        return True

    def answer(self) -> Any:
        """The result of the work; None if the process died."""
        try:
            return json.loads(self._answer)
        except ValueError:
            return None


def _work(work: Callable[[], Any], answer: int) -> None:
    """Run in the child. It closes the parent's files, so that the parent's locks are free when the parent is gone."""
    try:
        gc.disable()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        syslog.closelog()
        os.dup2(answer, 3, inheritable=False)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        data = json.dumps(work()).encode()
        while data:
            select.select([], [3], [])
            data = data[os.write(3, data) :]
    except Exception as error:
        log.say(f"bug: {error!r}", log.Level.ERROR)
    finally:
        os._exit(0)
