# SPDX-License-Identifier: BSD-2-Clause
"""Reading verdict maps: the chain for each device. Message layouts: linux/netfilter/nf_tables.h."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress

from ganeti_vif.engine.chains import MapElement, VerdictMap
from ganeti_vif.engine.failure import Gone
from ganeti_vif.engine.marks import TABLE
from ganeti_vif.kernel.netlink.query import Query, attribute, attributes, nested, text
from ganeti_vif.kernel.nftables.filters import FAMILIES, NFNL_SUBSYS_NFTABLES

GET_SET, GET_ELEMENT = NFNL_SUBSYS_NFTABLES | 10, NFNL_SUBSYS_NFTABLES | 13
NFTA_TABLE, NFTA_SET_NAME = 1, 2
NFTA_SET, NFTA_ELEMENTS = 2, 3
NFTA_LIST_ELEMENT, NFTA_KEY, NFTA_DATA = 1, 1, 2
NFTA_VALUE, NFTA_VERDICT, NFTA_VERDICT_CHAIN = 1, 2, 2
NLA_F_NESTED = 0x8000
IFNAMSIZ = 16
_HEADER = 4
_OUR_TABLE = attribute(NFTA_TABLE, TABLE.encode() + b"\0")


def maps(query: Query, wanted: Iterable[VerdictMap]) -> Iterator[VerdictMap]:
    """Those of WANTED that exist."""
    for one in wanted:
        with suppress(Gone):
            query.get(GET_SET, _head(one.family) + _OUR_TABLE + attribute(NFTA_SET_NAME, one.name.encode() + b"\0"))
            yield one


def elements(query: Query, wanted: Iterable[MapElement]) -> Iterator[MapElement]:
    """The existing elements with the keys of WANTED, and their actual chains. It reads one by one: maps are large."""
    for one in wanted:
        value = attribute(NFTA_VALUE, one.device.encode().ljust(IFNAMSIZ, b"\0"))
        listed = _nest(NFTA_ELEMENTS, _nest(NFTA_LIST_ELEMENT, _nest(NFTA_KEY, value)))
        with suppress(Gone):
            yield from _elements(one.family, one.map, query.get(GET_ELEMENT, _named(one.family, one.map) + listed))


def everything(query: Query) -> Iterator[VerdictMap | MapElement]:
    """All maps in our tables, and their elements."""
    for family in FAMILIES:
        with suppress(Gone):  # our table does not exist (any more)
            for payload in query.dump(GET_SET, _head(family) + _OUR_TABLE):
                name = text(attributes(payload, _HEADER)[NFTA_SET_NAME])
                if name.startswith("__"):
                    continue  # an anonymous set, which belongs to a rule
                yield VerdictMap(family=family, name=name)
                for elements_of in query.dump(GET_ELEMENT, _named(family, name)):
                    yield from _elements(family, name, elements_of)


def _elements(family: str, name: str, payload: bytes) -> Iterator[MapElement]:
    for _, element in nested(attributes(payload, _HEADER).get(NFTA_ELEMENTS, b"")):
        found = attributes(element)
        verdict = attributes(attributes(found.get(NFTA_DATA, b"")).get(NFTA_VERDICT, b""))
        device = text(attributes(found[NFTA_KEY])[NFTA_VALUE])
        yield MapElement(family=family, map=name, device=device, chain=text(verdict.get(NFTA_VERDICT_CHAIN, b"")))


def _head(family: str) -> bytes:
    return bytes((FAMILIES[family], 0, 0, 0))


def _named(family: str, name: str) -> bytes:
    return _head(family) + _OUR_TABLE + attribute(NFTA_SET, name.encode() + b"\0")


def _nest(kind: int, value: bytes) -> bytes:
    return attribute(kind | NLA_F_NESTED, value)
