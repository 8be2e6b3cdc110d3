# SPDX-License-Identifier: BSD-2-Clause
"""The version of this program: the Debian package's version. Its only source is debian/changelog."""

from __future__ import annotations

import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
PLACES = ("VERSION", "debian/changelog")
"""An installed package has the first, which `make install` makes from the second. A checkout has the second."""


def version() -> str:
    """The version as dpkg shows it; `unknown` if neither file exists."""
    for place in PLACES:
        try:
            with open(f"{ROOT}/{place}", encoding="utf-8") as file:
                first = file.readline().strip()
        except OSError:
            continue
        found = re.search(r"\(([^)]+)\)", first)
        return found[1] if found else first
    return "unknown"
