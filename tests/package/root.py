# SPDX-License-Identifier: BSD-2-Clause
"""Clean Debian systems: directories that mmdebstrap made, kept in build/roots and never written to."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOTS = Path(__file__).resolve().parents[2] / "build" / "roots"
MIRROR = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")
SUITES = ("bookworm", "trixie")
PACKAGES = (
    # what a node has anyway: systemd is there in both kinds of machine, but only started in one
    "dbus",
    "init-system-helpers",
    "iputils-ping",
    "kmod",
    "logrotate",
    "openssl",
    "procps",
    "systemd",
    "systemd-sysv",
    "udev",
    "bash-completion",
    # what the package depends on, so that installing it needs no network
    "adduser",
    "iptables",
    "iproute2",
    "nftables",
    "python3",
    "python3-daemon",
    "python3-nftables",
    "python3-pyroute2",
)
CLUSTER = (
    "ganeti",
    "qemu-system-x86",
    "openssh-server",
    "iputils-arping",
    "fping",
    "socat",
    "python3-ganeti-rapi",
)
"""What a node of a cluster has besides."""
TESTED = ("busybox-static", "cpio", "python3-pytest", "qemu-system-x86", "util-linux", "xz-utils", "python3-dnspython")
"""What debian/tests needs besides, and what the package suggests: only in the system in which they are run."""


_refused: dict[str, str] = {}
"""Why a suite cannot be had: asked once, and not by every test anew."""


def root(suite: str, *more: str) -> Path:
    """The root directory of a clean Debian SUITE, with packages in it. Made once; skips the test if it cannot be."""
    packages = [*PACKAGES, *more]
    digest = hashlib.sha256(" ".join([suite, MIRROR, *packages]).encode()).hexdigest()[:8]
    path = ROOTS / f"{suite}-{digest}"
    ROOTS.mkdir(parents=True, exist_ok=True)
    with _locked(ROOTS / f"{suite}.lock"):
        if not path.exists() and suite not in _refused:
            _make(suite, packages, path)
    if not path.exists():
        pytest.skip(f"no Debian {suite} can be had from {MIRROR}: {_refused[suite]}")
    return path


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(suite: str, packages: list[str], path: Path) -> None:
    """Make the root; it appears under its name when it is complete."""
    beside = path.with_suffix(".new")
    shutil.rmtree(beside, ignore_errors=True)
    command = ["mmdebstrap", "--mode=root", "--variant=apt", f"--include={','.join(packages)}", "--format=directory"]
    try:
        done = subprocess.run([*command, suite, beside, MIRROR], capture_output=True, text=True, timeout=900)
    except subprocess.TimeoutExpired:
        _refused[suite] = "no end after 900 s"
        return
    if done.returncode:
        shutil.rmtree(beside, ignore_errors=True)
        said = [line for line in done.stderr.splitlines() if line.startswith("E:")]
        _refused[suite] = said[0] if said else f"mmdebstrap ended with {done.returncode}"
        return
    beside.rename(path)
