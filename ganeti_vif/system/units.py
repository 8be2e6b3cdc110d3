# SPDX-License-Identifier: BSD-2-Clause
"""Whether this node's init system is to start a service: read from its files, nobody is asked by D-Bus."""

from __future__ import annotations

import glob
import os

LAYERS = ("/etc/systemd/system", "/run/systemd/system")
"""Where an administrator enables and masks units (systemctl(1), systemd.unit(5))."""


def systemd() -> bool:
    """Whether systemd is this node's init (sd_booted(3))."""
    return os.path.isdir("/run/systemd/system")


def enabled(service: str) -> bool:
    """Whether SERVICE is started at boot. With systemd: some target wants or requires its unit, and it is not masked.
    Without it: a run level from 2 to 5 starts its init script (update-rc.d(8))."""
    if not systemd():
        return bool(glob.glob(f"/etc/rc[2-5].d/S[0-9][0-9]{service}"))
    unit = f"{service}.service"
    if any(os.path.realpath(f"{layer}/{unit}") == "/dev/null" for layer in LAYERS):
        return False
    return any(glob.glob(f"{layer}/*.{kind}/{unit}") for layer in LAYERS for kind in ("wants", "requires"))
