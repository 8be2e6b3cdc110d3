# SPDX-License-Identifier: BSD-2-Clause
"""`ganeti-vif adopt`: take over NICs of running guests that another script attached, or whose records were lost."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ganeti_vif.cli.configuration import known
from ganeti_vif.cli.status import section
from ganeti_vif.config.model import Config
from ganeti_vif.desired import routed
from ganeti_vif.desired.adopt import Here, Plugged, Verdict, judge
from ganeti_vif.engine.commands import commands
from ganeti_vif.engine.difference import Change
from ganeti_vif.engine.failure import Failure
from ganeti_vif.ganeti import runtime
from ganeti_vif.kernel.netlink.links import Devices
from ganeti_vif.lifecycle.announce import announce
from ganeti_vif.lifecycle.recorded import recorded_nics
from ganeti_vif.lifecycle.take_over import relieve, take_over
from ganeti_vif.nic.nic import Nic
from ganeti_vif.nic.record import nic_of
from ganeti_vif.system import lock, log, records
from ganeti_vif.system.complaint import complain
from ganeti_vif.system.node import Node
from ganeti_vif.system.qemu import running as qemu

UNTOLD = (
    "the instances' tags are in no runtime file: the next hook of an instance (gnt-instance modify, start) brings them"
)


@dataclass(slots=True)
class Outcome:
    """The result: NICs with their state and their changes, and the reasons why others are left alone."""

    nics: list[tuple[Nic, str, tuple[Change, ...]]] = field(default_factory=list)
    refused: list[Failure] = field(default_factory=list)


def adopt(given: argparse.Namespace, _: Mapping[str, str]) -> int:
    """Take over all NICs that can be, or show them with --dry-run. Returns the exit status: 1 if one could not be.

    Raises Failure if the configuration, the node or the runtime files cannot be read.
    """
    config = known(given)
    outcome = Outcome()
    with Node() as node:
        here = _here(node.devices())  # before QEMU is asked, so that no tap can take a name in between: see qemu.taps()
        for instance in qemu.instances():
            verdict = _look(instance, here, outcome)
            for nic in (*verdict.recorded, *verdict.adopted):
                _take(nic, config, node, outcome, dry_run=given.dry_run)
            outcome.nics += [(nic, "not in QEMU", ()) for nic in verdict.unplugged]
            outcome.refused += verdict.refused
    _show(outcome, given)
    for failure in outcome.refused:
        complain(failure)
    return 1 if outcome.refused else 0


def _look(name: str, here: Here, outcome: Outcome) -> Verdict:
    """The verdict on the NICs of the instance NAME. An empty one if it does not run (its runtime file is old)."""
    try:
        text = qemu.runtime(name)
        taps = qemu.taps(name)
        if taps is None:
            return Verdict()
        if text is None:
            raise Failure(f"{name}: it runs and has no runtime file", f"gnt-instance reboot --type=hard {name}")
        if text != qemu.runtime(name):  # a hot-modified NIC keeps its name in QEMU
            raise Failure(f"{name}: its NICs changed while it was looked at", "ganeti-vif adopt")
        instance = runtime.instance_of(name, text)
    except Failure as failure:
        outcome.refused.append(failure)
        return Verdict()
    return judge(instance, Plugged(taps=taps.by_netdev, by_mac=taps.netdev_by_mac), here)


def _here(devices: Devices) -> Here:
    return Here(
        links={name: device.link for name, device in devices.by_name.items()},
        masters={name: device.master for name, device in devices.by_name.items() if device.master},
        recorded={nic.tap: nic for nic in recorded_nics()},
    )


def _take(nic: Nic, config: Config, node: Node, outcome: Outcome, *, dry_run: bool) -> None:
    """Take over one NIC, all or nothing. The lock is held for one NIC only, so that no VM waits for all of them."""
    try:
        with lock.held("nics"):
            ours = _is_recorded(nic)  # Ganeti's script may have attached it meanwhile
            changes = (relieve if ours else take_over)(nic, config, node, dry_run=dry_run)
            if not ours and not dry_run:
                announce(nic, config, node)
            if changes and not dry_run:
                log.say(f"{nic.whom}: adopted as {nic.mode.value} {nic.link}, {len(changes)} changes; NIC {nic.uuid}")
    except Failure as failure:
        outcome.refused.append(failure)
    else:
        outcome.nics.append((nic, "recorded" if ours else "to adopt" if dry_run else "adopted", changes))


def _is_recorded(nic: Nic) -> bool:
    record = records.read_record(nic.tap)
    try:
        known = nic_of(record) if record else None
    except Failure:
        return False  # damaged
    return known is not None and (known.index, known.uuid) == (nic.index, nic.uuid)


def _show(outcome: Outcome, given: argparse.Namespace) -> None:
    if given.json:
        trouble = [{"what": failure.what, "do": failure.do} for failure in outcome.refused]
        print(json.dumps({"nics": [_plain(*row) for row in outcome.nics], "trouble": trouble}, indent=2))
        return
    rows = [_row(nic, state) for nic, state, _ in outcome.nics]
    lines = [*section(("INSTANCE", "NIC", "TAP", "MODE", "LINK", "ADDRESSES", "STATE"), rows)]
    if given.dry_run:
        for nic, _, changes in outcome.nics:
            if changes:
                lines += [f"# {nic.whom}", *(line for change in changes for line in commands(change)), ""]
    if any(state in ("adopted", "to adopt") for _, state, _ in outcome.nics):
        lines.append(f"note: {UNTOLD}")
    elif not outcome.nics:
        lines.append("no instance of Ganeti runs here" if not outcome.refused else "nothing that can be adopted")
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()


def _row(nic: Nic, state: str) -> tuple[str, ...]:
    tap = nic.tap if nic.index else "-"
    addresses = " ".join(map(str, routed.addresses(nic))) or "-"
    return (nic.instance, nic.name or nic.uuid[:8], tap, nic.mode.value, nic.link, addresses, state)


def _plain(nic: Nic, state: str, changes: tuple[Change, ...]) -> dict[str, Any]:
    return {
        "instance": nic.instance,
        "name": nic.name,
        "uuid": nic.uuid,
        "tap": nic.tap if nic.index else None,
        "mode": nic.mode.value,
        "link": nic.link,
        "mac": nic.mac,
        "addresses": [str(address) for address in routed.addresses(nic)],
        "state": state,
        "commands": [line for change in changes for line in commands(change)],
    }
