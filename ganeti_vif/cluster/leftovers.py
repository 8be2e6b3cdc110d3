# SPDX-License-Identifier: BSD-2-Clause
"""What dead creators and destroyers left, and what else is wrong with the networks of a cluster. Pure.

A network with the tags CREATING and UNFINISHED has a creator, which may live. A network with UNFINISHED alone has none:
repair took it, or `network destroy` was going to remove it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ganeti_vif.cluster.creation import FILTERED, UNFINISHED, creating
from ganeti_vif.cluster.links import uses
from ganeti_vif.cluster.model import Cluster, Network
from ganeti_vif.engine.failure import Failure


@dataclass(frozen=True, slots=True)
class Take:
    """Remove the creator's TAG of NETWORK. Only one of repair and creator can do that."""

    network: Network
    tag: str


@dataclass(frozen=True, slots=True)
class Release:
    """NETWORK has NICs, so it is in use: remove UNFINISHED."""

    network: Network


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Disconnect NETWORK from GROUP."""

    network: Network
    group: str


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove NETWORK."""

    network: Network


Mend = Take | Release | Disconnect | Remove


def mend(network: Network, cluster: Cluster) -> Mend | None:
    """The next step that mends NETWORK, or None if nothing is left of it to mend."""
    if tag := creating(network):
        return Take(network, tag)
    if UNFINISHED not in network.tags:
        return None
    if any(cluster.members(network)):
        return Release(network)
    if network.connections:
        return Disconnect(network, network.connections[0].group)
    return Remove(network)


def left(cluster: Cluster, *, before: float) -> tuple[Network, ...]:
    """The unfinished networks without a creator, and those with a creator that were added BEFORE that time."""
    return tuple(
        network
        for network in cluster.networks
        if UNFINISHED in network.tags and not creating(network) or creating(network) and network.ctime < before
    )


def trouble(cluster: Cluster, links: Sequence[str]) -> Iterator[Failure]:
    """What repair cannot mend, because only an administrator knows which network is right."""
    for link, use in sorted(uses(cluster).items()):
        apart = all(FILTERED in one.tags and one.mac_prefix for one in use.networks)
        apart = apart and len({one.mac_prefix for one in use.networks}) == len(use.networks)
        if link in links and len(use.networks) > 1 and not apart:
            names = ", ".join(sorted(one.name for one in use.networks))
            yield Failure(f"the networks {names} have the same link {link}: their guests see each other", _ONE_LINK)
        if link in links and use.networks and use.nics:
            whom = ", ".join(nic.whom for nic in use.nics)
            what = (
                f"{whom} names the link {link} without a network, and the network {use.networks[0].name} has that link"
            )
            yield Failure(what, _OWN_LINK)
    every = [network.name for network in cluster.networks]
    for name in sorted({name for name in every if every.count(name) > 1}):
        uuids = ", ".join(network.uuid for network in cluster.networks if network.name == name)
        yield Failure(f"{every.count(name)} networks have the name {name}", f"note: destroy all but one: {uuids}")


_ONE_LINK = "note: destroy all but one of them, and create them again"
_OWN_LINK = "note: move the NIC into a network, or destroy that network"
