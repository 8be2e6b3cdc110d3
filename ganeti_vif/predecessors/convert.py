# SPDX-License-Identifier: BSD-2-Clause
"""Converting legacy settings into the text of our configuration, with a note on each setting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from ganeti_vif.predecessors import routed, variables
from ganeti_vif.predecessors.interfaces import Stanza
from ganeti_vif.predecessors.report import Fate, Note
from ganeti_vif.predecessors.routed import LegacyLink, Pool
from ganeti_vif.predecessors.shell import Assignment


@dataclass(frozen=True, slots=True, kw_only=True)
class Legacy:
    """The legacy settings of a node."""

    assignments: Mapping[str, Assignment] = field(default_factory=dict)
    stanzas: tuple[Stanza, ...] = ()
    tables: Mapping[str, int] = field(default_factory=dict)
    nfdhcpd: bool = False


def convert(legacy: Legacy, valid: Callable[[str], str | None]) -> tuple[str, list[Note]]:
    """The configuration for LEGACY, and a note on each setting.

    VALID returns the error in a section's text, or None. An invalid section becomes a comment, with a note.
    """
    found = routed.read(legacy.stanzas)
    notes = [*variables.notes(legacy.assignments), *found.notes]
    parts = []
    for pool in found.pools:
        parts.append(_checked(_pool(pool), pool.place, valid, notes))
    for link in found.links.values():
        link.gateways = [gateway for gateway in link.gateways if _usable(gateway, link, valid, notes)]
        parts.append(_checked(_public(link, legacy.tables, notes), link.place, valid, notes))
    parts.append(_checked(variables.bindings(legacy.assignments, legacy.nfdhcpd), "[bindings]", valid, notes))
    return "\n\n".join("\n".join(part) for part in parts) + "\n", notes


def _checked(lines: list[str], place: str, valid: Callable[[str], str | None], notes: list[Note]) -> list[str]:
    wrong = valid("\n".join(lines))
    if wrong is None:
        return lines
    notes.append(Note(place=place, fate=Fate.LOST, what=f"{lines[0]} is not right: {wrong}"))
    return [f"# {line}" for line in lines]


def _usable(gateway: str, link: LegacyLink, valid: Callable[[str], str | None], notes: list[Note]) -> bool:
    """Whether GATEWAY can be one, whatever else LINK has. If not, the rest of LINK is worth having."""
    both = "192.0.2.0/24 2001:db8::/64"
    sample = ["[public sample]", "table = 222", "uplink = eth0", f"subnets = {both}", f"gateways = {gateway}"]
    if wrong := valid("\n".join(sample)):
        notes.append(Note(place=link.place, fate=Fate.LOST, what=f"the gateway {gateway} is left out: {wrong}"))
    return wrong is None


def _pool(pool: Pool) -> list[str]:
    return [
        f"[private {pool.prefix}]",
        f"bridges = {pool.first}-{pool.last}",
        f"uplink = vlan {pool.uplink} +{pool.offset}",
    ]


def _public(link: LegacyLink, tables: Mapping[str, int], notes: list[Note]) -> list[str]:
    name, number = _named(link.table, tables)
    if number is None:
        what = f"the table {link.table or 'of ' + link.uplink} has no number in /etc/iproute2/rt_tables"
        notes.append(Note(place=link.place, fate=Fate.LOST, what=what))
    lines = [
        f"[public {name}]",
        f"table = {'' if number is None else number}",
        f"uplink = {link.uplink}",
        f"subnets = {_list(link.subnets)}",
    ]
    lines += [f"gateways = {_list(link.gateways)}"] if link.gateways else []
    return [*lines, f"arp-source = {link.arp_source}"] if link.arp_source else lines


def _named(table: str, tables: Mapping[str, int]) -> tuple[str, int | None]:
    """Name and number of TABLE, which is one of the two. A NIC may have either as its link."""
    if not table.isdigit():
        return table or "unknown", tables.get(table)
    return next((name for name, number in tables.items() if number == int(table)), f"table{table}"), int(table)


def _list(words: Iterable[str]) -> str:
    return " ".join(words)
