# SPDX-License-Identifier: BSD-2-Clause
"""A root file system with Debian 13 and its Ganeti, made once by mmdebstrap; only machines of the laboratory run it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

MIRROR = "http://deb.debian.org/debian"
PACKAGES = (
    "ganeti", "qemu-system-x86", "openssh-server", "iproute2", "iputils-arping", "iputils-ping", "fping", "socat", "procps",
    "python3", "python3-pyroute2", "python3-nftables", "python3-daemon", "nftables",
)  # fmt: skip


def ensure(build: Path) -> Path:
    """The root below BUILD: a download of 200 MB and half a minute at first, nothing from then on. Raises OSError."""
    root, unfinished = build / "debian13", build / "debian13.unfinished"
    if root.exists():
        return root
    shutil.rmtree(unfinished, ignore_errors=True)
    build.mkdir(parents=True, exist_ok=True)
    command = [
        "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--skip=output/dev", f"--include={','.join(PACKAGES)}",
        '--aptopt=Apt::Install-Recommends "false"', "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*", "trixie", str(unfinished), MIRROR,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    if done.returncode:
        raise OSError(f"mmdebstrap made no Debian 13: {done.stderr.strip()}")
    return unfinished.rename(root)
