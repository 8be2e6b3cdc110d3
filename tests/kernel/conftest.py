# SPDX-License-Identifier: BSD-2-Clause
"""Nodes, a gateway and guests for the tests in this directory."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.lab import Node, Tap, VirtualCable, wait_for_room, wire  # noqa: E402
from tests.signals import heard  # noqa: E402

from .actions import ip, manage, sysctl  # noqa: E402
from .environment import (  # noqa: E402
    BEYOND,
    BEYOND6,
    CONFIG,
    GATEWAY,
    GATEWAY6,
    NODE_ADDRESS,
    NODE_ADDRESS6,
    mac,
)

heard()
MakeTap = Callable[[Node], Tap]
Plug = Callable[..., Node]

if os.geteuid() != 0:
    pytest.skip("only root can make network namespaces", allow_module_level=True)


def configure(node: Node, text: str) -> None:
    """Write the configuration file of NODE."""
    node.path("/etc/ganeti-vif/ganeti-vif.conf").write_text(text, encoding="utf-8")


def apply(node: Node, text: str) -> None:
    """Write the configuration file of NODE, and make the node so: from then on everybody works by it."""
    configure(node, text)
    manage(node, "setup")


def unapplied(node: Node, text: str) -> None:
    """Write the configuration file of NODE, on which nothing is in force: as after a boot, before its first setup."""
    node.path("/run/ganeti-vif/configuration.json").unlink(missing_ok=True)
    configure(node, text)


def quick(node: Node) -> Node:
    """NODE, whose devices from now on use their IPv6 addresses at once, without looking for duplicates."""
    for scope in ("all", "default"):
        sysctl(node, f"net/ipv6/conf/{scope}/accept_dad", "0")
    return node


def installed(node: Node, config: str = CONFIG) -> Node:
    """NODE with the package."""
    node.install(ROOT)
    configure(node, config)
    return node


@pytest.fixture(autouse=True)
def room() -> None:
    """No test begins while other work on this machine would make it fail."""
    wait_for_room()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Whatever a test enters here is left at its end."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def gateway(stack: ExitStack) -> Node:
    """The gateway of the public link, and a host beyond it."""
    gateway = quick(stack.enter_context(Node("gateway")))
    for scope in ("ipv4/conf/all", "ipv6/conf/all"):
        sysctl(gateway, f"net/{scope}/forwarding", "1")
    ip(gateway, f"addr add {BEYOND}/32 dev lo", f"addr add {BEYOND6}/128 dev lo")
    return gateway


@pytest.fixture
def node(stack: ExitStack, gateway: Node) -> Node:
    """A node with the package and an uplink, eth1, to the gateway. Its networks are not set up yet."""
    node = installed(quick(stack.enter_context(Node("node1"))))
    ip(node, f"addr add {NODE_ADDRESS}/32 dev lo", f"addr add {NODE_ADDRESS6}/128 dev lo")
    wire(node, "eth1", gateway, "eth0")
    ip(gateway, f"addr add {GATEWAY}/24 dev eth0", f"addr add {GATEWAY6}/64 dev eth0")
    return node


@pytest.fixture
def ready(node: Node) -> Node:
    """The node, with its networks set up."""
    manage(node, "setup")
    return node


@pytest.fixture
def plug(stack: ExitStack) -> Plug:
    """Makes a guest with a whole IP stack: a machine of the laboratory behind a tap of the node.

    The tap is down until somebody attaches it. The guest's own end, eth0, is up.
    """

    def make(node: Node, tap: str, number: int, *addresses: str) -> Node:
        guest = quick(stack.enter_context(Node(f"vm{number}")))
        stack.enter_context(VirtualCable(node, tap, guest, "eth0"))
        ip(guest, f"link set eth0 address {mac(number)} up", *(f"addr add {address} dev eth0" for address in addresses))
        return guest

    return make


@pytest.fixture
def tap(stack: ExitStack) -> Callable[[Node], Tap]:
    """Makes a tap, as Ganeti makes it for QEMU."""
    return lambda node: stack.enter_context(Tap(node))
