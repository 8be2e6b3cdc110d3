# SPDX-License-Identifier: BSD-2-Clause
"""The file that holds the configuration in force: /run/ganeti-vif/configuration.json. A reboot empties it."""

from __future__ import annotations

import os
import stat

from ganeti_vif.engine.failure import Failure

DIRECTORY = "/run/ganeti-vif"
PATH = f"{DIRECTORY}/configuration.json"

Stamp = tuple[int, int] | None
"""A version of the file: its inode and its modification time in nanoseconds. None if there is no file."""


def stamp() -> Stamp:
    """The present version of the file. Raises Failure if it cannot be read."""
    try:
        found = os.stat(PATH)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(error) from error
    return found.st_ino, found.st_mtime_ns


def read() -> str | None:
    """The text of the file, or None if there is none. Raises Failure if it cannot be read."""
    try:
        with open(PATH, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(error) from error


def write(text: str, like: str) -> None:
    """Replace the file by TEXT. A reader gets the whole former text or the whole new one.

    The file gets the owner and the read permissions of the file LIKE, from which TEXT was made. Raises Failure if it
    cannot be written.
    """
    beside = f"{DIRECTORY}/.configuration.json"
    try:
        os.makedirs(DIRECTORY, mode=0o755, exist_ok=True)
        model = os.stat(like)
        with open(beside, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), stat.S_IMODE(model.st_mode) & 0o644)
            if (model.st_uid, model.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(file.fileno(), model.st_uid, model.st_gid)
            file.write(text)
        os.rename(beside, PATH)
    except OSError as error:
        what = f"{PATH} cannot be written: {os.strerror(error.errno or 0)}"
        raise Failure(what, "df /run") from error


def _unreadable(error: OSError) -> Failure:
    return Failure(f"{PATH} cannot be read: {os.strerror(error.errno or 0)}", f"ls -l {PATH}")
