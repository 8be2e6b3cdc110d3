# SPDX-License-Identifier: BSD-2-Clause
"""The verbs of a configuration that takes itself back: `setup --try`, `confirm` and `revert`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping

from ganeti_vif.cli.configuration import applied, tell_daemons
from ganeti_vif.cli.progress import Bar
from ganeti_vif.cli.report import report
from ganeti_vif.config.trial import Trial
from ganeti_vif.engine.difference import Change
from ganeti_vif.engine.failure import Failure
from ganeti_vif.reconcile import reconcile as whole_node
from ganeti_vif.reconcile import setup, trial
from ganeti_vif.reconcile import survey as whole
from ganeti_vif.system import lock
from ganeti_vif.system.node import Node


def set_up(given: argparse.Namespace) -> int:
    """Apply the file, and take it back after the time that the flags say, unless `confirm` comes.

    If a part of it cannot be set up, it is taken back at once. Raises Failure if no trial can begin.
    """
    if given.private is not None:
        given.wrong("--try is for the whole configuration, not for --private")
    with lock.held("node"), Node() as node, Bar("changes") as bar:
        revert = [os.path.realpath(sys.argv[0]), "--config", given.config, "revert"]
        begun = trial.begin(given.config, given.timeout, revert, node)
        try:
            config = applied(given)
            changes, refused = whole_node.set_up(config.private, config, node, progress=bar.show)
            refused += [*setup.unusable(config.profiles, node), *whole.stranded(config, node, refused)]
        except Failure as failure:
            changes, refused = [], [failure]
        if refused:
            refused += trial.revert(node)[1]
            tell_daemons()
    if not refused:
        whole_node.announce_moved(config)
        _tell(given, begun, changes)
    return report(given, changes if not refused else [], refused)


def _tell(given: argparse.Namespace, begun: Trial, changes: list[Change]) -> None:
    if not given.json:
        until = time.strftime("%H:%M:%S", time.localtime(begun.until))
        print(f"on trial until {until}. To keep it: ganeti-vif confirm. To end it now: ganeti-vif revert")


def confirm(given: argparse.Namespace, _: Mapping[str, str]) -> int:
    """Keep the configuration on trial."""
    with lock.held("node"):
        trial.confirm()
    print(json.dumps({"confirmed": True}) if given.json else "confirmed: the configuration stays")
    return 0


def revert(given: argparse.Namespace, _: Mapping[str, str]) -> int:
    """Take the configuration on trial back."""
    with lock.held("node"), Node() as node:
        changes, refused = trial.revert(node)
    tell_daemons()
    return report(given, changes, refused)
