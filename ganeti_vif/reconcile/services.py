# SPDX-License-Identifier: BSD-2-Clause
"""What no survey of the kernel sees: whether Ganeti would call us, whether our daemons run, and what they report."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from ganeti_vif.config import source
from ganeti_vif.config.model import Config
from ganeti_vif.doctor import services
from ganeti_vif.doctor.facts import HOOKS, SCRIPTS, Calls, Daemon
from ganeti_vif.engine.failure import Failure
from ganeti_vif.reconcile import responding
from ganeti_vif.reconcile.in_force import unapplied
from ganeti_vif.system import settings, units
from ganeti_vif.system.ask import ask

PATIENCE = 2.0
"""How many seconds to wait for the daemon's answer."""
GANETI = ("/usr/lib/ganeti", "/usr/local/lib/ganeti", "/var/lib/ganeti")
"""Where Ganeti (a package or an own build) or its data is. /etc/ganeti proves nothing: our own package is there."""
NIC_SETUP = ("/usr/lib/ganeti/kvm-nic-setup", "/usr/lib/ganeti/*/usr/lib/ganeti/kvm-nic-setup")
"""The program that runs network/MODE/{up,down}, since Ganeti 3.2 (tools/kvm-nic-setup.in)."""


@dataclass(slots=True)
class Services:
    """What the daemon and the responder report (None if one does not run), and what is wrong with all services."""

    daemon: dict[str, Any] | None
    responder: dict[str, Any] | None
    trouble: list[Failure] = field(default_factory=list)
    refused: list[Failure] = field(default_factory=list)
    """What guests do in vain, as the daemon says, and what to do about it."""


def trouble(config: Config, path: str = source.PATH) -> list[Failure]:
    """What is wrong with the services, as look() finds it. Raises Failure as look() does."""
    return look(config, path).trouble


def look(config: Config, path: str = source.PATH) -> Services:
    """Ask the daemon and the responder, find out whom Ganeti would call, and whether the file at PATH is in force.

    CONFIG is the configuration in force. Raises Failure if the copy in force is damaged or cannot be read.
    """
    state = daemon_state()
    responder, failures = responding.look(config)
    whom = calls()
    findings = [*services.scripts(whom), *services.hooks(whom)]
    # If the responder does not run, responding.look() has said so already, and in more detail.
    known = responder is not None or bool(failures)
    for daemon in daemons(config, runs=state is not None, responds=known):
        findings += services.stopped(daemon)
    found = [Failure(finding.what, finding.do) for finding in findings if finding.grave]
    found += [Failure(one["what"], one["do"]) for one in (state or {}).get("trouble", ())]
    edited = unapplied(path)
    refused = [Failure(one["what"], one["do"]) for one in (state or {}).get("claims", {}).values()]
    return Services(state, responder, [*([edited] if edited else []), *found, *failures], refused)


def daemon_state() -> dict[str, Any] | None:
    """The state of ganeti-vifd. None if it does not run, or does not answer in PATIENCE seconds."""
    answer = ask("state", {}, patience=PATIENCE)
    return json.loads(answer[1]) if answer else None


def calls() -> Calls:
    """The scripts and hooks that Ganeti would call on this node."""
    shipped = services.SHIPPED
    return Calls(
        ganeti=any(settings.exists(path) for path in GANETI),
        nic_setup=any(settings.texts(*NIC_SETUP)),
        scripts={name: settings.same_program(f"/etc/ganeti/{name}", f"{shipped}/{name}") for name in SCRIPTS},
        hooks={name: settings.link_of(f"/etc/ganeti/hooks/{name}/50-ganeti-vif") for name in HOOKS},
    )


def daemons(config: Config, *, runs: bool, responds: bool) -> tuple[Daemon, ...]:
    """The daemons that CONFIG needs. RUNS: ganeti-vifd runs. RESPONDS: the responder runs."""
    systemd = units.systemd()
    found = [("ganeti-vifd", "nobody repairs this node, or clears up after its VMs", runs)]
    found += [("ganeti-vif-responder", "guests get no address", responds)] if config.responds else []
    return tuple(
        Daemon(name=name, loss=loss, runs=runs, enabled=units.enabled(name), systemd=systemd)
        for name, loss, runs in found
    )
