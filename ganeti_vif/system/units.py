# SPDX-License-Identifier: BSD-2-Clause
"""Whether this node's init system starts a service at boot. It reads files and does not ask by D-Bus."""

from __future__ import annotations

import glob
import os

LAYERS = ("/etc/systemd/system", "/run/systemd/system")
"""The directories in which an administrator enables and masks units (systemctl(1), systemd.unit(5))."""


def systemd() -> bool:
    """Whether systemd is this node's init (sd_booted(3))."""
    return os.path.isdir("/run/systemd/system")


def enabled(service: str) -> bool:
    """Whether SERVICE starts at boot. With systemd: a unit wants or requires its unit, and it is not masked.
    Without systemd: a run level from 2 to 5 starts its init script (update-rc.d(8))."""
    if not systemd():
        return bool(glob.glob(f"/etc/rc[2-5].d/S[0-9][0-9]{service}"))
    unit = f"{service}.service"
    if any(os.path.realpath(f"{layer}/{unit}") == "/dev/null" for layer in LAYERS):
        return False
    return any(glob.glob(f"{layer}/*.{kind}/{unit}") for layer in LAYERS for kind in ("wants", "requires"))
