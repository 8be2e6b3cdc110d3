"""The daemon's answers to who asks on its socket: Ganeti's script, hooks of instances, and `ganeti-vif status`.

What it does not do itself it leaves to who asks, who then does it alone: another version's question, and hooks that
take longer than a VM should wait for the next answer.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from ganeti_vif.daemon.hand_over import HandOver
from ganeti_vif.daemon.tending import Tending
from ganeti_vif.engine.failure import Failure
from ganeti_vif.ganeti.hook import hook_of
from ganeti_vif.ganeti.order import order_of
from ganeti_vif.lifecycle.order import obey
from ganeti_vif.lifecycle.taps import tap_index
from ganeti_vif.nic.nic import Nic
from ganeti_vif.system import ask, lock, log, records
from ganeti_vif.system.complaint import lines
from ganeti_vif.system.control import Question
from hooks import hook as hooks

Answer = tuple[str, str]
"""An exit status, and what to print."""
ALONE: Answer = (ask.ALONE, "")


class Answers:
    """Answers questions about the NICs that TENDING cares for."""

    def __init__(self, tending: Tending, hand_over: HandOver) -> None:
        self._tending = tending
        self._hand_over = hand_over

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
        except Exception as error:  # a bug of ours; who asks finds the same, and says more of it
            log.say(f"bug: {door}: {error!r}", log.Level.ERROR)
            question.answer(*ALONE)

    def _vif(self, environment: Mapping[str, str]) -> Answer:
        order = None
        try:
            order = order_of(environment, tap_index)
            if order:
                with self._tending.locked() as node:
                    obey(order, self._tending.config, node)
        except lock.Held:
            raise
        except Failure as failure:
            if isinstance(order, Nic) and records.exists(order.tap):
                self._tending.failed(order.tap, failure)
            else:
                log.say(failure.what, log.Level.ERROR)
            return "1", lines(failure)
        if isinstance(order, Nic):
            self._tending.attached(order)
        return "0", ""

    def _hook(self, environment: Mapping[str, str]) -> Answer:
        hook = hook_of(environment)
        if hook.migration:
            self._hand_over.begin(hook.migration)
            return "0", ""
        if hook.instance:
            self._hand_over.end(hook.instance.former_name)
        if hook.instance is None or hooks.ACTIONS.get(hook.name) is not hooks.instance:
            return ALONE
        try:
            with self._tending.locked() as node:
                hooks.in_step(hook, hook.instance, self._tending.config, node)
        except lock.Held:
            raise
        except Failure as failure:
            text = f"{hook.name}: {failure.what} ({failure.do})"
            log.say(text, log.Level.ERROR)
            return "1", hooks.said(text) + "\n"
        return "0", ""

    def _state(self, _: Mapping[str, str]) -> Answer:
        """`retrying`: what was not attached, by tap. `trouble`: what else cannot be seen or done, `what` and `do`."""
        tending = self._tending
        return "0", json.dumps({"pid": os.getpid(), "retrying": tending.retrying, "trouble": tending.trouble.told})
