# SPDX-License-Identifier: BSD-2-Clause
"""Which configuration a command works by: the one in force, or the file, which it puts in force before that."""

from __future__ import annotations

import argparse
import sys

from ganeti_vif.config import parse
from ganeti_vif.config.model import Config
from ganeti_vif.engine.failure import Failure, remedy
from ganeti_vif.reconcile.in_force import in_force, put_in_force, unapplied
from ganeti_vif.system import state_socket
from ganeti_vif.system.ask import ask
from ganeti_vif.system.complaint import complain


def known(given: argparse.Namespace) -> Config:
    """The configuration in force, for a command that changes no network or only one NIC's. If the file says something
    else, that is said. Raises Failure."""
    config = in_force(given.config).config
    if failure := unapplied(given.config):
        sys.stderr.write(f"note: {failure.what}\n  {remedy(failure.do)}\n")
    return config


def applied(given: argparse.Namespace) -> Config:
    """What the file says, for a command that makes the node so. From here on it is in force: the daemon and the
    responder work by it too. With --dry-run it is only read.

    Raises Failure. Without --dry-run the caller holds the lock `node`.
    """
    if given.dry_run:
        return parse.load(given.config)
    config = put_in_force(given.config).config
    tell_daemons()
    return config


def tell_daemons() -> None:
    """Have the daemons see what is in force now. Neither has to run; what each of them cannot read, it says itself."""
    ask("state", {})
    try:
        state_socket.ask()
    except Failure as failure:
        complain(failure)
