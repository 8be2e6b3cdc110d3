"""The rights that a verb needs, asked before it begins: half of an answer would look like a whole one."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from engine.failure import Failure
from outside import control, lock, privileges, state_socket

READ_BY_ROOT = (control.PATH, state_socket.SOCKET, f"{lock.DIRECTORY}/node.lock", f"{lock.DIRECTORY}/nics.lock")
"""What is asked or held by a verb that changes nothing. What is not there is not needed."""


def require(arguments: Sequence[str], *, changes: bool) -> None:
    """Raises Failure if the one who called `ganeti-vif ARGUMENTS` has not the right to do it: to CHANGE the node's
    network, which only root has, or to see all that it looks at. It names what he may not, and the command that may."""
    if privileges.is_root():
        return
    command = shlex.join(["ganeti-vif", *arguments])
    if changes:
        raise Failure(f"only root can change the node's network, and this is {privileges.name()}", f"sudo {command}")
    missing = [] if privileges.has(privileges.CAP_NET_ADMIN) else ["the filters in nftables (CAP_NET_ADMIN)"]
    missing += privileges.closed(READ_BY_ROOT)
    if missing:
        raise Failure(f"{privileges.name()} may not read what this needs: {', '.join(missing)}", f"sudo {command}")
