# SPDX-License-Identifier: BSD-2-Clause
"""The networks of a cluster, for whoever builds on them: create, destroy, connect, disconnect, repair. Typed results.

The command `ganeti-vif network` is made of this class. docs/networks.md has a program that uses it. Nothing is stored
outside of Ganeti. Every method reads Ganeti anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ganeti_vif.cluster import leftovers
from ganeti_vif.cluster.creation import UNFINISHED, Wish, creating, unfinished
from ganeti_vif.cluster.creator import Creator
from ganeti_vif.cluster.leftovers import Mend, Release, Take
from ganeti_vif.cluster.model import Cluster, Network, Nic
from ganeti_vif.cluster.rapi import JobFailed, Outcome, Rapi, Unreachable
from ganeti_vif.engine.failure import Failure

OLD = 600.0
"""Seconds after which repair takes an unfinished network from its creator."""
LONG = 30.0
"""Seconds for which a change of ours may not be shown yet."""


@dataclass(frozen=True, slots=True)
class Connected:
    """A NIC that was added or removed. REBOOT: the guest notices only after a reboot."""

    nic: Nic
    reboot: bool


class Networks:
    """The networks behind RAPI, with their LINKS: those that private networks may have.

    Every method raises Failure if Ganeti refuses or does not answer, and Interrupted if the process shall end.
    """

    def __init__(self, rapi: Rapi, links: Sequence[str], *, pause: float = 0.2) -> None:
        self._rapi, self.links, self._pause = rapi, tuple(links), pause

    def cluster(self) -> Cluster:
        """All networks, with the NICs in them."""
        return self._rapi.cluster()

    def create(self, wish: Wish) -> Network:
        """Create a network; all or nothing. Raises Failure if the name is used, or no link is free."""
        return Creator(self._rapi, wish, pause=self._pause).run()

    def destroy(self, name: str, *, disconnect: bool = False) -> Network:
        """Destroy the network NAME. Its link is free then. With DISCONNECT its NICs are removed first.

        Raises Failure if NICs are in it, and names them. If the process dies, the same call or repair does the rest.
        """
        cluster = self.cluster()
        network = cluster.network(name)
        members = list(cluster.members(network))
        if members and not disconnect:
            raise Failure(f"{network.name} is in use by {', '.join(nic.whom for nic in members)}", _IN_USE)
        if creating(network):
            raise Failure(
                f"{network.name} is unfinished: somebody creates it, or died over it", "ganeti-vif network repair"
            )
        self._rapi.tag(network, UNFINISHED)  # from now on `connect` refuses it, and repair knows what to do with it
        try:
            for nic in members:
                self._rapi.remove_nic(nic)
            for group in sorted(network.groups):
                self._rapi.disconnect(network, group)
        except JobFailed:
            if any(
                self.cluster().members(network)
            ):  # a NIC stayed, or somebody added one by hand: it needs its network
                self._rapi.untag(network, UNFINISHED)
            raise
        self._rapi.remove(network)
        self._until(lambda: all(one.uuid != network.uuid for one in self.cluster().networks))
        return network

    def connect(self, instance: str, name: str, *, ip: str = "pool", nic: str = "", reboot: bool = False) -> Connected:
        """Give INSTANCE a NIC in the network NAME, with the address IP (`pool`: a free one; empty: none), called NIC.

        A guest that runs gets it at once, if Ganeti can do that. If not, REBOOT says whether the guest is rebooted.
        Raises Failure if the instance is in that network already.
        """
        cluster = self.cluster()
        network, whom = cluster.network(name), cluster.instance(instance)
        if unfinished(network):
            raise Failure(
                f"{network.name} is unfinished: somebody creates or destroys it", "see: ganeti-vif network repair"
            )
        if present := [one for one in cluster.members(network) if one.instance == whom.name]:
            what = f"{present[0].whom} is in {network.name} already"
            raise Failure(what, f"see: ganeti-vif network show {network.name}")
        outcome = self._rapi.add_nic(whom.name, network, ip=ip, name=nic)
        added = self._shown(whom.name, network)
        return Connected(added, self._rebooted(whom.name, outcome, whom.up, reboot))

    def disconnect(self, instance: str, name: str, *, nic: str = "", reboot: bool = False) -> Connected:
        """Take the NIC of INSTANCE in the network NAME away. If there are several, NIC is its UUID, name or address.

        Raises Failure if there is no such NIC, or if there are several.
        """
        cluster = self.cluster()
        network, whom = cluster.network(name), cluster.instance(instance)
        found = [one for one in cluster.members(network) if one.instance == whom.name]
        found = [one for one in found if nic in ("", one.uuid, one.name, one.ip)]
        if not found:
            raise Failure(
                f"{whom.name} has no such NIC in {network.name}", f"see: ganeti-vif network show {network.name}"
            )
        if len(found) > 1:
            uuids = ", ".join(one.uuid for one in found)
            raise Failure(f"{whom.name} has {len(found)} NICs in {network.name}", f"note: name one with --nic: {uuids}")
        outcome = self._rapi.remove_nic(found[0])
        self._until(lambda: all(one.uuid != found[0].uuid for one in self.cluster().nics))
        return Connected(found[0], self._rebooted(whom.name, outcome, whom.up, reboot))

    def repair(self, *, older: float = OLD, dry_run: bool = False) -> Iterator[tuple[Network, Mend]]:
        """Finish what dead creators and destroyers left, and yield each step before it is done.

        A network that somebody creates is left alone until it is OLDER than so many seconds. To take it is safe at any
        time: the creator notices, and gives up.
        """
        for network in leftovers.left(self.cluster(), before=time.time() - older):
            try:
                yield from self._mended(network, dry_run)
            except Unreachable:
                raise
            except Failure as failure:
                raise failure.about(network.name) from failure

    def _mended(self, network: Network, dry_run: bool) -> Iterator[tuple[Network, Mend]]:
        done: Mend | None = None
        end = time.monotonic() + LONG
        while True:
            cluster = self.cluster()
            now = next((one for one in cluster.networks if one.uuid == network.uuid), None)
            step = leftovers.mend(now, cluster) if now else None
            if step is None:
                return
            if done and step == done and time.monotonic() < end:  # Ganeti does not show yet what we did
                time.sleep(self._pause)
                continue
            yield network, step
            if dry_run or not self._mend(step):
                return
            done, end = step, time.monotonic() + LONG

    def _mend(self, step: Mend) -> bool:
        """Do STEP. Returns False if the network turned out to have a creator that has just finished it."""
        match step:
            case Take(network, tag):
                return self._rapi.untag(network, tag)
            case Release(network):
                self._rapi.untag(network, UNFINISHED)
            case leftovers.Disconnect(network, group):
                self._rapi.disconnect(network, group)
            case leftovers.Remove(network):
                self._rapi.remove(network)
        return True

    def _shown(self, instance: str, network: Network) -> Nic:
        """The NIC of INSTANCE in NETWORK that was just added. Raises Failure if Ganeti does not show it in time."""
        found: list[Nic] = []

        def there() -> bool:
            found.extend(one for one in self.cluster().members(network) if one.instance == instance)
            return bool(found)

        if not self._until(there):
            what = f"Ganeti says that {instance} is in {network.name} now, and shows no such NIC"
            raise Failure(what, f"see: gnt-instance info {instance}")
        return found[0]

    def _until(self, shown: Callable[[], bool]) -> bool:
        """Wait until Ganeti shows what was done, so that the next command sees it, too. Returns whether it does."""
        end = time.monotonic() + LONG
        while not (done := shown()) and time.monotonic() < end:
            time.sleep(self._pause)
        return done

    def _rebooted(self, instance: str, outcome: Outcome, up: bool, reboot: bool) -> bool:
        """Reboot INSTANCE if it needs that and REBOOT says so. Returns whether it needs a reboot still."""
        if not up or any(value == "hotplug:done" for _, value in outcome):
            return False
        if reboot:
            self._rapi.reboot(instance)
        return not reboot


_IN_USE = "note: disconnect them first, or destroy it with --disconnect, which removes these NICs"
