# SPDX-License-Identifier: BSD-2-Clause
"""The NICs that this node has records of."""

from __future__ import annotations

from contextlib import suppress
from socket import if_indextoname

from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.objects import Record
from ganeti_vif.nic.life import State
from ganeti_vif.nic.nic import Mode, Nic
from ganeti_vif.nic.record import is_pending, nic_of
from ganeti_vif.system import records


def recorded(tap: str) -> Nic | None:
    """The NIC that the record of TAP describes, or None. Raises Failure if the record is damaged."""
    record = records.read_record(tap)
    return nic_of(record) if record else None


def recorded_state(tap: str) -> tuple[State, Nic | None]:
    """What the record of TAP says. Raises Failure if it cannot be read."""
    record = records.read_record(tap)
    nic = recorded(tap) if record else None
    if record is None or nic is None:
        return State.UNKNOWN, None
    if is_pending(record):
        return State.PENDING, nic
    return (State.STANDBY if nic.standby else State.ATTACHED), nic


def former_owner(tap: str) -> Nic | None:
    """The NIC that the record of TAP describes, or None. A damaged record describes no NIC: the next attach overwrites
    it. Raises Failure if the file cannot be read."""
    record = records.read_record(tap)
    try:
        return nic_of(record) if record else None
    except Failure:
        return None


def recorded_nics() -> list[Nic]:
    """All NICs that have a record on this node. Damaged records are left out: reconcile reports them. Raises Failure if
    the records cannot be read."""
    nics = []
    for record in records.read_all():
        try:
            nics.append(nic_of(record))
        except Failure:
            continue
    return nics


def is_routed(tap: str) -> bool:
    """Whether the record of TAP says that its NIC is routed. A record that cannot be read does not say so."""
    with suppress(Failure):  # whoever attaches or detaches it reports that
        nic = recorded(tap)
        return nic is not None and nic.mode is Mode.ROUTED
    return False


def namesakes(nic: Nic) -> list[Nic]:
    """The NICs that have the UUID of NIC and another tap. Damaged records are left out. Raises Failure if the records
    cannot be read."""
    found = []
    for record in records.read_with(nic.uuid):
        with suppress(Failure):  # reconcile reports it
            other = nic_of(record)
            if other.uuid == nic.uuid and other.tap != nic.tap:
                found.append(other)
    return found


def answering(link: str) -> list[Nic]:
    """The NICs that are routed by the public link LINK, and that this node answers for: neither pending nor on standby.
    Damaged records are left out. Raises Failure if the records cannot be read."""
    nics = (_answering(record) for record in records.read_all())
    return [nic for nic in nics if nic and nic.link == link]


def answering_nic(tap: str) -> Nic | None:
    """The NIC of TAP, if it is routed and this node answers for it. A damaged record describes none. Raises Failure if
    the record cannot be read."""
    record = records.read_record(tap)
    return _answering(record) if record else None


def guest_behind(index: int, mac: str) -> Nic | None:
    """The NIC with this MAC behind the tap with this INDEX, if its guest runs here. A damaged record describes none."""
    try:
        tap = if_indextoname(index)
        record = records.read_record(tap)
        nic = recorded(tap) if record and not is_pending(record) else None
    except (OSError, Failure):  # the tap is gone; or a survey reports the record
        return None
    here = nic is not None and (nic.index, nic.mac) == (index, mac) and not nic.standby
    return nic if here else None


def _answering(record: Record) -> Nic | None:
    with suppress(Failure):  # reconcile reports it
        nic = nic_of(record)
        if nic.mode is Mode.ROUTED and not nic.standby and not is_pending(record):
            return nic
    return None
