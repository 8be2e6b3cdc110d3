# SPDX-License-Identifier: BSD-2-Clause
"""Whether a network can be connected with a mode and a link on this node. Ganeti itself checks neither the bridge nor
the table (ganeti lib/cmdlib/network.py:516 at 3.0.2), so the first instance there would fail to start."""

from __future__ import annotations

from ganeti_vif.config import source
from ganeti_vif.config.model import Config
from ganeti_vif.desired.obstacle import bridge_obstacle, switch_obstacle, table_obstacle
from ganeti_vif.engine.failure import Failure
from ganeti_vif.reconcile import setup
from ganeti_vif.system import openvswitch, ssconf, tables
from ganeti_vif.system.node import Node

AUTO = "auto"
"""Ganeti replaces this link by the cluster's default (ganeti constants.VALUE_AUTO). We do not learn which one it is."""


def refusal(mode: str | None, link: str | None, config: Config, node: Node) -> Failure | None:
    """Why no instance of a network with MODE and LINK could start on this node.

    Returns None if one could start, or if this node runs no instances. A bridge, table or switch that exists is fine,
    no matter who made it. The caller holds the lock `node`. Raises Failure if the node cannot be read.
    """
    if not link or link == AUTO or not ssconf.vm_capable():
        return None
    match mode:
        case "bridged":
            return _bridged(link, config, node)
        case "routed":
            public = config.public_link(link)
            return table_obstacle(link, public.table if public else tables.table_number(link))
        case "openvswitch":
            return switch_obstacle(link, exists=openvswitch.bridge_exists(link))
    return None


def _bridged(link: str, config: Config, node: Node) -> Failure | None:
    """The hook that follows makes a missing bridge of a family, so this only asks whether it can be made."""
    family = config.private_network(link)
    if family is None:
        found = node.devices([link]).by_name.get(link)
        if found is None and (near := config.family(link)):
            do = f"note: add it to [private {near.prefix}] of {source.PATH} on all nodes, then: ganeti-vif setup"
            return Failure(f"{link} is outside the configured private networks", do)
        return bridge_obstacle(link, found.link if found else None, None)
    _, refused = setup.setup((family,), (), node, dry_run=True)
    about = (f"{link} ", f"{link}:", f"private networks {family.prefix}*")
    return next((failure for failure in refused if failure.what.startswith(about)), None)
