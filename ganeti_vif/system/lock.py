# SPDX-License-Identifier: BSD-2-Clause
"""Locks, so that one process changes the node at a time. The kernel frees a lock when its holder dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ganeti_vif.engine.failure import Failure

DIRECTORY = "/run/ganeti-vif"
WAIT = 180.0
"""Seconds to wait for a lock. Ganeti gives up after 900 (ganeti lib/rpc_defs.py at 3.0.2)."""


class Held(Failure):
    """Another process holds the lock."""


@contextmanager
def held(name: str, wait: float = WAIT, directory: str = DIRECTORY) -> Iterator[None]:
    """Hold the lock NAME while the block runs.

    There are two locks: `nics` for attach, detach and reconcile; `node` for setup and teardown. A process that needs
    both takes `node` first, so that a long setup never keeps a VM waiting.

    Raises Held, with the holder's pid, after WAIT seconds, and Failure if the lock's file cannot be opened.
    """
    path = f"{directory}/{name}.lock"
    try:
        os.makedirs(directory, mode=0o755, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Failure(f"{path} cannot be opened: {os.strerror(error.errno or 0)}", "note: run it as root") from error
    try:
        _acquire(descriptor, path, time.monotonic() + wait)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: str, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
                raise Held(
                    f"{path} is held by process {holder}", f"see what it does, and end it if it hangs: ps -fp {holder}"
                ) from None
            # flock() has no time-out. 5 ms is short compared with an attach, and costs nothing.
            time.sleep(0.005)
