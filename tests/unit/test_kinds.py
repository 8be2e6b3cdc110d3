# SPDX-License-Identifier: BSD-2-Clause
"""Every kind of object has what the engine needs of it. A kind that lacks something is named here.

The list of kinds is the union `Object`. mypy names a missing name, missing commands and a missing case in
Node.perform(). This module finds what mypy cannot see: the reader, and each change in the performers.
"""

from __future__ import annotations

import os
import socket
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any, get_args

import nftables
import pytest
from kinds import ALTERED, OBJECTS

from ganeti_vif.engine.chains import Chain
from ganeti_vif.engine.commands import commands
from ganeti_vif.engine.difference import Alter, Change, Make, Remove
from ganeti_vif.engine.naming import name
from ganeti_vif.engine.objects import Binding, BridgePort, Link, Module, Origin, Record, Route, Up
from ganeti_vif.engine.state import ORDER, Object
from ganeti_vif.kernel import bpf, modules, sysctl
from ganeti_vif.kernel.netlink import changes as netlink
from ganeti_vif.kernel.nftables import changes as nft
from ganeti_vif.kernel.nftables import filters
from ganeti_vif.system import openvswitch, records
from ganeti_vif.system.node import Node
from nfdhcpd_bridge import files

KINDS: tuple[type[Object], ...] = get_args(Object)
MARKS = {"protocol"}
"""Fields that say whose an object is. Node reads only what is ours, so these never differ."""
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def samples(kind: type[Object]) -> list[Object]:
    """The OBJECTS of exactly this KIND."""
    return [thing for thing in OBJECTS if type(thing) is kind]


def alterations(kind: type[Object]) -> list[Change]:
    return [Alter(actual, wanted) for actual, wanted in ALTERED if type(wanted) is kind]


def changes(kind: type[Object]) -> Iterator[Change]:
    """Every change that an object of this KIND can need."""
    yield from (Make(thing) for thing in samples(kind))
    yield from alterations(kind)
    yield from (Remove(thing) for thing in samples(kind))


def can_differ(thing: Object) -> bool:
    """Whether two objects with the key of THING can be unequal."""
    others = [field.name for field in fields(thing) if field.compare and field.name not in MARKS]
    marker: Any = "another"
    return any(replace(thing, **{field: marker}).key == thing.key for field in others)


@every_kind
def test_there_are_samples(kind: type[Object]) -> None:
    assert samples(kind), f"tests/unit/kinds.py: OBJECTS has no {kind.__name__}"
    if can_differ(samples(kind)[0]):
        assert alterations(kind), f"tests/unit/kinds.py: ALTERED has no {kind.__name__}"


@pytest.mark.parametrize(
    ("earlier", "later"),
    [(Origin, Record), (Record, Module), (Module, Link), (Link, Chain), (Chain, BridgePort), (BridgePort, Up)]
    + [(Up, Route), *((kind, Binding) for kind in KINDS if kind is not Binding)],
)
def test_a_crash_leaves_a_trace_and_nothing_is_connected_before_it_is_filtered(earlier: type, later: type) -> None:
    assert ORDER.index(earlier) < ORDER.index(later)


@every_kind
def test_each_change_has_a_command(kind: type[Object]) -> None:
    for change in changes(kind):
        assert [*commands(change)], change


def test_each_object_has_a_name_of_its_own() -> None:
    names = [name(thing) for thing in OBJECTS]
    assert all(names)
    assert len(names) == len(set(names))


def test_each_kind_has_a_reader() -> None:
    class Wanted(defaultdict[type, list[Any]]):
        """Nothing of any kind; it remembers the kinds that somebody asked for."""

        def __missing__(self, kind: type) -> list[Any]:
            asked.add(kind)
            return []

    asked: set[type] = set()
    with Node() as node:
        assert [*node._read(Wanted(), None)] == []
    assert {kind.__name__ for kind in KINDS} - {kind.__name__ for kind in asked} == set()


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Instead of the world outside: what the performers send, run or write. A performer of a new module needs a line."""
    calls: list[object] = []

    def call(*arguments: object, **_: object) -> str:
        calls.append(arguments)
        return ""

    class Socket:
        """Takes requests, and transactions of nftables."""

        def __init__(self, *_: object) -> None:
            self.send = self.run = call

        def number(self) -> int:
            return 1

        def close(self) -> None:
            pass

    class Libnftables:
        def cmd(self, script: str) -> tuple[int, str, str]:
            call(script)
            return 0, "", ""

    monkeypatch.setattr(netlink, "Requests", Socket)
    monkeypatch.setattr(socket, "if_nametoindex", lambda device: 7)
    monkeypatch.setattr(bpf, "loaded", lambda program: 3)
    monkeypatch.setattr(nft, "FilterBatch", Socket)
    monkeypatch.setattr(nftables, "Nftables", Libnftables)
    monkeypatch.setattr(filters, "netfilter", Socket)
    monkeypatch.setattr(filters, "is_empty", lambda *_: False)
    monkeypatch.setattr(modules, "_load", call)
    monkeypatch.setattr(sysctl, "write", call)
    monkeypatch.setattr(openvswitch, "_run", call)
    monkeypatch.setattr(files, "_write", call)
    monkeypatch.setattr(files, "_unlink", call)
    monkeypatch.setattr(records, "_write", call)
    monkeypatch.setattr(os, "unlink", call)
    return calls


@every_kind
def test_each_change_has_a_performer_that_does_something_if_the_dry_run_says_so(
    kind: type[Object], reached: list[object]
) -> None:
    with Node() as node:
        for change in changes(kind):
            reached.clear()
            node.perform(change)
            printed = [line for line in commands(change) if not line.startswith("#")]
            assert bool(reached) == bool(printed), change
