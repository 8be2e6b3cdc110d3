# SPDX-License-Identifier: BSD-2-Clause
"""Files that are replaced as a whole, for other programs and for later runs of ours.

A reader gets all of the former text or all of the new one, also after the power failed.
"""

from __future__ import annotations

import os

from ganeti_vif.engine.failure import Failure


def read(path: str) -> str | None:
    """The text of the file PATH, or None if there is none. Raises Failure if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Failure(f"{path} cannot be read: {os.strerror(error.errno or 0)}", f"see: namei -l {path}") from error


def replace(path: str, text: str) -> None:
    """From now on the file PATH has TEXT, and everybody may read it. Its directory is made if it is missing.

    The new file has a name with a dot before it is renamed: servers that read a whole directory overlook it. It may
    wait for the disk. Raises Failure if it cannot be written.
    """
    directory, _, name = path.rpartition("/")
    beside = f"{directory}/.{name}"
    try:
        os.makedirs(directory, mode=0o755, exist_ok=True)
        with open(beside, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.rename(beside, path)
        settle(directory)
    except OSError as error:
        what = f"{path} cannot be written: {os.strerror(error.errno or 0)}"
        raise Failure(what, f"see: df {directory}") from error


def settle(directory: str) -> None:
    """What was renamed in DIRECTORY is on the disk now. Without this a rename may be undone by a power cut some seconds
    later (fsync(2)). Raises OSError."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
