# SPDX-License-Identifier: BSD-2-Clause
"""The process in an instance's pid file, and whether it is the instance's QEMU. This needs no special right.

A pid file stays after a crash, and another process may get its number. So a process counts as an instance's QEMU only
if it has the right arguments and is in this network namespace. The arguments are `-name`, which Ganeti itself checks
(lib/hypervisor/hv_kvm/__init__.py:735-775 at 3.0.2), and `-pidfile`. We read the process through one handle on its
/proc directory, which can never mean another process.

Every user who can see a process can read its `cmdline` and `net`. For `ns`, `fd` and `fdinfo` the kernel requires
CAP_SYS_PTRACE, because QEMU has more capabilities than our daemon (ptrace(2), access mode checking).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ganeti_vif.engine.failure import Failure

DIRECTORY = "/run/ganeti/kvm-hypervisor"
UNNAMED = re.compile(r"netdev[0-9]+")
"""Ganeti's name for a netdev whose NIC cannot be hot-plugged: its number (hv_kvm/__init__.py:1945-1958)."""


@dataclass(frozen=True, slots=True)
class Process:
    """A handle on /proc/PID. PID_FILE_TIME is the time of its pid file, in nanoseconds of the wall clock."""

    handle: int
    pid_file_time: int

    def read(self, name: str) -> bytes:
        """The content of /proc/PID/NAME. Raises FileNotFoundError or ProcessLookupError if it has died; OSError."""
        return read(self.handle, name)

    def arguments(self) -> list[bytes]:
        """Its arguments; none if it is a zombie. Raises OSError as read()."""
        text = self.read("cmdline")
        return text.split(b"\0") if text else []


@contextmanager
def process(instance: str) -> Iterator[Process | None]:
    """The process in the pid file of INSTANCE; None if it does not exist. Raises Failure if it cannot be read."""
    found = _pid(instance)
    handle = _open(instance, found[0]) if found else None
    try:
        yield Process(handle, found[1]) if found and handle is not None else None
    finally:
        if handle is not None:
            os.close(handle)


def _pid(instance: str) -> tuple[int, int] | None:
    path = f"{DIRECTORY}/pid/{instance}"
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            written, text = os.fstat(file.fileno()).st_mtime_ns, file.read(64).strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise unreadable(instance, path, error) from error
    return (int(text), written) if text.isascii() and text.isdigit() and int(text) > 0 else None


def _open(instance: str, pid: int) -> int | None:
    """A handle on /proc/PID; None if there is no such process.

    Raises Failure if it cannot be opened, or if the process is hidden (hidepid, proc(5)): then /proc does not show it,
    but it accepts signals.
    """
    path = f"/proc/{pid}"
    for _ in range(2):
        try:
            return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return None
            except PermissionError:
                pass
        except OSError as error:
            raise unreadable(instance, path, error) from error
    raise Failure(f"{instance}: the process of its QEMU, {pid}, is hidden", "mount -o remount,hidepid=0 /proc")


def unreadable(instance: str, path: str, error: OSError) -> Failure:
    """The Failure that PATH, a file about the QEMU of INSTANCE, cannot be read."""
    reason = os.strerror(error.errno or 0)
    return Failure(f"{instance}: {path} cannot be read: {reason}", f"see: namei -l {path}")


def check(instance: str, found: Process, arguments: list[bytes]) -> None:
    """Raises Failure unless FOUND, with these ARGUMENTS, is the QEMU of INSTANCE in this namespace; OSError."""
    pid_file = after(b"-pidfile", arguments)
    if after(b"-name", arguments) != instance or os.path.basename(pid_file or "") != instance:
        raise Failure(
            f"{instance}: its pid file names a process that is not its QEMU",
            f"see: gnt-instance info {instance} && ps -fp $(cat {DIRECTORY}/pid/{instance})",
        )
    # Each network namespace has its own /proc/net, and inode numbers are unique while both namespaces exist.
    if os.stat("net/dev", dir_fd=found.handle).st_ino != os.stat("/proc/self/net/dev").st_ino:
        raise Failure(
            f"{instance}: its QEMU is in another network namespace", "note: run ganeti-vif where its taps are"
        )


def netdevs(arguments: list[bytes]) -> list[tuple[str, str]]:
    """The taps that Ganeti gave to a QEMU with these ARGUMENTS, in their order: netdev name, and MAC of the device.

    Netdevs from an administrator's kvm_extra are left out: they have no descriptor from Ganeti.
    """
    macs = {words.get("netdev", ""): words.get("mac", "") for words in options(b"-device", arguments)}
    found = [words for words in options(b"-netdev", arguments) if "tap" in (words.get("type"), next(iter(words)))]
    return [(words.get("id", ""), macs.get(words.get("id", ""), "")) for words in found if {"fd", "fds"} & words.keys()]


def options(option: bytes, arguments: list[bytes]) -> Iterator[dict[str, str]]:
    """The value of each OPTION, as a dictionary."""
    for name, value in zip(arguments, arguments[1:], strict=False):
        if name == option:
            yield dict(word.partition("=")[::2] for word in value.decode("utf-8", "replace").split(","))


def after(option: bytes, arguments: list[bytes]) -> str | None:
    """The value of the first OPTION, or None."""
    at = arguments.index(option) if option in arguments else len(arguments)
    return arguments[at + 1].decode("utf-8", "replace") if at + 1 < len(arguments) else None


def read(directory: int, name: str) -> bytes:
    """The content of the file NAME in the open DIRECTORY. Raises OSError."""
    with open(os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory), "rb") as file:
        return file.read()
