# SPDX-License-Identifier: BSD-2-Clause
"""What a verb that changes the node prints at its end."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable

from ganeti_vif.engine.commands import commands
from ganeti_vif.engine.difference import Change
from ganeti_vif.engine.failure import Failure
from ganeti_vif.system.complaint import complain


def report(given: argparse.Namespace, changes: Iterable[Change], refused: Iterable[Failure]) -> int:
    """Print the changes (with --dry-run their commands) and the failures. Returns the exit status."""
    changes, refused = list(changes), list(refused)
    if given.json:
        lines = [line for change in changes for line in commands(change)]
        trouble = [{"what": failure.what, "do": failure.do} for failure in refused]
        print(json.dumps({"changes": len(changes), "commands": lines, "trouble": trouble}, indent=2))
    elif given.dry_run:
        for change in changes:
            sys.stdout.writelines(f"{line}\n" for line in commands(change))
    else:
        print("nothing to change" if not changes else f"{len(changes)} change{'s' if len(changes) > 1 else ''} made")
    for failure in refused:
        complain(failure)
    return 1 if refused else 0
