# SPDX-License-Identifier: BSD-2-Clause
"""The facts about a node that the checks need. They are read before the checks run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ganeti_vif.config.model import Config
from ganeti_vif.doctor.forwarding import ForwardChain
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
    "node-modify-post.d",
    "node-remove-post.d",
    "cluster-verify-post.d",
    "watcher",
)
"""The directories below /etc/ganeti/hooks in which the package has a hook (Makefile)."""
HOOK = "/usr/lib/ganeti-vif/hook"
SCRIPTS = (
    "kvm-vif-bridge",
    *(f"network/{mode}/{action}" for mode in ("bridged", "routed", "openvswitch") for action in ("up", "down")),
)
"""The scripts below /etc/ganeti that Ganeti runs for a NIC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A conflict, and the command DO that mends it, as in a Failure (engine/failure.py).

    NOTE has what no command can do. A finding that is not GRAVE is worth knowing, but everything works.
    """

    what: str
    do: str
    note: str | None = None
    grave: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """The programs that Ganeti would call.

    SCRIPTS: whether each is ours and executable; None if it is missing. HOOKS: the target of our link in each
    directory; None if it is missing. NIC_SETUP: the Ganeti of this node calls network/MODE/{up,down}.
    """

    ganeti: bool = True
    nic_setup: bool = False
    scripts: Mapping[str, bool | None] = field(default_factory=dict)
    hooks: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """A daemon of ours: whether it runs, whether the node's init starts it at boot, and the LOSS if it does not run."""

    name: str
    loss: str
    runs: bool
    enabled: bool
    systemd: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process of another program."""

    pid: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFile:
    """A .network file of systemd-networkd: the device NAMES in its [Match], its Unmanaged= and IPv6ProxyNDP=."""

    path: str
    names: tuple[str, ...]
    unmanaged: bool
    proxy_ndp: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Networkd:
    """A running systemd-networkd: the [Network] section of its configuration, and its .network files in order."""

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
    """A policy rule of another program, for incoming packets of DEVICE. VERSION is 4 or 6."""

    version: int
    device: str
    priority: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The facts about a node. None means unknown or missing."""

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
    """Routes in the main table, made by other programs, to destinations on the link of a [public] uplink."""
    followers: tuple[str, ...] = ()
    """Chains of other programs that need the connections of forwarded packets (conntrack)."""
    forwarding: tuple[ForwardChain, ...] = ()
    """The base chains of the hook `forward`, whoever made them."""
    dhcp: tuple[Process, ...] = ()
    """Processes that listen on the port of DHCP servers."""
    nfdhcpd: tuple[Process, ...] = ()
    tables: Mapping[str, int] = field(default_factory=dict)
    calls: Calls = field(default_factory=Calls)
    daemons: tuple[Daemon, ...] = ()
    systemd: bool = True
