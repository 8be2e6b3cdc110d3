# SPDX-License-Identifier: BSD-2-Clause
"""Set up or reconcile the whole node, and tell its neighbours what they would otherwise notice too late."""

from __future__ import annotations

from collections.abc import Iterable

from ganeti_vif.config.model import Config, Private
from ganeti_vif.engine.difference import Change
from ganeti_vif.engine.failure import Failure
from ganeti_vif.lifecycle.announce import announce, announce_again
from ganeti_vif.reconcile import services, setup
from ganeti_vif.reconcile import survey as whole
from ganeti_vif.reconcile.moves import moved
from ganeti_vif.reconcile.setup import Progress
from ganeti_vif.reconcile.survey import Survey
from ganeti_vif.system import lock
from ganeti_vif.system.node import Node


def reconcile(config: Config, node: Node) -> Survey:
    """Make NODE what it should be, and announce the NICs whose link moved to another uplink or table.

    Raises Failure if something could not be done. The caller holds the locks `node` and `nics`.
    """
    found = whole.reconcile(config, node)
    for nic in found.moved:
        if not nic.standby:
            announce(nic, config, node)
    return found


def set_up(
    private: tuple[Private, ...],
    config: Config,
    node: Node,
    *,
    dry_run: bool = False,
    progress: Progress = lambda done, total: None,
) -> tuple[list[Change], list[Failure]]:
    """Set up the networks PRIVATE and the public links of CONFIG. Returns the changes, and what could not be set up.

    If live NICs use a public link that moves, this reconciles the whole node instead. The marks and routes of the link
    and of its NICs must change together, or the NICs would be cut off. Raises Failure if the node cannot be read or
    something could not be done. The caller holds the lock `node`.
    """
    consumer, families = config.bindings.consumer, (*config.private, *private)
    planned: list[Change] = []
    refused: list[Failure] = []
    if config.public or dry_run:  # a look at thousands of tunnels takes seconds: not twice for nothing
        planned, refused = setup.setup(private, config.public, node, consumer=consumer, families=families, dry_run=True)
    if links := moved(config.public, planned):
        found = whole.survey(config, node)
        if _named(links, found):
            if dry_run:
                return list(found.changes), found.trouble
            with lock.held("nics"):
                found = reconcile(config, node)
            return list(found.changes), found.trouble
    if dry_run:
        return planned, refused
    return setup.setup(private, config.public, node, consumer=consumer, families=families, progress=progress)


def announce_moved(config: Config) -> None:
    """Announce the NICs of each public link whose uplink is another one than before, if no daemon runs that does it.

    The caller holds no lock, because it takes 10 s with a thousand NICs. Raises Failure if what is needed for it cannot
    be read.
    """
    if services.daemon_state() is None:
        with Node() as node:
            announce_again(config, node)


def _named(links: Iterable[str], found: Survey) -> bool:
    return any(nic.link in links for nic in found.nics)
