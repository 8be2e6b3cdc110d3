# SPDX-License-Identifier: BSD-2-Clause
"""The rights that a verb needs, asked before it begins: half of an answer would look like a whole one."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from ganeti_vif.engine.failure import Failure
from ganeti_vif.kernel import privileges
from ganeti_vif.system import control, lock, state_socket

ASKED = (control.PATH, state_socket.SOCKET)
HELD = (f"{lock.DIRECTORY}/node.lock", f"{lock.DIRECTORY}/nics.lock")
"""What only root may ask or hold. What is not there is not needed."""


def require(arguments: Sequence[str], *, changes: bool, locks: bool) -> None:
    """Raises Failure if the one who called `ganeti-vif ARGUMENTS` has not the right to do it: to CHANGE the node's
    network, which only root has, or to see all that it looks at, with LOCKS if it holds them meanwhile. It names what
    he may not, and the command that may."""
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
