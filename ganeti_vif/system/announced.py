# SPDX-License-Identifier: BSD-2-Clause
"""The places at which the NICs of each public link were last announced: /run/ganeti-vif/announced.json.

A reboot removes the file together with the NICs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress

from ganeti_vif.engine.failure import Failure

DIRECTORY = "/run/ganeti-vif"
PATH = f"{DIRECTORY}/announced.json"

Place = tuple[str, ...]
"""What the neighbours on a link know this node by. Only equality matters."""


def read() -> dict[str, Place]:
    """The places by link. Empty if there is no such file, or if it is damaged. Raises Failure if it cannot be read."""
    try:
        with open(PATH, encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        return {}
    except OSError as error:
        what = f"{PATH} cannot be read: {os.strerror(error.errno or 0)}"
        raise Failure(what, f"see: ls -l {PATH}") from error
    with suppress(ValueError, AttributeError, TypeError):  # it costs one announcement, and the next write mends it
        return {str(link): tuple(map(str, place)) for link, place in json.loads(text).items()}
    return {}


def write(places: Mapping[str, Place]) -> None:
    """From now on these are the PLACES. A reader gets all former ones or all new ones. Raises Failure if that fails."""
    beside = f"{DIRECTORY}/.announced.{os.getpid()}"
    try:
        os.makedirs(DIRECTORY, mode=0o755, exist_ok=True)
        with open(beside, "w", encoding="utf-8") as file:
            json.dump(places, file)
        os.rename(beside, PATH)
    except OSError as error:
        raise Failure(f"{PATH} cannot be written: {os.strerror(error.errno or 0)}", "df /run") from error
