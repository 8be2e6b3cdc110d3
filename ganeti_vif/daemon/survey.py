# SPDX-License-Identifier: BSD-2-Clause
"""A survey of the whole node, and the repair that follows: a child process of the daemon does them."""

from __future__ import annotations

import time
from typing import Any

from ganeti_vif.config.model import Config
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.naming import findings
from ganeti_vif.reconcile import survey as whole
from ganeti_vif.reconcile.in_force import InForce
from ganeti_vif.reconcile.reconcile import reconcile
from ganeti_vif.system import lock, records
from ganeti_vif.system.node import Node
from ganeti_vif.system.qemu import incoming

PAUSE = 0.2
"""Seconds between two surveys. An attach takes less: its changes must not look like something to mend."""
YOUNG = 2.0
"""Seconds in which a NIC's announcement is repeated."""


NOTHING: dict[str, Any] = {"repaired": [], "trouble": [], "unable": [], "tend": []}
"""The answer of a look that has nothing to tell. The daemon looks again soon."""


def look(known: InForce, *, at_once: bool = False) -> dict[str, Any]:
    """Survey the node and mend what is not as it should be.

    Returns what was repaired, the trouble (every survey sees it), what could not be seen or done here (`what` and
    `do`), and the taps whose NICs the daemon is to attach or clear one by one.

    The first survey takes no lock. If it found something, a second one follows: only what is still there is real, and
    only then the locks are taken. AT_ONCE if no attach can be at work. If another configuration is in force by now,
    nothing is done or reported: `setup` puts it in force and makes the node so, and this would undo that.
    """
    config = known.config
    unable = [unseen] if (unseen := incoming.unseen()) else []
    try:
        found = _real(config, at_once=at_once)
        if known.is_old():
            return NOTHING | {"unable": _plain(unable)}
    except Failure as failure:
        return NOTHING | {"unable": _plain([*unable, failure])}
    if found.changes:
        try:
            with lock.held("node"), lock.held("nics"), Node() as node:
                if known.is_old():
                    return NOTHING | {"unable": _plain(unable)}
                found = reconcile(config, node)
        except Failure as failure:
            unable.append(failure)
            found.changes = ()
    young = {nic.tap for nic in found.nics if records.age(nic.tap) < YOUNG}
    unattached = {nic.tap for nic in found.nics if nic.tap not in found.wanted}
    standby = {nic.tap for nic in found.nics if nic.standby}
    return {
        "repaired": findings(found.changes),
        "trouble": [failure.what for failure in found.trouble],
        "unable": _plain(unable),
        "tend": sorted(young | unattached | standby | found.pending),
    }


def _plain(failures: list[Failure]) -> list[list[str]]:
    return [[failure.what, failure.do] for failure in failures]


def _real(config: Config, *, at_once: bool) -> whole.Survey:
    """The node without what only seems to be wrong with it, because it is being changed at this moment."""
    with Node() as node:
        found = whole.survey(config, node)
    if found.changes and not at_once:
        time.sleep(PAUSE)
        former = found
        with Node() as node:
            found = whole.survey(config, node)
        if not set(former.changes) & set(found.changes):
            found.changes = ()
    return found
