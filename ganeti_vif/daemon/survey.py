# SPDX-License-Identifier: BSD-2-Clause
"""A look at the whole node, as a child process of the daemon takes it."""

from __future__ import annotations

import time
from typing import Any

from ganeti_vif.config.model import Config
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.naming import finding
from ganeti_vif.reconcile import survey as whole
from ganeti_vif.reconcile.in_force import InForce
from ganeti_vif.reconcile.reconcile import reconcile
from ganeti_vif.system import lock, records
from ganeti_vif.system.node import Node
from ganeti_vif.system.qemu import incoming

PAUSE = 0.2
"""Seconds between two looks: longer than an attach, whose changes would else look like something to mend."""
YOUNG = 2.0
"""Seconds in which a NIC's announcement is repeated."""


NOTHING: dict[str, Any] = {"repaired": [], "trouble": [], "unable": [], "tend": []}
"""The answer of a look that has nothing to tell. The daemon looks again soon."""


def look(known: InForce, *, at_once: bool = False) -> dict[str, Any]:
    """Mend what is not as it should be. Returns what was repaired, the trouble (what everybody who looks sees), what
    could not be seen or done here (`what` and `do`), and the taps to tend one by one.

    Looks without any lock first, and a second time if it found something: only what is still there is real, and only
    then the locks are taken. AT_ONCE if nobody can be attaching. Nothing is done or said by a configuration that is not
    in force any more: `setup` puts a new one in force and makes the node so, and this would take it away again.
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
        "repaired": [finding(change) for change in found.changes],
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
