# SPDX-License-Identifier: BSD-2-Clause
"""BPF programs at the ingress of devices: tc(8)'s clsact qdisc and its filters of kind bpf (linux/pkt_cls.h).

An ingress qdisc would cost less, nothing for packets that leave by the device. But Open vSwitch removes it from each
device that becomes a port of its own, and our program with it.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha1, sha256

from ganeti_vif.engine.failure import Lacking
from ganeti_vif.engine.objects import OffloadCheck
from ganeti_vif.engine.program import Program
from ganeti_vif.kernel import bpf
from ganeti_vif.kernel.netlink.query import Query, attribute, attributes, text
from ganeti_vif.kernel.netlink.requests import HEADER, NLM_F_ACK, Requests

RTM_NEWQDISC, RTM_NEWTFILTER, RTM_DELTFILTER, RTM_GETTFILTER = 36, 44, 45, 46
NLM_F_REQUEST, NLM_F_EXCL, NLM_F_CREATE = 0x1, 0x200, 0x400
TCA_KIND, TCA_OPTIONS = 1, 2
TCA_BPF_FD, TCA_BPF_NAME, TCA_BPF_FLAGS, TCA_BPF_TAG = 6, 7, 8, 10
TCA_BPF_FLAG_ACT_DIRECT = 1
QDISC_HANDLE, QDISC, INGRESS = 0xFFFF0000, 0xFFFFFFF1, 0xFFFFFFF2
"""TC_H_INGRESS, which is TC_H_CLSACT too, and the parent of filters at the ingress in both kinds of qdisc."""
PREFERENCE, HANDLE = 1, 1
"""Our filter runs before the filters of all other programs."""
NAME = "ganeti_vif"
"""Marks our filter."""
ETH_P_ALL = 3

_TCMSG = struct.Struct("=BxxxiIII")


def read(query: Query, wanted: Iterable[OffloadCheck], indexes: Mapping[str, int]) -> Iterator[OffloadCheck]:
    """Those of WANTED that exist on the devices with these INDEXES. PROGRAM is None if another version is attached."""
    for check in wanted:
        if check.device not in indexes:
            continue
        for payload in query.dump(RTM_GETTFILTER, _TCMSG.pack(0, indexes[check.device], 0, INGRESS, 0)):
            found = attributes(payload, _TCMSG.size)
            options = attributes(found.get(TCA_OPTIONS, b""))
            if text(found.get(TCA_KIND, b"")) == "bpf" and text(options.get(TCA_BPF_NAME, b"")) == NAME:
                same = _is(check.program, options.get(TCA_BPF_TAG))
                yield OffloadCheck(device=check.device, program=check.program if same else None)


def _is(program: Program | None, tag: bytes | None) -> bool:
    """Whether the program that the kernel tells with this TAG is PROGRAM."""
    try:
        return program is not None and tag in _tags(bpf.relocated(program))
    except Lacking:  # this kernel never took it, so it is another one
        return False


def _tags(code: bytes) -> tuple[bytes, bytes]:
    """The tags that the kernel may give a program with this CODE. A tag is a hash of the instructions: SHA-1, and
    SHA-256 since Linux 6.18 (bpf_prog_calc_tag())."""
    return sha1(code, usedforsecurity=False).digest()[:8], sha256(code).digest()[:8]


def attach(requests: Requests, check: OffloadCheck, index: int, *, instead: bool) -> None:
    """Attach CHECK's program to the device with this INDEX. INSTEAD replaces another version, with no gap between them.

    Does nothing if CHECK has no program: the program of another version is unknown, so an undo cannot attach it again.
    Raises Lacking if the kernel lacks bpf(2), sch_ingress or cls_bpf, Failure if it refuses the program, and OSError
    with its reason if it refuses to attach it.
    """
    if check.program is None:
        return
    descriptor = bpf.loaded(check.program)
    qdisc = _TCMSG.pack(0, index, QDISC_HANDLE, QDISC, 0) + attribute(TCA_KIND, b"clsact\0")
    try:
        _send(requests, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, qdisc)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise _lacking("sch_ingress") from error
        if error.errno != errno.EEXIST:  # another program made this qdisc; our filter works in it too
            raise
    options = attribute(TCA_BPF_FD, struct.pack("=I", descriptor)) + attribute(TCA_BPF_NAME, NAME.encode() + b"\0")
    options += attribute(TCA_BPF_FLAGS, struct.pack("=I", TCA_BPF_FLAG_ACT_DIRECT))
    body = _filter(index) + attribute(TCA_KIND, b"bpf\0") + attribute(TCA_OPTIONS, options)
    try:
        _send(requests, RTM_NEWTFILTER, NLM_F_CREATE | (0 if instead else NLM_F_EXCL), body)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise _lacking("cls_bpf") from error
        raise


def detach(requests: Requests, index: int) -> None:
    """Detach the program from the device with this INDEX. The qdisc stays: others may use it. Raises OSError."""
    _send(requests, RTM_DELTFILTER, 0, _filter(index) + attribute(TCA_KIND, b"bpf\0"))


def _filter(index: int) -> bytes:
    return _TCMSG.pack(0, index, HANDLE, INGRESS, PREFERENCE << 16 | socket.htons(ETH_P_ALL))


def _lacking(module: str) -> Lacking:
    return Lacking(f"the kernel has no {module}", f"modprobe {module}")


def _send(requests: Requests, kind: int, flags: int, body: bytes) -> None:
    number = requests.number()
    head = HEADER.pack(HEADER.size + len(body), kind, NLM_F_REQUEST | NLM_F_ACK | flags, number, 0)
    requests.send(head + body, number, number)
