# SPDX-License-Identifier: BSD-2-Clause
"""Writing a new file for the administrator. It never overwrites a file."""

from __future__ import annotations

import os

from ganeti_vif.engine.failure import Failure


def create(path: str, text: str) -> None:
    """Write TEXT to the new file PATH. Raises Failure if PATH exists or cannot be written."""
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise Failure(
            f"{path} is there already", f"note: move it away, or choose another: --output {path}.2"
        ) from error
    except OSError as error:
        raise Failure(
            f"{path} cannot be written: {os.strerror(error.errno or 0)}", "note: choose another: --output"
        ) from error
