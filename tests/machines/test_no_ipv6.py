# SPDX-License-Identifier: BSD-2-Clause
"""A kernel that was booted with ipv6.disable=1."""

from __future__ import annotations

from collections.abc import Callable

from tests.kernel.environment import GATEWAY, bridged, public, routed

from .conftest import Start
from .node import CONFIG, PRIVATE_GATEWAY, Guest, clean, differences, faults, install, name_of, set_up, sh

WITHOUT = CONFIG.replace(" 2001:db8::/64", "").replace(" 2001:db8::1", "")
WIRED = f"""
ip link set {name_of("uplink")} up
ip netns add gateway
ip link set {name_of("gateway")} netns gateway
ip -n gateway link set {name_of("gateway")} up
ip -n gateway addr add {GATEWAY}/24 dev {name_of("gateway")}
ip -n gateway link add link {name_of("gateway")} name vlan2991 type vlan id 2991
ip -n gateway addr add {PRIVATE_GATEWAY}/24 dev vlan2991
ip -n gateway link set vlan2991 up
"""


def test_a_node_without_ipv6_says_so_and_serves_ipv4(start: Start, guest: Callable[..., Guest]) -> None:
    with start("bookworm", options="ipv6.disable=1") as node:
        sh(node, WIRED)
        install(node)
        (what, fix) = differences(node)
        assert what.startswith("public link public: it has the IPv6 subnet 2001:db8::/64, and the kernel")
        assert "ipv6.disable=1" in fix
        private = guest(node, 6)
        private.attach(bridged(private.tap, 6))
        assert private.lease()[0] == "10.0.0.6"
        private.sh(f"ping -n -c 1 -w 60 {PRIVATE_GATEWAY}")
        set_up(node, WITHOUT)
        clean(node)
        way = guest(node, 5, f"{public(5)}/24")
        way.attach(routed(way.tap, 5, TAGS="disable_ipv6"))
        way.sh(f"ip route add default via {GATEWAY}; ping -n -c 1 -w 60 {GATEWAY}")
        clean(node)
        for one in (private, way):
            one.gone()
        clean(node)
        assert [line for line in faults(node) if not line.endswith("the kernel of this node has no IPv6")] == []
