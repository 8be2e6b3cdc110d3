# SPDX-License-Identifier: BSD-2-Clause
"""Loading BPF programs. Python has no bpf(2), so this module calls it through syscall(2)."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from functools import cache

from ganeti_vif.engine.failure import Failure, Lacking
from ganeti_vif.engine.program import Part, Program
from ganeti_vif.kernel import btf

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


_INSTRUCTION, _NUMBER = 8, 4
"""The size of struct bpf_insn, and where the number in it begins. Both in bytes."""
LICENCE = b"Dual BSD/GPL"
"""The kernel lets a program read its structures only under a licence that it knows as compatible with its own.
BSD-2-Clause is one, and this is the kernel's word for it (linux/module.h)."""


@cache
def relocated(program: Program) -> bytes:
    """The instructions of PROGRAM, for the running kernel. Raises Lacking if the kernel does not tell its layout, or
    lacks one of the fields."""
    code = bytearray(program.code)
    known = btf.fields("sk_buff") if program.relocations else {}
    for one in program.relocations:
        field = known.get(one.field)
        number = field and (field.mask if one.part is Part.MASK else field.place)
        if not number:
            what = f"the kernel has no field {one.field} of the expected form in struct sk_buff"
            raise Lacking(what, "note: ganeti-vif knows Linux 6.1 to 6.18")
        struct.pack_into("=i", code, one.at * _INSTRUCTION + _NUMBER, number)
    return bytes(code)


@cache
def loaded(program: Program) -> int:
    """The file descriptor of PROGRAM, which tc can attach. The kernel has verified and compiled the program.

    The first call takes some milliseconds; later calls return the same descriptor. Raises Lacking if the kernel cannot
    run the program, and Failure if this process has no right to load one.
    """
    machine = os.uname().machine
    if machine not in NUMBERS:
        raise Lacking(f"bpf(2) is not known on {machine}", "note: guests of this machine are not to be trusted")
    text = relocated(program)
    code, licence = (ctypes.create_string_buffer(one, len(one)) for one in (text, LICENCE + b"\0"))
    places = (ctypes.addressof(code), ctypes.addressof(licence))
    asked = _LOAD.pack(SCHED_CLS, len(text) // _INSTRUCTION, *places, 0, 0, 0, 0, 0, NAME)
    attributes = ctypes.create_string_buffer(asked, len(asked))
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor: int = libc.syscall(NUMBERS[machine], PROG_LOAD, attributes, len(asked))
    if descriptor >= 0:
        return descriptor
    reason = os.strerror(ctypes.get_errno())
    if ctypes.get_errno() == errno.ENOSYS:
        raise Lacking("the kernel has no BPF programs", "note: a kernel with CONFIG_BPF_SYSCALL has them")
    if ctypes.get_errno() in {errno.EINVAL, errno.EACCES}:  # its verifier says so
        raise Lacking(f"the kernel takes no such BPF program: {reason}", "see: cat /sys/kernel/security/lockdown")
    note = "note: run it as root, with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"
    raise Failure(f"the kernel takes no BPF program: {reason}", note)
