# SPDX-License-Identifier: BSD-2-Clause
"""The name and password for Ganeti's remote API, in the format of Ganeti's own file of users."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from ganeti_vif.engine.failure import Failure

USERS = "/var/lib/ganeti/rapi/users"
"""The remote API's users, on a node (ganeti doc/rapi.rst)."""
_CLEAR = "{cleartext}"


@dataclass(frozen=True, slots=True)
class Credentials:
    """NAME and PASSWORD of a user of the remote API."""

    name: str
    password: str


def parse(text: str) -> Credentials | None:
    """The first user in TEXT with a readable password and the right to write, or None.

    A line is `NAME PASSWORD write`, as Ganeti's own file has it, or `NAME PASSWORD`. Hashed passwords do not count.
    """
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2 or words[0].startswith("#") or len(words) > 2 and "write" not in words[2].split(","):
            continue
        name, password = words[:2]
        if password.lower().startswith(_CLEAR):
            password = password[len(_CLEAR) :]
        if not password.startswith("{"):
            return Credentials(name, password)
    return None


def read(path: str = USERS) -> Credentials:
    """The credentials in the file PATH. Raises Failure if there are none, or if everybody may read them."""
    try:
        with open(path, encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            found = parse(file.read())
    except (OSError, UnicodeDecodeError) as error:
        reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else "it is no text"
        raise Failure(f"the credentials in {path} cannot be read: {reason}", _HOW) from error
    if mode & stat.S_IRWXO:
        raise Failure(f"everybody may read the password in {path}", f"chmod o= {path}")
    if found is None:
        raise Failure(f"{path} has no user with a readable password and the right to write", _HOW)
    return found


_HOW = "note: write NAME PASSWORD of a user with the right to write into a file, and name it with --credentials"
