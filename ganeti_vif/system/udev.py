# SPDX-License-Identifier: BSD-2-Clause
"""What udev knows of this node's network devices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ganeti_vif.system import settings

DATABASE = "/run/udev/data"


def marked(devices: Mapping[str, int], mark: str) -> Iterator[str]:
    """Those of DEVICES, by name and ifindex, for which a rule of udev set the property MARK, as NAME=VALUE.

    Raises Failure if that cannot be read.
    """
    for name, index in devices.items():
        if f"E:{mark}" in (settings.text(f"{DATABASE}/n{index}") or "").splitlines():
            yield name
