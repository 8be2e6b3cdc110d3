"""How the daemon keeps single NICs: attached as they should be, tried again, announced, and cleared away.

Whatever changes a NIC takes the lock `nics` without waiting for it, and raises Held if somebody else has it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ganeti_vif.config.model import Config
from ganeti_vif.daemon.migrations import Migrations
from ganeti_vif.daemon.tasks import AGAIN, LONGEST, Announce, Task, Tend
from ganeti_vif.daemon.timers import Agenda
from ganeti_vif.daemon.trouble import Trouble
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.naming import finding
from ganeti_vif.lifecycle.announce import announce
from ganeti_vif.lifecycle.attach import attach
from ganeti_vif.lifecycle.detach import forget
from ganeti_vif.lifecycle.order import up
from ganeti_vif.lifecycle.recorded import recorded
from ganeti_vif.nic.nic import Mode, Nic
from ganeti_vif.nic.record import is_pending
from ganeti_vif.system import lock, log, records
from ganeti_vif.system.node import Node


class Tending:
    """What is known of NICs that need care. All of it is read again from the node when the daemon starts anew."""

    def __init__(self, config: Config, node: Node, agenda: Agenda[Task]) -> None:
        self.config = config
        self.trouble = Trouble()
        self.migrations = Migrations(self.trouble)
        self._node = node
        self._agenda = agenda
        self._said: dict[str, str] = {}
        self._attempts: dict[str, int] = {}

    @property
    def retrying(self) -> dict[str, str]:
        """The taps whose NICs are tried again, and what was wrong the last time."""
        return {tap: self._said.get(tap, "") for tap in sorted(self._attempts)}

    @contextmanager
    def locked(self) -> Iterator[Node]:
        """The node, to be changed. Names may mean other devices than the last time. Raises Held."""
        with lock.held("nics", wait=0.0):
            self._node.forget()
            yield self._node

    def tend(self, tap: str) -> None:
        """See that the NIC of TAP has what it needs; or, if its tap is gone, that it leaves nothing behind."""
        try:
            with self.locked() as node:
                nic = recorded(tap)
                device = node.devices([tap]).by_name.get(tap)
                if nic and device and device.index == nic.index:
                    self._repair(nic, node)
                else:
                    self.migrations.forget(tap)
                    if nic:
                        forget(nic, self.config, node)
            self._said.pop(tap, None)
            self._attempts.pop(tap, None)
        except lock.Held:
            raise
        except Failure as failure:
            self.failed(tap, failure)

    def _repair(self, nic: Nic, node: Node) -> None:
        if nic.elsewhere:
            self.migrations.listen(nic.tap)
        record = records.record_of(nic.tap)
        if record and is_pending(record):
            self.migrations.forget(nic.tap)
            up(nic, self.config, node)
            announce(nic, self.config, node)
        else:
            for change in attach(nic, self.config, node):
                log.say(f"{nic.whom}: repaired: {finding(change)}", log.Level.WARNING)
        self.plan_announcements(nic)

    def is_routed(self, tap: str) -> bool:
        """Whether the record of TAP says that its NIC is routed."""
        with suppress(Failure):  # a damaged record: whoever tends it says so
            nic = recorded(tap)
            return nic is not None and nic.mode is Mode.ROUTED
        return False

    def attached(self, nic: Nic) -> None:
        """NIC was attached, as Ganeti asked. It is announced when Ganeti has its answer."""
        self._said.pop(nic.tap, None)
        self._attempts.pop(nic.tap, None)
        self.migrations.forget(nic.tap)
        if nic.mode is Mode.ROUTED:
            self._agenda.at(_now(), Announce(nic, 0.0))
        self.plan_announcements(nic)

    def failed(self, tap: str, failure: Failure) -> None:
        """Say it, unless it was said, and plan another attempt."""
        if self._said.get(tap) != failure.what:
            log.say(failure.what, log.Level.ERROR)
        self._said[tap] = failure.what
        attempts = self._attempts.get(tap, 0)
        self._attempts[tap] = attempts + 1
        self._agenda.at(_now() + min(LONGEST, 2.0**attempts), Tend(tap))

    def plan_announcements(self, nic: Nic) -> None:
        """Repeat NIC's announcement while it is young."""
        age = records.age(nic.tap) if nic.mode is Mode.ROUTED and not nic.elsewhere else AGAIN[-1]
        for after in AGAIN:
            if age < after:
                self._agenda.at(_now() + after - age, Announce(nic, after))

    def announce(self, nic: Nic) -> None:
        """Tell the neighbours where NIC lives, if it does by now, and its guest has not moved."""
        self._node.forget()
        tap = self._node.devices([nic.tap]).by_name.get(nic.tap)
        with suppress(Failure):
            known = recorded(nic.tap)
            same = known and (known.uuid, known.index) == (nic.uuid, nic.index)
            if known and same and not known.elsewhere and tap and tap.index == known.index:
                announce(known, self.config, self._node)


def _now() -> float:
    return time.monotonic()
