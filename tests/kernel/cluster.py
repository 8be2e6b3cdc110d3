# SPDX-License-Identifier: BSD-2-Clause
"""Nodes of one cluster, each with its card eth2 on the underlay, and Ganeti's files about them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack

from tests.lab import Node, wire

from .actions import ip
from .conftest import installed, quick

CONFIG = """\
[private pvn]
bridges = 1-2
uplink  = vxlan eth2 +10000 peers cluster
"""
DIRECTORY = "/var/lib/ganeti"


def end(number: int) -> str:
    """The address of node NUMBER on the underlay."""
    return f"172.16.0.{number}"


class Cluster:
    """A switch, and the nodes that somebody connected to it."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.fabric = stack.enter_context(Node("fabric"))
        ip(self.fabric, "link add fabric type bridge mcast_snooping 0", "link set fabric up")

    def machine(self, number: int, name: str | None = None) -> Node:
        """Any machine on the underlay, with the address of that NUMBER."""
        node = quick(self._stack.enter_context(Node(name or f"node{number}")))
        wire(self.fabric, f"to{number}", node, "eth2")
        ip(self.fabric, f"link set to{number} master fabric")
        ip(node, f"addr add {end(number)}/24 dev eth2")
        return node

    def node(self, number: int, config: str = CONFIG) -> Node:
        """The node with the name nodeNUMBER, with the package. Ganeti has not written anything there."""
        node = installed(self.machine(number), config)
        node.path("/etc/machine-id").write_text(f"{number:032x}\n")
        node.path(DIRECTORY).mkdir(mode=0o755, exist_ok=True)
        return node


def told(nodes: Iterable[Node], members: Iterable[int], *, offline: Iterable[int] = ()) -> None:
    """Ganeti writes its files about the nodes with the numbers MEMBERS on each of NODES, as WriteFile does."""
    named = [(f"node{number}.example.com", end(number)) for number in members]
    texts = {
        "node_primary_ips": [f"{name}=10.0.0.{number.rpartition('.')[2]}" for name, number in named],
        "node_secondary_ips": [f"{name}={address}" for name, address in named],
        "node_vm_capable": [f"{name}=True" for name, _ in named],
        "offline_nodes": [f"node{number}.example.com" for number in offline],
    }
    for node in nodes:
        for name, lines in texts.items():
            path = node.path(f"{DIRECTORY}/ssconf_{name}")
            new = path.with_name(f"{path.name}.new")
            new.write_text("".join(f"{line}\n" for line in lines))
            new.rename(path)


def peers(node: Node, device: str = "vx10001") -> set[str]:
    """To whom DEVICE sends what it has no entry for."""
    lines = node.run(["bridge", "fdb", "show", "dev", device]).stdout.splitlines()
    return {line.split(" dst ")[1].split()[0] for line in lines if line.startswith("00:00:00:00:00:00 dst ")}
