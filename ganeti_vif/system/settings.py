# SPDX-License-Identifier: BSD-2-Clause
"""The configuration files of other programs, as texts. Some programs read several directories, called layers."""

from __future__ import annotations

import errno
import glob
import os
from collections.abc import Iterator

from ganeti_vif.engine.failure import Failure

SYSTEMD = ("/usr/lib/systemd", "/usr/local/lib/systemd", "/run/systemd", "/etc/systemd")
"""The layers of systemd. A file hides a file of the same name in an earlier layer (systemd.syntax(7))."""
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
    """Path and text of each file that matches one of PATTERNS (glob), in order. Raises Failure if one is unreadable."""
    for pattern in patterns:
        for path in sorted(glob.glob(pattern)):
            if (found := text(path)) is not None:
                yield path, found


def layered(layers: tuple[str, ...], below: str, suffix: str) -> list[tuple[str, str]]:
    """Path and text of the files BELOW each of LAYERS that end in SUFFIX, by name. The last layer counts.

    Raises Failure if one cannot be read.
    """
    latest: dict[str, str] = {}
    for layer in layers:
        latest |= {os.path.basename(path): path for path in glob.glob(f"{layer}/{below}/*{suffix}")}
    return [(path, text(path) or "") for _, path in sorted(latest.items())]


def same_program(path: str, other: str) -> bool | None:
    """Whether the files PATH and OTHER have the same text, and PATH is executable; None if PATH does not exist.

    It follows links. Raises Failure if one cannot be read.
    """
    if not os.path.lexists(path):
        return None
    return os.access(path, os.X_OK) and (found := text(path)) is not None and found == text(other)


def link_of(path: str) -> str | None:
    """The target of the symbolic link PATH; None if there is no such link. Raises Failure if it cannot be read."""
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOTDIR):  # PATH is no link
            return None
        what = f"{path} cannot be read: {os.strerror(error.errno or 0)}"
        raise Failure(what, f"see: namei -l {path}") from error


def beside(path: str, pattern: str) -> str:
    """PATTERN from the file PATH, relative to the directory of that file (interfaces(5))."""
    return os.path.join(os.path.dirname(path), pattern)


def exists(path: str) -> bool:
    """Whether PATH exists, also as a broken link."""
    return os.path.lexists(path)
