# SPDX-License-Identifier: BSD-2-Clause
"""Taking over a NIC that another program attached: attach it, and then remove what our attach makes superfluous.

Ganeti's own script, snf-network and gnt-networking give a routed tap a policy rule by its name, which outlives the tap
and would catch the next one of that name (ganeti tools/net-common.in:179-210 at 3.0.2). That rule is the only thing
without our mark that is ever removed, and only after ours stand. Routes and switches of the tap go with it, proxy
neighbours become ours.
"""

from __future__ import annotations

from ganeti_vif.config.model import Config
from ganeti_vif.engine.apply import clear
from ganeti_vif.engine.difference import Change, Remove
from ganeti_vif.engine.failure import Failure
from ganeti_vif.lifecycle.attach import attach
from ganeti_vif.nic.nic import Mode, Nic
from ganeti_vif.system import tables
from ganeti_vif.system.node import Node


def take_over(nic: Nic, config: Config, node: Node, *, dry_run: bool = False) -> tuple[Change, ...]:
    """Attach NIC, whose guest runs, and remove its tap's foreign rule. Returns the changes made (or that would be).

    Raises Failure, about this NIC; the caller holds the lock `nics`.
    """
    return (*attach(nic, config, node, adopted=True, dry_run=dry_run), *relieve(nic, config, node, dry_run=dry_run))


def relieve(nic: Nic, config: Config, node: Node, *, dry_run: bool = False) -> tuple[Change, ...]:
    """Remove the rules of other programs that do for NIC's tap what ours do: they lead to the table of its link.

    NIC is attached already. An earlier run may have died between its attach and this. Returns and raises as
    take_over().
    """
    if nic.mode is not Mode.ROUTED:
        return ()
    public = config.public_link(nic.link)
    own = {tables.table_number(nic.link), public.table if public else None}
    superfluous = tuple(Remove(rule) for rule in node.foreign_rules(nic.tap) if rule.table in own)
    if not dry_run:
        try:
            clear(superfluous, node)
        except Failure as failure:
            raise failure.about(nic.whom) from failure
    return superfluous
