# SPDX-License-Identifier: BSD-2-Clause
"""Site: what stands around the nodes of a cluster.

A switch with two networks, one for management (and the VXLANs of private networks), one for the public link; a gateway
on the public link with a host beyond it; and a neighbour, a host in the private network pvn1, reached by VXLAN as the
nodes' guests reach each other.  Gateway and neighbour are one machine, with two cables.
"""

from __future__ import annotations

from contextlib import ExitStack

from tests.lab import Node, wire

from .machine import Machine

DOMAIN = "example.com"
MANAGEMENT = "10.64.0"
GATEWAY, GATEWAY6 = "192.0.2.1", "2001:db8::1"
BEYOND = "198.51.100.1"
NEIGHBOUR = "10.0.0.254"

CONFIG = """\
[private pvn]
bridges = 1-3
uplink  = vxlan eth0 +10000

[public public]
table      = 222
uplink     = eth1
subnets    = 192.0.2.0/24 2001:db8::/64
gateways   = 192.0.2.1 2001:db8::1
arp-source = 192.0.2.254

[bindings]
for = all
"""


class Site:
    """The surroundings of a cluster, and the cables into them; closes with the `with` block."""

    def __init__(self) -> None:
        with ExitStack() as stack:
            self.switch = stack.enter_context(Node("switch"))
            for bridge in ("management", "public"):
                # Promiscuous: a packet socket on the bridge then hears whatever passes it, in one order.
                self._ip(self.switch, f"link add {bridge} type bridge forward_delay 0 mcast_snooping 0")
                self._ip(self.switch, f"link set {bridge} promisc on up")
            self.gateway = stack.enter_context(Node("gateway"))
            self._plug(self.gateway, "eth0", "public")
            self._plug(self.gateway, "eth1", "management")
            self._ip(
                self.gateway,
                f"addr add {GATEWAY}/24 dev eth0",
                f"-6 addr add {GATEWAY6}/64 dev eth0 nodad",
                f"addr add {BEYOND}/32 dev lo",
                f"addr add {MANAGEMENT}.254/24 dev eth1",
                "link add vx10001 mtu 1450 type vxlan id 10001 group 239.192.86.73 dev eth1 dstport 4789",
                f"addr add {NEIGHBOUR}/24 dev vx10001",
                "link set vx10001 up",
            )
            self._kept = stack.pop_all()

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_: object) -> None:
        self._kept.close()

    def connect(self, machine: Machine, number: int) -> None:
        """Give a machine its two cables and its management address."""
        self._plug(machine, "eth0", "management")
        self._plug(machine, "eth1", "public")
        self._ip(machine, f"addr add {MANAGEMENT}.{number}/24 dev eth0", f"route add default via {MANAGEMENT}.254")

    def _plug(self, node: Node, interface: str, bridge: str) -> None:
        port = f"{node.name.partition('.')[0]}-{bridge[:3]}"
        wire(self.switch, port, node, interface)
        self._ip(self.switch, f"link set {port} master {bridge}")

    @staticmethod
    def _ip(node: Node, *commands: str) -> None:
        for command in commands:
            node.run(["ip", *command.split()])
