# SPDX-License-Identifier: BSD-2-Clause
"""Reading and writing sysctls. /proc/sys/net shows the network namespace of the process that opens its files."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator

from ganeti_vif.engine.difference import Alter, Change, Make, Remove
from ganeti_vif.engine.failure import Failure, Gone
from ganeti_vif.engine.naming import dotted
from ganeti_vif.engine.objects import Sysctl

ROOT = "/proc/sys/"
NO_IPV6 = {"disable_ipv6": "1"}
"""Values that a kernel without IPv6 (`ipv6.disable=1`) is taken to have: IPv6 is off there, as wanted."""


def read(wanted: Iterable[Sysctl]) -> Iterator[Sysctl]:
    """Those of WANTED that exist, with their actual values. Raises Failure if one cannot be read."""
    for sysctl in wanted:
        value = _read(sysctl.path)
        if value is None and sysctl.path.startswith("net/ipv6/") and not ipv6():
            value = NO_IPV6.get(sysctl.path.rpartition("/")[2])
        if value is not None:
            yield Sysctl(path=sysctl.path, value=value)


def value(path: str) -> str | None:
    """The value of the sysctl at PATH, or None if there is none. Raises Failure if it cannot be read."""
    return _read(path)


def ipv6() -> bool:
    """Whether this kernel has IPv6 at all. `ipv6.disable=1` in its command line takes it away until the next boot."""
    return os.path.isdir(ROOT + "net/ipv6")


def force_forwarding() -> bool:
    """Whether this kernel can forward IPv6 for single devices (since Linux 6.17)."""
    return os.path.exists(ROOT + "net/ipv6/conf/default/force_forwarding")


def _read(path: str) -> str | None:
    # os.open() is faster than open(), and a node with 4000 bridges has 16000 sysctls to read.
    try:
        descriptor = os.open(ROOT + path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        what = f"sysctl {dotted(path)} cannot be read: {os.strerror(error.errno or 0)}"
        raise Failure(what, f"see: namei -l {ROOT}{path}") from error
    try:
        return os.read(descriptor, 256).decode("ascii", "replace").strip()
    finally:
        os.close(descriptor)


def perform(change: Change) -> None:
    """Write the desired value. A sysctl is never removed: it goes with its device. Raises the errors of write()."""
    match change:
        case Make(Sysctl(path=path, value=new)) | Alter(_, Sysctl(path=path, value=new)):
            write(path, new)
        case Remove():
            pass
        case _:
            raise NotImplementedError(change)


def write(path: str, new: str) -> None:
    """Give the sysctl at PATH the value NEW. Raises Gone if there is no such sysctl, Failure if it cannot be set."""
    try:
        descriptor = os.open(ROOT + path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, new.encode("ascii"))
        finally:
            os.close(descriptor)
    except OSError as error:
        what = f"sysctl {dotted(path)} cannot be set to {new}: {os.strerror(error.errno or 0)}"
        if error.errno in (errno.ENOENT, errno.ENODEV):
            raise Gone(what, "see: ip link show") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise Failure(what, "note: run it as root, where /proc/sys is writable") from error
        raise Failure(what, f"see: sysctl -w {dotted(path)}={new}") from error
