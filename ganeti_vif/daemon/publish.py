# SPDX-License-Identifier: BSD-2-Clause
"""Write the names of this node's instances: into a hosts file, and to a DNS server. A child process of the daemon does
it, so a server or a disk that does not answer keeps nobody waiting.

What this node may have written at the server is on the disk before it is sent, and until it is deleted: PATH. So a node
that was switched off, with its instances, deletes their names when it is back, unless another node has them by then.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ganeti_vif.config.model import Names
from ganeti_vif.desired.names import HEADER, Owned, update
from ganeti_vif.engine.failure import Failure
from ganeti_vif.system import whole_file

if TYPE_CHECKING:
    from ganeti_vif.system.name_server import NameServer

PATH = "/var/lib/ganeti-vif/names.json"
BUDGET = 30.0
"""Seconds of work, at most. The rest is for the next process, which knows what changed meanwhile."""
TRIES = 3
"""How often a name is tried that another node changes at the same moment."""
MOST = 5
"""Failures of single names that are told."""


class Written(NamedTuple):
    """What this node wrote, or is about to write: it was in ZONE, and the server HAS it for certain."""

    zone: str
    has: bool


def publish(
    names: Names, text: str, wanted: Mapping[str, Owned], known: Mapping[str, tuple[str, ...]]
) -> dict[str, Any]:
    """Make the hosts file of NAMES say TEXT, and the server have WANTED by owner. It is KNOWN to have these records.

    Returns `right`, the owners that are right now at the server; `left`, whether something is left to do; and
    `failures`, each with what and what to do.
    """
    failures: list[Failure] = []
    right, left = list[str](), False
    if names.hosts_file is not None:
        try:
            _hosts(names.hosts_file, text)
        except Failure as failure:
            failures.append(failure)
    if names.server is not None:
        try:
            right, left = _server(names, wanted, known, failures)
        except Failure as failure:
            failures.append(failure)
            left = True
    told = [[failure.what, failure.do] for failure in failures[:MOST]]
    return {"right": right, "left": left or bool(failures), "failures": told}


def _hosts(path: str, text: str) -> None:
    """Raises Failure if it cannot be written, or if there is a file of somebody else."""
    former = whole_file.read(path)
    if former is not None and not former.startswith(HEADER):
        raise Failure(
            f"{path} is not ganeti-vif's, and is not overwritten",
            f"note: move it away, or name another hosts-file: {path}",
        )
    if former != text:
        whole_file.replace(path, text)


def written() -> dict[str, Written]:
    """What this node may have written at the server, by owner. A damaged file says nothing. Raises Failure if the file
    cannot be read."""
    try:
        return {owner: Written(*one) for owner, one in json.loads(whole_file.read(PATH) or "{}").items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def _server(
    names: Names, wanted: Mapping[str, Owned], known: Mapping[str, tuple[str, ...]], failures: list[Failure]
) -> tuple[list[str], bool]:
    """The owners that are right now, and whether something is left to do. Failures of single ones go to FAILURES.

    Raises Failure if nothing can be done at all.
    """
    from ganeti_vif.system import name_server  # it loads dnspython, which takes 0.1 s

    assert names.server is not None and names.key_file is not None
    key = name_server.key_of(names.key_file)
    before = written()
    # What is new here counts as coming until the server has it, also if that takes several processes.
    has = {owner for owner, one in before.items() if one.has}
    after = {owner: Written(one.zone, False) for owner, one in before.items()}  # if it comes back, it comes
    after |= {owner: Written(one.zone, owner in has) for owner, one in wanted.items()}
    _keep(after)
    begun, right, left, node = time.monotonic(), list[str](), False, os.uname().nodename
    try:
        with name_server.NameServer(str(names.server), key, names.ttl) as server:
            for owner, one in list(after.items()):
                records = wanted[owner].records if owner in wanted else ()
                if records and known.get(owner) == records:
                    right.append(owner)
                    continue
                if time.monotonic() - begun > BUDGET:
                    left = True
                    break
                try:
                    _exchange(server, one.zone, owner, records, node, came=not one.has)
                except name_server.Silent:
                    raise
                except Failure as failure:
                    failures.append(failure)
                    continue
                right.append(owner)
                if records:
                    after[owner] = Written(one.zone, True)
                else:
                    del after[owner]
    except name_server.Silent as failure:
        failures.insert(0, failure)
        left = True
    _keep(after)
    return right, left


def _keep(after: Mapping[str, Written]) -> None:
    text = json.dumps(after) + "\n"
    if whole_file.read(PATH) != text:
        whole_file.replace(PATH, text)


def _exchange(server: NameServer, zone: str, owner: str, records: tuple[str, ...], node: str, *, came: bool) -> None:
    """Make SERVER have RECORDS at OWNER. Raises Failure if that cannot be done."""
    from ganeti_vif.system.name_server import Changed

    for _ in range(TRIES):
        wanted = update(server.mark(owner), records, node, came=came)
        if wanted is None:
            return
        try:
            server.update(zone, owner, wanted)
        except Changed:
            continue
        return
    do = "note: it is tried again; does another node have the instance?"
    raise Failure(f"{owner} changes in DNS while it is updated", do)
