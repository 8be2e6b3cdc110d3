# SPDX-License-Identifier: BSD-2-Clause
"""Bringing what this node has of an instance in step with what Ganeti says of it now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ganeti_vif.config.model import Config
from ganeti_vif.engine.difference import Change
from ganeti_vif.engine.failure import Failure
from ganeti_vif.lifecycle.attach import attach
from ganeti_vif.lifecycle.detach import detach
from ganeti_vif.lifecycle.recorded import recorded_nics
from ganeti_vif.nic.identity import has_tap
from ganeti_vif.nic.nic import Network, Nic
from ganeti_vif.nic.tags import grants_of
from ganeti_vif.system.node import Node


def refresh(
    former_name: str,
    name: str,
    tags: frozenset[str] | None,
    networks: Mapping[str, Network | None],
    config: Config,
    node: Node,
) -> list[tuple[Nic, tuple[Change, ...]]]:
    """Each NIC of the instance that this node has a record of: repaired if its tap lives, cleared away if not.

    A NIC that lives takes over the instance's NAME and TAGS, and its network's data from NETWORKS (by NIC UUID). All
    are tried; then one Failure names those that could not be done, and malformed tags, for which a NIC keeps what it
    was granted before. The caller holds the lock `nics`.
    """
    done: list[tuple[Nic, tuple[Change, ...]]] = []
    failures: list[Failure] = []
    for nic in recorded_nics():
        if nic.instance not in (former_name, name):
            continue
        try:
            if not has_tap(nic, node.link(nic.tap)):
                done.append((nic, detach(nic, config, node)))
            else:
                told, malformed = _granted(_told(nic, name, tags, networks))
                failures += malformed
                done.append((told, attach(told, config, node)))
        except Failure as failure:
            failures.append(failure)
    if failures:
        raise Failure("; ".join(failure.what for failure in failures), failures[0].do)
    return done


def _told(nic: Nic, name: str, tags: frozenset[str] | None, networks: Mapping[str, Network | None]) -> Nic:
    """NIC with what may change while its guest runs. A NIC that moved to another network has that from its next
    start on: until then its guest has the old address."""
    network = networks.get(nic.uuid)
    same = network is not None and nic.network is not None and network.uuid == nic.network.uuid
    return replace(
        nic,
        instance=name,
        tags=nic.tags if tags is None else tags,
        network=network if same else nic.network,
    )


def _granted(nic: Nic) -> tuple[Nic, list[Failure]]:
    """NIC with what its tags grant now; or as it was, and why."""
    try:
        granted = grants_of(nic.tags, nic.network_tags, index=nic.number, name=nic.name, uuid=nic.uuid)
        return replace(nic, grants=granted), []
    except Failure as failure:
        return nic, [failure.about(nic.whom)]
