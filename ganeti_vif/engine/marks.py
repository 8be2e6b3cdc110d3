# SPDX-License-Identifier: BSD-2-Clause
"""The marks of our objects on a node. Only an object that carries a mark is ever removed."""

PROTOCOL = 156
"""Marks our routes, rules, permanent neighbours and neighbour proxies (rtm_protocol, FRA_PROTOCOL, NDA_PROTOCOL).

It is free in rt_protos."""

GROUP = 7686
"""Marks the network devices that we made (IFLA_GROUP, `ip link show group 7686`).

An ifalias is no alternative: one alias line makes Ganeti's GenerateTapName fail (ganeti
lib/hypervisor/hv_base.py:188-202 at 3.0.2).
"""

ADOPTED_GROUP = 7687
"""Marks bridges and uplinks that existed before and that we configure. A teardown does not remove them."""

ROUTED_GROUP = 7689
"""Marks the taps of public links. One filter matches by it what this node sends to all of these taps."""

LEAVING_GROUP = 7688
"""Marks devices of ours while they are removed together."""

SHAPER = 0x7686
"""Marks our shapers: the handle of the queueing discipline (`tc qdisc show handle 7686:`)."""

TABLE = "ganeti_vif"
"""The name of our nftables table in each family. In the family netdev it is the beginning of TABLES names."""

TABLES = 64
"""The number of tables over which the chains of devices are spread. table_of() gives the reason."""
