# SPDX-License-Identifier: BSD-2-Clause
"""The rights that a verb needs. They are checked before it begins: a partial answer would look like a whole one."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from ganeti_vif.engine.failure import Failure
from ganeti_vif.kernel import privileges
from ganeti_vif.system import control, lock, state_socket

ASKED = (control.PATH, state_socket.SOCKET)
HELD = (f"{lock.DIRECTORY}/node.lock", f"{lock.DIRECTORY}/nics.lock")
"""Sockets and locks that only root may use. One that does not exist is not needed."""


def require(arguments: Sequence[str], *, changes: bool, locks: bool) -> None:
    """Raises Failure if this process lacks a right that `ganeti-vif ARGUMENTS` needs.

    With CHANGES only root has the right. Without, the process must be able to read filters and sockets, and to hold the
    locks if LOCKS. The failure names what is missing, and the command with sudo.
    """
    if privileges.is_root():
        return
    command = shlex.join(["ganeti-vif", *arguments])
    if changes:
        raise Failure(f"only root can change the node's network, and this is {privileges.name()}", f"sudo {command}")
    missing = [] if privileges.has(privileges.CAP_NET_ADMIN) else ["the filters in nftables (CAP_NET_ADMIN)"]
    missing += privileges.closed([*ASKED, *(HELD if locks else ())])
    if missing:
        what = f"only root can look at all of this: {privileges.name()} may not read {', '.join(missing)}"
        raise Failure(what, f"sudo {command}")
