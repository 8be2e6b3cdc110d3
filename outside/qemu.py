"""The QEMU processes that Ganeti runs here: its runtime files, pid files, and what /proc and the monitor say of taps.

A pid file outlives a crash, and its number may be another process by then. So a process counts as an instance's QEMU
only if it was started as that (`-name`, by which Ganeti itself tells it: lib/hypervisor/hv_kvm/__init__.py:735-775 at
3.0.2; and `-pidfile`) and lives in this network namespace. It is read through one handle on its /proc directory, which
never becomes another process's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from engine.failure import Failure
from outside import monitor

DIRECTORY = "/run/ganeti/kvm-hypervisor"
SUFFIX = ".runtime"

_TAP = re.compile(rb"^iff:\t(\S+)$", re.MULTILINE)
"""In fdinfo of a descriptor of /dev/net/tun (linux drivers/net/tun.c, tun_chr_show_fdinfo)."""
_UNNAMED = re.compile(r"netdev[0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Taps:
    """The taps by netdev, and by MAC the netdevs that Ganeti gave a number for a name (no hotplug there)."""

    by_netdev: dict[str, frozenset[str]]
    netdev_by_mac: dict[str, str]


def instances() -> list[str]:
    """The names of the instances that have a runtime file or a pid file. Both may be old: see taps()."""
    names: set[str] = set()
    with suppress(FileNotFoundError):
        found = os.listdir(f"{DIRECTORY}/conf")
        names |= {name.removesuffix(SUFFIX) for name in found if name.endswith(SUFFIX)}
    with suppress(FileNotFoundError):
        names |= {*os.listdir(f"{DIRECTORY}/pid")}
    return sorted(names)


def runtime(instance: str) -> str | None:
    """The text of the runtime file of INSTANCE, or None if there is none (any more). Raises Failure."""
    path = f"{DIRECTORY}/conf/{instance}{SUFFIX}"
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Failure(f"{path} cannot be read: {os.strerror(error.errno or 0)}", "note: run it as root") from error


def taps(instance: str) -> Taps | None:
    """The taps of INSTANCE's QEMU, or None if it does not run. Raises Failure if that cannot be found out.

    What a netdev is said to have was true at one moment: its taps were there before the monitor was asked and after it,
    and a tap lives as long as its descriptor.
    """
    with _process(instance) as process:
        if process is None:
            return None
        try:
            arguments = _read(process, "cmdline").split(b"\0")
            if not any(arguments):
                return None  # dead, and not yet forgotten by its parent
            _check(instance, process, arguments)
            before = _held(process)
            descriptors = monitor.tap_descriptors(f"{DIRECTORY}/ctrl/{instance}.qmp")
            if _held(process) != before:
                raise Failure("its NICs changed while it was looked at", "ganeti-vif adopt")
        except (FileNotFoundError, ProcessLookupError):
            return None
        except OSError as error:
            what = f"{instance}: what its QEMU holds cannot be read: {os.strerror(error.errno or 0)}"
            raise Failure(what, "note: run it as root, outside of any container") from error
        except Failure as failure:
            raise failure.about(instance) from failure
    return Taps(
        by_netdev={
            netdev: frozenset(before[fd] for fd in numbers if fd in before) for netdev, numbers in descriptors.items()
        }
        | _unasked(before, descriptors),
        netdev_by_mac=_numbered(arguments),
    )


def incoming(instance: str) -> dict[str, str]:
    """The tap of each netdev of INSTANCE's QEMU if that waits for its guest to come here; empty if none does.

    As it was started: nobody plugs a NIC into a guest that is on its way.
    """
    with _process(instance) as process:
        if process is None:
            return {}
        try:
            arguments = _read(process, "cmdline").split(b"\0")
            if b"-incoming" not in arguments:
                return {}
            _check(instance, process, arguments)
            held = _held(process)
        except (OSError, Failure):
            return {}
    found = {}
    for option, value in zip(arguments, arguments[1:], strict=False):
        if option == b"-netdev":
            words = dict(word.partition("=")[::2] for word in value.decode("utf-8", "replace").split(","))
            descriptor = (words.get("fd") or words.get("fds", "")).partition(":")[0]
            if descriptor.isdigit() and int(descriptor) in held:
                found[words.get("id", "")] = held[int(descriptor)]
    return found


def _unasked(held: dict[int, str], descriptors: dict[str, frozenset[int]]) -> dict[str, frozenset[str]]:
    """The taps that QEMU holds and that are behind none of its netdevs, each under its descriptor's number."""
    told = frozenset[int]().union(*descriptors.values())
    known = {held[fd] for fd in told if fd in held}
    return {f"descriptor {fd}": frozenset({tap}) for fd, tap in held.items() if fd not in told and tap not in known}


@contextmanager
def _process(instance: str) -> Iterator[int | None]:
    """A handle on /proc/PID of the process that the pid file of INSTANCE names; None if there is none."""
    pid = _pid(instance)
    try:
        handle = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) if pid else None
    except OSError:
        handle = None
    try:
        yield handle
    finally:
        if handle is not None:
            os.close(handle)


def _pid(instance: str) -> int | None:
    try:
        with open(f"{DIRECTORY}/pid/{instance}", encoding="ascii", errors="replace") as file:
            text = file.read(64).strip()
    except OSError:
        return None
    return int(text) if text.isascii() and text.isdigit() and int(text) > 0 else None


def _check(instance: str, process: int, arguments: list[bytes]) -> None:
    """Raises Failure unless PROCESS was started with ARGUMENTS as the QEMU of INSTANCE, on this node."""
    pid_file = _after(b"-pidfile", arguments)
    if _after(b"-name", arguments) != instance or os.path.basename(pid_file or "") != instance:
        raise Failure(
            "its pid file names a process that is not its QEMU",
            f"see: gnt-instance info {instance} && ps -fp $(cat {DIRECTORY}/pid/{instance})",
        )
    if os.stat("ns/net", dir_fd=process).st_ino != os.stat("/proc/self/ns/net").st_ino:
        raise Failure("its QEMU is in another network namespace", "note: run ganeti-vif where its taps are")


def _held(process: int) -> dict[int, str]:
    """The taps that PROCESS holds, by descriptor."""
    directory = os.open("fdinfo", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=process)
    try:
        found = {}
        for name in os.listdir(directory):
            with suppress(FileNotFoundError):  # closed meanwhile
                if match := _TAP.search(_read(directory, name)):
                    found[int(name)] = match[1].decode("utf-8", "replace")
        return found
    finally:
        os.close(directory)


def _read(directory: int, name: str) -> bytes:
    with open(os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory), "rb") as file:
        return file.read()


def _after(option: bytes, arguments: list[bytes]) -> str | None:
    """What follows the first OPTION."""
    at = arguments.index(option) if option in arguments else len(arguments)
    return arguments[at + 1].decode("utf-8", "replace") if at + 1 < len(arguments) else None


def _numbered(arguments: list[bytes]) -> dict[str, str]:
    """The netdevs with a number for a name, by their device's MAC (hv_kvm/__init__.py:1945-1958)."""
    found: dict[str, str] = {}
    for option, value in zip(arguments, arguments[1:], strict=False):
        if option == b"-device":
            words = dict(word.partition("=")[::2] for word in value.decode("utf-8", "replace").split(","))
            if _UNNAMED.fullmatch(words.get("netdev", "")) and "mac" in words:
                found[words["mac"]] = words["netdev"]
    return found
