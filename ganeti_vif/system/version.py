# SPDX-License-Identifier: BSD-2-Clause
"""The version of this program: the Debian package's, of which debian/changelog is the one source."""

from __future__ import annotations

import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
PLACES = ("VERSION", "debian/changelog")
"""In an installed package the first, which `make install` makes of the second; in a checkout the second."""


def version() -> str:
    """As dpkg knows it; `unknown` where neither place is."""
    for place in PLACES:
        try:
            with open(f"{ROOT}/{place}", encoding="utf-8") as file:
                first = file.readline().strip()
        except OSError:
            continue
        found = re.search(r"\(([^)]+)\)", first)
        return found[1] if found else first
    return "unknown"
