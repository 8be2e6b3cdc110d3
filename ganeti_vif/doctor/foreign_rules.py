# SPDX-License-Identifier: BSD-2-Clause
"""The rules of other programs as tests and verdicts: from nft's JSON, and from the lines of iptables-save. Pure.

What is not understood becomes a test that nobody can answer, or a verdict that nobody knows. Nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ganeti_vif.doctor.forwarding import Condition, ForeignRule, ForwardChain

FORWARD = "FORWARD"
PRIORITIES: Mapping[str, int] = {"raw": -300, "mangle": -150, "filter": 0, "security": 50}
"""The priorities of iptables' tables (linux/netfilter_ipv4.h). nat has no chain FORWARD."""
VERSIONS: Mapping[str, frozenset[int]] = {"ip": frozenset({4}), "ip6": frozenset({6}), "inet": frozenset({4, 6})}
UNKNOWN = Condition()
_SILENT = frozenset(
    {"counter", "log", "mangle", "limit_obj", "notrack", "ct helper", "ct timeout", "flow", "dup", "set"}
)
"""Statements of nft that let a packet go on."""
_CONTINUING = frozenset(
    {"LOG", "NFLOG", "MARK", "CONNMARK", "TCPMSS", "CLASSIFY", "TOS", "DSCP", "TTL", "HL", "TRACE", "AUDIT", "SECMARK"}
)
"""Targets of iptables that let a packet go on."""
_LEFT: Mapping[tuple[str, str], str] = {
    ("meta", "iifname"): "incoming",
    ("meta", "iif"): "incoming",
    ("meta", "oifname"): "outgoing",
    ("meta", "oif"): "outgoing",
    ("meta", "iifgroup"): "incoming_group",
    ("meta", "oifgroup"): "outgoing_group",
    ("meta", "mark"): "mark",
    ("meta", "l4proto"): "protocol",
    ("meta", "nfproto"): "version",
    ("meta", "protocol"): "version",
    ("ct", "state"): "state",
    ("ct", "status"): "status",
    ("ip", "protocol"): "protocol",
    ("ip6", "nexthdr"): "protocol",
    **{(name, side): word for name in ("ip", "ip6") for side, word in (("saddr", "source"), ("daddr", "destination"))},
    **{(name, port): port for name in ("tcp", "udp", "th") for port in ("sport", "dport")},
}
_NAMES: Mapping[str, Mapping[str, str]] = {
    "incoming_group": {"default": "0"},
    "outgoing_group": {"default": "0"},
    "version": {"ipv4": "4", "ipv6": "6", "ip": "4", "ip6": "6"},
    "protocol": {"ipv6-icmp": "icmp6", "icmpv6": "icmp6", "6": "tcp", "17": "udp", "1": "icmp", "58": "icmp6"},
}


def nft_chains(listing: Mapping[str, Any]) -> list[ForwardChain]:
    """The base chains on the hook `forward` of one table, from the JSON that `nft -j list table` prints."""
    things = [next(iter(thing.items())) for thing in listing.get("nftables", ())]
    sets = {one["name"]: one.get("elem", []) for kind, one in things if kind in ("set", "map")}
    rules: dict[str, list[ForeignRule]] = {}
    for kind, one in things:
        if kind == "rule":
            rules.setdefault(one["chain"], []).extend(_nft_rules(one, sets))
    chains = {name: tuple(found) for name, found in rules.items()}
    return [
        ForwardChain(
            family=one["family"],
            table=one["table"],
            name=one["name"],
            priority=one["prio"],
            policy=one.get("policy", "accept"),
            versions=VERSIONS[one["family"]],
            chains=chains,
        )
        for kind, one in things
        if kind == "chain" and one.get("hook") == "forward" and one["family"] in VERSIONS
    ]


def unreadable(family: str, table: str, why: str) -> ForwardChain:
    """A table with a base chain on the hook `forward` of which nothing else is known, and WHY."""
    rules = {"": (ForeignRule((), "?", why),)}
    return ForwardChain(
        family=family, table=table, name="", priority=0, policy="accept", versions=VERSIONS[family], chains=rules
    )


def _nft_rules(rule: Mapping[str, Any], sets: Mapping[str, Any]) -> list[ForeignRule]:
    """One rule; several for a rule with a verdict map."""
    comment = f" ({rule['comment']})" if "comment" in rule else ""
    text = f"its rule with handle {rule['handle']} in {rule['chain']}{comment}"
    tests: list[Condition] = []
    for expression in rule.get("expr", ()):
        kind, value = next(iter(expression.items()))
        if kind == "match":
            tests += _nft_tests(value, sets)
        elif kind in ("accept", "drop", "return"):
            return [ForeignRule(tuple(tests), kind, text)]
        elif kind in ("jump", "goto"):
            return [ForeignRule(tuple(tests), f"{kind} {value['target']}", text)]
        elif kind == "reject":
            return [ForeignRule(tuple(tests), "drop", text)]
        elif kind == "xt" and isinstance(value, Mapping) and value.get("type") == "target":
            return [ForeignRule(tuple(tests), _target(value.get("name", "")), text)]
        elif kind == "vmap":
            return _vmap(value, tests, sets, text)
        elif kind == "queue":
            return [ForeignRule(tuple(tests), "?", text)]
        elif kind not in _SILENT:
            tests.append(UNKNOWN)
    return []


def _vmap(
    value: Mapping[str, Any], tests: Sequence[Condition], sets: Mapping[str, Any], text: str
) -> list[ForeignRule]:
    data = value["data"]
    pairs = sets.get(data[1:]) if isinstance(data, str) else data.get("set")
    if pairs is None:
        return [ForeignRule((*tests, UNKNOWN), "?", text)]
    found = []
    for key, verdict in pairs:
        one = _nft_tests({"op": "==", "left": value["key"], "right": key}, sets)
        word, target = next(iter(verdict.items()))
        known = word in ("accept", "drop", "return", "jump", "goto")
        name = f"{word} {target['target']}" if target else word
        found.append(ForeignRule((*tests, *one), name if known else "?", text))
    return found


def _nft_tests(match: Mapping[str, Any], sets: Mapping[str, Any]) -> list[Condition]:
    left, operator = match["left"], match["op"]
    kind, value = next(iter(left.items())) if isinstance(left, Mapping) else ("", {})
    place = (value.get("protocol", ""), value.get("field", "")) if kind == "payload" else (kind, value.get("key", ""))
    word = _LEFT.get(place)
    values = _values(match["right"], sets, word or "")
    if word is None or values is None or operator not in ("==", "!=", "in"):
        return [UNKNOWN]
    tests = [Condition(word, values, negated=operator == "!=")]
    if kind == "payload" and place[0] in ("ip", "ip6"):
        tests.append(Condition("version", ("4" if place[0] == "ip" else "6",)))
    elif kind == "payload" and place[0] in ("tcp", "udp"):
        tests.append(Condition("protocol", (place[0],)))
    return tests


def _values(right: object, sets: Mapping[str, Any], word: str) -> tuple[str, ...] | None:
    """RIGHT as values of a Condition; None if it is something else."""
    match right:
        case str() if right.startswith("@"):
            return _values(sets.get(right[1:]), sets, word)
        case str() | int():
            return (_NAMES.get(word, {}).get(str(right), str(right)),)
        case list():
            found = [_values(one, sets, word) for one in right]
            return None if None in found else tuple(value for one in found if one for value in one)
        case {"set": list() as elements}:
            return _values(elements, sets, word)
        case {"elem": {"val": value}}:
            return _values(value, sets, word)
        case {"prefix": {"addr": address, "len": length}}:
            return (f"{address}/{length}",)
        case {"range": [low, high]}:
            return (f"{low}-{high}",)
    return None


def iptables_chains(program: str, lines: Iterable[str]) -> list[ForwardChain]:
    """The chains FORWARD from what PROGRAM-save prints: iptables-legacy, ip6tables-nft and their like."""
    family = "ip6" if program.startswith("ip6") else "ip"
    found: list[ForwardChain] = []
    table, policy = "", ""
    rules: dict[str, list[ForeignRule]] = {}
    for line in lines:
        if line.startswith("*"):
            table, policy, rules = line[1:].strip(), "", {}
        elif line.startswith(f":{FORWARD} "):
            policy = line.split()[1].lower()
        elif line.startswith(":"):
            rules[line[1:].split()[0]] = []
        elif line.startswith("-A "):
            rules.setdefault(line.split()[1], []).append(_iptables_rule(line))
        elif line == "COMMIT" and policy and table in PRIORITIES:
            found.append(
                ForwardChain(
                    program=program,
                    family=family,
                    table=table,
                    name=FORWARD,
                    priority=PRIORITIES[table],
                    policy=policy,
                    versions=VERSIONS[family],
                    chains={name: tuple(one) for name, one in rules.items()},
                )
            )
    return found


_OPTIONS: Mapping[str, str] = {
    "-i": "incoming",
    "-o": "outgoing",
    "-s": "source",
    "-d": "destination",
    "-p": "protocol",
    "--dport": "dport",
    "--dports": "dport",
    "--sport": "sport",
    "--sports": "sport",
    "--ctstate": "state",
    "--state": "state",
    "--mark": "mark",
}
_SAYS_NOTHING = frozenset({"tcp", "udp", "multiport", "conntrack", "state", "mark", "comment"})
"""Matches whose options are judged by themselves."""


def _iptables_rule(line: str) -> ForeignRule:
    words = line.split()[2:]
    tests: list[Condition] = []
    verdict = ""
    negated = False
    while words:
        word = words.pop(0)
        value = words[0] if words else ""
        if word == "!":
            negated = True
            continue
        if word in ("-j", "-g"):
            verdict = _target(value, "goto" if word == "-g" else "jump")
            break  # what follows belongs to the target
        if word == "-m":
            words.pop(0)
            if value not in _SAYS_NOTHING:
                tests.append(UNKNOWN)
        elif word == "--comment":
            while words and not words[0].startswith("-"):
                words.pop(0)
        elif word in _OPTIONS:
            words.pop(0)
            tests += _iptables_tests(_OPTIONS[word], value, negated=negated)
        else:
            tests.append(UNKNOWN)
            while words and not words[0].startswith("-") and words[0] != "!":
                words.pop(0)
        negated = False
    return ForeignRule(tuple(tests), verdict, f"its rule: {line}")


def _iptables_tests(word: str, value: str, *, negated: bool) -> list[Condition]:
    values = tuple(one.lower() if word in ("state", "protocol") else one for one in value.split(","))
    if word in ("sport", "dport"):
        values = tuple(one.replace(":", "-") for one in values)
    elif word == "mark":
        number, _, mask = value.partition("/")
        if mask and int(mask, 0) != 0xFFFFFFFF:
            return [UNKNOWN]
        values = (number,)
    elif word == "state" and {"dnat", "snat"} & set(values):
        return [UNKNOWN] if negated or len(values) > 1 else [Condition("status", values)]
    elif word == "protocol":
        values = tuple(_NAMES["protocol"].get(one, one) for one in values)
    return [Condition(word, values, negated=negated)]


def _target(name: str, how: str = "jump") -> str:
    """The verdict of the target NAME of iptables."""
    if name in ("ACCEPT", "DROP", "RETURN"):
        return name.lower()
    if name == "REJECT":
        return "drop"
    if name in _CONTINUING:
        return ""
    known = name in ("QUEUE", "NFQUEUE", "DNAT", "SNAT", "MASQUERADE", "CT", "SYNPROXY", "TPROXY")
    return "?" if known else f"{how} {name}"
