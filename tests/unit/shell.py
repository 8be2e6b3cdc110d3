# SPDX-License-Identifier: BSD-2-Clause
"""Whether what a message says to do is what it looks like: a command, or words that say that they are words."""

from __future__ import annotations

import re
import shlex
import subprocess

PROGRAMS = {
    "apt",
    "bridge",
    "cat",
    "chmod",
    "df",
    "echo",
    "ganeti-vif",
    "gnt-cluster",
    "gnt-group",
    "gnt-instance",
    "gnt-job",
    "grep",
    "install",
    "ip",
    "tc",
    "journalctl",
    "ln",
    "ls",
    "mkdir",
    "modprobe",
    "mount",
    "namei",
    "networkctl",
    "nft",
    "openssl",
    "ovs-vsctl",
    "printf",
    "ps",
    "rm",
    "sed",
    "service",
    "ss",
    "sudo",
    "sysctl",
    "systemctl",
    "systemd-machine-id-setup",
    "update-rc.d",
    "xargs",
    "arptables-legacy",
    "arptables-nft",
    "ebtables-legacy",
    "ebtables-nft",
    "ip6tables-legacy",
    "ip6tables-nft",
    "iptables-legacy",
    "iptables-nft",
}
"""What fixes are made of."""


def shell_takes(do: str, *also: str) -> bool:
    """Whether DO is a note, or a line of commands that are known (or ALSO), joined by `&&` or `|`."""
    if do.startswith("note: "):
        return True
    line = do.removeprefix("see: ")
    if subprocess.run(["bash", "-n", "-c", line], capture_output=True, check=False).returncode:
        return False
    words = list(shlex.shlex(line, posix=True, punctuation_chars="&|;<>"))
    heads = [words[0], *(after for word, after in zip(words, words[1:], strict=False) if re.fullmatch(r"&&|\|", word))]
    return ";" not in words and {*PROGRAMS, *also}.issuperset(heads)
