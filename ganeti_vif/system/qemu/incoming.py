# SPDX-License-Identifier: BSD-2-Clause
"""Guests that migrate to this node: the tap of each NIC, found without the right to read QEMU's descriptors.

Ganeti opens the taps and starts QEMU with their descriptors. QEMU writes its pid file and becomes a daemon. Then Ganeti
writes the nic files: nic/INSTANCE/N has the name of the tap of the Nth `-netdev`
(lib/hypervisor/hv_kvm/__init__.py:1925-1962 and 2029-2042 at 3.0.2; the same from 2.16 to 3.2). No NIC is
hot-plugged while QEMU waits for its guest, so this order holds until the guest has arrived.

After a crash the files of an earlier run stay. So a file counts only if it was not there before the migration, and is
not older than QEMU's pid file. (Ganeti writes a new file with another name each time, and renames it.)
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ganeti_vif.engine.failure import Failure
from ganeti_vif.system.qemu.process import DIRECTORY, UNNAMED, Process, check, netdevs, process, unreadable

_GANETIS = re.compile(rf"nic-[0-9a-f]{{8}}-[0-9a-f]{{4}}-[0-9a-f]{{4}}|{UNNAMED.pattern}")
"""Ganeti's names for a netdev (hv_kvm/__init__.py:213-228)."""

Stamp = tuple[int, int]
"""A version of a file: its inode, and the inode's last change in nanoseconds. Another version is renamed over it."""


@dataclass(frozen=True, slots=True)
class Card:
    """A network card of a QEMU process: the name of its netdev, its MAC, and its tap."""

    netdev: str
    mac: str
    tap: str


class NotYet(Failure):
    """Ganeti has not written the files yet. A later call may succeed."""


def nic_files(instance: str) -> dict[str, Stamp]:
    """The present nic files of INSTANCE, by name. Raises Failure if they cannot be read."""
    directory = f"{DIRECTORY}/nic/{instance}"
    found = {}
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                try:
                    found[entry.name] = _stamp(entry.stat(follow_symlinks=False))
                except FileNotFoundError:
                    continue  # Ganeti has removed it meanwhile
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise unreadable(instance, directory, error) from error
    return found


def cards(instance: str, before: Mapping[str, Stamp]) -> tuple[Card, ...]:
    """The cards of INSTANCE's QEMU while it waits for its guest to migrate here; none if no QEMU waits.

    BEFORE are the nic files from before the migration. Raises NotYet if Ganeti has not written all files yet, and
    Failure if something cannot be read, or if the files contradict QEMU's arguments.
    """
    try:
        with process(instance) as found:
            arguments = found.arguments() if found else []
            if found is None or b"-incoming" not in arguments:
                return ()
            check(instance, found, arguments)
            wanted = netdevs(arguments)
            taps = [_tap(instance, number, found, before) for number in range(len(wanted))]
            written = {name for name, stamp in nic_files(instance).items() if before.get(name) != stamp}
    except (FileNotFoundError, ProcessLookupError):
        return ()  # it died
    except OSError as error:
        raise unreadable(instance, f"/proc/$(cat {DIRECTORY}/pid/{instance})", error) from error
    if wrong := _contradiction([netdev for netdev, _ in wanted], taps, written):
        raise Failure(
            f"{instance}: {wrong}",
            f"see: grep . {DIRECTORY}/nic/{instance}/* && ps -fp $(cat {DIRECTORY}/pid/{instance})",
        )
    return tuple(Card(netdev, mac, tap) for (netdev, mac), tap in zip(wanted, taps, strict=True))


def _contradiction(netdevs: list[str], taps: list[str], written: set[str]) -> str | None:
    """Why the Nth of TAPS cannot be the tap of the Nth of NETDEVS; else None. WRITTEN are the files of this start."""
    if len({*taps}) < len(taps):
        return f"Ganeti's nic files name one tap for two NICs: {' '.join(taps)}"
    more = sorted(name for name in written if name.isdigit() and int(name) >= len(taps))
    if more:
        return f"its QEMU has {len(taps)} NICs, and Ganeti wrote a nic file {more[0]} besides"
    for number, netdev in enumerate(netdevs):
        if not _GANETIS.fullmatch(netdev) or (UNNAMED.fullmatch(netdev) and netdev != f"netdev{number}"):
            return f"its QEMU was not started as Ganeti does it: its NIC {number} is {netdev or 'without a name'}"
    return None


def unseen() -> Failure | None:
    """Why an incoming guest could not be prepared: a file of the present QEMUs that cannot be read. Else None."""
    for directory in (f"{DIRECTORY}/nic", f"{DIRECTORY}/pid"):
        try:
            instances = sorted(os.listdir(directory))
        except FileNotFoundError:
            return None
        except OSError as error:
            return unreadable("guests that come here", directory, error)
    for instance in instances:
        try:
            nic_files(instance)
            with process(instance) as found:
                if found:
                    found.arguments()
                    os.stat("net/dev", dir_fd=found.handle)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it died
        except OSError as error:
            return unreadable(instance, f"/proc/$(cat {DIRECTORY}/pid/{instance})", error)
        except Failure as failure:
            return failure
    return None


def _tap(instance: str, number: int, qemu: Process, before: Mapping[str, Stamp]) -> str:
    """The tap in the nic file NUMBER. Raises NotYet if it is old or missing, and Failure if it cannot be read."""
    path = f"{DIRECTORY}/nic/{instance}/{number}"
    see = f"see: ls -l --time-style=full-iso {DIRECTORY}/pid/{instance} {DIRECTORY}/nic/{instance}/"
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            status, name = os.fstat(file.fileno()), file.read(64).strip()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotYet(f"{instance}: Ganeti has not written {path}, which names its tap", see) from error
    except OSError as error:
        raise unreadable(instance, path, error) from error
    if before.get(str(number)) == _stamp(status) or status.st_mtime_ns < qemu.pid_file_time:
        raise NotYet(f"{instance}: {path}, which names its tap, is older than its QEMU", see)
    if not name:
        raise NotYet(f"{instance}: {path} names no tap", see)
    return name


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_ino, status.st_ctime_ns
