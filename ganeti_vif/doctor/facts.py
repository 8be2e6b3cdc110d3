# SPDX-License-Identifier: BSD-2-Clause
"""What is read of a node before it is decided whether something is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ganeti_vif.config.model import Config
from ganeti_vif.engine.objects import Route
from ganeti_vif.nic.nic import Nic
from ganeti_vif.predecessors.interfaces import Stanza

HOOKS = (
    *(
        f"instance-{what}-post.d"
        for what in (
            "add",
            "start",
            "stop",
            "reboot",
            "migrate",
            "failover",
            "move",
            "modify",
            "rename",
            "remove",
            "export",
        )
    ),
    "instance-migrate-pre.d",
    "network-connect-pre.d",
    "network-connect-post.d",
    "network-disconnect-post.d",
    "network-modify-post.d",
    "network-remove-post.d",
    "node-add-post.d",
    "cluster-verify-post.d",
    "watcher",
)
"""Where Ganeti looks for hooks, below /etc/ganeti/hooks, of those that we have one in (Makefile)."""
HOOK = "/usr/lib/ganeti-vif/hook"
SCRIPTS = (
    "kvm-vif-bridge",
    *(f"network/{mode}/{action}" for mode in ("bridged", "routed", "openvswitch") for action in ("up", "down")),
)
"""What Ganeti runs for a NIC, below /etc/ganeti."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is wrong, and the command that mends it; a NOTE says what a command cannot. Not GRAVE: worth knowing, and
    everything works. DO is as a Failure's (engine/failure.py)."""

    what: str
    do: str
    note: str | None = None
    grave: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """Whom Ganeti would call. SCRIPTS: whether each of them is ours and may be executed, None if it is missing. HOOKS:
    where our link in each of them points to. NIC_SETUP: this node has a Ganeti that calls network/MODE/{up,down}."""

    ganeti: bool = True
    nic_setup: bool = False
    scripts: Mapping[str, bool | None] = field(default_factory=dict)
    hooks: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """A daemon of ours: whether it runs, whether the node's init starts it at boot, and the LOSS without it."""

    name: str
    loss: str
    runs: bool
    enabled: bool
    systemd: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """Another program that runs."""

    pid: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFile:
    """A .network file of systemd-networkd: to which names it applies, whether it leaves them alone, and whether they
    answer neighbour solicitations for others."""

    path: str
    names: tuple[str, ...]
    unmanaged: bool
    proxy_ndp: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Networkd:
    """systemd-networkd, which runs: the [Network] of its configuration, and its .network files in order."""

    settings: Mapping[str, str] = field(default_factory=dict)
    files: tuple[NetworkFile, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class XtablesRule:
    """A rule of PROGRAM (iptables-nft, ebtables-legacy), as `-A FORWARD -i tap0 -j DROP`; or a chain, `-N NAME`."""

    program: str
    table: str
    rule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRule:
    """A policy rule of somebody else's, for what comes in by DEVICE."""

    version: int
    device: str
    priority: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The node. What is None could not be told, or is not there; each check says what it needs."""

    config: Config
    nics: tuple[Nic, ...] = ()
    devices: frozenset[str] = frozenset()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    modules: Mapping[str, bool | None] = field(default_factory=dict)
    networkd: Networkd | None = None
    unmanaged: tuple[str, ...] | None = None
    """Patterns and names of devices that NetworkManager leaves alone; None if it does not run."""
    ifupdown2: bool = False
    stanzas: tuple[Stanza, ...] = ()
    xtables: tuple[XtablesRule, ...] = ()
    rules: tuple[PolicyRule, ...] = ()
    routes: tuple[Route, ...] = ()
    """Those of the main table that others made for what is on the link of a [public] uplink."""
    dhcp: tuple[Process, ...] = ()
    """What listens where DHCP servers do."""
    nfdhcpd: tuple[Process, ...] = ()
    tables: Mapping[str, int] = field(default_factory=dict)
    calls: Calls = field(default_factory=Calls)
    daemons: tuple[Daemon, ...] = ()
    systemd: bool = True
