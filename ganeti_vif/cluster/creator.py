# SPDX-License-Identifier: BSD-2-Clause
"""A creator at work: it does the steps of cluster/creation.py, one after the other, or undoes them."""

from __future__ import annotations

import secrets
import time
from dataclasses import replace
from typing import assert_never

from ganeti_vif.cluster.creation import (
    Add,
    Commit,
    Connect,
    Creation,
    Disconnect,
    End,
    Look,
    Reason,
    Remove,
    Step,
    Taken,
    Wait,
    Wish,
    Yield,
    after,
    seen,
    step,
)
from ganeti_vif.cluster.model import Network
from ganeti_vif.cluster.rapi import Rapi, Unreachable
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.interruption import RUN, Interrupted

ATTEMPTS = 50
"""How often a creator begins anew because others have claimed the same. Each time at least one of them got through."""
LONG = 60.0
"""Seconds that a creator waits for another one, or for Ganeti to show a change that it has made."""
REPAIR = "ganeti-vif network repair"


class Creator:
    """Creates one network. PAUSE: seconds between two looks."""

    def __init__(self, rapi: Rapi, wish: Wish, *, pause: float = 0.2) -> None:
        self._rapi, self._wish, self._pause = rapi, wish, pause

    def run(self) -> Network:
        """Create the network. Returns it as Ganeti has it then.

        Raises Failure if the name is used, if no link is free, or if a job fails. Raises Interrupted if somebody asked
        for the end of this process. In both cases nothing of the network is left, or the failure says what is.
        """
        with RUN.busy():
            for _ in range(ATTEMPTS):
                creation = Creation(wish=self._wish, nonce=secrets.token_hex(8))
                found = self._attempt(creation)
                if isinstance(found, Network):
                    return found
                RUN.due()
        what = f"others were faster for the link of {self._wish.name}, {ATTEMPTS} times"
        raise Failure(what, "see: ganeti-vif network list")

    def _attempt(self, creation: Creation) -> Network | Reason:
        """One attempt. Returns the network, or why another attempt makes sense. Raises Failure if none does."""
        since, before = time.monotonic(), ""
        while True:
            cluster = self._rapi.cluster()
            creation = seen(creation, cluster)
            now = step(creation, cluster)
            if isinstance(now, Taken):
                what = (
                    f"the network {self._wish.name} was taken away while it was created, by network repair or by hand"
                )
                raise Failure(what, REPAIR)
            if isinstance(now, End):
                return self._ended(creation, cluster.networks)
            if str(now) != before:
                since, before = time.monotonic(), str(now)
            if isinstance(now, Look | Wait) and time.monotonic() - since > LONG:
                if creation.leaving or isinstance(now, Look):
                    what = f"Ganeti does not show the network {self._wish.name}, which was added"
                    raise Failure(what, REPAIR)
                now = Yield(Reason.STUCK)
            creation = self._careful(creation, now)

    def _careful(self, creation: Creation, now: Step) -> Creation:
        """CREATION after the step NOW. If that fails or is interrupted, all is undone, and it is raised."""
        try:
            if not creation.leaving:
                RUN.due()
            return after(creation, now) if self._do(creation, now) else replace(creation, taken=True)
        except (Failure, Interrupted) as reason:
            done = isinstance(reason, Interrupted) and self._rapi.cancel()
            if done and isinstance(now, Commit):
                return after(creation, now)
            # A connection may be there even if its job failed, and a network whose answer was lost may be, too.
            if done or isinstance(now, Connect) or isinstance(now, Add) and isinstance(reason, Unreachable):
                creation = after(creation, now)
            self._undo(after(creation, Yield(Reason.FAILED)), reason)
            raise

    def _undo(self, creation: Creation, reason: BaseException) -> None:
        """Undo what CREATION did, because of REASON."""
        end, self._rapi.patient = time.monotonic() + LONG, True
        try:
            while not isinstance(now := step(creation, cluster := self._rapi.cluster()), End):
                if seen(creation, cluster) != creation:
                    creation = seen(creation, cluster)
                    continue
                if isinstance(now, Look) and time.monotonic() > end:
                    raise Failure("Ganeti does not show it", REPAIR)
                self._do(creation, now)
                creation = after(creation, now)
        except Failure as failure:
            first = reason.what if isinstance(reason, Failure) else f"interrupted by {reason}"
            what = f"{first}; and the unfinished network {self._wish.name} may be left: {failure.what}"
            raise Failure(what, REPAIR) from failure
        finally:
            self._rapi.patient = False

    def _do(self, creation: Creation, now: Step) -> bool:
        """Do the step NOW. Returns False if `network repair` took the network meanwhile."""
        wish, mine = self._wish, Network(uuid=creation.uuid, name=self._wish.name)
        match now:
            case Add(mac_prefix):
                self._rapi.add(
                    wish.name,
                    tags=[*sorted(wish.tags), *creation.tags],
                    network=wish.subnet,
                    gateway=wish.gateway,
                    network6=wish.subnet6,
                    gateway6=wish.gateway6,
                    mac_prefix=mac_prefix,
                )
            case Connect(group, link):
                self._rapi.connect(mine, group, link)
            case Commit():
                return self._rapi.untag(mine, *creation.tags)
            case Disconnect(group):
                self._rapi.disconnect(mine, group)
            case Remove():
                self._rapi.remove(mine)
            case Look() | Wait():
                time.sleep(self._pause)
            case Yield() | End() | Taken():
                pass
            case _:
                assert_never(now)
        return True

    def _ended(self, creation: Creation, networks: tuple[Network, ...]) -> Network | Reason:
        """What came of an attempt that has ended. Raises Failure if another attempt makes no sense."""
        if creation.committed:
            mine = next((network for network in networks if network.uuid == creation.uuid), None)
            if mine is None:
                raise Failure(f"the network {self._wish.name} was created, and somebody removed it at once", _SHOW)
            return replace(mine, tags=mine.tags.difference(creation.tags))  # Ganeti may not show yet that they are gone
        name = self._wish.name
        match creation.leaving:
            case Reason.NAME:
                raise Failure(f"there is a network {name} already, or somebody creates it now", _SHOW)
            case Reason.EXHAUSTED:
                what = f"no link is free for {name}: all {len(self._wish.links)} are used"
                raise Failure(what, "see: ganeti-vif network list")
        return creation.leaving or Reason.STUCK


_SHOW = "see: ganeti-vif network list"
