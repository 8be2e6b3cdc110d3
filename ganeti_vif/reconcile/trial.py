# SPDX-License-Identifier: BSD-2-Clause
"""A new configuration that takes itself back unless somebody confirms it.

begin() keeps the configuration in force on disk and starts a timer of systemd. Then the caller applies the new one.
Whatever dies meanwhile (the session, this process, the daemon), the timer runs `ganeti-vif revert`. After a reboot the
configuration comes back before anything is set up. Every function here expects that its caller holds the lock `node`.

    timer started, trial not yet on disk    the timer finds no trial and does nothing
    trial on disk, nothing applied yet      the timer reverts, and has little to do
    dies while it reverts                   the trial stays on disk, `check` says so, and `ganeti-vif revert` goes on
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from ganeti_vif.config import parse, source
from ganeti_vif.config.model import Config, Consumer
from ganeti_vif.config.trial import Trial, only_tried, restored
from ganeti_vif.engine.difference import Change
from ganeti_vif.engine.failure import Failure
from ganeti_vif.reconcile import reconcile as whole_node
from ganeti_vif.reconcile import setup
from ganeti_vif.reconcile.in_force import put_in_force, source_in_force
from ganeti_vif.system import log, timer, trial_file
from ganeti_vif.system.node import Node

GRACE = 30
"""Seconds that the node has to take a configuration back."""


def begin(path: str, seconds: int, command: Sequence[str], node: Node) -> Trial:
    """Begin a trial of the file at PATH. COMMAND reverts it after so many SECONDS.

    Raises Failure if there is nothing to come back to, a trial runs, the file is wrong, or nobody would revert it.
    """
    for one in (*running(), *overdue()):
        raise one
    parse.load(path)
    before = source_in_force()
    if before is None or before.path != path:
        raise Failure(f"no configuration of {path} is in force to which the node could come back", "ganeti-vif setup")
    trial = Trial(before, int(time.time()) + seconds, trial_file.boot(), frozenset(node.devices().by_name))
    timer.start(seconds, command)
    trial_file.write(trial)
    return trial


def running() -> list[Failure]:
    """The trial that runs, as a note for status and check. Raises Failure if it cannot be read."""
    trial = trial_file.read()
    if trial is None or _over(trial):
        return []
    until = time.strftime("%H:%M:%S", time.localtime(trial.until))
    what = f"the configuration is on trial until {until}, and then the one before comes back"
    return [Failure(what, "ganeti-vif confirm")]


def overdue() -> list[Failure]:
    """The trial whose end came and that still stands, as trouble. Raises Failure if it cannot be read."""
    trial = trial_file.read()
    what = "the configuration on trial should have been taken back, and was not, or not whole"
    return [Failure(what, "ganeti-vif revert")] if trial and _over(trial) else []


def _over(trial: Trial) -> bool:
    """Whether the end of TRIAL came: so long ago that its timer has run and finished."""
    return trial.boot != trial_file.boot() or time.time() > trial.until + GRACE


def confirm() -> None:
    """Keep the configuration on trial. Raises Failure if there is none."""
    trial = trial_file.read()
    if trial is None:
        raise Failure("no configuration is on trial", "ganeti-vif setup --try")
    if trial.tried is not None:
        raise Failure("the configuration on trial is being taken back already", "ganeti-vif revert")
    trial_file.remove()
    timer.stop()
    log.say("setup: the configuration on trial is confirmed")


def revert(node: Node) -> tuple[list[Change], list[Failure]]:
    """Put the configuration before the trial in force again, and make the node what it says. What the trial made goes.

    Returns the changes, and what could not be reverted. While a guest uses a network of the trial, the trial stays on
    disk. Raises Failure if there is no
    trial, or if a file cannot be written.
    """
    trial = trial_file.read()
    if trial is None:
        raise Failure("no configuration is on trial, so there is none to take back", "ganeti-vif setup --try")
    if trial.tried is None:  # this process may die, or be refused, after the configuration before is in force
        trial = replace(trial, tried=source_in_force(), until=0)
        trial_file.write(trial)
    _give_back(trial)
    config = put_in_force(trial.before.path).config
    changes, refused = _made_by_it(trial, config, node)
    more, others = whole_node.set_up(config.private, config, node)
    if not refused:  # what else cannot be set up could not be before the trial
        trial_file.remove()
        timer.stop()
    log.say(f"setup: the configuration on trial was taken back, {len(changes) + len(more)} changes", log.Level.WARNING)
    return [*changes, *more], [*refused, *others]


def end_of_another_boot() -> None:
    """If the node was booted again during a trial, give the files back that were there before the trial.

    Raises Failure if the trial cannot be read, or if a file cannot be written.
    """
    trial = trial_file.read()
    if trial and trial.boot != trial_file.boot():
        _give_back(trial)
        trial_file.remove()
        log.say("setup: the configuration on trial was taken back, because the node was booted", log.Level.WARNING)


def _give_back(trial: Trial) -> None:
    """Write the files as they were before TRIAL. Raises Failure if one cannot be written."""
    try:
        present = source.read(trial.before.path)
    except Failure:  # the file was removed meanwhile, or is no text: what it was before comes back
        present = None
    for file in restored(trial.before, present):
        trial_file.give_back(file)


def _made_by_it(trial: Trial, before: Config, node: Node) -> tuple[list[Change], list[Failure]]:
    """Remove the networks that only TRIAL has. They stay if a guest uses one of them, and the failure names it."""
    tried = parse.config_of(trial.tried) if trial.tried else before
    private, public = only_tried(tried, before, trial.devices)
    if not private and not public:
        return [], []
    return setup.teardown(private, public, node, queued=before.bindings.consumer is Consumer.NFDHCPD)
