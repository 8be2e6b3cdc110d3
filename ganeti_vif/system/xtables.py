# SPDX-License-Identifier: BSD-2-Clause
"""Reading the rules of iptables, ip6tables, arptables and ebtables, both legacy and nft. They are never written."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping

Rule = tuple[str, str, str]
"""Program, table, and `-A FORWARD -i tap0 -j DROP`; or `-N CHAIN` for a chain that is not built in."""

SAVING = ("iptables-legacy", "iptables-nft", "ip6tables-legacy", "ip6tables-nft", "arptables-nft", "ebtables-nft")
"""The programs whose PROGRAM-save shows their own rules. Debian's arptables-legacy-save and ebtables-legacy-save do
not: they call `arptables` and `ebtables`, which are the nft versions."""
LEGACY: Mapping[str, str] = {
    "iptables-legacy": "/proc/self/net/ip_tables_names",
    "ip6tables-legacy": "/proc/self/net/ip6_tables_names",
}
"""The programs with rules of their own in the kernel, and their tables that exist in this network namespace."""
ARP_NAMES = "/proc/self/net/arp_tables_names"
"""The tables of arptables-legacy that exist in this network namespace. To list another table would make it."""
EBTABLES = ("filter", "nat", "broute")


def rules() -> Iterator[Rule]:
    """All rules and chains. A program that is not installed or does not answer counts as one without rules."""
    for program in SAVING:
        yield from _saved(program, _said(f"{program}-save"))
    if _has_content(ARP_NAMES):
        yield from _arptables_legacy(_said("arptables-legacy", "-t", "filter", "-L", "-n"))
    for table in EBTABLES:
        if os.path.isdir(f"/sys/module/ebtable_{table}"):
            yield from _ebtables_legacy(table, _said("ebtables-legacy", "-t", table, "-L", "--Lx"))


def has_legacy() -> bool:
    """Whether a table of iptables-legacy or ip6tables-legacy exists."""
    return any(map(_has_content, LEGACY.values()))


def legacy(program: str) -> list[str]:
    """What PROGRAM-save prints, one of LEGACY. Empty if it has no table: to list one would make it."""
    return saved(program) if _has_content(LEGACY[program]) else []


def saved(program: str) -> list[str]:
    """The lines that PROGRAM-save prints, chains and policies included. A program that is not installed prints none."""
    return _said(f"{program}-save")


def _said(*command: str) -> list[str]:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=30
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in done.stdout.splitlines()]


def _has_content(path: str) -> bool:
    try:
        with open(path, encoding="ascii") as file:
            return bool(file.read().strip())
    except OSError:
        return False


def _saved(program: str, lines: list[str]) -> Iterator[Rule]:
    table = ""
    for line in lines:
        if line.startswith("*"):
            table = line[1:].strip()
        elif line.startswith(":"):
            yield program, table, f"-N {line[1:].split()[0]}"
        elif line.startswith("-A "):
            yield program, table, line


def _arptables_legacy(lines: list[str]) -> Iterator[Rule]:
    """Lines are `Chain NAME (...)`, and the rules of the chain below it."""
    chain = ""
    for line in lines:
        if line.startswith("Chain "):
            chain = line.split()[1]
            yield "arptables-legacy", "filter", f"-N {chain}"
        elif line:
            yield "arptables-legacy", "filter", f"-A {chain} {line}"


def _ebtables_legacy(table: str, lines: list[str]) -> Iterator[Rule]:
    """Lines are `ebtables -t TABLE -A CHAIN ...` and `-N CHAIN ...`."""
    for line in lines:
        words = line.split()
        if words[:3] == ["ebtables", "-t", table] and words[3:4] in (["-A"], ["-N"]):
            yield "ebtables-legacy", table, " ".join(words[3:] if words[3] == "-A" else words[3:5])
