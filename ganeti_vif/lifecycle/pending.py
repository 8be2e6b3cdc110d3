# SPDX-License-Identifier: BSD-2-Clause
"""A NIC that could not be attached: what Ganeti said of it is kept, so that it is tried again.

The caller holds the lock `nics` (system/lock.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ganeti_vif.config.model import Config
from ganeti_vif.engine.difference import Alter, Make, difference
from ganeti_vif.engine.failure import Failure
from ganeti_vif.lifecycle.attach import is_its_tap
from ganeti_vif.lifecycle.detach import clear_closed, detach, removable
from ganeti_vif.lifecycle.recorded import former_owner
from ganeti_vif.nic.identity import is_same
from ganeti_vif.nic.nic import Nic
from ganeti_vif.nic.record import record_of
from ganeti_vif.system import log
from ganeti_vif.system.node import Node


@contextmanager
def remembered(nic: Nic, config: Config, node: Node) -> Iterator[None]:
    """If NIC cannot be attached meanwhile, whose guest is here, that is noted in its record, and it is tried again."""
    try:
        yield
    except Failure:
        try:
            remember(nic, config, node)
        except Failure as other:
            log.say(other.what, log.Level.ERROR)
        raise


def remember(nic: Nic, config: Config, node: Node) -> None:
    """Keep what we were told of a NIC that could not be attached, so that it is tried again as long as its tap lives.

    What it had before stays: then there is a record of that. But if it was kept for a guest elsewhere, nothing would
    tell that the guest is here and cut off. Raises Failure.
    """
    if not is_its_tap(nic, node):
        return
    former, pending = former_owner(nic.tap), record_of(nic, pending=True)
    if former is None or not is_same(nic, former):
        if former:
            detach(former, config, node)
        node.perform(Make(pending))
    elif former.standby:
        own = dict(removable(former, config, node))  # the record first: if we die, it is still told of
        own.pop(("origin", nic.tap), None)
        node.perform(Alter(own.pop(pending.key), pending))
        clear_closed(difference({}, node.read(own.values()), own), node)
