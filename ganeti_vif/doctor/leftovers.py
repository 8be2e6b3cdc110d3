# SPDX-License-Identifier: BSD-2-Clause
"""Leftovers of snf-network and gnt-networking in the kernel. They stay after their packages are removed, until an
administrator removes them or the node restarts."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ganeti_vif.doctor.facts import Facts, Finding, PolicyRule, XtablesRule
from ganeti_vif.predecessors.interfaces import Stanza

TAP = re.compile(r"tap[0-9]+")
CHAIN = re.compile(r"(?:FROM|TO)-?(tap[0-9]+)", re.IGNORECASE)
"""The chains of snf-network for a tap: FROMTAP0, in older versions FROM-tap0."""


def xtables(facts: Facts) -> Iterator[Finding]:
    """Rules and chains for a tap's name apply to the next tap of that name, too. Rules come before their chains."""
    chains = {(one.program, one.table, one.rule[3:]) for one in facts.xtables if one.rule.startswith("-N ")}
    for rule in facts.xtables:
        words = rule.rule.split()
        if words[0] == "-A" and not (CHAIN.fullmatch(words[1]) and (rule.program, rule.table, words[1]) in chains):
            yield from _rule(rule, words, facts)
    for program, table, chain in sorted(chains):
        if match := CHAIN.fullmatch(chain):
            whom = _whom(match[1].lower(), facts)
            command = f"{program} -t {table}"
            yield Finding(
                what=f"{program} has a chain of others for {whom}: {chain}",
                do=f"{command} -F {chain} && {command} -X {chain}",
            )


def _rule(rule: XtablesRule, words: list[str], facts: Facts) -> Iterator[Finding]:
    delete = f"{rule.program} -t {rule.table} {rule.rule.replace('-A ', '-D ', 1)}"
    taps = [CHAIN.sub(r"\1", word).lower() for word in words if TAP.fullmatch(word) or CHAIN.fullmatch(word)]
    uplinks = {public.uplink for public in facts.config.public}
    if taps:
        what = f"{rule.program} has a rule of others for {_whom(taps[0], facts)}: {rule.rule}"
        # An ACCEPT for a VM that runs may be what an administrator wrote to let it pass, among Docker's rules for one.
        # To remove it may cut the VM off. When the tap is gone, it lets its next owner pass.
        yield Finding(what=what, do=delete, grave=words[-1] != "ACCEPT" or taps[0] not in facts.devices)
    elif rule.program.startswith("arptables") and "mangle" in words and (uplink := uplinks & {*words}):
        what = (
            f"{rule.program} has a rule of others that changes ARP requests on {min(uplink)}, as ours does: {rule.rule}"
        )
        yield Finding(what=what, do=delete)


def _whom(tap: str, facts: Facts) -> str:
    alive = "of the VM that has it now" if tap in facts.devices else "that is gone: its next owner meets it"
    return f"{tap}, {alive}"


def rules(facts: Facts) -> Iterator[Finding]:
    """Policy rules for a tap's name, which also stay when the tap is gone."""
    for rule in facts.rules:
        if not TAP.fullmatch(rule.device):
            continue
        mine = any(nic.tap == rule.device for nic in facts.nics)
        if rule.device in facts.devices and not mine:
            continue  # a guest that we do not manage needs it
        yield Finding(
            what=f"a policy rule of others is for {rule.device}, "
            + ("and sends its packets past ours" if mine else "which is gone: its name's next owner meets it"),
            do=_delete(rule),
        )


def uplink_rules(facts: Facts) -> Iterator[Finding]:
    """snf-network's rule for its uplink (`ip rule iif UPLINK`), which does nothing any more."""
    uplinks = {public.uplink for public in facts.config.public}
    for rule in facts.rules:
        if rule.device in uplinks:
            yield Finding(
                what=f"a policy rule of others is for the uplink {rule.device}: our mark does the same",
                do=_delete(rule),
                grave=False,
            )
    for stanza in facts.stanzas:
        if stanza.device in uplinks:
            yield from _makes_rules(stanza)


def _makes_rules(stanza: Stanza) -> Iterator[Finding]:
    for option in stanza.options:
        if option.key not in ("up", "post-up", "pre-up") or " rule add " not in f"{option.value} ":
            continue
        path, _, number = option.place.rpartition(":")
        yield Finding(
            what=f"{option.place} makes a policy rule for the uplink {stanza.device}: our mark does the same",
            do=f"sed -i '{number}s/^/#/' {path}",
            grave=False,
        )


def _delete(rule: PolicyRule) -> str:
    return f"{'ip -6' if rule.version == 6 else 'ip'} rule del pref {rule.priority} iif {rule.device}"


def routes(facts: Facts) -> Iterator[Finding]:
    """vmrouter.ifup's routes. With them the node looks for VMs beyond its uplink, even for its own VMs."""
    for public in facts.config.public:
        for route in facts.routes:
            inside = any(
                route.destination.version == subnet.version and subnet.supernet_of(route.destination)  # type: ignore[arg-type]
                for subnet in public.subnets
            )
            if inside and route.device == public.uplink:
                ip = "ip -6" if route.destination.version == 6 else "ip"
                metric = f" metric {route.metric}" if route.metric else ""
                yield Finding(
                    what=f"the main table leads to VMs of [public {public.name}] by a route of others: "
                    f"{route.destination} dev {route.device}",
                    do=f"{ip} route del {route.destination} dev {route.device} table main{metric}",
                )
