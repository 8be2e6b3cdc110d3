# SPDX-License-Identifier: BSD-2-Clause
"""The room that the kernel gives the neighbours that it learns, for the subnets of public links. Pure.

The kernel has one table for each IP version, for all network namespaces together. A guest that sends to each address of
its own subnet fills it with entries that nobody answers, each for three seconds. When it holds gc_thresh3 entries, the
node cannot learn a neighbour (linux net/core/neighbour.c, neigh_alloc()). Permanent entries do not count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ganeti_vif.config.model import Public
from ganeti_vif.engine.objects import Sysctl

OTHERS = 1024
"""Entries for the node's other networks: the kernel's own gc_thresh3."""
MOST = 65536
"""Entries for one subnet. A scan of 20 000 packets a second does not fill them: that is 60 000 in three seconds."""
ENTRY = 512
"""Bytes of memory for an entry (struct neighbour in slab kmalloc-512, Linux 6.1 to 6.18)."""
SHARE = 32
"""The full table takes at most this part of the node's memory, or setup does not raise its limit."""


def too_small(public: Iterable[Public], value: Callable[[str], str | None]) -> Iterator[Sysctl]:
    """The limits that are too low for the subnets of PUBLIC, with the least that they should be.

    VALUE gives the present value of a sysctl. It is None in a network namespace that is not the node's first one: the
    limits cannot be seen or set there.
    """
    subnets = [subnet for link in public for subnet in link.subnets]
    for version in (4, 6):
        sizes = [min(subnet.num_addresses, MOST) for subnet in subnets if subnet.version == version]
        least = OTHERS + sum(sizes)
        for name, enough in (("gc_thresh2", least // 2), ("gc_thresh3", least)):
            path = f"net/ipv{version}/neigh/default/{name}"
            present = value(path)
            if sizes and present is not None and int(present) < enough:
                yield Sysctl(path=path, value=str(enough))


def raised(public: Iterable[Public], value: Callable[[str], str | None], memory: int) -> list[Sysctl]:
    """Those of too_small() that setup sets on a node with MEMORY bytes. It sets none that would cost too much."""
    found = list(too_small(public, value))
    cost = sum(int(one.value) * ENTRY for one in found if one.path.endswith("gc_thresh3"))
    return found if cost * SHARE <= memory else []
