# SPDX-License-Identifier: BSD-2-Clause
"""udev's properties of this node's network devices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ganeti_vif.system import settings

DATABASE = "/run/udev/data"


def marked(devices: Mapping[str, int], mark: str) -> Iterator[str]:
    """The names of those DEVICES (ifindex by name) that have udev's property MARK, which is NAME=VALUE.

    Raises Failure if udev's database cannot be read.
    """
    for name, index in devices.items():
        if f"E:{mark}" in (settings.text(f"{DATABASE}/n{index}") or "").splitlines():
            yield name
