# SPDX-License-Identifier: BSD-2-Clause
"""The QEMUs that Ganeti runs here: its runtime files, and what /proc and the monitor say of taps.

To see what a QEMU holds takes all its capabilities, or CAP_SYS_PTRACE. Root has them outside of any unit, our daemon
has not: it knows the taps of guests that come here by system/qemu/incoming.py.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass

from ganeti_vif.engine.failure import Failure
from ganeti_vif.system.qemu import monitor
from ganeti_vif.system.qemu.process import DIRECTORY, UNNAMED, Process, check, options, process, read

SUFFIX = ".runtime"

_TAP = re.compile(rb"^iff:\t(\S+)$", re.MULTILINE)
"""In fdinfo of a descriptor of /dev/net/tun (linux drivers/net/tun.c, tun_chr_show_fdinfo)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taps:
    """The taps by netdev, and by MAC the netdevs that Ganeti gave a number for a name (no hotplug there)."""

    by_netdev: dict[str, frozenset[str]]
    netdev_by_mac: dict[str, str]


def instances() -> list[str]:
    """The names of the instances that have a runtime file or a pid file. Either may be old. Raises Failure."""
    found = _names(f"{DIRECTORY}/conf")
    return sorted({name.removesuffix(SUFFIX) for name in found if name.endswith(SUFFIX)} | _names(f"{DIRECTORY}/pid"))


def _names(directory: str) -> set[str]:
    try:
        return {*os.listdir(directory)}
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise Failure(f"{directory} cannot be read: {os.strerror(error.errno or 0)}", "note: run it as root") from error


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
    with process(instance) as found:
        if found is None:
            return None
        try:
            arguments = found.arguments()
            if not any(arguments):
                return None  # dead, and not yet forgotten by its parent
            check(instance, found, arguments)
            before = _held(found)
            descriptors = monitor.tap_descriptors(f"{DIRECTORY}/ctrl/{instance}.qmp")
            if _held(found) != before:
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


def _unasked(held: dict[int, str], descriptors: dict[str, frozenset[int]]) -> dict[str, frozenset[str]]:
    """The taps that QEMU holds and that are behind none of its netdevs, each under its descriptor's number."""
    told = frozenset[int]().union(*descriptors.values())
    known = {held[fd] for fd in told if fd in held}
    return {f"descriptor {fd}": frozenset({tap}) for fd, tap in held.items() if fd not in told and tap not in known}


def _held(found: Process) -> dict[int, str]:
    """The taps that a process holds, by descriptor."""
    directory = os.open("fdinfo", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=found.handle)
    try:
        taps = {}
        for name in os.listdir(directory):
            with suppress(FileNotFoundError):  # closed meanwhile
                if match := _TAP.search(read(directory, name)):
                    taps[int(name)] = match[1].decode("utf-8", "replace")
        return taps
    finally:
        os.close(directory)


def _numbered(arguments: list[bytes]) -> dict[str, str]:
    """The netdevs with a number for a name, by their device's MAC (hv_kvm/__init__.py:1945-1958)."""
    return {
        words["mac"]: words["netdev"]
        for words in options(b"-device", arguments)
        if UNNAMED.fullmatch(words.get("netdev", "")) and "mac" in words
    }
