# SPDX-License-Identifier: BSD-2-Clause
"""Changing filter chains. This is the only module that imports libnftables.

Every rule gets a comment. kernel/nftables/filters.py recognises the rule by that comment.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import nftables

from ganeti_vif.engine.chains import SCRATCH, Chain, FilterRule, MapElement, VerdictMap, table_of
from ganeti_vif.engine.difference import Alter, Change, Make, Remove, subject
from ganeti_vif.engine.failure import Failure, Gone
from ganeti_vif.engine.marks import TABLE
from ganeti_vif.engine.naming import name
from ganeti_vif.kernel.nftables import filters
from ganeti_vif.kernel.nftables.compiled_rules import Shape, Translation, example, own_values, shape, translation
from ganeti_vif.kernel.nftables.filter_batch import FilterBatch, Message, definition, deletion, deletion_of_table
from ganeti_vif.kernel.nftables.nfqueue import is_queue, matches, target

NEWLINE = "\n"


class Nftables:
    """A libnftables context and a socket. One instance is enough for a whole run, and for the daemon's whole life."""

    def __init__(self) -> None:
        self._nft = nftables.Nftables()
        self._batch = FilterBatch()
        self._query = filters.netfilter()
        self._met: set[Shape] = set()
        self._known: dict[Shape, Translation | None] = {}

    def close(self) -> None:
        self._batch.close()
        self._query.close()

    def perform(self, change: Change) -> None:
        """Make CHANGE in one transaction: each packet passes either the old chain or the new one.

        Raises Gone if the chain or its device does not exist, and Failure if nftables refuses.
        """
        match change:
            case Make(Chain() as chain):
                self._define(change, chain, None)
            case Alter(Chain() as actual, Chain() as chain):
                self._define(change, chain, actual)
            case Remove(Chain() as chain):
                self._run(change, deletion(chain))
                self._forget_table(chain.family, chain.table)
            case Make(VerdictMap() as one):
                where = f"{one.family} {TABLE}"
                self._say(change, f"add table {where}\nadd map {where} {one.name} {{ {one.of} : verdict; }}\n")
            case Remove(VerdictMap() as one):
                self._say(change, f"delete map {one.family} {TABLE} {one.name}\n")
                self._forget_table(one.family, TABLE)
            case Make(MapElement() as element):
                self._say(change, f"add element {_element(element)}\n")
            case Alter(MapElement() as former, MapElement() as element):
                self._say(change, f"delete element {_element(former)}\nadd element {_element(element)}\n")
            case Remove(MapElement() as element):
                self._say(change, f"delete element {_element(element)}\n")
            case _:
                raise NotImplementedError(change)

    def _define(self, change: Change, chain: Chain, actual: Chain | None) -> None:
        queued = any(map(is_queue, chain.rules))
        former = actual if actual and _moved(actual, chain) else None
        translated = None if queued else self._translated(chain)
        if translated is None:
            script = (_deletion(former) if former else "") + _definition(chain)
            code, _, error = self._nft.cmd(script)
            if not code:
                return
            translated = self._with_targets(chain) if queued else None
            if translated is None:
                raise self._refused_rule(change, chain, error)
        hooked = actual is not None and former is None and actual.policy == chain.policy
        self._run(change, [*(deletion(former) if former else ()), *definition(chain, translated, hooked=hooked)])

    def verify(self, chain: Chain) -> None:
        """Raises Failure if nftables would refuse CHAIN. Changes nothing."""
        code, _, error = self._tried(chain)
        if code:
            raise self._refused_rule(Make(chain), chain, error)

    def listed(self, family: str, table: str) -> dict[str, Any]:
        """What `nft -j list table` prints of a table, whoever made it. Raises Gone if there is none, and Failure if it
        cannot be read."""
        self._nft.set_json_output(True)
        try:
            code, output, error = self._nft.cmd(f"list table {family} {table}")
        finally:
            self._nft.set_json_output(False)
        if code:
            reason = " ".join(error.split())
            kind = Gone if "No such file or directory" in error else Failure
            raise kind(f"the table {family} {table} cannot be read: {reason}", f"see: nft list table {family} {table}")
        found: dict[str, Any] = json.loads(output)
        return found

    def _tried(self, chain: Chain) -> tuple[int, str, str]:
        self._nft.set_dry_run(True)
        try:
            result: tuple[int, str, str] = self._nft.cmd(_definition(chain))
        finally:
            self._nft.set_dry_run(False)
        return result

    def _refused_rule(self, change: Change, chain: Chain, error: str) -> Failure:
        """The Failure for a CHAIN that nftables refuses. It names the refused rule, which is found by trying each rule:
        libnftables 1.0.6 gives no line number for a text without a file name."""
        for rule in chain.rules:
            code, _, reason = self._tried(replace(chain, rules=(rule,)))
            if code:
                return _refused(change, f"{rule.reason}: {reason.partition(NEWLINE)[0]}")
        return _refused(change, error)

    def _say(self, change: Change, script: str) -> None:
        code, _, error = self._nft.cmd(script)
        if code:
            raise _refused(change, error)

    def _run(self, change: Change, messages: Iterable[Message]) -> None:
        try:
            self._batch.run(tuple(messages))
        except OSError as error:
            raise _refused(change, os.strerror(error.errno or 0)) from error

    def forget_tables(self) -> None:
        """Remove our empty tables. The next chain makes its table again, in one transaction."""
        for family, table in list(filters.empty_tables(self._query)):
            with suppress(OSError):  # the table is in use again
                self._batch.run([deletion_of_table(family, table)])

    def _forget_table(self, family: str, table: str) -> None:
        """Remove TABLE if it is empty: the next chain makes it again. The question is cheap; a refused removal takes
        15 ms."""
        with suppress(OSError):
            if filters.is_empty(self._query, family, table):
                self._batch.run([deletion_of_table(family, table)])

    def _translated(self, chain: Chain) -> list[bytes] | None:
        """The compiled rules of CHAIN, or None if libnftables has to compile them: if a shape occurs for the first time
        (a run that attaches one NIC would gain nothing), or if a value was not found in the translation.

        A translation cannot bring a set along, so a chain with a set in braces always needs libnftables."""
        if not chain.hook or any("{" in rule.text for rule in chain.rules):
            return None
        shapes = [shape(chain.family, rule) for rule in chain.rules]
        if not self._met.issuperset(shapes):
            self._met.update(shapes)
            return None
        unknown = {one: rule for one, rule in zip(shapes, chain.rules, strict=True) if one not in self._known}
        if unknown:
            self._known.update(self._translate(chain.family, unknown))
        rules = []
        for one, rule in zip(shapes, chain.rules, strict=True):
            known = self._known[one]
            if known is None:
                return None
            rules.append(known.rule(own_values(rule)))
        return rules

    def _with_targets(self, chain: Chain) -> list[bytes] | None:
        """The compiled rules of CHAIN, with xtables' NFQUEUE target; None if one cannot be compiled so."""
        bare = {shape(chain.family, matches(rule)): matches(rule) for rule in chain.rules}
        found = self._translate(chain.family, bare)
        rules = []
        for rule, known in zip(chain.rules, found.values(), strict=True):
            if known is None or not is_queue(rule):
                return None
            rules.append(known.expressions + target(rule))
        return rules

    def _translate(self, family: str, unknown: Mapping[Shape, FilterRule]) -> dict[Shape, Translation | None]:
        """Let libnftables put an example of each shape into a chain that no packet passes, and read that chain."""
        scratch = f"{SCRATCH}{os.getpid()}"
        table = table_of(family, scratch)
        where = f"{family} {table} {scratch}"
        lines = [f"add table {family} {table}", f"add chain {where}", f"flush chain {where}"]
        lines += [f"add rule {where} {example(one, rule)}" for one, rule in unknown.items()]
        code, _, _ = self._nft.cmd("\n".join(lines) + "\n")
        if code:
            return dict.fromkeys(unknown)
        found = filters.expressions(self._query, family, scratch)
        self._nft.cmd(f"flush chain {where}\ndelete chain {where}\n")
        self._forget_table(family, table)
        if len(found) != len(unknown):
            return dict.fromkeys(unknown)
        return {one: translation(one, rule) for one, rule in zip(unknown, found, strict=True)}


def _moved(actual: Chain, wanted: Chain) -> bool:
    """Whether hook, device or priority differ: nft cannot change these of an existing chain."""
    return (actual.hook, actual.device, actual.priority) != (wanted.hook, wanted.device, wanted.priority)


def _definition(chain: Chain) -> str:
    """The transaction that makes CHAIN as desired, whether it exists or not.

    It flushes and refills the chain at once. Of 166 082 forged frames sent during 200 such replacements, none passed.
    When a chain was deleted and made again in two transactions, most forged frames passed.
    """
    where = f"{chain.family} {chain.table} {chain.name}"
    device = f' device "{chain.device}"' if chain.device else ""
    hook = f" {{ type filter hook {chain.hook}{device} priority {chain.priority}; policy {chain.policy}; }}"
    lines = [
        f"add table {chain.family} {chain.table}",
        f"add chain {where}{hook if chain.hook else ''}",
        f"flush chain {where}",
    ]
    lines += [f'add rule {where} {rule.text} comment "{rule.comment}"' for rule in chain.rules]
    return "\n".join(lines) + "\n"


def _deletion(chain: Chain) -> str:
    where = f"{chain.family} {chain.table} {chain.name}"
    return f"flush chain {where}\ndelete chain {where}\n"


def _element(element: MapElement) -> str:
    return f'{element.family} {TABLE} {element.map} {{ "{element.device}" : jump {element.chain} }}'


def _refused(change: Change, error: str) -> Failure:
    what = name(subject(change))
    reason = " ".join(error.split())
    if "No such file or directory" in error:
        return Gone(f"{what}: it or its device is not there (any more): {reason}", "see: ip link show")
    if "Operation not permitted" in error:
        return Failure(f"{what}: no permission to change nftables", "note: run it as root, with CAP_NET_ADMIN")
    return Failure(f"{what}: nftables refuses: {reason}", "see: nft list ruleset")
