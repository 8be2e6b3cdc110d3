# SPDX-License-Identifier: BSD-2-Clause
"""Agent: runs commands in a guest over a serial line.

One line asks, `ID SECONDS COMMAND`, one line answers, `ID STATUS OUTPUT`; command and output are base64, so there is no
prompt, echo, line end or control character to trip over, and an answer that comes too late is known by its ID.
The other end is the shell loop in image/init.
"""

import base64
import math
import os
import select
import time
from dataclasses import dataclass

from .namespace import PATIENCE

GREETING = "lab-agent ready"
ENDED = 143
"""The status of a command that was ended by SIGTERM: by the guest's own timeout, whose clock is not ours."""


@dataclass(frozen=True)
class Result:
    """How a command in a guest ended: its status, and what it printed (stdout and stderr as they came)."""

    status: int
    output: str


class GuestError(RuntimeError):
    """The guest did not come up, is gone, or a command in it failed."""


class Silence(GuestError):
    """The guest said nothing in time."""


class Agent:
    """Our end of the line: two descriptors, or twice the same one; they stay the caller's to close."""

    def __init__(self, reader: int, writer: int, name: str) -> None:
        self.name = name
        self._reader = reader
        self._writer = writer
        self._rest = b""
        self._last_id = 0

    def wait_ready(self, timeout: float) -> None:
        """Return when the guest says that it listens.  What is sent before that is lost."""
        deadline = time.monotonic() + timeout
        while self._line(deadline, "the guest's greeting") != GREETING:
            pass

    def knock(self, timeout: float) -> None:
        """Return when the guest answers: for a line that somebody else, or nobody, held when the guest came up."""
        deadline = time.monotonic() + timeout
        heard: list[str] = []
        while True:
            self._last_id += 1
            os.write(self._writer, f"{self._last_id} 1 {base64.b64encode(b'true').decode()}\n".encode())
            try:
                # A terminal that is not yet ours echoes what is sent: that line ends in the command, not in a status.
                while (line := self._line(min(deadline, time.monotonic() + 1), "an answer")) != f"{self._last_id} 0":
                    heard.append(line)
                return
            except Silence:
                if time.monotonic() >= deadline:
                    said = "\n".join(heard[-50:]) or "nothing"
                    raise GuestError(f"{self.name}: no answer within {timeout} s; it said: {said}") from None

    def run(self, command: str, *, check: bool = True, timeout: float = PATIENCE) -> Result:
        """Run a shell command in the guest.  With `check`, a status other than 0 raises GuestError.

        The guest ends a command that takes longer than `timeout` and the line stays usable; GuestError says so.
        """
        self._last_id += 1
        seconds = math.ceil(timeout)
        coded = base64.b64encode(command.encode()).decode()
        started = time.monotonic()
        os.write(self._writer, f"{self._last_id} {seconds} {coded}\n".encode())
        while True:
            answered, _, answer = self._line(started + seconds + PATIENCE, f"an answer to '{command}'").partition(" ")
            if answered == str(self._last_id):
                break
        status, _, output = answer.partition(" ")
        result = Result(int(status), base64.b64decode(output).decode(errors="replace"))
        if result.status == ENDED:
            raise GuestError(f"{self.name}: '{command}' took longer than {timeout} s\n{result.output}")
        if check and result.status:
            raise GuestError(f"{self.name}: '{command}' ended with status {result.status}\n{result.output}")
        return result

    def _line(self, deadline: float, what: str) -> str:
        while b"\n" not in self._rest:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._reader], [], [], left)[0]:
                raise Silence(f"{self.name}: waited in vain for {what}")
            more = os.read(self._reader, 65536)
            if not more:
                raise GuestError(f"{self.name}: gone while we waited for {what}")
            self._rest += more
        line, self._rest = self._rest.split(b"\n", 1)
        return line.decode(errors="replace").strip()
