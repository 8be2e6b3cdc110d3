# SPDX-License-Identifier: BSD-2-Clause
"""Files below /proc/sys/net, which show the network namespace of the process that opens them."""

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
"""What a kernel without IPv6 (`ipv6.disable=1`) does: a wish for IPv6 to be off is met there."""


def read(wanted: Iterable[Sysctl]) -> Iterator[Sysctl]:
    """Those of WANTED that the kernel has, with the values that they have. Raises Failure."""
    for sysctl in wanted:
        value = _read(sysctl.path)
        if value is None and sysctl.path.startswith("net/ipv6/") and not os.path.isdir(ROOT + "net/ipv6"):
            value = NO_IPV6.get(sysctl.path.rpartition("/")[2])
        if value is not None:
            yield Sysctl(path=sysctl.path, value=value)


def value(path: str) -> str | None:
    """The value of the sysctl at PATH, or None if the kernel has no such thing. Raises Failure."""
    return _read(path)


def force_forwarding() -> bool:
    """Whether this kernel forwards IPv6 by device (since 6.17)."""
    return os.path.exists(ROOT + "net/ipv6/conf/default/force_forwarding")


def _read(path: str) -> str | None:
    # os.open and not open(): a node with 4000 bridges has 16000 of these to read.
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
    """Write the wanted value. A sysctl cannot be removed: it goes with its device."""
    match change:
        case Make(Sysctl(path=path, value=new)) | Alter(_, Sysctl(path=path, value=new)):
            write(path, new)
        case Remove():
            pass
        case _:
            raise NotImplementedError(change)


def write(path: str, new: str) -> None:
    """Give the sysctl at PATH the value NEW. Raises Gone if there is no such thing, Failure if it cannot be set."""
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
