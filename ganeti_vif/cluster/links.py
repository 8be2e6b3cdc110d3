# SPDX-License-Identifier: BSD-2-Clause
"""Which links and MAC prefixes of a cluster are used, and which are free. Pure.

A link that is used in one node group is used in all: with a VLAN or VXLAN uplink, bridges of one name are one network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ganeti_vif.cluster.model import Cluster, Network, Nic


@dataclass(frozen=True, slots=True)
class Use:
    """Who uses a link: the NETWORKS that are connected to it, and NICS that name it without a network."""

    networks: tuple[Network, ...] = ()
    nics: tuple[Nic, ...] = ()


def uses(cluster: Cluster) -> Mapping[str, Use]:
    """Each link that somebody uses, with its users. Routed NICs count too: their links are routing tables."""
    found: dict[str, Use] = {}
    for network in cluster.networks:
        for link in network.links:
            use = found.get(link, Use())
            found[link] = Use((*use.networks, network), use.nics)
    for nic in cluster.nics:
        if nic.link and not nic.network:
            use = found.get(nic.link, Use())
            found[nic.link] = Use(use.networks, (*use.nics, nic))
    return found


def free(links: Sequence[str], cluster: Cluster) -> tuple[str, ...]:
    """Those of LINKS that nobody uses, in their order."""
    used = uses(cluster)
    return tuple(link for link in links if link not in used)


def prefixes(cluster: Cluster) -> frozenset[str]:
    """The MAC prefixes that networks of CLUSTER have."""
    return frozenset(network.mac_prefix for network in cluster.networks if network.mac_prefix)


def free_prefixes(cluster: Cluster) -> Iterator[str]:
    """MAC prefixes that no network has: aa:00:01, aa:00:02, ... These are locally administered, and no multicast.

    aa:00:00 is left out: it is Ganeti's own default (ganeti lib/constants: DEFAULT_MAC_PREFIX), so NICs without a
    network have it.
    """
    used = prefixes(cluster)
    for number in range(1, 1 << 16):
        prefix = f"aa:{number >> 8:02x}:{number & 0xFF:02x}"
        if prefix not in used:
            yield prefix
