#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Runs in a node: kills the daemon at random moments while NICs come and go, and looks what its successor makes of it.

    daemon_killer.py COUNT SEED

Prints a JSON list of what went wrong: for each such kill its number, how the clients ended and what `check` finds.
Daemons and clients are forks of this process, which has imported the product already.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import environment as gives
from dying import Tap, forked, manage  # first: it finds the product

import ganeti_vif.daemon.process
import ganeti_vif.entry.vif_script
from ganeti_vif.system.ask import ask

FEW = 256
"""Descriptors that a process may have: the daemon closes all that it is started with, one by one."""
LONGEST = 0.08
"""Seconds from the first change to the kill: longer than any of the changes takes."""
PATIENCE = 60.0
TAPS = 6


def fork(action: Callable[[], int]) -> int:
    """Run ACTION in a process of its own, which holds no tap. Returns its pid."""
    child = os.fork()
    if child == 0:
        status = 70
        try:
            os.closerange(3, FEW)
            status = action()
        finally:
            os._exit(status)
    return child


def client(environment: dict[str, str]) -> int:
    """What the program kvm-vif-bridge does."""
    answer = ask("vif", {name.encode(): value.encode() for name, value in environment.items()})
    return ganeti_vif.entry.vif_script.main(environment) if answer is None else answer[0]


def started() -> int:
    """A daemon that answers."""
    daemon = fork(lambda: ganeti_vif.daemon.process.main(["--foreground"]))
    deadline = time.monotonic() + PATIENCE
    while ask("state", {}) is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return daemon


def check() -> list[str]:
    """What is not as it should be, before long: the daemon looks at the node when it has started."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found: list[str] = forked(manage("check"))["out"].splitlines()
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.01)


class Killer:
    """NICs that come and go, and daemons that die."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._taps: list[Tap] = []
        self._number = 10

    def kill(self) -> dict[str, Any]:
        """One daemon's life; what it left, and how those ended who asked it."""
        daemon = started()
        old = list(self._taps)
        clients = [fork(self._attach()) for _ in range(self._random.randint(1, 3)) if len(self._taps) < TAPS]
        ends = time.monotonic() + self._random.uniform(0, LONGEST)
        while old and self._random.random() < 0.5:
            gone = old.pop(self._random.randrange(len(old)))
            self._taps.remove(gone)
            gone.close()
        time.sleep(max(0.0, ends - time.monotonic()))
        os.kill(daemon, signal.SIGKILL)
        os.waitpid(daemon, 0)
        statuses = [os.waitstatus_to_exitcode(os.waitpid(one, 0)[1]) for one in clients]
        successor = started()
        left = check()
        os.kill(successor, signal.SIGKILL)
        os.waitpid(successor, 0)
        alive = {tap.name for tap in self._taps}
        files = os.listdir("/run/ganeti-vif/nics")
        recorded = {name.removesuffix(".json") for name in files if name.endswith(".json")}
        recorded |= {name for name in files if name.removesuffix(".origin") not in alive and name.endswith(".origin")}
        return {"clients": statuses, "check": left, "not theirs": sorted(recorded ^ alive)}

    def _attach(self) -> Callable[[], int]:
        tap = Tap()
        self._taps.append(tap)
        self._number = self._number + 1 if self._number < 250 else 10
        given = self._random.choice([gives.routed, gives.bridged])(tap.name, self._number)
        return lambda: client(given)


def main(count: int, seed: int) -> int:
    resource.setrlimit(resource.RLIMIT_NOFILE, (FEW, FEW))
    killer = Killer(seed)
    kills = [killer.kill() for _ in range(count)]
    wrong = [
        {"kill": number} | one
        for number, one in enumerate(kills)
        if one["check"] or one["not theirs"] or one["clients"].count(0) < len(one["clients"])
    ]
    print(json.dumps(wrong))
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
