# SPDX-License-Identifier: BSD-2-Clause
"""Which names the instances of this node have, as lines of a hosts file and as records of a DNS server. Pure.

Each record set (RRset) that we write at a server has a mark beside it: a TXT record at `_ganeti-vif.OWNER`, with the
node that wrote it and the records that it wrote. An update names the mark that it found as its prerequisite (RFC 2136,
2.4.2), so a server takes it only if nobody else was faster. After a migration the node that an instance left finds the
mark of the other node, and leaves the name alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address
from typing import NamedTuple

from ganeti_vif.config import values
from ganeti_vif.config.model import Config, Names
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.objects import Address
from ganeti_vif.nic.nic import Mode, Nic

HEADER = "# The instances on this node, by ganeti-vifd. What somebody else writes here is lost.\n"
"""The first line of a hosts file of ours: our mark."""
LABEL = "_ganeti-vif"
"""The label of a mark. A hostname has no underscore (RFC 952), so no instance has such a name."""
MARK = "ganeti-vif"
"""The first string of a mark."""
TYPES = {"PTR": ("PTR", "CNAME"), "A": ("A", "AAAA", "CNAME")}
"""What must not be there, without a mark, where we begin to write records of a kind."""


class Entry(NamedTuple):
    """The instance NAME has ADDRESS."""

    name: str
    address: Address


class Owned(NamedTuple):
    """The records that this node writes at OWNER in ZONE: `A 192.0.2.5`, `AAAA 2001:db8::5`, `PTR a.example.com.`."""

    zone: str
    owner: str
    records: tuple[str, ...]


class Mark(NamedTuple):
    """NODE wrote RECORDS."""

    node: str
    records: tuple[str, ...]

    @property
    def strings(self) -> tuple[str, ...]:
        """The strings of the TXT record."""
        return (MARK, self.node, *self.records)


class Update(NamedTuple):
    """What to ask a server for, if FOUND is the mark there now, and if none of ABSENT is there: to delete what FOUND
    names, and to add what NEW names. None: no mark."""

    found: Mark | None
    absent: tuple[str, ...]
    new: Mark | None


def entries(nics: Iterable[Nic], config: Config) -> frozenset[Entry]:
    """The names and addresses of NICS, whose guests run on this node, as far as CONFIG wants them written. Only own
    addresses: a tag's prefix has no name, and what a guest claims changes daily.

    An instance whose name is no domain name has none: see nameless().
    """
    found = set()
    for nic in nics:
        if not _is_listed(nic, config) or not _is_domain(nic.instance):
            continue
        addresses = (nic.address, nic.address6 if config.names.ipv6 else None)
        found |= {Entry(nic.instance.lower(), address) for address in addresses if address}
    return frozenset(found)


def nameless(nics: Iterable[Nic], config: Config) -> list[Failure]:
    """The instances that get no name, because theirs is no domain name."""
    names = {nic.instance for nic in nics if _is_listed(nic, config) and not _is_domain(nic.instance)}
    do = "note: rename it, with gnt-instance rename, or leave its link out of [names] links"
    return [Failure(f"the instance {name!a} gets no name in DNS: that is no domain name", do) for name in sorted(names)]


def _is_listed(nic: Nic, config: Config) -> bool:
    public = config.public_link(nic.link) if nic.mode is Mode.ROUTED else None
    if config.names.links is None:
        return public is not None
    return nic.link in config.names.links or public is not None and public.name in config.names.links


def _is_domain(name: str) -> bool:
    try:
        return values.domain(name) == name
    except ValueError:
        return False


def hosts(found: Iterable[Entry]) -> str:
    """The text of the hosts file (hosts(5)) with the entries FOUND. Equal entries make equal texts."""
    return HEADER + "".join(f"{entry.address} {entry.name}\n" for entry in sorted(found, key=_order))


def _order(entry: Entry) -> tuple[str, int, int]:
    return entry.name, entry.address.version, int(entry.address)


def owned(found: Iterable[Entry], names: Names) -> dict[str, Owned]:
    """The records that the entries FOUND have at the server of NAMES, by their owner. An instance whose name is outside
    the zone has none there, and an address outside the reverse zones has none."""
    records: dict[tuple[str, str], list[str]] = {}
    for name, address in sorted(found, key=_order):
        full = _full(name, names.zone)
        kind = "A" if isinstance(address, IPv4Address) else "AAAA"
        if names.zone and _within(full, names.zone):
            records.setdefault((names.zone, full), []).append(f"{kind} {address}")
        reverse = address.reverse_pointer
        zones = [zone for zone in names.reverse_zones if _within(reverse, zone)]
        if zones:
            records.setdefault((max(zones, key=len), reverse), []).append(f"PTR {full}.")
    return {owner: Owned(zone, owner, tuple(texts)) for (zone, owner), texts in records.items()}


def _full(name: str, zone: str | None) -> str:
    """A name without a dot is one of the zone."""
    return f"{name}.{zone}" if zone and "." not in name else name


def _within(name: str, zone: str) -> bool:
    return name.endswith(f".{zone}")


def mark_of(strings: Iterable[str]) -> Mark | None:
    """The mark with these STRINGS, or None if they are no mark."""
    match tuple(strings):
        case (first, node, *records) if first == MARK:
            return Mark(node, tuple(records))
    return None


def update(found: Mark | None, wanted: tuple[str, ...], node: str, *, came: bool) -> Update | None:
    """What NODE asks for where the mark FOUND is, and it wants the records WANTED. None: nothing.

    CAME: the instance was not here before. Then it is taken from the node that has it. Else that node has taken it from
    here, and it is left alone.
    """
    if found is None:
        if not wanted:
            return None
        kind = "PTR" if wanted[0].startswith("PTR ") else "A"
        return Update(None, TYPES[kind], Mark(node, wanted))
    if found.node != node and not (came and wanted):
        return None
    return Update(found, (), Mark(node, wanted) if wanted else None)
