"""What tells our things on a node from other people's: only what carries one of these is ever removed."""

PROTOCOL = 156
"""Marks our routes, rules and proxy entries (rtm_protocol, FRA_PROTOCOL, NDA_PROTOCOL): unassigned in rt_protos."""

GROUP = 7686
"""Marks the network devices that we made (IFLA_GROUP, `ip link show group 7686`). Not an ifalias: one alias line
makes Ganeti's GenerateTapName fail (ganeti lib/hypervisor/hv_base.py:188-202 at 3.0.2)."""

ADOPTED_GROUP = 7687
"""Marks the bridges and their uplinks that were there before us and that we keep in shape: teardown leaves them."""

ROUTED_GROUP = 7689
"""Marks the taps of public links, for the one filter that looks at what this node sends by any of them."""

LEAVING_GROUP = 7688
"""Marks devices of ours in the moment in which they are removed together."""

TABLE = "ganeti_vif"
"""The name of our nftables tables, one in each family; in the family netdev it begins the names of TABLES."""

TABLES = 64
"""So many tables have the chains of devices: see table_of()."""
