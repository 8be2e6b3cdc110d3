# SPDX-License-Identifier: BSD-2-Clause
"""The networks of a cluster, as Ganeti has them at one moment. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ganeti_vif.engine.failure import Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A network's connection to a node group: NICs in the network get this MODE and LINK there."""

    group: str
    mode: str
    link: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network. CTIME is the time of its creation, in seconds since 1970. What Ganeti does not have is empty."""

    uuid: str
    name: str
    subnet: str = ""
    gateway: str = ""
    subnet6: str = ""
    gateway6: str = ""
    mac_prefix: str = ""
    tags: frozenset[str] = frozenset()
    connections: tuple[Connection, ...] = ()
    ctime: float = 0.0

    @property
    def links(self) -> frozenset[str]:
        return frozenset(connection.link for connection in self.connections)

    @property
    def groups(self) -> frozenset[str]:
        return frozenset(connection.group for connection in self.connections)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nic:
    """A NIC of an INSTANCE. NETWORK is the UUID of its network, or empty. INDEX changes when another NIC is removed."""

    uuid: str
    instance: str
    index: int
    name: str = ""
    mac: str = ""
    ip: str = ""
    mode: str = ""
    link: str = ""
    network: str = ""

    @property
    def whom(self) -> str:
        """The NIC in words."""
        return f"{self.instance} NIC {self.index}{f' ({self.ip})' if self.ip else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """An instance. UP: Ganeti wants it to run."""

    name: str
    up: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What Ganeti had at one moment."""

    networks: tuple[Network, ...] = ()
    nics: tuple[Nic, ...] = ()
    instances: tuple[Instance, ...] = ()
    groups: tuple[str, ...] = ()

    def network(self, name: str) -> Network:
        """The network with that NAME or UUID.

        Raises Failure if there is none, or if several have that name (Ganeti does not prevent that).
        """
        found = [network for network in self.networks if name in (network.uuid, network.name)]
        if len(found) > 1:
            uuids = ", ".join(network.uuid for network in found)
            raise Failure(f"{len(found)} networks have the name {name}", f"note: name one by its UUID: {uuids}")
        if not found:
            raise Failure(f"there is no network {name}", "see: ganeti-vif network list")
        return found[0]

    def instance(self, name: str) -> Instance:
        """The instance NAME, which may be short: `web` for web.example.com. Raises Failure if there is no one such."""
        exact = [one for one in self.instances if one.name == name]
        found = exact or [one for one in self.instances if one.name.startswith(f"{name}.")]
        if len(found) != 1:
            many = "several instances are" if found else "there is no instance"
            raise Failure(f"{many} {name}", "see: gnt-instance list -o name")
        return found[0]

    def members(self, network: Network) -> Iterator[Nic]:
        """The NICs in NETWORK."""
        return (nic for nic in self.nics if nic.network == network.uuid)
