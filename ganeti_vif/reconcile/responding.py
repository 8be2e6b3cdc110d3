# SPDX-License-Identifier: BSD-2-Clause
"""What the responder says about itself, and what an administrator must know about it."""

from __future__ import annotations

import time
from typing import Any

from ganeti_vif.config.model import Config
from ganeti_vif.engine.failure import Failure
from ganeti_vif.lifecycle.recorded import recorded
from ganeti_vif.system import state_socket
from nfdhcpd_bridge import files


def look(config: Config) -> tuple[dict[str, Any] | None, list[Failure]]:
    """The responder's state (None if it does not run), and what is wrong with it. (None, []) if CONFIG needs none."""
    if not config.responds:
        return None, []
    directory = config.bindings.directory
    try:
        state = state_socket.ask()
    except Failure as failure:
        return None, [failure]
    if state is None:
        bindings = len(files.stamps(directory))
        what = f"ganeti-vif-responder does not run, and {bindings} guests depend on it for their addresses"
        return None, [Failure(what, "service ganeti-vif-responder start")] if bindings else []
    return state, [*_trouble(state, directory)]


def _trouble(state: dict[str, Any], directory: str) -> list[Failure]:
    found = []
    if not state["enabled"] or state["directory"] != directory:
        what = "ganeti-vif-responder runs with another configuration"
        found.append(Failure(what, "service ganeti-vif-responder reload"))
    if state["unreadable"]:
        do = f"chmod 755 {directory}"
        found.append(Failure(f"ganeti-vif-responder serves nobody: {state['unreadable']}", do))
    for bad in state["invalid"]:
        place = f"{bad['file']}:{bad['line']}" if bad["line"] else bad["file"]
        found.append(
            Failure(f"{place}: {bad['reason']}; its guest is not served", f"note: mend it, or remove {bad['file']}")
        )
    for left in state["unserved"]:
        found.append(Failure(f"{left['tap']} is not served: {left['reason']}", "service ganeti-vif-responder restart"))
    for tap, told in state["taps"].items():
        # After an upgrade the earlier version may still run, which does not know this.
        for version, past in told.get("guest", {}).items():
            if past["declined"]:
                found.append(_declined(tap, told["address" if version == "ipv4" else "address6"], past["declined"]))
    return found


def _declined(tap: str, address: str, when: int) -> Failure:
    try:
        nic = recorded(tap)
    except Failure:  # the survey reports a damaged record
        nic = None
    clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))
    what = f"{nic.whom if nic else tap}: its guest declined {address} at {clock}: another machine answers for it"
    return Failure(what, f"note: find that machine (in the guest: arping -c 3 {address}), or change the NIC's address")
