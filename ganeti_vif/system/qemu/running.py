# SPDX-License-Identifier: BSD-2-Clause
"""The QEMUs that Ganeti runs here: its runtime files, and their taps from /proc and the monitor.

To read the descriptors of a QEMU takes all its capabilities, or CAP_SYS_PTRACE. Root has them outside of a unit. Our
daemon does not: for guests that migrate here it uses system/qemu/incoming.py.
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
"""A line in the fdinfo of a descriptor of /dev/net/tun (linux drivers/net/tun.c, tun_chr_show_fdinfo)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taps:
    """The taps by netdev. By MAC: the netdevs whose names are numbers, which have no hot-plug."""

    by_netdev: dict[str, frozenset[str]]
    netdev_by_mac: dict[str, str]


def instances() -> list[str]:
    """The instances that have a runtime or a pid file. Either may be old. Raises Failure if they cannot be listed."""
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
    """The runtime file of INSTANCE, or None if there is none (any more). Raises Failure if it cannot be read."""
    path = f"{DIRECTORY}/conf/{instance}{SUFFIX}"
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Failure(f"{path} cannot be read: {os.strerror(error.errno or 0)}", "note: run it as root") from error


def taps(instance: str) -> Taps | None:
    """The taps of INSTANCE's QEMU, or None if it does not run. Raises Failure if they change or cannot be read.

    The taps of each netdev were all right at one moment: QEMU held the same taps before and after the question to its
    monitor, and a tap exists as long as its descriptor.
    """
    with process(instance) as found:
        if found is None:
            return None
        try:
            arguments = found.arguments()
            if not any(arguments):
                return None  # a zombie
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
    """The taps that QEMU holds but that no netdev uses, each under the number of its descriptor."""
    told = frozenset[int]().union(*descriptors.values())
    known = {held[fd] for fd in told if fd in held}
    return {f"descriptor {fd}": frozenset({tap}) for fd, tap in held.items() if fd not in told and tap not in known}


def _held(found: Process) -> dict[int, str]:
    """The taps of a process, by descriptor."""
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
    """The netdevs whose names are numbers, by the MAC of their device (hv_kvm/__init__.py:1945-1958)."""
    return {
        words["mac"]: words["netdev"]
        for words in options(b"-device", arguments)
        if UNNAMED.fullmatch(words.get("netdev", "")) and "mac" in words
    }
