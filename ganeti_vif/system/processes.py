# SPDX-License-Identifier: BSD-2-Clause
"""Other processes of this node: who listens on a port, and who is there by name."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress

from ganeti_vif.engine.failure import Failure

DIED = (FileNotFoundError, ProcessLookupError)
"""What reading /proc/PID raises when the process is gone by then."""
UDP = ("/proc/self/net/udp", "/proc/self/net/udp6")


def listeners(port: int) -> list[tuple[int, str]]:
    """Process id and name of each process of this network that has a UDP socket on PORT (proc(5), /proc/net/udp).

    Raises Failure if their descriptors may not be read.
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
    """Process id and name of each process of this network that is called one of NAMES, itself or the script that it
    runs. A container's are not this network's."""
    wanted = set(names)
    return [(pid, name) for pid, name in _all() if (name in wanted or wanted & _words(pid)) and _is_here(pid)]


def _is_here(pid: int) -> bool:
    """Whether the process lives in this network namespace, as far as that may be seen: else it is told of."""
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
    """The names of the program and of the first argument: a script's, if the program is an interpreter."""
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
