# SPDX-License-Identifier: BSD-2-Clause
"""Waiting until something is true of a node's network, woken by the kernel's own messages instead of by a clock."""

import errno
import select
import socket
import time
from collections.abc import Callable

from .namespace import PATIENCE, Node

# rtnetlink groups: links, neighbours, IPv4 addresses and routes, IPv6 addresses and routes
GROUPS = 0x1 | 0x4 | 0x10 | 0x40 | 0x100 | 0x400


def _subscribe() -> socket.socket:
    events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
    events.bind((0, GROUPS))
    return events


def wait_for(node: Node, predicate: Callable[[], bool], what: str, *, timeout: float = PATIENCE) -> None:
    """Return as soon as `predicate` holds; raise TimeoutError that names `what` if it does not in time.

    The predicate is asked first and after every change of a link, address, neighbour or route in the node.  It must
    depend on nothing else, not on /sys either when something goes (see Node.ifindex).  The subscription comes before the first question, so no change is missed between the two.
    """
    deadline = time.monotonic() + timeout
    with node.inside(_subscribe) as events:
        while not predicate():
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([events], [], [], left)[0]:
                raise TimeoutError(f"{node}: not within {timeout} s: {what}")
            _drain(events)


def _drain(events: socket.socket) -> None:
    """Read away every message that waits; a lost one (ENOBUFS) is as good a reason to look again as any."""
    while True:
        try:
            events.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
