#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Runs in a node: does one verb of ganeti-vif again and again, and lets it die at each single change.

    kill_runner.py VERB HOW AFTERWARDS

VERB is one of kill_scenes.SCENES. HOW it dies: killed `after` the k-th change, killed before the k-th file that it wrote
has its name (`rename`), or not killed, but its k-th change will `fail`, or a signal (`SIGINT`) comes while it makes the
k-th change. AFTERWARDS: the same `again`, or a daemon's `restart`, or the tap goes (`vanish`) and `reconcile` runs;
nothing after a failure. Prints a JSON list: for each death the change at which it came, how what came then ended, and
what `check` finds.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import snapshot
from dying import NOTHING, SIGNALS, forked, manage, well  # first: it finds the product
from kill_scenes import SCENES, Scene

import ganeti_vif.system.node
from ganeti_vif.daemon.loop import Loop
from ganeti_vif.reconcile.in_force import in_force
from ganeti_vif.system import lock
from ganeti_vif.system.claim_socket import ClaimSocket


def shot() -> snapshot.Snapshot:
    done = subprocess.run(["sh", "-c", snapshot.SCRIPT], capture_output=True, text=True, check=True)
    return snapshot.parse(done.stdout)


def successor() -> int:
    """A daemon that starts, until it has looked at the node and done what came of that."""
    with ganeti_vif.system.node.Node() as node, ClaimSocket() as claims:
        loop = Loop(in_force(), node, claims)
        loop.work()
        while loop._child:
            select.select(loop.descriptors, [], [])
            loop.work()
        while loop.patience() == 0:
            loop.work()
    return 0


def deaths(kind: type[Scene], how: str, afterwards: str) -> Iterator[dict[str, Any]]:
    """One report for each place at which the verb can die, until a run ends by itself."""
    clean = shot()
    for last in range(1, NOTHING):
        scene = kind()
        before = shot() if how == "fail" or how in SIGNALS else {}
        run = forked(scene.verb, last, how)
        if not run["at"]:
            well(run)
            scene.leave()
            return
        report: dict[str, Any] = {"at": run["at"], "status": run["status"], "errors": run["err"]}
        if how == "fail":
            report |= {"left": compared(before, shot()), "check": forked(manage("check"))["out"].splitlines()}
        elif how in SIGNALS:
            report |= {"left": compared(before, shot()), "open": open_taps(), "held": held()}
            then = forked(scene.verb)
            report |= {"then": [then["status"], then["err"]], "check": forked(manage("check"))["out"].splitlines()}
        elif afterwards in ("again", "restart"):
            then = forked(scene.verb if afterwards == "again" else successor)
            report |= {"then": [then["status"], then["err"]], "check": forked(manage("check"))["out"].splitlines()}
        else:
            scene.vanish()
            then = forked(manage("reconcile"))
            report |= {"then": [then["status"], then["err"]], "check": forked(manage("check"))["out"].splitlines()}
            report["left"] = compared(clean, shot())
        scene.leave()
        yield report
        if report.get("left"):
            clean = shot()  # so that each leftover is told once


def open_taps() -> list[str]:
    """The taps that are up and have no filter."""
    links = subprocess.run(["ip", "-o", "link", "show", "up"], capture_output=True, text=True, check=True).stdout
    names = [line.split(": ")[1].partition("@")[0] for line in links.splitlines()]
    filters = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
    return [name for name in names if name.startswith("tap") and f"chain {name}-in " not in filters]


def held() -> list[str]:
    """The locks that somebody still has."""
    found = []
    for name in ("node", "nics"):
        try:
            with lock.held(name, wait=0.0):
                pass
        except lock.Held:
            found.append(name)
    return found


def compared(before: snapshot.Snapshot, after: snapshot.Snapshot) -> list[str]:
    """What differs, as lines of a diff."""
    found = []
    for section in before.keys() | after.keys():
        old, new = before.get(section, []), after.get(section, [])
        found += [f"-{section}: {line}" for line in old if line not in new]
        found += [f"+{section}: {line}" for line in new if line not in old]
    return found


def main(verb: str, how: str, afterwards: str) -> int:
    print(json.dumps(list(deaths(SCENES[verb], how, afterwards))))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
