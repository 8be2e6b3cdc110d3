# SPDX-License-Identifier: BSD-2-Clause
"""Reading the chains through which this node forwards packets, whoever made them."""

from __future__ import annotations

from collections.abc import Iterable

from ganeti_vif.config.model import Config
from ganeti_vif.doctor.foreign_rules import PRIORITIES, iptables_chains, nft_chains, unreadable
from ganeti_vif.doctor.forward_drops import drops
from ganeti_vif.doctor.forwarding import ForwardChain
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.marks import TABLE
from ganeti_vif.nic.nic import Nic
from ganeti_vif.system import xtables
from ganeti_vif.system.node import Node


def forward_chains(node: Node, *, ours: bool = False) -> list[ForwardChain]:
    """Every base chain of the hook `forward`, of nft and of both kinds of iptables; OURS too if that is asked for.
    Raises Failure if the kernel cannot be read."""
    tables = {one for one in node.forwarding_tables() if ours or one[1] != TABLE}
    found = [chain for program in xtables.LEGACY for chain in iptables_chains(program, xtables.legacy(program))]
    for family, program in (("ip", "iptables-nft"), ("ip6", "ip6tables-nft")):
        if any((family, table) in tables for table in PRIORITIES):
            # Its own program knows what nft cannot print of its rules: the matches of iptables' extensions.
            chains = iptables_chains(program, xtables.saved(program))
            found += chains
            tables -= {(chain.family, chain.table) for chain in chains}
    for family, table in sorted(tables):
        try:
            found += nft_chains(node.listed(family, table))
        except Failure as failure:  # a name or a rule that this libnftables does not know: the others count as before
            found.append(unreadable(family, table, failure.what))
    return found


def forward_drops(nics: Iterable[Nic], config: Config, node: Node) -> list[Failure]:
    """What chains of other programs drop of NICS. Reads no rules if there are only chains of ours. Raises Failure."""
    if all(table == TABLE for _, table in node.forwarding_tables()) and not xtables.has_legacy():
        return []
    return drops(nics, config, forward_chains(node))
