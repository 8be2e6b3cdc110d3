# SPDX-License-Identifier: BSD-2-Clause
"""The configuration that a command uses: the one in force, or the file, which it puts in force first."""

from __future__ import annotations

import argparse
import sys

from ganeti_vif.config import parse
from ganeti_vif.config.model import Config
from ganeti_vif.engine.failure import Failure, remedy
from ganeti_vif.reconcile import trial
from ganeti_vif.reconcile.in_force import in_force, put_in_force, unapplied
from ganeti_vif.system import state_socket
from ganeti_vif.system.ask import ask
from ganeti_vif.system.complaint import complain


def known(given: argparse.Namespace) -> Config:
    """The configuration in force, for a command that changes no network, or one NIC only.

    Prints a note if the file differs. Raises Failure if it cannot be read.
    """
    config = in_force(given.config).config
    if failure := unapplied(given.config):
        sys.stderr.write(f"note: {failure.what}\n  {remedy(failure.do)}\n")
    return config


def applied(given: argparse.Namespace) -> Config:
    """The configuration of the file, for a command that applies it. It is in force from now on, for the daemons too.

    With --dry-run it is only read; without, the caller holds the lock `node`. If the node was booted during a trial,
    the file of before comes back first. Raises Failure if the file is invalid.
    """
    if given.dry_run:
        return parse.load(given.config)
    trial.end_of_another_boot()
    config = put_in_force(given.config).config
    tell_daemons()
    return config


def tell_daemons() -> None:
    """Make the daemons read the configuration in force. They need not run. Each reports itself what it cannot read."""
    ask("state", {})
    try:
        state_socket.ask()
    except Failure as failure:
        complain(failure)
