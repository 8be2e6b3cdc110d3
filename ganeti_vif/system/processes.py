# SPDX-License-Identifier: BSD-2-Clause
"""Other processes of this node: those that listen on a port, and those with a given name."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress

from ganeti_vif.engine.failure import Failure

DIED = (FileNotFoundError, ProcessLookupError)
"""The errors of reading /proc/PID when the process has ended meanwhile."""
UDP = ("/proc/self/net/udp", "/proc/self/net/udp6")


def listeners(port: int) -> list[tuple[int, str]]:
    """Process id and name of each process with a UDP socket on PORT in this network namespace (proc(5), /proc/net/udp).

    Raises Failure if this process has no right to read their descriptors.
    """
    inodes = set()
    for path in UDP:
        with suppress(FileNotFoundError), open(path, encoding="ascii") as file:
            for line in file.read().splitlines()[1:]:
                words = line.split()
                if int(words[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{words[9]}]")
    return [(pid, name) for pid, name in _all() if inodes and _sockets(pid) & inodes]


def named(names: Iterable[str]) -> list[tuple[int, str]]:
    """Process id and name of each process whose program, or whose script, has one of NAMES.

    Only processes in this network namespace count, so those of containers do not.
    """
    wanted = set(names)
    return [(pid, name) for pid, name in _all() if (name in wanted or wanted & _words(pid)) and _is_here(pid)]


def _is_here(pid: int) -> bool:
    """Whether the process is in this network namespace. True if this process has no right to read that."""
    try:
        return os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net")
    except DIED:
        return False
    except PermissionError:
        return True


def _all() -> Iterator[tuple[int, str]]:
    for directory in glob.glob("/proc/[0-9]*"):
        with suppress(*DIED), open(f"{directory}/comm", encoding="utf-8", errors="replace") as file:
            yield int(os.path.basename(directory)), file.read().strip()


def _words(pid: int) -> set[str]:
    """The names of the program and of its first argument, which is a script if the program is an interpreter."""
    with suppress(*DIED), open(f"/proc/{pid}/cmdline", "rb") as file:
        return {os.path.basename(os.fsdecode(word)) for word in file.read().split(b"\0")[:2]}
    return set()


def _sockets(pid: int) -> set[str]:
    found = set()
    try:
        with suppress(*DIED):
            for name in os.listdir(f"/proc/{pid}/fd"):
                with suppress(*DIED):
                    found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
    except OSError as error:
        what = f"what process {pid} listens to cannot be seen: {os.strerror(error.errno or 0)}"
        raise Failure(what, "note: run it as root, outside of any container") from error
    return found
