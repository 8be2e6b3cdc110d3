# SPDX-License-Identifier: BSD-2-Clause
"""Make the filters again that all NICs of a node share, at once when they are gone.

A survey would do the same, but seconds later on a node with many NICs. Meanwhile no packet would reach a routed guest,
because the uplink's filter sets the mark that leads to it, and private networks would reach the node.
"""

from __future__ import annotations

from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.naming import finding
from ganeti_vif.reconcile.in_force import InForce
from ganeti_vif.reconcile.setup import setup
from ganeti_vif.system import lock, log
from ganeti_vif.system.node import Node


def share(known: InForce, node: Node) -> None:
    """Set up what does not belong to a single private network, and say what was missing.

    Nothing is done while somebody else sets up or tears down, or by a configuration that is not in force any more. What
    is not done or not possible here is left to the look.
    """
    try:
        with lock.held("node", wait=0.0):
            if known.is_old():
                return
            node.forget()
            config = known.config
            changes, _ = setup((), config.public, node, consumer=config.bindings.consumer, families=config.private)
    except Failure:
        return  # the look meets the same, and says it
    for change in changes:
        log.say(f"repaired: {finding(change)}", log.Level.WARNING)
