"""Filter chains, through libnftables: the only module that talks to nftables.

Every rule carries a comment: its reason, and a digest of its text. nft does not print a rule the way it was written,
and prints it differently from version to version; the digest says whether a rule is the one that we made, without
comparing texts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Any

import nftables

from engine.difference import Alter, Change, Make, Remove, subject
from engine.failure import Failure, Gone
from engine.objects import TABLE, Chain, FilterRule, Key
from engine.words import name

FAMILIES = ("netdev", "inet")
UNKNOWN = "(not as we made it)"


class Nftables:
    """A libnftables context. One instance serves a whole run; making it costs 2 MB and a few milliseconds."""

    def __init__(self) -> None:
        self._nft = nftables.Nftables()
        self._nft.set_json_output(True)
        self._nft.set_stateless_output(True)

    def read(self, wanted: Iterable[Chain]) -> Iterator[Chain]:
        """The chains with the names of WANTED that exist. A rule that is not as wanted has the text UNKNOWN."""
        for chain in wanted:
            listing = self._list(f"list chain {chain.family} {TABLE} {chain.name}")
            yield from _chains(listing, {chain.key: chain})

    def read_all(self, wanted: Iterable[Chain]) -> Iterator[Chain]:
        """Every chain in our tables; WANTED tells the texts of the rules that are expected."""
        known = {chain.key: chain for chain in wanted}
        for family in FAMILIES:
            yield from _chains(self._list(f"list table {family} {TABLE}"), known)

    def perform(self, change: Change) -> None:
        """Make CHANGE in one transaction: another packet sees either the old chain or the new one."""
        match change:
            case Make(Chain() as chain):
                self._run(change, _definition(chain))
            case Alter(Chain() as actual, Chain() as chain):
                self._run(change, (_deletion(actual) if _moved(actual, chain) else "") + _definition(chain))
            case Remove(Chain() as chain):
                self._run(change, _deletion(chain))
            case _:
                raise NotImplementedError(change)

    def _run(self, change: Change, script: str) -> None:
        code, _, error = self._nft.cmd(script)
        if code:
            raise _refused(change, error)

    def _list(self, command: str) -> list[dict[str, Any]]:
        code, output, _ = self._nft.cmd(command)
        # The one thing that goes wrong with a listing is that the table or chain does not exist.
        return [] if code or not output else json.loads(output)["nftables"]


def _moved(actual: Chain, wanted: Chain) -> bool:
    """Whether the two are hooked differently: nft changes neither hook, device nor priority of a chain."""
    return (actual.hook, actual.device, actual.priority) != (wanted.hook, wanted.device, wanted.priority)


def _definition(chain: Chain) -> str:
    """The transaction that makes CHAIN what it should be, whether it exists or not."""
    where = f"{chain.family} {TABLE} {chain.name}"
    device = f' device "{chain.device}"' if chain.device else ""
    lines = [
        f"add table {chain.family} {TABLE}",
        f"add chain {where} {{ type filter hook {chain.hook}{device} priority {chain.priority}; "
        f"policy {chain.policy}; }}",
        f"flush chain {where}",
    ]
    lines += [f'add rule {where} {rule.text} comment "{rule.reason} {_digest(rule.text)}"' for rule in chain.rules]
    return "\n".join(lines) + "\n"


def _deletion(chain: Chain) -> str:
    where = f"{chain.family} {TABLE} {chain.name}"
    return f"flush chain {where}\ndelete chain {where}\n"


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=4).hexdigest()


def _chains(listing: list[dict[str, Any]], wanted: Mapping[Key, Chain]) -> Iterator[Chain]:
    rules: dict[Key, list[FilterRule]] = {}
    texts = {key: {_digest(rule.text): rule.text for rule in chain.rules} for key, chain in wanted.items()}
    for entry in listing:
        if rule := entry.get("rule"):
            key = ("chain", rule["family"], rule["chain"])
            reason, _, digest = rule.get("comment", "").rpartition(" ")
            rules.setdefault(key, []).append(FilterRule(texts.get(key, {}).get(digest, UNKNOWN), reason))
    for entry in listing:
        if (chain := entry.get("chain")) and "hook" in chain:
            key = ("chain", chain["family"], chain["name"])
            yield Chain(
                family=chain["family"],
                name=chain["name"],
                hook=chain["hook"],
                device=_device(chain, wanted.get(key)),
                priority=chain["prio"],
                policy=chain["policy"],
                rules=tuple(rules.get(key, ())),
            )


def _device(chain: dict[str, Any], wanted: Chain | None) -> str | None:
    """The device that CHAIN hangs on. nft 1.0.6 does not tell in JSON; our chains are named after their devices."""
    device = chain.get("dev") or (wanted.device if wanted else None)
    name = device[0] if isinstance(device, list) else device
    return str(name) if name is not None else None


def _refused(change: Change, error: str) -> Failure:
    what = name(subject(change))
    reason = " ".join(error.split())
    if "No such file or directory" in error:
        return Gone(f"{what}: it or its device is not there (any more): {reason}", "ip link show")
    if "Operation not permitted" in error:
        return Failure(f"{what}: no permission to change nftables", "run it as root")
    return Failure(f"{what}: nftables refuses: {reason}", "nft list ruleset shows what is there")
