"""What the running kernel can do by modules that it has, or could load."""

from __future__ import annotations

import os
import re


def available(name: str) -> bool | None:
    """Whether the kernel has the module NAME, in itself, loaded or to be loaded; None if that cannot be told.

    It cannot where the running kernel's directory of modules is missing: in a container, or after the kernel's package
    was removed. Then what is built in has no trace, unless it has parameters (/sys/module).
    """
    if os.path.isdir(f"/sys/module/{name}"):
        return True
    directory = f"/lib/modules/{os.uname().release}"
    pattern = re.compile(rf"(^|/){name.replace('_', '[-_]')}\.ko", re.MULTILINE)
    found = False
    for file in ("modules.builtin", "modules.dep"):
        try:
            with open(f"{directory}/{file}", encoding="ascii", errors="replace") as listing:
                found = found or any(pattern.search(line.partition(":")[0]) for line in listing)
        except OSError:
            return None
    return found
