# SPDX-License-Identifier: BSD-2-Clause
"""The short form: Debian 12's kernel, the package installed, a guest in a VLAN that gets its address."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.kernel.environment import bridged

from .conftest import Start, cost, installed
from .machine import Machine
from .node import PRIVATE_GATEWAY, UPLINK, Guest, clean, differences, doctor, faults, sh

pytestmark = pytest.mark.short


@pytest.fixture(scope="module")
def node(start: Start) -> Iterator[Machine]:
    """Debian 12 with what a node needs, and nothing else that meddles with networks."""
    with start("bookworm") as machine:
        yield installed(machine)


def test_a_node_with_vlan_uplinks_serves_a_guest(node: Machine, guest: Callable[..., Guest]) -> None:
    assert sh(node, "uname -r").startswith("6.1.") and "8021q" in sh(node, "lsmod")
    assert sh(node, "systemctl --failed --no-legend") == ""
    assert sh(node, "ls /sys/class/net/pvn1/brif") == f"{UPLINK}.2991\n"
    assert differences(node) == []
    vm = guest(node, 5)
    with cost("attaching a tap"):
        vm.attach(bridged(vm.tap, 5))
    assert differences(node) == []
    assert vm.lease()[0] == "10.0.0.5"
    vm.sh(f"ping -n -c 1 -w 60 {PRIVATE_GATEWAY}")
    assert sh(node, "systemctl is-active ganeti-vifd ganeti-vif-responder").split() == ["active"] * 2
    assert doctor(node) == []
    vm.gone()
    clean(node)
    assert sh(node, "ls /run/ganeti-vif/nics /var/lib/nfdhcpd").split() == [
        "/run/ganeti-vif/nics:",
        "/var/lib/nfdhcpd:",
    ]
    assert faults(node) == []
