# SPDX-License-Identifier: BSD-2-Clause
"""A timer of systemd that runs one command later, whatever becomes of the process, the session and the daemon."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

from ganeti_vif.engine.failure import Failure
from ganeti_vif.system import units

UNIT = "ganeti-vif-revert"
PATIENCE = 30.0
"""Seconds for an answer of systemd."""


def start(seconds: int, command: Sequence[str]) -> None:
    """Make systemd run COMMAND in SECONDS. A timer of before is replaced. Raises Failure if that cannot be."""
    if not units.systemd():
        what = "nobody would take the configuration back: systemd is not this node's init"
        raise Failure(what, "note: use ganeti-vif setup, without --try")
    stop()
    options = ["--quiet", "--collect", f"--unit={UNIT}", f"--working-directory={os.getcwd()}"]
    options += [f"--on-active={seconds}s", "--timer-property=AccuracySec=100ms"]
    description = "--description=Takes the configuration of ganeti-vif back that nobody confirmed"
    done = _run(["systemd-run", *options, description, "--", *command])
    if done.returncode:
        raise Failure(f"systemd makes no timer: {done.stderr.strip()}", f"see: systemctl status {UNIT}.timer")


def stop() -> None:
    """Take the timer away, if there is one. Raises Failure if systemd does not answer."""
    if units.systemd():
        _run(["systemctl", "--quiet", "stop", f"{UNIT}.timer"])  # fails if there is none


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failure(f"{command[0]} does not run: {error}", "see: systemctl is-system-running") from error
