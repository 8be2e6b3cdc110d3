# SPDX-License-Identifier: BSD-2-Clause
"""Our objects in nftables, as plain data: chains with their rules, verdict maps and their elements."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from zlib import crc32

from ganeti_vif.engine.marks import TABLE, TABLES
from ganeti_vif.engine.objects import Key

BELOW = "-profile"
"""The end of the name of a device's subchain. The subchain is in the same table as the chain that jumps to it."""
SCRATCH = "scratch-"
"""The beginning of the name of a temporary chain. No packet passes it."""


def table_of(family: str, chain: str) -> str:
    """The name of the table in which our CHAIN of that name is. All chains of one device are in one table.

    The chains of devices are spread over TABLES tables, because a transaction takes longer with few tables and with
    many. In each transaction the kernel visits all rules of the tables that change (nft_table_validate() in
    net/netfilter/nf_tables_api.c). For each of its rules it searches the list of all tables (nft_table_lookup()).
    With a thousand NICs a transaction takes 6 ms if there is one table, and 6 ms if there are a thousand.
    """
    if family != "netdev":
        return TABLE
    device, _, _ = chain.removesuffix(BELOW).rpartition("-")
    return f"{TABLE}-{crc32(device.encode()) % TABLES}"


@dataclass(frozen=True, slots=True)
class FilterRule:
    """One rule. TEXT is in nft's words. REASON says why it exists and names its counter.

    OWN are the words of TEXT that differ from NIC to NIC, for instance a MAC or an address. The rest of TEXT is
    translated once for all NICs (kernel/nftables/compiled_rules.py). OWN has no other use.
    """

    text: str
    reason: str
    own: tuple[str, ...] = ()

    @property
    def comment(self) -> str:
        """The comment that the kernel keeps with the rule: the reason and a hash of the text.

        The hash replaces a comparison of texts. Each version of nft prints a rule in its own way, and none prints it as
        it was written.
        """
        return f"{self.reason} {blake2b(self.text.encode(), digest_size=4).hexdigest()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A base chain of ours. DEVICE is None unless the family is netdev."""

    family: str
    name: str
    hook: str
    device: str | None
    priority: int
    policy: str
    rules: tuple[FilterRule, ...]

    @property
    def key(self) -> Key:
        return ("chain", self.family, self.name)

    @property
    def table(self) -> str:
        """The name of its table."""
        return table_of(self.family, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subchain(Chain):
    """A chain of ours without a hook. Other chains jump to it."""

    hook: str = ""
    device: str | None = None
    priority: int = 0
    policy: str = "accept"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictMap:
    """A map from names of devices to verdicts. With it one rule serves any number of devices.

    OF is the type of the key in nft's words. The kernel does not keep them.
    """

    family: str
    name: str
    of: str = field(default="type ifname", compare=False)

    @property
    def key(self) -> Key:
        return ("map", self.family, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class MapElement:
    """An element of our verdict map MAP: packets of DEVICE go to the subchain CHAIN."""

    family: str
    map: str
    device: str
    chain: str

    @property
    def key(self) -> Key:
        return ("element", self.family, self.map, self.device)
