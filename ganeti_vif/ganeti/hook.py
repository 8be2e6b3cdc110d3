# SPDX-License-Identifier: BSD-2-Clause
"""The environment in which Ganeti runs a hook, as data.

Variables: ganeti lib/cmdlib/instance_utils.py:101-164, lib/cmdlib/network.py, lib/hooksmaster.py:112-185 at 3.0.2.
They describe the configuration, and that is not always what runs. After a modify without hotplug they have a NIC's new
MAC, address and link, but the running guest has the old ones until its next start. So for a NIC that runs, only its
network's data, its instance's name and its tags come from here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from zlib import crc32

from ganeti_vif.engine.failure import Failure
from ganeti_vif.ganeti.environment import network_of, parse_nic, tags
from ganeti_vif.nic.nic import Network, Nic

_NIC = re.compile(r"INSTANCE_NIC([0-9]{1,3})_UUID")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """One call of a hook. PATH is `watcher` for hooks/watcher: they get no GANETI_ variables."""

    path: str
    phase: str
    node_name: str | None = None
    mode: str | None = None
    link: str | None = None
    instance: InstanceNow | None = None
    migration: Migration | None = None

    @property
    def name(self) -> str:
        """The name of the call in messages."""
        return f"{self.path}-{self.phase}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """An instance that will move from the node SOURCE to TARGET. The taps of its NICS are unknown."""

    instance: str
    source: str
    target: str
    nics: tuple[Nic, ...]

    @property
    def id(self) -> str:
        """The move's name in the logs of both nodes: made only of values that the hook has on both."""
        return f"{crc32(' '.join((self.instance, self.source, self.target)).encode()):08x}"


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceNow:
    """An instance as a hook describes it. NETWORKS are by the UUID of the NIC: None for a NIC without a network."""

    name: str
    former_name: str
    tags: frozenset[str] | None = None
    networks: Mapping[str, Network | None] = field(default_factory=dict)


def hook_of(environment: Mapping[str, str]) -> Hook:
    """The call that ENVIRONMENT describes. Never fails: a missing or malformed value is None, or is left out."""
    given = {key.removeprefix("GANETI_"): value for key, value in environment.items() if key.startswith("GANETI_")}
    # The state after the operation counts: its variables repeat all the others with POST_ in front.
    given |= {key.removeprefix("POST_"): value for key, value in given.items() if key.startswith("POST_")}
    return Hook(
        path=given.get("HOOKS_PATH") or "watcher",
        phase=given.get("HOOKS_PHASE") or "post",
        node_name=given.get("NODE_NAME"),
        mode=given.get("GROUP_NETWORK_MODE"),
        link=given.get("GROUP_NETWORK_LINK"),
        instance=_instance(given) if given.get("INSTANCE_NAME") else None,
        migration=_migration(given) if given.get("INSTANCE_NAME") and "MIGRATE_LIVE" in given else None,
    )


def _migration(given: Mapping[str, str]) -> Migration | None:
    """The move before it begins: after it, Ganeti's OLD_PRIMARY is wrong. None for a cleanup: it moves nothing."""
    source, target = given.get("OLD_PRIMARY"), given.get("NEW_PRIMARY")
    if not source or not target or given.get("HOOKS_PHASE") != "pre" or given.get("MIGRATE_CLEANUP") == "True":
        return None
    nics = []
    for key in given:
        if match := _NIC.fullmatch(key):
            prefix = f"INSTANCE_NIC{match[1]}_"
            nic = {name.removeprefix(prefix): value for name, value in given.items() if name.startswith(prefix)}
            names = {"UUID": "INTERFACE_UUID", "NAME": "INTERFACE_NAME"}
            environment = {names.get(name, name): value for name, value in nic.items()}
            environment |= {"INSTANCE": given["INSTANCE_NAME"], "INTERFACE": "unknown", "INTERFACE_INDEX": match[1]}
            environment["TAGS"] = given.get("INSTANCE_TAGS", "")
            try:
                nics.append(parse_nic(environment, lambda tap: 0))
            except Failure:
                continue  # reported when Ganeti asks for an attach
    return Migration(instance=given["INSTANCE_NAME"], source=source, target=target, nics=tuple(nics))


def _instance(given: Mapping[str, str]) -> InstanceNow:
    name = given["INSTANCE_NAME"]
    networks: dict[str, Network | None] = {}
    for key, uuid in given.items():
        if match := _NIC.fullmatch(key):
            prefix = f"INSTANCE_NIC{match[1]}_"
            nic = {name.removeprefix(prefix): value for name, value in given.items() if name.startswith(prefix)}
            try:
                networks[uuid] = network_of(nic)
            except Failure:
                continue  # reported at the attach; here the NIC keeps the network of its attach
    return InstanceNow(
        name=given.get("INSTANCE_NEW_NAME") or name,
        former_name=name,
        tags=tags(given["INSTANCE_TAGS"]) if "INSTANCE_TAGS" in given else None,
        networks=networks,
    )
