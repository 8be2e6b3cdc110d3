# SPDX-License-Identifier: BSD-2-Clause
"""By what QEMU runs a machine's processors: KVM where a kernel boots with it in a moment, or else by software."""

from __future__ import annotations

import functools
import os
import subprocess

from .disk import Disk

SOFTWARE = "tcg,thread=multi,tb-size=256"
LIMIT = 20.0
"""Seconds for KVM to come as far as the first root: two are normal. Some hosts' /dev/kvm is slower than software is."""


@functools.cache
def accelerator(disk: Disk) -> str:
    """QEMU's word for it."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return SOFTWARE
    command = [
        "qemu-system-x86_64", "-machine", "q35", "-accel", "kvm", "-cpu", "max", "-smp", "2", "-m", "512", "-nodefaults", "-no-reboot",
        "-display", "none", "-kernel", str(disk.kernel), "-initrd", str(disk.initrd), "-append", "panic=-1 quiet probe",
    ]  # fmt: skip
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return SOFTWARE
    return SOFTWARE if done.returncode else "kvm"
