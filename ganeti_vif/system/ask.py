# SPDX-License-Identifier: BSD-2-Clause
"""Asking the daemon to do what this process was called for. Runs while a VM waits, so it imports next to nothing:
`socket` and its enums alone would cost as much again as starting Python, `os` a sixth of it.
"""

import _socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

PATH = "/run/ganeti-vif/control.sock"
PROTOCOL = b"ganeti-vif 1"
PATIENCE = 5.0
"""Seconds for the daemon's answer. It is there in milliseconds, or in a second or two when a node starts hundreds of
VMs; if not, the daemon hangs, and who asks does the work itself."""
ALONE = "alone"
"""The status of an answer that says: do it yourself."""


def ask(door: str, environment: "Mapping[bytes, bytes]", patience: float = PATIENCE) -> "tuple[int, str] | None":
    """The exit status and the text that the daemon answers to this ENVIRONMENT (as in os.environb) at its DOOR; None
    if there is no daemon that does it."""
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
