# SPDX-License-Identifier: BSD-2-Clause
"""Whether Ganeti calls our scripts and hooks, and whether our daemons run. A survey of the kernel does not show this.

`doctor`, `check`, `status` and `gnt-cluster verify` all use these decisions.
"""

from __future__ import annotations

from collections.abc import Iterator

from ganeti_vif.doctor.facts import HOOK, Calls, Daemon, Finding

SHIPPED = "/usr/share/ganeti-vif/scripts"
"""The package's own copies of Ganeti's scripts."""
STUB = "kvm-vif-bridge"


def scripts(calls: Calls) -> Iterator[Finding]:
    """Ganeti calls the scripts in /etc/ganeti, ours or not: up to 3.1 kvm-vif-bridge, since 3.2 network/MODE/{up,down}.

    A script that the Ganeti of this node does not call is only worth a note.
    """
    for name, ours in calls.scripts.items() if calls.ganeti else ():
        if ours:
            continue
        there = f"/etc/ganeti/{name}"
        yield Finding(
            what=f"{there} is {'missing' if ours is None else 'not of ganeti-vif'}: Ganeti does not call ganeti-vif",
            do=f"install -D -b -m 755 {SHIPPED}/{name} {there}",
            note="the same on the master, or the next gnt-cluster redist-conf brings the other one back"
            if name == STUB
            else None,
            grave=name == STUB or calls.nic_setup,
        )


def hooks(calls: Calls) -> Iterator[Finding]:
    """Without its hooks a node learns of changes at the next survey only, and no bad network is refused."""
    for directory, target in calls.hooks.items() if calls.ganeti else ():
        if target != HOOK:
            there = f"/etc/ganeti/hooks/{directory}"
            yield Finding(
                what=f"the hook {there}/50-ganeti-vif is {'missing' if target is None else 'another program'}",
                do=f"mkdir -p {there} && ln -sfn {HOOK} {there}/50-ganeti-vif",
            )


def stopped(daemon: Daemon) -> Iterator[Finding]:
    """A DAEMON that does not run. If it is not enabled, an administrator stopped it on purpose: that is a note."""
    if daemon.runs:
        return
    if daemon.enabled:
        yield Finding(
            what=f"{daemon.name} does not run, or does not answer: {daemon.loss}", do=f"service {daemon.name} restart"
        )
        return
    start = f"update-rc.d {daemon.name} enable && service {daemon.name} start"
    yield Finding(
        what=f"{daemon.name} does not run, and is not to be started at boot: {daemon.loss}",
        do=f"systemctl enable --now {daemon.name}" if daemon.systemd else start,
        grave=False,
    )
