# SPDX-License-Identifier: BSD-2-Clause
"""What the laboratory needs of the machine that it runs on, found out by trying; the reason is for pytest's skip.

pytestmark = pytest.mark.skipif(bool(needs.node()), reason=needs.node())
"""

import functools
import os
import shutil
from pathlib import Path

from .guest import QEMU
from .guest_image import BUSYBOX
from .namespace import Node
from .tap import Tap


@functools.cache
def node() -> str:
    """Why there can be no node here; empty if there can."""
    if os.geteuid() != 0:
        return "the laboratory needs root"
    for tool in ("unshare", "nsenter", "ip", "mount"):
        if not shutil.which(tool):
            return f"the laboratory needs '{tool}'"
    try:
        Node("probe").close()
    except (OSError, RuntimeError) as error:
        return f"no namespaces here: {error}"
    return ""


@functools.cache
def tap() -> str:
    """Why there can be no tap here; empty if there can."""
    if reason := node():
        return reason
    try:
        with Node("probe") as probe:
            Tap(probe).close()
    except OSError as error:
        return f"no taps here: {error}"
    return ""


@functools.cache
def guest() -> str:
    """Why there can be no guest here (its image aside, see guest_image.ensure); empty if there can."""
    if reason := tap():
        return reason
    for tool in (QEMU, "cpio"):
        if not shutil.which(tool):
            return f"guests need '{tool}'"
    return "" if Path(BUSYBOX).exists() else f"guests need {BUSYBOX} (Debian package busybox-static)"
