# SPDX-License-Identifier: BSD-2-Clause
"""The rights of this process, and giving up root's for an account of one's own and one capability (capabilities(7),
credentials(7))."""

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
"""More capabilities than there are: dropping one that does not exist is refused and changes nothing."""


def is_root() -> bool:
    """Whether this process is root's."""
    return os.geteuid() == 0


def name() -> str:
    """Whose process this is: the name of the user, or the number of one who has none."""
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
    """Those of PATHS, files and sockets, that are there and not for this process to read and write."""
    return [path for path in paths if os.path.exists(path) and not os.access(path, os.R_OK | os.W_OK)]


def become(user: str) -> None:
    """Become USER for good, with CAP_NET_RAW and no other capability. Raises Failure. The process has one thread."""
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
    """The account of that name. Raises Failure."""
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise Failure(
            f"there is no user {user}", "note: apt install --reinstall ganeti-vif, or name another one: --user NAME"
        ) from None


def raise_open_files(wanted: int) -> int:
    """Let this process open WANTED files, or as many as it may. Returns how many that is."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The hard limit too: python-daemon closes every descriptor below it, one by one.
    for limit in (wanted, most):
        with contextlib.suppress(ValueError, OSError):  # it may not be raised without CAP_SYS_RESOURCE
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
            return limit
    return most


def _call(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), "")
