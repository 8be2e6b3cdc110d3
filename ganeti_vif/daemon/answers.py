# SPDX-License-Identifier: BSD-2-Clause
"""The daemon's answers on its socket: to Ganeti's script, to hooks of instances, and to `ganeti-vif status`.

The daemon leaves some questions to the process that asks: those of another version, and hooks that take longer than a
VM should wait for the next answer. That process then does the work alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from ganeti_vif.daemon.claims import Claims
from ganeti_vif.daemon.lives import Lives
from ganeti_vif.daemon.migrations import Migrations
from ganeti_vif.daemon.names import Names
from ganeti_vif.daemon.trouble import Trouble
from ganeti_vif.engine.failure import Failure
from ganeti_vif.ganeti.hook import hook_of
from ganeti_vif.ganeti.order import order_of
from ganeti_vif.lifecycle.order import obey
from ganeti_vif.lifecycle.taps import tap_index
from ganeti_vif.nic.life import Event
from ganeti_vif.nic.nic import Nic
from ganeti_vif.system import ask, lock, log, records
from ganeti_vif.system.complaint import lines
from ganeti_vif.system.control import Question
from hooks import hook as hooks

Answer = tuple[str, str]
"""An exit status, and what to print."""
ALONE: Answer = (ask.ALONE, "")


class Answers:
    """Answers questions about the NICs whose LIVES the daemon knows."""

    def __init__(self, lives: Lives, migrations: Migrations, claims: Claims, names: Names, trouble: Trouble) -> None:
        self._lives = lives
        self._migrations = migrations
        self._claims = claims
        self._names = names
        self._trouble = trouble

    def answer(self, question: Question) -> None:
        """Answer QUESTION. Raises Held if that has to wait."""
        if question.withdrawn():
            question.client.close()
            return
        protocol, door, *pairs = (*map(os.fsdecode, question.words), "")  # whoever asks may have said one word only
        environment = dict(pair.partition("=")[::2] for pair in pairs if pair)
        doors = {"vif": self._vif, "hook": self._hook, "state": self._state}
        try:
            known = protocol == ask.PROTOCOL.decode() and door in doors
            question.answer(*(doors[door](environment) if known else ALONE))
        except lock.Held:
            raise
        except Exception as error:  # a bug: the process that asks finds the same, and reports more of it
            log.say(f"bug: {door}: {error!r}", log.Level.ERROR)
            question.answer(*ALONE)

    def _vif(self, environment: Mapping[str, str]) -> Answer:
        order = None
        try:
            order = order_of(environment, tap_index)
            if order:
                with self._lives.locked() as node:
                    obey(order, self._lives.config, node)
        except lock.Held:
            raise
        except Failure as failure:
            if isinstance(order, Nic) and records.exists(order.tap):
                self._lives.failed(order.tap, failure)
            else:
                log.say(failure.what, log.Level.ERROR)
            return "1", lines(failure)
        if isinstance(order, Nic):
            self._lives.soon(order.tap, Event.ORDERED)  # when Ganeti has its answer: its VM waits
        return "0", ""

    def _hook(self, environment: Mapping[str, str]) -> Answer:
        hook = hook_of(environment)
        if hook.migration:
            self._migrations.begin(hook.migration)
            return "0", ""
        if hook.instance:
            self._migrations.end(hook.instance.former_name)
        if hook.instance is None or hooks.ACTIONS.get(hook.name) is not hooks.instance:
            return ALONE
        try:
            with self._lives.locked() as node:
                hooks.in_step(hook, hook.instance, self._lives.config, node)
        except lock.Held:
            raise
        except Failure as failure:
            text = f"{hook.name}: {failure.what} ({failure.do})"
            log.say(text, log.Level.ERROR)
            return "1", hooks.said(text) + "\n"
        return "0", ""

    def _state(self, _: Mapping[str, str]) -> Answer:
        """`retrying`: what was not attached, by tap. `lives`: the states of NICs by tap or, if expected, by UUID.
        `claims`: the last address that each guest was refused, by tap, and `trouble`: what else cannot be seen or done,
        each with `what` and `do`. `names`: how many are written where."""
        lives = self._lives
        told = {
            "retrying": lives.retrying,
            "lives": lives.states,
            "claims": self._claims.refused,
            "names": self._names.state,
            "trouble": self._trouble.told,
        }
        return "0", json.dumps({"pid": os.getpid(), **told})
