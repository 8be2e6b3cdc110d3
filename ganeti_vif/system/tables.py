# SPDX-License-Identifier: BSD-2-Clause
"""The names of routing tables, from iproute2's files."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator

from ganeti_vif.engine.failure import Failure

FILES = ("/usr/share/iproute2/rt_tables", "/etc/iproute2/rt_tables", "/etc/iproute2/rt_tables.d/*.conf")
"""Debian 13 ships the first, Debian 12 the second; later files override earlier ones (iproute2 lib/rt_names.c)."""

BUILT_IN = {"default": 253, "main": 254, "local": 255}


def table_number(name: str) -> int | None:
    """The number of the routing table NAME, which may itself be a number; None if there is none.

    Raises Failure if the names cannot be read.
    """
    if name.isdigit():
        return int(name) if 0 < int(name) < 1 << 32 else None
    return names().get(name)


def names() -> dict[str, int]:
    """The number of each routing table that has a name. Raises Failure if they cannot be read."""
    numbers = dict(BUILT_IN)
    for pattern in FILES:
        for path in sorted(glob.glob(pattern)):
            numbers.update(_entries(path))
    return numbers


def _entries(path: str) -> Iterator[tuple[str, int]]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except (FileNotFoundError, IsADirectoryError):
        return
    except OSError as error:
        what = f"the names of routing tables in {path} cannot be read: {os.strerror(error.errno or 0)}"
        raise Failure(what, f"see: namei -l {path}") from error
    for line in lines:
        words = line.partition("#")[0].split()
        if len(words) == 2:
            try:
                yield words[1], int(words[0], 0)
            except ValueError:
                continue
