# SPDX-License-Identifier: BSD-2-Clause
"""Loading BPF programs. Python has no bpf(2), so this module calls it through syscall(2)."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from functools import cache

from ganeti_vif.engine.failure import Failure, Lacking

NUMBERS = {
    "x86_64": 321,
    "aarch64": 280,
    "riscv64": 280,
    "loongarch64": 280,
    "ppc64le": 361,
    "s390x": 351,
    "armv7l": 386,
    "i686": 357,
}
"""The number of the bpf system call on each machine (asm/unistd.h)."""
PROG_LOAD, SCHED_CLS = 5, 3
_LOAD = struct.Struct("=IIQQIIQII16s")
"""First fields of union bpf_attr for BPF_PROG_LOAD: type, instructions, licence, log, kernel version, flags, name."""
NAME = b"ganeti_vif"


@cache
def loaded(program: bytes) -> int:
    """The file descriptor of PROGRAM, which tc can attach. The kernel has verified and compiled the program.

    The first call takes a millisecond; later calls return the same descriptor. Raises Lacking if the kernel has no
    bpf(2), and Failure if the kernel refuses the program or this process has no right to load one.
    """
    machine = os.uname().machine
    if machine not in NUMBERS:
        raise Lacking(f"bpf(2) is not known on {machine}", "note: guests of this machine are not to be trusted")
    code, licence = (ctypes.create_string_buffer(one, len(one)) for one in (program, b"BSD\0"))
    places = (ctypes.addressof(code), ctypes.addressof(licence))
    asked = _LOAD.pack(SCHED_CLS, len(program) // 8, *places, 0, 0, 0, 0, 0, NAME)
    attributes = ctypes.create_string_buffer(asked, len(asked))
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor: int = libc.syscall(NUMBERS[machine], PROG_LOAD, attributes, len(asked))
    if descriptor >= 0:
        return descriptor
    reason = os.strerror(ctypes.get_errno())
    if ctypes.get_errno() == errno.ENOSYS:
        raise Lacking("the kernel has no BPF programs", "note: a kernel with CONFIG_BPF_SYSCALL has them")
    raise Failure(f"the kernel takes no BPF program: {reason}", "note: run it as root, with CAP_BPF and CAP_NET_ADMIN")
