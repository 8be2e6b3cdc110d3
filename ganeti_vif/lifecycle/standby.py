# SPDX-License-Identifier: BSD-2-Clause
"""A NIC whose guest runs on another node: what this node stops to say of it, so that the other can say it.

The caller holds the lock `nics` (system/lock.py).
"""

from __future__ import annotations

from dataclasses import replace

from ganeti_vif.config.model import Config
from ganeti_vif.desired.needs import needs, only_here
from ganeti_vif.engine.apply import clear
from ganeti_vif.engine.difference import Alter, Change, Remove
from ganeti_vif.engine.failure import Failure
from ganeti_vif.lifecycle.context import context_of
from ganeti_vif.nic.nic import Nic
from ganeti_vif.nic.record import record_of
from ganeti_vif.system.node import Node


def let_go(nic: Nic, config: Config, node: Node, *, plan: tuple[Change, ...] | None = None) -> tuple[Change, ...]:
    """Speak for NIC no more, at once: its guest runs on another node, which waits for this. An attach as elsewhere does
    the rest. PLAN is what it takes, if there was time to see that before.

    Returns the changes. Raises Failure after everything was tried.
    """
    changes = plan or let_go_plan(nic, config, node)
    try:
        clear(changes, node)
    except Failure as failure:
        raise failure.about(nic.whom) from failure
    return changes


def let_go_plan(nic: Nic, config: Config, node: Node) -> tuple[Change, ...]:
    """What it takes to speak for NIC no more."""
    own = needs(nic, config, context_of(nic, config, node)).own.values()
    told = Alter(record_of(nic), record_of(replace(nic, standby=True)))
    return (told, *(Remove(thing) for thing in own if only_here(nic, thing)))
