# SPDX-License-Identifier: BSD-2-Clause
"""What happens when Ganeti brings up a NIC: parse the environment, attach, announce.

Ganeti up to 3.1 runs this as kvm-vif-bridge without arguments, once for each tap. Any exit status but 0 means
that the NIC failed. Since 3.2 it also calls it with ACTION=down (ganeti tools/kvm-nic-setup.in).
"""

from __future__ import annotations

import gc
from collections.abc import Mapping

from ganeti_vif.config.model import Config
from ganeti_vif.engine.failure import Failure
from ganeti_vif.ganeti.order import order_of
from ganeti_vif.lifecycle.announce import announce
from ganeti_vif.lifecycle.order import obey
from ganeti_vif.lifecycle.taps import tap_index
from ganeti_vif.nic.nic import Nic
from ganeti_vif.reconcile.in_force import in_force
from ganeti_vif.system import lock
from ganeti_vif.system.complaint import complain, needs_root
from ganeti_vif.system.node import Node


def main(environment: Mapping[str, str]) -> int:
    """Serve one call from Ganeti. Returns the exit status: 0, or 1 after a failure that was reported."""
    gc.disable()  # the process ends before there is garbage worth collecting
    try:
        order = order_of(environment, tap_index)
        if order is None:
            return 0
        try:
            config = load()
            with lock.held("nics"), Node() as node:
                obey(order, config, node)
                if isinstance(order, Nic):
                    announce(order, config, node)
        except Failure as failure:
            raise (failure.about(order.whom) if isinstance(order, Nic) else failure) from failure
    except Failure as failure:
        complain(failure)
        return 1
    return 0


def load() -> Config:
    """The configuration in force, for a caller that may change the node's network. Raises Failure if the caller is not
    root, or if the configuration cannot be read or is wrong."""
    needs_root()
    return in_force().config
