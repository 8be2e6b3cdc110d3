# SPDX-License-Identifier: BSD-2-Clause
"""Read and write the binding directory. Only this module touches it.

The real NFDHCPD imposes these rules, measured on its version 0.16. It sees only a close-after-write and a delete
(IN_CLOSE_WRITE, IN_DELETE) of names directly in its directory. It runs as nobody. After a bad or half rewrite it still
serves the old identity. It reads any other file there, and any file in a subdirectory, as a binding too.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator

from ganeti_vif.engine.difference import Alter, Change, Make, Remove
from ganeti_vif.engine.failure import Failure, Gone
from ganeti_vif.engine.objects import Binding
from nfdhcpd_bridge.binding import identity, is_ours

Stamp = tuple[int, int, int, int]
LARGEST = 1 << 16
"""How many characters of a binding are read at most."""


def read(wanted: Iterable[Binding]) -> Iterator[Binding]:
    """Those of WANTED that exist, no matter who wrote them. Raises Failure if one cannot be read."""
    yield from (found for binding in wanted if (found := binding_of(binding.directory, binding.tap)))


def read_ours(directory: str) -> Iterator[Binding]:
    """Every binding in DIRECTORY with our mark, and the leftovers of a killed writer in the sibling directory."""
    for place, all_ours in ((directory, False), (_staging(directory), True)):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            for name in sorted(os.listdir(place)):
                found = binding_of(place, name)
                if found and (all_ours or is_ours(found.text)):
                    yield found


def binding_of(directory: str, tap: str) -> Binding | None:
    """The binding of TAP in DIRECTORY, or None. Raises Failure if it exists and cannot be read."""
    try:
        with open(f"{directory}/{tap}", encoding="ascii", errors="replace", newline="", opener=_regular) as file:
            return Binding(directory=directory, tap=tap, text=file.read(LARGEST))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        what = f"the binding {directory}/{tap} cannot be read: {os.strerror(error.errno or 0)}"
        raise Failure(what, f"see: ls -la {directory}") from error


def _regular(path: str, flags: int) -> int:
    """Open regular files only: a pipe is no binding, and its open must not wait for a writer."""
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise IsADirectoryError(path)
    return descriptor


def stamps(directory: str) -> dict[str, Stamp]:
    """The names in DIRECTORY, each with a stamp that changes with the file. Empty if there is no directory.

    Raises Failure if the directory exists and we may not read it.
    """
    found: dict[str, Stamp] = {}
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    with contextlib.suppress(FileNotFoundError):
                        now = entry.stat()
                        found[entry.name] = (now.st_ino, now.st_mtime_ns, now.st_ctime_ns, now.st_size)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        what = f"the bindings in {directory} cannot be read: {os.strerror(error.errno or 0)}"
        raise Failure(what, f"chmod 755 {directory}") from error
    return found


def perform(change: Change) -> None:
    """Make CHANGE so that NFDHCPD follows. Raises Failure if it cannot be made, Gone if the binding does not exist."""
    match change:
        case Make(Binding() as binding):
            _reporting(binding, _write)
        case Alter(Binding() as actual, Binding() as binding):
            if identity(actual.text) != identity(binding.text):
                _reporting(actual, _unlink)
            _reporting(binding, _write)
        case Remove(Binding() as binding):
            _reporting(binding, _unlink)
        case _:
            raise NotImplementedError(change)


def _reporting(binding: Binding, action: Callable[[Binding], None]) -> None:
    path = f"{binding.directory}/{binding.tap}"
    try:
        action(binding)
    except FileNotFoundError as error:
        raise Gone(f"there is no binding {path}", f"see: ls -la {binding.directory}") from error
    except OSError as error:
        what = f"the binding {path} cannot be changed: {os.strerror(error.errno or 0)}"
        raise Failure(what, f"see: df {binding.directory}") from error


def _unlink(binding: Binding) -> None:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.unlink(f"{_staging(binding.directory)}/{binding.tap}")
    os.unlink(f"{binding.directory}/{binding.tap}")


def _staging(directory: str) -> str:
    return f"{directory}.staging"


def _write(binding: Binding) -> None:
    """Write beside, rename to the final name while the descriptor is still open, then close it.

    So the file appears whole under its name. The close-after-write that NFDHCPD waits for comes later, under that name.
    Beside means a sibling directory on the same file system: NFDHCPD watches the binding directory and its
    subdirectories. If the process dies in between, the kernel closes the descriptor, and the next write for this tap
    overwrites what it left. No fsync: after a power cut a binding is worthless, because its tap is gone.
    """
    if not os.path.isdir(binding.directory):
        os.makedirs(binding.directory)
        os.chmod(binding.directory, 0o755)  # noded's umask is 077, and NFDHCPD is nobody
    staging = _staging(binding.directory)
    os.makedirs(staging, mode=0o700, exist_ok=True)
    beside = f"{staging}/{binding.tap}"
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        os.fchmod(descriptor, 0o644)  # for the same reason
        content = binding.text.encode("ascii")
        if os.write(descriptor, content) != len(content):
            raise OSError(28, "short write")
        os.rename(beside, f"{binding.directory}/{binding.tap}")
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise
    finally:
        os.close(descriptor)
