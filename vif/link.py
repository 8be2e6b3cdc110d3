# SPDX-License-Identifier: BSD-2-Clause
"""What the link of a NIC or of a network must be on a node, and the two lines that say that it is not."""

from __future__ import annotations

from engine.failure import Failure
from engine.objects import Link

CONFIGURATION = "/etc/ganeti-vif/ganeti-vif.conf"


def bridge_obstacle(link: str, found: Link | None, *, ours: bool) -> Failure | None:
    """Why no NIC can be bridged to LINK, which the node was FOUND to have; None if it can. OURS if it is a bridge of a
    configured family."""
    if found is None:
        make = f"ip link add {link} type bridge && ip link set {link} up"
        return Failure(f"the bridge {link} does not exist", "ganeti-vif setup" if ours else make)
    if found.kind != "bridge":
        what = f"{link} is no bridge but a {found.kind or 'device'}"
        return Failure(what, "note: give the NIC another link: gnt-instance modify --net, or gnt-network connect -N")
    return None


def table_obstacle(link: str, table: int | None) -> Failure | None:
    """Why no NIC can be routed by LINK, which means this TABLE; None if it can."""
    if table is not None:
        return None
    do = f"note: add [public {link}] to {CONFIGURATION}, or the table to /etc/iproute2/rt_tables"
    return Failure(f"the link {link} is no routing table", do)


def switch_obstacle(link: str, *, exists: bool) -> Failure | None:
    """Why no NIC can be a port of LINK, an Open vSwitch bridge; None if it can."""
    return None if exists else Failure(f"Open vSwitch has no bridge {link}", f"ovs-vsctl add-br {link}")
