# SPDX-License-Identifier: BSD-2-Clause
"""A kernel without IPv6 (`ipv6.disable=1`): what needs none works, and what needs it is told in words that help.

This kernel has IPv6. The node does not see its sysctls, by which ganeti-vif knows.
"""

from __future__ import annotations

import pytest

from tests.lab import Node

from .actions import attach, complaint, differences, manage, ping, refusal, run
from .conftest import MakeTap, Plug, apply, configure
from .environment import CONFIG, GATEWAY, bridged, public, routed

WITHOUT = CONFIG.replace(" 2001:db8::/64", "").replace(" 2001:db8::1", "")
HIDE = """
mkdir -p /run/without && mount -t tmpfs none /run/without && cd /proc/sys/net || exit 1
for name in *; do
    [ "$name" = ipv6 ] && continue
    if [ -d "$name" ]; then mkdir "/run/without/$name"; else touch "/run/without/$name"; fi
    mount --bind "$name" "/run/without/$name"
done
mount --rbind /run/without /proc/sys/net
"""


@pytest.fixture
def old(node: Node) -> Node:
    """The node, with a kernel that seems to have no IPv6."""
    node.run(["sh", "-c", HIDE])
    assert node.run(["test", "-e", "/proc/sys/net/ipv6"], check=False).returncode
    return node


def test_a_link_with_ipv6_says_what_the_kernel_lacks_and_the_rest_is_set_up(old: Node, tap: MakeTap) -> None:
    done = run(old, "setup")
    assert "public link public: it has the IPv6 subnet 2001:db8::/64, and the kernel" in complaint(done)
    assert "ipv6.disable=1" in done.stderr and "ip link show" not in done.stderr
    assert "the kernel of this node has no IPv6" in refusal(old, routed(tap(old).name))
    attach(old, bridged(tap(old).name, 6))
    (line,) = differences(old)
    assert "public link public" in line


def test_what_the_message_says_helps(old: Node, plug: Plug) -> None:
    run(old, "setup")
    guest = plug(old, "tap5", 5, f"{public(5)}/24")
    guest.run(["ip", "route", "add", "default", "via", GATEWAY])
    configure(old, WITHOUT)
    manage(old, "setup")
    attach(old, routed("tap5", TAGS="disable_ipv6"))
    ping(guest, GATEWAY)
    assert differences(old) == []


def test_a_routing_table_leads_to_guests_without_ipv6(old: Node, tap: MakeTap) -> None:
    apply(old, WITHOUT)
    given = routed(tap(old).name, LINK="main")
    said = refusal(old, given)
    assert "vm5.example.com" in said and "the kernel of this node has no IPv6" in said
    attach(old, given | {"TAGS": "disable_ipv6"})
    assert differences(old) == []
