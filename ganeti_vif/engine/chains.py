"""What can exist of ours in nftables, as plain data: chains and their rules, verdict maps and their elements."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from zlib import crc32

from ganeti_vif.engine.marks import TABLE, TABLES
from ganeti_vif.engine.objects import Key

BELOW = "-profile"
"""Ends the name of a device's subchain, which is in the table of the chain that jumps to it."""
SCRATCH = "scratch-"
"""Begins the name of a chain that no packet passes, and that is there for a moment only."""


def table_of(family: str, chain: str) -> str:
    """The table of our CHAIN of that name. A device's chains are in the same one of TABLES.

    With each transaction the kernel goes through all rules of the tables that change (nft_table_validate() in
    net/netfilter/nf_tables_api.c), and for each of its rules through the list of all tables (nft_table_lookup()). With
    a thousand NICs one table for all takes 6 ms, and so does one for each.
    """
    if family != "netdev":
        return TABLE
    device, _, _ = chain.removesuffix(BELOW).rpartition("-")
    return f"{TABLE}-{crc32(device.encode()) % TABLES}"


@dataclass(frozen=True, slots=True)
class FilterRule:
    """One rule: what it matches and does, and why. The reason is its comment in the kernel and names its counter.

    OWN are the words of TEXT that tell a NIC's rule from another NIC's: a MAC, an address. They allow to translate
    the others once for all NICs (kernel/nftables/compiled_rules.py) and mean nothing else.
    """

    text: str
    reason: str
    own: tuple[str, ...] = ()

    @property
    def comment(self) -> str:
        """What the kernel keeps with the rule: the reason, and what tells its text from any other.

        nft prints no rule the way it was written, and every version prints it its own way: texts cannot be compared.
        """
        return f"{self.reason} {blake2b(self.text.encode(), digest_size=4).hexdigest()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A base chain of ours in nftables, its rules in nft's own words. DEVICE is None unless the family is netdev."""

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
        """The table that it is in."""
        return table_of(self.family, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subchain(Chain):
    """A chain of ours that hangs nowhere: others jump to it."""

    hook: str = ""
    device: str | None = None
    priority: int = 0
    policy: str = "accept"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictMap:
    """A map of nftables from the names of devices to verdicts: one rule for any number of devices."""

    family: str
    name: str

    @property
    def key(self) -> Key:
        return ("map", self.family, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class MapElement:
    """In a verdict map of ours DEVICE leads to the subchain CHAIN."""

    family: str
    map: str
    device: str
    chain: str

    @property
    def key(self) -> Key:
        return ("element", self.family, self.map, self.device)
