# SPDX-License-Identifier: BSD-2-Clause
"""Firewall profiles: files of nft rules for packets towards a guest, one file for each profile.

A profile that cannot be used affects only the NICs that want it. So it is kept, with the reason.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from ganeti_vif.config.model import Profile
from ganeti_vif.config.source import ProfileText
from ganeti_vif.engine.failure import Failure

LONGEST = 500
MOST = 200

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_COMMAND = re.compile(r"(add|insert|replace|delete|destroy|create|flush|table|chain|include|define|type|policy)\b")
_STATE = re.compile(r"\bct\b")


def profiles_of(texts: Iterable[ProfileText]) -> tuple[Profile, ...]:
    """The profiles in TEXTS. One that cannot be used has TROUBLE."""
    return tuple(_profile(one) for one in texts)


def _profile(one: ProfileText) -> Profile:
    name = os.path.basename(one.path).removesuffix(".nft")
    if one.text is None:
        return Profile(name=name, trouble=Failure(f"{one.path} cannot be read: {one.reason}", f"see: ls -l {one.path}"))
    try:
        return parse(name, one.path, one.text.splitlines())
    except Failure as failure:
        return Profile(name=name, trouble=failure)


def parse(name: str, path: str, lines: list[str]) -> Profile:
    """The profile NAME in the LINES of the file PATH. Raises Failure, with file and line, if it cannot be used."""
    if not _NAME.fullmatch(name):
        raise Failure(f"{path}: '{name}' cannot be the name of a profile", "note: name it with a-z, 0-9, _ and -")
    rules = []
    for number, line in enumerate(lines, 1):
        rule = " ".join(line.partition("#")[0].split())
        if not rule:
            continue
        if reason := _wrong(rule):
            raise Failure(
                f"{path}:{number}: {reason}: {rule[:60]}", "note: a line is one rule, as in: tcp dport 22 accept"
            )
        rules.append((f"{os.path.basename(path)}:{number}", rule))
    if len(rules) > MOST:
        raise Failure(
            f"{path}: more than {MOST} rules", "note: packets pass them one after the other: use sets, { 22, 80 }"
        )
    stateful = next((where for where, rule in rules if _STATE.search(rule)), None)
    return Profile(name=name, rules=tuple(rules), stateful=stateful)


def _wrong(rule: str) -> str | None:
    """Why RULE is not allowed in a profile, or None. nftables checks everything else."""
    if len(rule) > LONGEST:
        return f"longer than {LONGEST} characters"
    if not rule.isprintable():
        return "a control character"
    if _COMMAND.match(rule):
        return "not a rule but a command"
    if rule.count("{") != rule.count("}"):
        return "an open brace"
    if re.search(r'[;\\"@]|\b(comment|jump|goto|queue)\b', rule):
        return 'none of ; \\ " @ comment jump goto queue belongs into a profile'
    return None
