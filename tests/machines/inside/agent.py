# SPDX-License-Identifier: BSD-2-Clause
"""Runs in the machine: does what the host asks for by a port, any number of jobs at a time, and says how each ended.

One JSON object a line. From the host: {"job", "argv", "env", "input"} starts a program, {"job", "signal"} sends a signal to it.
To the host: {"boot"} once, {"job", "status", "output", "errors"} at the end of each program.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from typing import Any, BinaryIO

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/root"}


class Agent:
    def __init__(self, port: BinaryIO) -> None:
        self._port = port
        self._lock = threading.Lock()
        self._processes: dict[int, subprocess.Popen[str]] = {}

    def serve(self) -> None:
        """Do jobs until the host goes."""
        with open("/proc/sys/kernel/random/boot_id") as file:
            self._say({"boot": file.read().strip()})
        for line in self._port:
            asked = json.loads(line)
            if "signal" in asked:
                self._signal(asked["job"], asked["signal"])
            else:
                self._start(asked)

    def _say(self, what: dict[str, Any]) -> None:
        rest = memoryview(json.dumps(what).encode() + b"\n")
        with self._lock:
            while rest:
                rest = rest[self._port.write(rest) :]

    def _start(self, asked: dict[str, Any]) -> None:
        env = ENVIRONMENT if asked["env"] is None else asked["env"]
        try:
            process = subprocess.Popen(
                asked["argv"], env=env, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                encoding="utf-8", errors="replace", start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            self._say({"job": asked["job"], "status": 127, "output": "", "errors": f"{error}\n"})
            return
        self._processes[asked["job"]] = process
        threading.Thread(target=self._end, args=(asked["job"], process, asked["input"]), daemon=True).start()

    def _end(self, job: int, process: subprocess.Popen[str], text: str | None) -> None:
        output, errors = process.communicate(text)
        del self._processes[job]
        self._say({"job": job, "status": process.returncode, "output": output, "errors": errors})

    def _signal(self, job: int, number: int) -> None:
        if process := self._processes.get(job):
            with contextlib.suppress(ProcessLookupError):
                # its children, too, if it is to die
                (os.killpg if number == signal.SIGKILL else os.kill)(process.pid, number)


if __name__ == "__main__":
    with open(sys.argv[1], "r+b", buffering=0) as port:
        Agent(port).serve()
