# SPDX-License-Identifier: BSD-2-Clause
"""Programs at the ingress of devices: tc(8)'s clsact qdisc and its filters of kind bpf (linux/pkt_cls.h)."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha1, sha256

from ganeti_vif.engine.failure import Lacking
from ganeti_vif.engine.objects import OffloadCheck
from ganeti_vif.kernel import bpf
from ganeti_vif.kernel.netlink.query import Query, attribute, attributes, text
from ganeti_vif.kernel.netlink.requests import HEADER, NLM_F_ACK, Requests

RTM_NEWQDISC, RTM_NEWTFILTER, RTM_DELTFILTER, RTM_GETTFILTER = 36, 44, 45, 46
NLM_F_REQUEST, NLM_F_EXCL, NLM_F_CREATE = 0x1, 0x200, 0x400
TCA_KIND, TCA_OPTIONS = 1, 2
TCA_BPF_FD, TCA_BPF_NAME, TCA_BPF_FLAGS, TCA_BPF_TAG = 6, 7, 8, 10
TCA_BPF_FLAG_ACT_DIRECT = 1
CLSACT_HANDLE, CLSACT, INGRESS = 0xFFFF0000, 0xFFFFFFF1, 0xFFFFFFF2
PREFERENCE, HANDLE = 1, 1
"""Before all filters of others; what they do comes after it."""
NAME = "ganeti_vif"
"""Marks our filter."""
ETH_P_ALL = 3

_TCMSG = struct.Struct("=BxxxiIII")


def read(query: Query, wanted: Iterable[OffloadCheck], indexes: Mapping[str, int]) -> Iterator[OffloadCheck]:
    """Those of WANTED that are there, on the devices with these INDEXES; with no program if it is another one."""
    for check in wanted:
        if check.device not in indexes:
            continue
        for payload in query.dump(RTM_GETTFILTER, _TCMSG.pack(0, indexes[check.device], 0, INGRESS, 0)):
            found = attributes(payload, _TCMSG.size)
            options = attributes(found.get(TCA_OPTIONS, b""))
            if text(found.get(TCA_KIND, b"")) == "bpf" and text(options.get(TCA_BPF_NAME, b"")) == NAME:
                same = options.get(TCA_BPF_TAG) in _tags(check.program)
                yield OffloadCheck(device=check.device, program=check.program if same else b"")


def _tags(program: bytes) -> tuple[bytes, bytes]:
    """What the kernel may call PROGRAM: its tag is made of its instructions (bpf_prog_calc_tag()), since Linux 6.18
    with another hash."""
    return sha1(program, usedforsecurity=False).digest()[:8], sha256(program).digest()[:8]


def attach(requests: Requests, check: OffloadCheck, index: int, *, instead: bool) -> None:
    """Attach CHECK's program to the device with this INDEX, INSTEAD of another version of it, with no moment between.

    Raises OSError, and Lacking where the kernel has no such thing. What another version had attached, of which no
    program is known, cannot come back: what is there stays.
    """
    if not check.program:
        return
    descriptor = bpf.loaded(check.program)
    qdisc = _TCMSG.pack(0, index, CLSACT_HANDLE, CLSACT, 0) + attribute(TCA_KIND, b"clsact\0")
    try:
        _send(requests, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, qdisc)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise _lacking("sch_ingress") from error
        if error.errno != errno.EEXIST:  # somebody's qdisc is there, and takes our filter as well
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
    """Take the program off the device with this INDEX. The qdisc stays: others may use it. Raises OSError."""
    _send(requests, RTM_DELTFILTER, 0, _filter(index) + attribute(TCA_KIND, b"bpf\0"))


def _filter(index: int) -> bytes:
    return _TCMSG.pack(0, index, HANDLE, INGRESS, PREFERENCE << 16 | socket.htons(ETH_P_ALL))


def _lacking(module: str) -> Lacking:
    return Lacking(f"the kernel has no {module}", f"modprobe {module}")


def _send(requests: Requests, kind: int, flags: int, body: bytes) -> None:
    number = requests.number()
    head = HEADER.pack(HEADER.size + len(body), kind, NLM_F_REQUEST | NLM_F_ACK | flags, number, 0)
    requests.send(head + body, number, number)
