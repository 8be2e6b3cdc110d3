# SPDX-License-Identifier: BSD-2-Clause
"""A laboratory of real machines made of kernel namespaces, real taps and real QEMU guests.

    with Node("node1") as node, Node("router") as router:
        wire(node, "eth1", router, "eth0")
        node.install(SOURCE)
        with Tap(node) as tap:
            node.run(["kvm-vif-bridge"], env={"INTERFACE": tap.name, ...})

Nothing here knows what ganeti-vif is: the laboratory gives machines, wires and ears, the tests next door say what
must be true.  Nothing outside the namespaces that it makes is changed, and everything that runs in them ends with
the process that made them, however that process ends.
"""

from .agent import Agent, GuestError, Result
from .cable import VirtualCable
from .card import no_offload
from .events import wait_for
from .guest import Guest
from .guest_image import Image, ImageError, ensure
from .holder import TapHolder
from .namespace import PATIENCE, CommandFailed, Node, wire
from .shared import wait_for_room
from .tap import PacketSocket, Tap

__all__ = [
    "PATIENCE",
    "Agent",
    "CommandFailed",
    "Guest",
    "GuestError",
    "Image",
    "ImageError",
    "Node",
    "PacketSocket",
    "Result",
    "Tap",
    "TapHolder",
    "VirtualCable",
    "ensure",
    "no_offload",
    "wait_for",
    "wait_for_room",
    "wire",
]
