# SPDX-License-Identifier: BSD-2-Clause
"""Which rules of this node read connections (conntrack), and so make the kernel follow them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from ganeti_vif.engine.marks import TABLE
from ganeti_vif.guard.connections import Following
from ganeti_vif.kernel.netlink.query import Query, attributes, nested, text
from ganeti_vif.kernel.nftables.filters import (
    GET_CHAIN,
    GET_RULE,
    NFTA_CHAIN_HOOK,
    NFTA_CHAIN_NAME,
    NFTA_EXPRESSION_DATA,
    NFTA_EXPRESSION_NAME,
    NFTA_HOOK_NUMBER,
    NFTA_RULE_CHAIN,
    NFTA_RULE_EXPRESSIONS,
    NFTA_TABLE,
)

PROC = "/proc/net"
FAMILIES = {1: "inet", 2: "ip", 10: "ip6"}
NFTA_CHAIN_TYPE, NFTA_COMPAT_NAME = 7, 1
PREROUTING, FORWARD, POSTROUTING = 0, 2, 4
OF_CONNECTIONS = frozenset({"ct", "nat", "masq", "redir", "flow_offload", "connlimit"})
XT_OF_CONNECTIONS = frozenset({"conntrack", "state", "connmark", "connbytes", "connlimit", "helper", "ctstate"})
"""Expressions of nftables, and matches of iptables that nftables carries (nft_compat), that read a connection."""

_NFGENMSG = struct.Struct("=BBH")


def following(query: Query) -> Following:
    """What makes the kernel follow connections. Chains of other programs are named as `ip filter FORWARD`.

    OTHERS are chains of type nat that have rules, and chains with a rule that reads a connection, if forwarded packets
    pass them. A chain without a hook counts: another chain may jump to it. Of iptables-legacy, only whole tables can be
    seen here. Raises Failure if the kernel refuses to tell.
    """
    found = [*_nftables(query), *_legacy()]
    return Following(tuple(sorted({chain for chain, forwards in found if forwards})), bool(found))


def _nftables(query: Query) -> Iterator[tuple[str, bool]]:
    """Each chain that reads connections, ours too, and whether it is another program's that forwarded packets pass."""
    for family, name in FAMILIES.items():
        head = _NFGENMSG.pack(family, 0, 0)
        aside, translating = set(), set()  # chains that no forwarded packet passes, and chains of type nat
        for payload in query.dump(GET_CHAIN, head):
            found = attributes(payload, _NFGENMSG.size)
            where = text(found[NFTA_TABLE]), text(found[NFTA_CHAIN_NAME])
            if NFTA_CHAIN_HOOK not in found:
                continue
            hook = int.from_bytes(attributes(found[NFTA_CHAIN_HOOK])[NFTA_HOOK_NUMBER], "big")
            if hook not in (PREROUTING, FORWARD, POSTROUTING):
                aside.add(where)
            elif text(found.get(NFTA_CHAIN_TYPE, b"")) == "nat":
                translating.add(where)
        for payload in query.dump(GET_RULE, head):
            found = attributes(payload, _NFGENMSG.size)
            where = text(found[NFTA_TABLE]), text(found[NFTA_RULE_CHAIN])
            reads = where in translating or _reads(found.get(NFTA_RULE_EXPRESSIONS, b""))
            if reads:
                yield f"{name} {' '.join(where)}", where[0] != TABLE and where not in aside


def _reads(expressions: bytes) -> bool:
    for _, expression in nested(expressions):
        found = attributes(expression)
        kind = text(found.get(NFTA_EXPRESSION_NAME, b""))
        if kind in OF_CONNECTIONS:
            return True
        if kind == "match":
            carried = attributes(found.get(NFTA_EXPRESSION_DATA, b""))
            if text(carried.get(NFTA_COMPAT_NAME, b"")) in XT_OF_CONNECTIONS:
                return True
    return False


def _legacy() -> Iterator[tuple[str, bool]]:
    """Tables of iptables-legacy: nat, and filter if its rules can read connections."""
    for version in ("ip", "ip6"):
        tables = _lines(f"{version}_tables_names")
        if "nat" in tables:
            yield f"{version}tables-legacy nat", True
        if "filter" in tables and XT_OF_CONNECTIONS & _lines(f"{version}_tables_matches"):
            yield f"{version}tables-legacy filter", True


def _lines(name: str) -> frozenset[str]:
    """The lines of a file that the kernel has only with iptables-legacy."""
    try:
        return frozenset(Path(PROC, name).read_text(encoding="ascii").split())
    except FileNotFoundError:
        return frozenset()
