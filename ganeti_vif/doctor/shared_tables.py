# SPDX-License-Identifier: BSD-2-Clause
"""Checks of what the kernel has only once for all guests: its tables of neighbours and of connections."""

from __future__ import annotations

from collections.abc import Iterator

from ganeti_vif.config.model import MOST_CONNECTIONS, Conntrack
from ganeti_vif.doctor.facts import Facts, Finding
from ganeti_vif.engine.naming import dotted
from ganeti_vif.guard import connections
from host_setup import neighbour_table

CONNECTIONS = "net/netfilter/nf_conntrack_max"
OTHERS = 65536
"""Connections for the node itself and for other programs: a quarter of the kernel's usual limit, 262 144."""


def neighbours(facts: Facts) -> Iterator[Finding]:
    """The kernel's limits for neighbours. Setup raises them unless that takes too much memory."""
    for limit in neighbour_table.too_small(facts.config.public, facts.sysctls.get):
        yield _raise(
            limit.path,
            int(limit.value),
            f"{dotted(limit.path)} is {facts.sysctls[limit.path]}: a guest that scans its subnet fills the table of "
            "neighbours, and the node and its guests find no new neighbour",
            f"a full table takes {int(limit.value) * neighbour_table.ENTRY // 1_000_000} MB",
        )


def connection_limit(facts: Facts) -> Iterator[Finding]:
    """The kernel's limit for connections has room for all NICs whose connections are followed, and for the node."""
    present = facts.sysctls.get(CONNECTIONS)
    wanted = 0
    for nic in facts.nics:
        if connections.needed(nic, facts.config.profile(nic.grants.profile)):
            link = facts.config.public_link(nic.link)
            wanted += link.connections if link else MOST_CONNECTIONS
    if present is not None and wanted and int(present) < wanted + OTHERS:
        yield _raise(
            CONNECTIONS,
            wanted + OTHERS,
            f"{dotted(CONNECTIONS)} is {present}, and NICs with profiles that use ct may have {wanted} connections",
            "or fewer connections for each NIC: connections in [public]",
        )


def followers(facts: Facts) -> Iterator[Finding]:
    """Other programs need the connections of forwarded packets. So those of all guests share one table."""
    links = [link.name for link in facts.config.public if link.conntrack is Conntrack.AUTO]
    if facts.followers and links:
        first, *more = facts.followers
        yield Finding(
            what=f"the connections of all guests of {', '.join(links)} are followed, because rules of others may read "
            f"connections ({first}{f' and {len(more)} more' if more else ''}): one guest can fill the table of all",
            do=f"note: if these rules are not for guests: conntrack = profiles in [public {links[0]}], and then: "
            "ganeti-vif setup",
            grave=False,
        )


def _raise(path: str, value: int, what: str, note: str) -> Finding:
    name = dotted(path)
    command = f"sysctl -w {name}={value} && echo '{name} = {value}' > /etc/sysctl.d/ganeti-vif-{name}.conf"
    return Finding(what=what, do=command, note=note)
