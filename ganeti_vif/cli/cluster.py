# SPDX-License-Identifier: BSD-2-Clause
"""`ganeti-vif cluster`: all nodes at a glance, from the master."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence

from ganeti_vif.cli import rights, status
from ganeti_vif.cli.progress import Bar
from ganeti_vif.cluster.glance import Seen, command, differences, seen
from ganeti_vif.engine.failure import remedy
from ganeti_vif.system import other_nodes

VERBS: Mapping[str, str] = {
    "status": "a line for each node: its version, its NICs, its state, and in what the configurations differ",
    "check": "list each difference between what should be and what is, on every node; status 1 if there is one",
    "reconcile": "make every node what it should be",
}
"""The verbs of `ganeti-vif cluster`, with their help."""


def add(parser: argparse.ArgumentParser) -> None:
    """Give PARSER its verbs."""
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB", dest="cluster_verb")
    for name, text in VERBS.items():
        one = verbs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        one.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON object")
        if name == "reconcile":
            one.add_argument("--dry-run", action="store_true", help="print what it would do, and do nothing")


def run(given: argparse.Namespace, _: Mapping[str, str]) -> int:
    """Ask all nodes. Returns the exit status. Raises Failure if this node is not the master."""
    verb = given.cluster_verb
    rights.require(["cluster", verb], changes=True, locks=False)  # only root has the key of Ganeti's ssh
    nodes = _asked(f"{verb} --dry-run" if given.dry_run else verb)
    unlike = list(differences(nodes))
    if given.json:
        rows = [
            {"node": n.node, "group": n.group, "trouble": n.trouble, "version": n.version, verb: n.shown} for n in nodes
        ]
        print(json.dumps({"nodes": rows, "differences": unlike}, indent=2))
    else:
        lines = _table(nodes) if verb == "status" else _found(nodes)
        print("\n".join([*lines, *unlike]) or "all nodes are as they should be")
    return 1 if any(map(_wrong, nodes)) or unlike else 0


def _asked(verb: str) -> list[Seen]:
    """The answers of all nodes to VERB, in the order of their names. A node that is offline for Ganeti is not asked."""
    members = {member.name: member for member in other_nodes.members()}
    known = {
        name: Seen(name, member.group, "offline in Ganeti, and not asked")
        for name, member in members.items()
        if member.offline
    }
    with Bar("nodes") as bar:
        for one in other_nodes.ask([name for name in members if name not in known], command(verb), bar.show):
            known[one.node] = seen(one.node, members[one.node].group, one.status, one.output, one.errors)
    return [known[name] for name in sorted(known)]


def _wrong(node: Seen) -> bool:
    """Whether somebody has to look at NODE. A node that is offline for Ganeti is known to be away."""
    if node.trouble:
        return not node.trouble.startswith("offline")
    return bool(node.shown.get("differences") or node.shown.get("trouble"))


def _table(nodes: Sequence[Seen]) -> Iterator[str]:
    rows = [
        (n.node, n.group, n.version or "-", len(n.shown.get("nics", ())) if not n.trouble else "-", _state(n))
        for n in nodes
    ]
    yield from status.section(("NODE", "GROUP", "VERSION", "NICS", "STATE"), rows)


def _state(node: Seen) -> str:
    if node.trouble:
        return node.trouble
    parts = [(node.shown["differences"], "difference"), (len(node.shown["trouble"]), "trouble")]
    said = [f"{count} {what}{'s' if count > 1 and what == 'difference' else ''}" for count, what in parts if count]
    return ", ".join(said) if said else "ok" if node.shown["daemon"] else "ganeti-vifd does not answer"


def _found(nodes: Sequence[Seen]) -> Iterator[str]:
    """What `check` or `reconcile` said on each node that has something to say."""
    for node in nodes:
        if node.trouble:
            yield f"{node.node}: {node.trouble}"
            continue
        fixes = {one["what"]: one["do"] for one in node.shown.get("trouble", ())}
        if changes := node.shown.get("changes"):
            yield f"{node.node}: {changes} change{'s' if changes > 1 else ''}"
        for line in node.shown.get("differences", fixes):
            yield f"{node.node}: {line}"
            if line in fixes:
                yield f"  on {node.node}: {remedy(fixes[line])}"
