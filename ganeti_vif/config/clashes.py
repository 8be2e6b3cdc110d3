# SPDX-License-Identifier: BSD-2-Clause
"""Clashes between sections of the configuration: two of them want the same thing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from ganeti_vif.config.model import Config, Private, Public, VxlanUplink

MOST_GROUPS = 20
"""How many multicast groups a socket can join (net.ipv4.igmp_max_memberships)."""


@dataclass(frozen=True, slots=True)
class Clash:
    """WHAT is wrong with KEY of the section [KIND WORD], and what to DO."""

    kind: str
    word: str
    key: str
    what: str
    do: str


def clashes(config: Config) -> Iterator[Clash]:
    """All clashes, each reported at the later of its two sections."""
    owners: dict[str, Private] = {}
    groups = set()
    for private in config.private:
        if isinstance(private.uplink, VxlanUplink) and private.uplink.group:
            groups.add(private.uplink.group)
            if len(groups) > MOST_GROUPS:
                what = f"more than {MOST_GROUPS} VXLAN groups, and a socket cannot join more"
                yield Clash("private", private.prefix, "uplink", what, "let families share a group: leave out 'group'")
        for key, names in (("bridges", private.bridges), ("uplink", private.devices)):
            for name in names:
                if owners.setdefault(name, private) is not private:
                    other = f"[private {owners[name].prefix}]"
                    what = f"[private {private.prefix}] and {other} both want the device {name}"
                    yield Clash("private", private.prefix, key, what, "choose other numbers, or another prefix")
    for public in config.public:
        if public.uplink in owners:
            owner = f"[private {owners[public.uplink].prefix}]"
            what = f"the uplink {public.uplink} of [public {public.name}] is a device of {owner}"
            yield Clash("public", public.name, "uplink", what, "name the device that leads to the gateways: ip link")
    for pair in combinations(config.public, 2):
        yield from _between(*pair)


def _between(one: Public, other: Public) -> Iterator[Clash]:
    both = f"[public {one.name}] and [public {other.name}]"
    for key, do in (
        ("name", "give one of them another name"),
        ("table", "choose a number that is in nobody's use: ip route show table all"),
        ("uplink", "one section can have several subnets: write them into one"),
    ):
        if getattr(one, key) == getattr(other, key):
            place = "" if key == "name" else key
            yield Clash("public", other.name, place, f"{both} have the same {key} {getattr(one, key)}", do)
    if one.mark == other.mark and one.table != other.table:
        tables = f"the tables {one.table} and {other.table} differ by a multiple of 65536"
        what = f"{both} would have the same packet mark: {tables}"
        yield Clash("public", other.name, "table", what, "choose another table, best one below 65536")
    for mine in one.subnets:
        for theirs in other.subnets:
            if mine.version == theirs.version and mine.overlaps(theirs):
                what = f"{both} have addresses in common: {mine} and {theirs}"
                yield Clash("public", other.name, "subnets", what, "give each address to one of them")
