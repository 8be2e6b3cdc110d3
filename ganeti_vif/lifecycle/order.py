# SPDX-License-Identifier: BSD-2-Clause
"""What Ganeti orders for one NIC, done on this node: attach it, or clear up after it."""

from __future__ import annotations

from ganeti_vif.config.model import Config
from ganeti_vif.desired.notes import notes
from ganeti_vif.desired.own_prefix import with_own_prefix
from ganeti_vif.engine.difference import Change
from ganeti_vif.engine.failure import in_brackets
from ganeti_vif.ganeti.order import Down
from ganeti_vif.lifecycle.attach import attach
from ganeti_vif.lifecycle.detach import forget
from ganeti_vif.lifecycle.pending import remembered
from ganeti_vif.lifecycle.recorded import recorded_nics
from ganeti_vif.nic.identity import has_tap
from ganeti_vif.nic.nic import Nic
from ganeti_vif.system import log
from ganeti_vif.system.node import Node


def obey(order: Nic | Down, config: Config, node: Node) -> None:
    """Do what Ganeti wants; to announce an attached NIC is the caller's. Raises Failure; a NIC that could not be
    attached is remembered.

    The caller holds the lock `nics`.
    """
    if isinstance(order, Down):
        down(order.uuid, config, node)
        return
    with remembered(order, config, node):
        up(order, config, node)


def up(nic: Nic, config: Config, node: Node, *, dry_run: bool = False) -> tuple[Change, ...]:
    """Attach NIC, and say so in the log. Returns the changes. Raises Failure."""
    changes = attach(nic, config, node, dry_run=dry_run)
    if not dry_run:
        say_attached(nic, config, changes)
    return changes


def say_attached(nic: Nic, config: Config, changes: tuple[Change, ...]) -> None:
    """Say in the log that NIC was attached by CHANGES."""
    log.say(f"{nic.whom}: attached to {nic.mode.value} {nic.link}, {len(changes)} changes; NIC {nic.uuid}")
    for note in notes(with_own_prefix(nic, config)):
        log.say(f"{nic.whom}: {note.what} {in_brackets(note.do)}", log.Level.WARNING)


def down(uuid: str, config: Config, node: Node) -> None:
    """Clear up after the NIC with UUID if its tap is gone. Raises Failure.

    A hint and no order: it comes while the guest still runs, repeatedly, and may name another NIC's tap. So only
    the UUID counts, and a NIC whose tap lives is left alone.
    """
    for nic in recorded_nics():
        if nic.uuid == uuid and not has_tap(nic, node.link(nic.tap)):
            forget(nic, config, node)
