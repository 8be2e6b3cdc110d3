# SPDX-License-Identifier: BSD-2-Clause
"""The names of this node's instances: when to write them, and what is wrong with that.

They follow from the records of NICs, which inotify reports. A child process writes them (daemon/publish.py). All that
is in memory here may be lost.
"""

from __future__ import annotations

import time
from typing import Any

from ganeti_vif.config.model import Config
from ganeti_vif.daemon.publish import publish
from ganeti_vif.daemon.tasks import NAMES, NAMES_AGAIN, KeepNames, Task, retry_after
from ganeti_vif.daemon.timers import Timers
from ganeti_vif.daemon.trouble import Trouble
from ganeti_vif.desired.names import Entry, entries, hosts, nameless, owned
from ganeti_vif.engine.failure import Failure
from ganeti_vif.nic.nic import Nic
from ganeti_vif.nic.record import is_pending, nic_of
from ganeti_vif.system import records
from ganeti_vif.system.child import Child
from ganeti_vif.system.inotify import Watch

ABOUT = "names"


class Names:
    """Keeps the names as CONFIG wants them. Does nothing if it wants none."""

    def __init__(self, timers: Timers[Task], told: Trouble) -> None:
        self._timers, self._told = timers, told
        self._config = Config()
        self._watch: Watch | None = None
        self._nics: dict[str, Nic] = {}
        self._child: Child | None = None
        self._offered: tuple[Config, frozenset[Entry], dict[str, tuple[str, ...]]] | None = None
        self._done: frozenset[Entry] | None = None
        self._known: dict[str, tuple[str, ...]] = {}
        self._attempts = 0
        self._looked = float("-inf")

    def configure(self, config: Config) -> None:
        """From now on it is CONFIG that says which names are wanted, and where."""
        if config.names == self._config.names and config.public == self._config.public:
            return
        self._config = config
        self._looked, self._attempts = float("-inf"), 0
        if self._watch:
            self._watch.close()
            self._watch = None
        self._told.over(ABOUT)
        if config.names.wanted:
            try:
                self._watch = Watch(records.DIRECTORY)
            except Failure as failure:
                self._told.say(ABOUT, failure)  # then names follow at each look
            self._timers.at(time.monotonic(), KeepNames())

    @property
    def descriptors(self) -> list[int]:
        """What to poll for reading."""
        return [*([self._watch.fileno()] if self._watch else []), *([self._child.descriptor] if self._child else [])]

    @property
    def state(self) -> dict[str, Any] | None:
        """For `ganeti-vif status`: how many names there are, how many records (RRsets) the server should have, and how
        many of them it has. None if no names are wanted."""
        names = self._config.names
        if not names.wanted:
            return None
        found = entries(self._nics.values(), self._config)
        wanted = owned(found, names) if names.server else {}
        return {
            "entries": len(found),
            "hosts_file": names.hosts_file,
            "server": str(names.server) if names.server else None,
            "wanted": len(wanted),
            "there": sum(self._known.get(owner) == one.records for owner, one in wanted.items()),
        }

    def hear(self) -> None:
        """Take in what happened meanwhile: records that changed, and a child that has ended."""
        if self._child and self._child.done():
            child, self._child = self._child, None
            self._published(child.answer())
        try:
            changed = self._watch.read() if self._watch else frozenset[str]()
        except Failure as failure:
            self._told.say(ABOUT, failure)
            changed = None
        if changed is None:
            self._looked = float("-inf")
        taps = {name.removesuffix(".json") for name in changed or () if name.endswith(".json") and name[0] != "."}
        try:
            for tap in taps:
                nic = _here(tap)
                self._nics.pop(tap, None)
                if nic:
                    self._nics[tap] = nic
        except Failure as failure:
            self._looked = float("-inf")
            self._told.say(ABOUT, failure)
        if taps or changed is None:
            self._timers.at(time.monotonic() + NAMES, KeepNames())

    def keep(self) -> None:
        """Have the names written that are not written yet; all of them if that was long ago: somebody else may have
        changed the file, or the server's records."""
        config, now = self._config, time.monotonic()
        if not config.names.wanted:
            return
        if self._child:
            self._timers.at(now + NAMES, KeepNames())
            return
        if now - self._looked >= NAMES_AGAIN:
            try:
                self._nics = {record.tap: nic for record in records.read_all() if (nic := _here(record.tap))}
            except Failure as failure:  # without the records nothing is written: all names would go
                self._failed([failure])
                return
            self._looked, self._known, self._done = now, {}, None
        self._timers.at(self._looked + NAMES_AGAIN, KeepNames())
        found = entries(self._nics.values(), config)
        if found == self._done:
            return
        wanted, known = owned(found, config.names) if config.names.server else {}, dict(self._known)
        self._offered = config, found, {owner: one.records for owner, one in wanted.items()}
        try:
            self._child = Child(lambda: publish(config.names, hosts(found), wanted, known))
        except Failure as failure:
            self._failed([failure])

    def _published(self, answer: Any) -> None:
        assert self._offered
        config, found, offered = self._offered
        if config is not self._config:
            self._looked = float("-inf")
            self._timers.at(time.monotonic(), KeepNames())
            return
        if answer is None:
            self._failed([Failure("the process that writes names died", "see: systemctl status ganeti-vifd")])
            return
        self._known = {owner: offered[owner] for owner in answer["right"] if owner in offered}
        failures = [Failure(what, do) for what, do in answer["failures"]]
        if answer["left"]:
            self._failed(failures)
        else:
            self._done, self._attempts = found, 0
            self._say()

    def _failed(self, failures: list[Failure]) -> None:
        """Try again, later each time."""
        self._say(*failures)
        self._done = None
        self._attempts = self._attempts + 1 if failures else 0
        self._timers.at(time.monotonic() + retry_after(self._attempts), KeepNames())

    def _say(self, *failures: Failure) -> None:
        self._told.say(ABOUT, *failures, *nameless(self._nics.values(), self._config))


def _here(tap: str) -> Nic | None:
    """The NIC of TAP, if its guest runs on this node. A damaged record describes none, and a survey reports it. Raises
    Failure if the record cannot be read."""
    record = records.read_record(tap)
    if record is None:
        return None
    try:
        nic = nic_of(record)
    except Failure:
        return None
    return None if nic.standby or is_pending(record) else nic
