# SPDX-License-Identifier: BSD-2-Clause
"""Asking the daemon to do the work of this process.

A VM waits meanwhile, so this module imports almost nothing: the import of `socket` takes as long as the start of
Python, and that of `os` a sixth of it.
"""

import _socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

PATH = "/run/ganeti-vif/control.sock"
PROTOCOL = b"ganeti-vif 1"
PATIENCE = 5.0
"""Seconds to wait for the daemon's answer. It comes in milliseconds, or in a second or two when a node starts hundreds
of VMs. If it does not come, the daemon hangs, and the caller does the work itself."""
ALONE = "alone"
"""The status of an answer that means: do the work yourself."""


def ask(door: str, environment: "Mapping[bytes, bytes]", patience: float = PATIENCE) -> "tuple[int, str] | None":
    """The daemon's answer for the verb DOOR with this ENVIRONMENT (as in os.environb): exit status and text.

    None if no daemon does the work. PATIENCE is in seconds.
    """
    words = [PROTOCOL, door.encode()]
    words += [name + b"=" + value for name, value in environment.items()]
    one = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    try:
        one.settimeout(patience)
        one.connect(PATH)
        one.send(b"\0".join(words))
        answer = one.recv(1 << 17).decode("utf-8", "replace")
    except OSError:
        return None
    finally:
        one.close()
    status, _, text = answer.partition("\n")
    return (int(status), text) if status.isdigit() else None
