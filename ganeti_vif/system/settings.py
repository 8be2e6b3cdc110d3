# SPDX-License-Identifier: BSD-2-Clause
"""The configuration files of other programs, as texts: this node's administrator may have them in several layers."""

from __future__ import annotations

import errno
import glob
import os
from collections.abc import Iterator

from ganeti_vif.engine.failure import Failure

SYSTEMD = ("/usr/lib/systemd", "/usr/local/lib/systemd", "/run/systemd", "/etc/systemd")
"""The layers of systemd: a file hides one of the same name in an earlier layer (systemd.syntax(7))."""
NETWORK_MANAGER = ("/usr/lib/NetworkManager", "/run/NetworkManager", "/etc/NetworkManager")


def text(path: str) -> str | None:
    """The text of the file at PATH; None if there is no such file. Raises Failure if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        what = f"{path} cannot be read: {os.strerror(error.errno or 0)}"
        raise Failure(what, f"see: namei -l {path}") from error


def texts(*patterns: str) -> Iterator[tuple[str, str]]:
    """Path and text of each file that matches one of PATTERNS (glob), in order."""
    for pattern in patterns:
        for path in sorted(glob.glob(pattern)):
            if (found := text(path)) is not None:
                yield path, found


def layered(layers: tuple[str, ...], below: str, suffix: str) -> list[tuple[str, str]]:
    """Path and text of the files BELOW each of LAYERS that end in SUFFIX, by name; the latest of each name."""
    latest: dict[str, str] = {}
    for layer in layers:
        latest |= {os.path.basename(path): path for path in glob.glob(f"{layer}/{below}/*{suffix}")}
    return [(path, text(path) or "") for _, path in sorted(latest.items())]


def same_program(path: str, other: str) -> bool | None:
    """Whether two files, links followed, have the same bytes, and the one at PATH may be executed; None if there is
    nothing at PATH."""
    if not os.path.lexists(path):
        return None
    return os.access(path, os.X_OK) and (found := text(path)) is not None and found == text(other)


def link_of(path: str) -> str | None:
    """Where the symbolic link at PATH points to; None if there is none. Raises Failure if it cannot be read."""
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOTDIR):  # it is no link
            return None
        what = f"{path} cannot be read: {os.strerror(error.errno or 0)}"
        raise Failure(what, f"see: namei -l {path}") from error


def beside(path: str, pattern: str) -> str:
    """PATTERN, which the file at PATH names: relative to that file's directory (interfaces(5))."""
    return os.path.join(os.path.dirname(path), pattern)


def exists(path: str) -> bool:
    """Whether there is anything at PATH."""
    return os.path.lexists(path)
