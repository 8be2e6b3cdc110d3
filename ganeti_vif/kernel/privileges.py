# SPDX-License-Identifier: BSD-2-Clause
"""The rights of this process, and how it gives up root for an account of its own and one capability.

Source: capabilities(7), credentials(7).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import resource
import struct
from collections.abc import Iterable

from ganeti_vif.engine.failure import Failure

CAP_NET_ADMIN, CAP_NET_RAW = 12, 13
_PR_SET_KEEPCAPS, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 8, 24, 38
_VERSION_3 = 0x20080522
_LAST = 64
"""More than the number of capabilities. The kernel refuses to drop one that does not exist, which is harmless."""


def is_root() -> bool:
    """Whether this process runs as root."""
    return os.geteuid() == 0


def name() -> str:
    """The name of the user that runs this process, or `user` and the number if the user has no name."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"user {os.geteuid()}"


def has(capability: int) -> bool:
    """Whether this process has CAPABILITY in effect."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        words = dict(line.split(":", 1) for line in file if ":" in line)
    return bool(int(words["CapEff"], 16) >> capability & 1)


def closed(paths: Iterable[str]) -> list[str]:
    """Those of PATHS (files and sockets) that exist, but that this process has no right to read and write."""
    return [path for path in paths if os.path.exists(path) and not os.access(path, os.R_OK | os.W_OK)]


def become(user: str) -> None:
    """Become USER for good, with CAP_NET_RAW and no other capability. The process must have one thread only.

    Raises Failure if there is no such user, or if the kernel refuses.
    """
    account = account_of(user)
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        for capability in range(_LAST):
            if capability != CAP_NET_RAW:
                libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
        _call(libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0))
        os.setgroups([])
        os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
        os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
        bit = 1 << CAP_NET_RAW
        _call(libc.capset(struct.pack("=Ii", _VERSION_3, 0), struct.pack("=6I", bit, bit, 0, 0, 0, 0)))
        _call(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    except OSError as error:
        what = f"this process cannot become {user}: {os.strerror(error.errno or 0)}"
        raise Failure(what, "note: start it as root, or by its systemd unit") from error


def account_of(user: str) -> pwd.struct_passwd:
    """The account of USER. Raises Failure if there is none."""
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise Failure(
            f"there is no user {user}", "note: apt install --reinstall ganeti-vif, or name another one: --user NAME"
        ) from None


def raise_open_files(wanted: int) -> int:
    """Let this process open WANTED files, or as many as its rights allow. Returns the new limit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # This sets the hard limit too: python-daemon closes every descriptor below it, one by one.
    for limit in (wanted, most):
        with contextlib.suppress(ValueError, OSError):  # only CAP_SYS_RESOURCE allows a higher hard limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
            return limit
    return most


def _call(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), "")
