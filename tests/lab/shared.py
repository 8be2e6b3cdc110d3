# SPDX-License-Identifier: BSD-2-Clause
"""What namespaces do not part: tables of the whole kernel, which other work on the machine can fill."""

import time
from pathlib import Path

from .namespace import PATIENCE

SHARE = 0.75
"""A table that is fuller than this may be full while a test runs."""


def fills(proc: Path = Path("/proc")) -> dict[str, tuple[int, int]]:
    """How many entries each shared table has, and how many it takes.

    The neighbours of all namespaces are in one table for each IP version, and too many of one namespace's are `No
    buffer space available` (ENOBUFS) in another's (linux net/core/neighbour.c, neigh_alloc()).
    """
    found = {}
    for version, name in (("4", "arp_cache"), ("6", "ndisc_cache")):
        most = proc / f"sys/net/ipv{version}/neigh/default/gc_thresh3"
        entries = (proc / f"net/stat/{name}").read_text().splitlines()[1].split()[0]
        found[f"IPv{version} neighbours"] = (int(entries, 16), int(most.read_text()))
    tasks = (proc / "loadavg").read_text().split()[3].partition("/")[2]
    found["processes and threads"] = (int(tasks), int((proc / "sys/kernel/pid_max").read_text()))
    return found


def crowded(found: dict[str, tuple[int, int]]) -> str:
    """The tables that are too full for a test to mean something; empty if none is."""
    full = (f"{name}: {count} of {most}" for name, (count, most) in found.items() if count > SHARE * most)
    return ", ".join(full)


def wait_for_room(*, timeout: float = PATIENCE) -> None:
    """Return when no shared table is crowded. Raises TimeoutError, which says which one is, and for whom to look."""
    deadline = time.monotonic() + timeout
    while said := crowded(fills()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"other work fills a table of the whole kernel: {said} (docs/testing.md)")
        time.sleep(0.2)  # the kernel tells nobody
