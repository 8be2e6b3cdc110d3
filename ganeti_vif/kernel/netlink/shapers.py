# SPDX-License-Identifier: BSD-2-Clause
"""Shapers: tc(8)'s token bucket filter (tbf) at the root of a device, with fq_codel below (linux/pkt_sched.h).

tbf keeps the rate: it has one class, which is all that one NIC needs, and it takes frames apart that are longer than
its burst. fq_codel lets flows take turns, and drops early. A kernel without fq_codel has tbf's own queue instead.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from ganeti_vif.engine.difference import Alter, Change, Make, Remove
from ganeti_vif.engine.failure import Failure, Lacking
from ganeti_vif.engine.marks import SHAPER
from ganeti_vif.engine.objects import Shaper
from ganeti_vif.kernel.netlink.query import Query, attribute, attributes, number, text
from ganeti_vif.kernel.netlink.requests import HEADER, NLM_F_ACK, Requests

RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC = 36, 37, 38
NLM_F_REQUEST, NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x1, 0x100, 0x200, 0x400
TCA_KIND, TCA_OPTIONS = 1, 2
TCA_TBF_PARMS, TCA_TBF_RATE64, TCA_TBF_BURST = 1, 4, 6
TCA_FQ_CODEL_TARGET = 1
TC_LINKLAYER_ETHERNET = 1
ROOT, HANDLE = 0xFFFFFFFF, SHAPER << 16
BELOW = HANDLE | 1
"""tbf's only class."""
KIND = "tbf"
TICK = 64
"""Nanoseconds in the kernel's unit of time for token buckets (PSCHED_SHIFT in net/pkt_sched.h)."""

_TCMSG = struct.Struct("=BxxxiIII")
_RATE = struct.Struct("=BBHhHI")
"""struct tc_ratespec: cell_log, linklayer, overhead, cell_align, mpu, rate."""
_REST = struct.Struct("=III")
"""The end of struct tc_tbf_qopt, behind two rates: limit, buffer, mtu."""


def read(query: Query, wanted: Iterable[Shaper], indexes: Mapping[str, int]) -> Iterator[Shaper]:
    """Our shapers on the devices of these INDEXES, by name. One dump: the kernel does not filter it.

    The kernel rounds times. So a burst that is as long as that of WANTED is the same burst.
    """
    names = {index: name for name, index in indexes.items()}
    known = {shaper.device: shaper for shaper in wanted}
    for payload in query.dump(RTM_GETQDISC, _TCMSG.pack(0, 0, 0, 0, 0)):
        _, index, handle, parent, _ = _TCMSG.unpack_from(payload)
        if (handle, parent) != (HANDLE, ROOT) or index not in names:
            continue
        found = attributes(payload, _TCMSG.size)
        if text(found.get(TCA_KIND, b"")) == KIND:
            yield _shaper(names[index], attributes(found.get(TCA_OPTIONS, b"")), known.get(names[index]))


def _shaper(device: str, options: Mapping[int, bytes], wanted: Shaper | None) -> Shaper:
    parameters = options[TCA_TBF_PARMS]
    rate = _RATE.unpack_from(parameters)[5]
    if TCA_TBF_RATE64 in options:
        rate = number(options[TCA_TBF_RATE64])
    buffer = _REST.unpack_from(parameters, 2 * _RATE.size)[1]
    if wanted and wanted.rate == rate and abs(_ticks(wanted) - buffer) <= 2 + buffer // 10000:
        return wanted
    return Shaper(device=device, rate=rate, burst=round(buffer * TICK * rate / 1e9))


def _ticks(shaper: Shaper) -> int:
    return shaper.burst * 1_000_000_000 // (shaper.rate * TICK)


def perform(requests: Requests, change: Change, index: int) -> None:
    """Make CHANGE on the device with this INDEX. An altered shaper keeps the packets that wait.

    Raises Lacking if the kernel has no tbf, Failure if another program's queueing discipline is in its place, and
    OSError with the kernel's reason if it refuses.
    """
    match change:
        case Make(Shaper() as wanted):
            try:
                _send(requests, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, _tbf(wanted, index))
            except OSError as error:
                if error.errno == errno.ENOENT:
                    raise Lacking("the kernel has no sch_tbf", "modprobe sch_tbf") from error
                if error.errno == errno.EEXIST:
                    what = f"{wanted.device} has a queueing discipline of another program"
                    raise Failure(what, f"tc qdisc del dev {wanted.device} root") from error
                raise
            try:
                _take_turns(requests, wanted, index)
            except OSError:
                with suppress(OSError):
                    _remove(requests, index)
                raise
        case Alter(_, Shaper() as wanted):
            _send(requests, RTM_NEWQDISC, 0, _tbf(wanted, index))
            _take_turns(requests, wanted, index)
        case Remove(Shaper()):
            _remove(requests, index)
        case _:
            raise NotImplementedError(change)


def _tbf(wanted: Shaper, index: int) -> bytes:
    rate = _RATE.pack(0, TC_LINKLAYER_ETHERNET, 0, 0, 0, min(wanted.rate, 0xFFFFFFFF))
    parameters = rate + bytes(_RATE.size) + _REST.pack(min(wanted.limit, 0xFFFFFFFF), 0, 0)
    options = attribute(TCA_TBF_PARMS, parameters) + attribute(TCA_TBF_BURST, struct.pack("=I", wanted.burst))
    options += attribute(TCA_TBF_RATE64, struct.pack("=Q", wanted.rate))
    head = _TCMSG.pack(0, index, HANDLE, ROOT, 0)
    return head + attribute(TCA_KIND, KIND.encode() + b"\0") + attribute(TCA_OPTIONS, options)


def _take_turns(requests: Requests, wanted: Shaper, index: int) -> None:
    """Put fq_codel below, or set it if it is there. A kernel without it keeps tbf's own queue."""
    options = attribute(TCA_FQ_CODEL_TARGET, struct.pack("=I", wanted.target))
    body = _TCMSG.pack(0, index, 0, BELOW, 0) + attribute(TCA_KIND, b"fq_codel\0") + attribute(TCA_OPTIONS, options)
    try:
        _send(requests, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, body)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise


def _remove(requests: Requests, index: int) -> None:
    _send(requests, RTM_DELQDISC, 0, _TCMSG.pack(0, index, HANDLE, ROOT, 0))


def _send(requests: Requests, kind: int, flags: int, body: bytes) -> None:
    sequence = requests.number()
    head = HEADER.pack(HEADER.size + len(body), kind, NLM_F_REQUEST | NLM_F_ACK | flags, sequence, 0)
    requests.send(head + body, sequence, sequence)
