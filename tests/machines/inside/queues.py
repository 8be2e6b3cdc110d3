# SPDX-License-Identifier: BSD-2-Clause
"""queues.py MANY NUMBER...: read these netfilter queues, as NFDHCPD does, until MANY different lines were printed.

A line is the queue, the device and the bridge's port by which a packet came; `-` if it came by no bridge.
"""

from __future__ import annotations

import socket
import sys
from typing import Any, cast

sys.path.insert(0, "/mnt/this/ganeti-vif")

from tests.lab.namespace import Node
from tests.lab.queue import Queue

LIMIT = 300.0
"""Seconds for each packet."""


class Here:
    """This network namespace, in a laboratory's place."""

    @staticmethod
    def inside(call: Any) -> Any:
        """What CALL returns."""
        return call()


def main(many: int, numbers: list[int]) -> None:
    """Print what comes, each line once."""
    seen: set[str] = set()
    with Queue(cast(Node, Here()), numbers) as queue:
        while len(seen) < many and (found := queue.receive(LIMIT)):
            port = socket.if_indextoname(found.port) if found.port else "-"
            line = f"{found.queue} {socket.if_indextoname(found.device)} {port}"
            if line not in seen:
                print(line, flush=True)
            seen.add(line)


main(int(sys.argv[1]), [int(number) for number in sys.argv[2:]])
