# SPDX-License-Identifier: BSD-2-Clause
"""Whether Ganeti would call us, and whether our daemons run: what no look at the kernel tells. Decided here, once, for
`doctor`, `check`, `status` and `gnt-cluster verify`."""

from __future__ import annotations

from collections.abc import Iterator

from ganeti_vif.doctor.facts import HOOK, Calls, Daemon, Finding

SHIPPED = "/usr/share/ganeti-vif/scripts"
"""Where the package keeps Ganeti's scripts as they should be."""
STUB = "kvm-vif-bridge"


def scripts(calls: Calls) -> Iterator[Finding]:
    """Ganeti calls what is in /etc/ganeti, whosever it is, if it may be executed: up to 3.1 kvm-vif-bridge, from 3.2
    on network/MODE/{up,down}. What the Ganeti of this node does not call is only worth a note."""
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
    """Without its hooks a node hears of changes at the next look only, and nobody refuses a network it cannot have."""
    for directory, target in calls.hooks.items() if calls.ganeti else ():
        if target != HOOK:
            there = f"/etc/ganeti/hooks/{directory}"
            yield Finding(
                what=f"the hook {there}/50-ganeti-vif is {'missing' if target is None else 'another program'}",
                do=f"mkdir -p {there} && ln -sfn {HOOK} {there}/50-ganeti-vif",
            )


def stopped(daemon: Daemon) -> Iterator[Finding]:
    """A DAEMON that does not run. One that is not to be started at boot was stopped on purpose: a note."""
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
