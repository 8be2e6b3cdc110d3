# SPDX-License-Identifier: BSD-2-Clause
"""The process that an instance's pid file names, and whether it is that instance's QEMU: by what everybody may read.

A pid file outlives a crash, and its number may be another process by then. So a process counts as an instance's QEMU
only if it was started as that (`-name`, by which Ganeti itself tells it: lib/hypervisor/hv_kvm/__init__.py:735-775 at
3.0.2; and `-pidfile`) and lives in this network namespace. It is read through one handle on its /proc directory, which
never becomes another process's.

`cmdline` and `net` may be read by everybody who sees a process. `ns`, `fd` and `fdinfo` may not: QEMU has more
capabilities than our daemon, and then the kernel wants CAP_SYS_PTRACE (ptrace(2), access mode checking).
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
"""What Ganeti calls a netdev whose NIC cannot be plugged in and out: by its number (hv_kvm/__init__.py:1945-1958)."""


@dataclass(frozen=True, slots=True)
class Process:
    """A handle on /proc/PID. PID_FILE_TIME is when its pid file was written, in nanoseconds of the wall clock."""

    handle: int
    pid_file_time: int

    def read(self, name: str) -> bytes:
        """What is in the file NAME. Raises OSError: FileNotFoundError or ProcessLookupError if it has died."""
        return read(self.handle, name)

    def arguments(self) -> list[bytes]:
        """What it was started with; nothing if it has died and its parent has not taken notice. Raises OSError."""
        text = self.read("cmdline")
        return text.split(b"\0") if text else []


@contextmanager
def process(instance: str) -> Iterator[Process | None]:
    """The process that the pid file of INSTANCE names; None if there is none. Raises Failure if it cannot be seen."""
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
    """A handle on /proc/PID; None if there is no such process. A process that is hidden (hidepid, proc(5)) seems to be
    none, but it takes signals."""
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
    """That PATH, which tells of the QEMU of INSTANCE, cannot be read."""
    reason = os.strerror(error.errno or 0)
    return Failure(f"{instance}: {path} cannot be read: {reason}", f"see: namei -l {path}")


def check(instance: str, found: Process, arguments: list[bytes]) -> None:
    """Raises Failure unless FOUND was started with ARGUMENTS as the QEMU of INSTANCE, on this node; OSError."""
    pid_file = after(b"-pidfile", arguments)
    if after(b"-name", arguments) != instance or os.path.basename(pid_file or "") != instance:
        raise Failure(
            f"{instance}: its pid file names a process that is not its QEMU",
            f"see: gnt-instance info {instance} && ps -fp $(cat {DIRECTORY}/pid/{instance})",
        )
    # Each network namespace has a /proc/net of its own, and none an inode number that another has while both live.
    if os.stat("net/dev", dir_fd=found.handle).st_ino != os.stat("/proc/self/net/dev").st_ino:
        raise Failure(
            f"{instance}: its QEMU is in another network namespace", "note: run ganeti-vif where its taps are"
        )


def netdevs(arguments: list[bytes]) -> list[tuple[str, str]]:
    """The taps that Ganeti gave to a QEMU started with ARGUMENTS, in their order: a netdev's name, its device's MAC.

    What an administrator's kvm_extra adds has no descriptor of Ganeti's.
    """
    macs = {words.get("netdev", ""): words.get("mac", "") for words in options(b"-device", arguments)}
    found = [words for words in options(b"-netdev", arguments) if "tap" in (words.get("type"), next(iter(words)))]
    return [(words.get("id", ""), macs.get(words.get("id", ""), "")) for words in found if {"fd", "fds"} & words.keys()]


def options(option: bytes, arguments: list[bytes]) -> Iterator[dict[str, str]]:
    """What follows each OPTION, as its keys and values."""
    for name, value in zip(arguments, arguments[1:], strict=False):
        if name == option:
            yield dict(word.partition("=")[::2] for word in value.decode("utf-8", "replace").split(","))


def after(option: bytes, arguments: list[bytes]) -> str | None:
    """What follows the first OPTION."""
    at = arguments.index(option) if option in arguments else len(arguments)
    return arguments[at + 1].decode("utf-8", "replace") if at + 1 < len(arguments) else None


def read(directory: int, name: str) -> bytes:
    """What is in the file NAME of the open DIRECTORY. Raises OSError."""
    with open(os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory), "rb") as file:
        return file.read()
