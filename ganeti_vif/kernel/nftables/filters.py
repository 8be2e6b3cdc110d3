# SPDX-License-Identifier: BSD-2-Clause
"""Reading filter chains: their hooks, and the comments of their rules.

Of a rule's expressions only the counter is read. Each rule of ours has a comment that no other rule has
(engine/chains.py). A rule with another comment or none was not made by us.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ganeti_vif.engine.chains import Chain, FilterRule, Subchain, table_of
from ganeti_vif.engine.failure import Gone
from ganeti_vif.engine.marks import TABLE
from ganeti_vif.engine.objects import Key
from ganeti_vif.kernel.netlink.query import Query, attribute, attributes, nested, text

NETLINK_NETFILTER = 12
NFNL_SUBSYS_NFTABLES = 10 << 8
GET_TABLE, GET_CHAIN, GET_RULE = (NFNL_SUBSYS_NFTABLES | kind for kind in (1, 4, 7))
NFTA_TABLE, NFTA_CHAIN_NAME, NFTA_CHAIN_HOOK, NFTA_CHAIN_POLICY = 1, 3, 4, 5
NFTA_TABLE_USE = 3
NFTA_HOOK_NUMBER, NFTA_HOOK_PRIORITY, NFTA_HOOK_DEV, NFTA_HOOK_DEVS = 1, 2, 3, 4
NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS, NFTA_RULE_USERDATA = 2, 4, 7
NFTA_EXPRESSION_NAME, NFTA_EXPRESSION_DATA, NFTA_COUNTER_PACKETS = 1, 2, 2
COMMENT = 0
"""The type of a comment in a rule's user data, which is a list of type, length, value (libnftnl udata.h)."""

FAMILIES = {"inet": 1, "arp": 3, "netdev": 5}
FORWARDING: Mapping[str, int] = {"inet": 1, "ip": 2, "ip6": 10}
"""The families whose chains a packet passes that is forwarded."""
FORWARD = 2
HOOKS: Mapping[str, tuple[str, ...]] = {
    "inet": ("prerouting", "input", "forward", "output", "postrouting"),
    "arp": ("input", "output"),
    "netdev": ("ingress", "egress"),
}
UNKNOWN = "(not as we made it)"
_NFGENMSG = struct.Struct("=BBH")


def netfilter() -> Query:
    """A socket to read chains with."""
    return Query(NETLINK_NETFILTER)


def chains(query: Query, wanted: Iterable[Chain]) -> Iterator[Chain]:
    """The existing chains with the names of WANTED. A rule that WANTED does not have gets the text UNKNOWN."""
    for chain in wanted:
        table, name = _in_table(chain.family, chain.table), chain.name.encode() + b"\0"
        try:
            found = query.get(GET_CHAIN, table + attribute(NFTA_CHAIN_NAME, name))
        except Gone:
            continue
        rules = query.dump(GET_RULE, table + attribute(NFTA_RULE_CHAIN, name))
        yield from _chain(chain.family, found, [_comment(attributes(rule, _NFGENMSG.size)) for rule in rules], chain)


def expressions(query: Query, family: str, name: str) -> list[bytes]:
    """The compiled rules of the chain NAME in our table."""
    table = _in_table(family, table_of(family, name))
    rules = query.dump(GET_RULE, table + attribute(NFTA_RULE_CHAIN, name.encode() + b"\0"))
    return [attributes(rule, _NFGENMSG.size)[NFTA_RULE_EXPRESSIONS] for rule in rules]


def is_empty(query: Query, family: str, table: str) -> bool:
    """Whether TABLE exists and is empty."""
    try:
        found = attributes(query.get(GET_TABLE, _in_table(family, table)), _NFGENMSG.size)
    except Gone:
        return False
    return _signed(found[NFTA_TABLE_USE]) == 0


def empty_tables(query: Query) -> Iterator[tuple[str, str]]:
    """Family and name of our empty tables. Before Linux 6.16 a chain goes with its device, but its table stays."""
    for family in FAMILIES:
        for table in query.dump(GET_TABLE, _header(family)):
            found = attributes(table, _NFGENMSG.size)
            name = text(found[NFTA_TABLE])
            if (name == TABLE or name.startswith(f"{TABLE}-")) and _signed(found[NFTA_TABLE_USE]) == 0:
                yield family, name


def all_chains(query: Query, wanted: Mapping[Key, object]) -> Iterator[Chain]:
    """Every chain in our tables. A rule that WANTED does not have gets the text UNKNOWN."""
    for family in FAMILIES:
        comments: dict[str, list[str]] = {}
        for rule in query.dump(GET_RULE, _header(family) if family == "netdev" else _in_table(family, TABLE)):
            found = attributes(rule, _NFGENMSG.size)
            name = text(found[NFTA_RULE_CHAIN])
            if text(found[NFTA_TABLE]) == table_of(family, name):
                comments.setdefault(name, []).append(_comment(found))
        for chain in query.dump(GET_CHAIN, _header(family)):
            found = attributes(chain, _NFGENMSG.size)
            name = text(found[NFTA_CHAIN_NAME])
            if text(found[NFTA_TABLE]) == table_of(family, name):
                known = wanted.get(("chain", family, name))
                yield from _chain(family, chain, comments.get(name, []), known if isinstance(known, Chain) else None)


def forwarding_tables(query: Query) -> set[tuple[str, str]]:
    """Family and name of each table with a base chain on the hook `forward`, whoever made it."""
    found = set()
    for family, number in FORWARDING.items():
        for chain in query.dump(GET_CHAIN, _NFGENMSG.pack(number, 0, 0)):
            values = attributes(chain, _NFGENMSG.size)
            hook = attributes(values.get(NFTA_CHAIN_HOOK, b""))
            if NFTA_HOOK_NUMBER in hook and _signed(hook[NFTA_HOOK_NUMBER]) == FORWARD:
                found.add((family, text(values[NFTA_TABLE])))
    return found


def _header(family: str) -> bytes:
    return _NFGENMSG.pack(FAMILIES[family], 0, 0)


def _in_table(family: str, table: str) -> bytes:
    return _header(family) + attribute(NFTA_TABLE, table.encode() + b"\0")


def _chain(family: str, payload: bytes, comments: Iterable[str], wanted: Chain | None) -> Iterator[Chain]:
    found = attributes(payload, _NFGENMSG.size)
    ours = {rule.comment: rule for rule in wanted.rules} if wanted else {}
    rules = tuple(ours.get(comment, FilterRule(UNKNOWN, comment)) for comment in comments)
    if NFTA_CHAIN_HOOK not in found:
        yield Subchain(family=family, name=text(found[NFTA_CHAIN_NAME]), rules=rules)
        return
    hook = attributes(found[NFTA_CHAIN_HOOK])
    yield Chain(
        family=family,
        name=text(found[NFTA_CHAIN_NAME]),
        hook=HOOKS[family][_signed(hook[NFTA_HOOK_NUMBER])],
        device=_device(hook),
        priority=_signed(hook[NFTA_HOOK_PRIORITY]),
        policy="drop" if _signed(found.get(NFTA_CHAIN_POLICY, b"\0\0\0\1")) == 0 else "accept",
        rules=rules,
    )


def _device(hook: Mapping[int, bytes]) -> str | None:
    if NFTA_HOOK_DEV in hook:
        return text(hook[NFTA_HOOK_DEV])
    return next((text(name) for _, name in nested(hook.get(NFTA_HOOK_DEVS, b""))), None)


def _comment(found: Mapping[int, bytes]) -> str:
    data, at = found.get(NFTA_RULE_USERDATA, b""), 0
    while at + 2 <= len(data):
        kind, length = data[at], data[at + 1]
        if kind == COMMENT:
            return text(data[at + 2 : at + 2 + length])
        at += 2 + length
    return ""


def _signed(value: bytes) -> int:
    """A number in netfilter's attributes: in network byte order. A priority may be negative."""
    return int.from_bytes(value, "big", signed=True)


@dataclass(frozen=True, slots=True)
class Counted:
    """The packets that the rule with this COMMENT has counted; None if the rule has no counter."""

    comment: str
    packets: int | None


def counted(query: Query, family: str, name: str) -> list[Counted]:
    """The counters of the rules of our chain NAME, in their order. Empty if there is no such chain."""
    try:
        table = _in_table(family, table_of(family, name))
        rules = query.dump(GET_RULE, table + attribute(NFTA_RULE_CHAIN, name.encode() + b"\0"))
    except Gone:
        return []
    found = (attributes(rule, _NFGENMSG.size) for rule in rules)
    return [Counted(_comment(rule), _packets(rule.get(NFTA_RULE_EXPRESSIONS, b""))) for rule in found]


def _packets(expressions: bytes) -> int | None:
    for _, expression in nested(expressions):
        found = attributes(expression)
        if text(found.get(NFTA_EXPRESSION_NAME, b"")) == "counter":
            return int.from_bytes(attributes(found[NFTA_EXPRESSION_DATA])[NFTA_COUNTER_PACKETS], "big")
    return None
