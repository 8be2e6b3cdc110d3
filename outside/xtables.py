"""The rules of iptables, ip6tables, arptables and ebtables, of both their generations: read, never written."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

PROGRAMS = (
    "iptables-legacy",
    "iptables-nft",
    "ip6tables-legacy",
    "ip6tables-nft",
    "arptables-legacy",
    "arptables-nft",
    "ebtables-legacy",
    "ebtables-nft",
)


def rules() -> Iterator[tuple[str, str, str]]:
    """Program, table and rule (`-A FORWARD -i tap0 -j DROP`) of all that there are; of what cannot be asked, none."""
    for program in PROGRAMS:
        try:
            done = subprocess.run(
                [f"{program}-save"], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=30
            )
        except (FileNotFoundError, subprocess.TimeoutExpired):
            continue
        table = ""
        for line in done.stdout.splitlines():
            if line.startswith("*"):
                table = line[1:].strip()
            elif line.startswith("-A "):
                yield program, table, line.strip()
