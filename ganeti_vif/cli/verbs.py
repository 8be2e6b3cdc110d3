# SPDX-License-Identifier: BSD-2-Clause
"""The verbs of `ganeti-vif`. Each does its work through the engine, holds its locks, and prints the result.

Each gets the flags and the environment. It returns the exit status: 0, or 1 if something is wrong on the node. Each
raises Failure if it could not do its work at all.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ganeti_vif.cli import explain, on_trial, status
from ganeti_vif.cli.configuration import applied, known, tell_daemons
from ganeti_vif.cli.progress import Bar
from ganeti_vif.cli.report import report
from ganeti_vif.config import parse
from ganeti_vif.config.model import Config, Consumer, Private, Public
from ganeti_vif.engine.commands import commands
from ganeti_vif.engine.difference import Change
from ganeti_vif.engine.failure import Failure, remedy
from ganeti_vif.engine.naming import findings
from ganeti_vif.ganeti import environment as ganeti
from ganeti_vif.lifecycle.announce import announce
from ganeti_vif.lifecycle.detach import detach
from ganeti_vif.lifecycle.order import up
from ganeti_vif.lifecycle.recorded import recorded
from ganeti_vif.lifecycle.taps import tap_index
from ganeti_vif.nic.nic import Mode, Nic
from ganeti_vif.reconcile import reconcile as whole_node
from ganeti_vif.reconcile import services, setup, trial
from ganeti_vif.reconcile import survey as whole
from ganeti_vif.reconcile.forwarding import forward_drops
from ganeti_vif.reconcile.in_force import in_force, put_down
from ganeti_vif.system import lock, log
from ganeti_vif.system.node import Node

IMPORTED = "/etc/ganeti-vif/ganeti-vif.conf.imported"

NIC_FLAGS: Mapping[str, str] = {
    "instance": "name of the instance",
    "interface": "name of the tap",
    "interface-uuid": "UUID of the NIC (default: made from instance and MAC)",
    "interface-index": "index of the NIC",
    "interface-name": "name of the NIC",
    "mac": "MAC address of the NIC",
    "mode": "how it is connected",
    "link": "bridge, or public link or routing table",
    "vlan": "VLANs, as .10 or :20:30 or .10:20:30",
    "ip": "IP address of the NIC",
    "tags": "tags of the instance, separated by blanks",
    "network-name": "name of the network",
    "network-uuid": "UUID of the network (default: made from its name)",
    "network-tags": "tags of the network, separated by blanks",
    "network-subnet": "IPv4 subnet of the network",
    "network-gateway": "IPv4 gateway of the network",
    "network-subnet6": "IPv6 subnet of the network",
    "network-gateway6": "IPv6 gateway of the network",
    "network-mac-prefix": "MAC prefix of the network",
}
"""The variables of Ganeti's environment, as flags of attach."""

NIC_CHOICES: Mapping[str, tuple[str, ...]] = {"mode": tuple(mode.value for mode in Mode)}
"""The flags with a fixed set of values."""


def set_up(given: argparse.Namespace, _: Mapping[str, str]) -> int:
    """Make and repair private networks and public links."""
    if given.on_trial and not given.dry_run:
        return on_trial.set_up(given)
    with lock.held("node"), Node() as node, Bar("changes") as bar:
        private, config = _chosen(given)
        changes, refused = whole_node.set_up(private, config, node, dry_run=given.dry_run, progress=bar.show)
        refused += setup.unusable(config.profiles, node)
        if given.private is None:
            refused += whole.stranded(config, node, refused)
    if given.private is None and not given.dry_run:
        whole_node.announce_moved(config)
    _log(given, "setup", changes)
    return report(given, changes, refused)


def tear_down(given: argparse.Namespace, _: Mapping[str, str]) -> int:
    """Remove private networks and public links that no VM uses."""
    with lock.held("node"), Node() as node, Bar("devices") as bar:
        private, public = _released(given)
        # Only a part goes, and NFDHCPD serves the other networks.
        queued = given.private is not None and _configured(given).bindings.consumer is Consumer.NFDHCPD
        others = given.private is None
        changes, refused = setup.teardown(
            private, public, node, queued=queued, others=others, dry_run=given.dry_run, progress=bar.show
        )
        if not refused and given.private is None and not given.dry_run:
            put_down(given.config)
            tell_daemons()
    _log(given, "teardown", changes)
    return report(given, changes, refused)


def _log(given: argparse.Namespace, verb: str, changes: Sequence[Change]) -> None:
    if changes and not given.dry_run:
        log.say(f"{verb}: {len(changes)} changes, the first: {next(commands(changes[0]))}")


def _chosen(given: argparse.Namespace) -> tuple[tuple[Private, ...], Config]:
    """The private networks to set up, and the configuration with the public links to set up.

    Without flags these are all of the configuration. With --private it is one private network, as the flags say.
    Raises Failure if the configuration or a flag is invalid.
    """
    if given.private is None:
        config = applied(given)
        return config.private, config
    return (_flagged(given),), replace(_configured(given), public=(), profiles=())


def _released(given: argparse.Namespace) -> tuple[tuple[Private, ...], tuple[Public, ...]]:
    """The private networks and public links to remove. Raises Failure if --private names one in force."""
    if given.private is None:
        config = in_force(given.config).config
        return config.private, config.public
    config = _configured(given)
    flagged = _flagged(given)
    if kept := sorted({*flagged.bridges} & {name for private in config.private for name in private.bridges}):
        what = f"{kept[0]} is in the configuration in force: ganeti-vifd and Ganeti's hooks would make it again"
        raise Failure(what, f"note: take it out of {given.config}, then: ganeti-vif setup")
    return (flagged,), ()


def _flagged(given: argparse.Namespace) -> Private:
    """The private networks that the flags name. Raises Failure if a flag is invalid."""
    prefix, separator, ranges = given.private.partition("=")
    if not separator:
        raise Failure(f"--private {given.private}: no PREFIX=RANGES", "note: for example: --private pvn=1-100,200")
    family = next((one for one in _configured(given).private if one.prefix == prefix), None)
    return parse.restricted(family, prefix, ranges, given.uplink, given.mtu)


def _configured(given: argparse.Namespace) -> Config:
    """The configuration in force; an empty one if there is no file. Networks from flags need no file."""
    return in_force(given.config).config if os.path.exists(given.config) else Config()


def show_status(given: argparse.Namespace, _: Mapping[str, str]) -> int:
    """Show private networks, public links and NICs, or the NICs of one instance."""
    config = in_force(given.config).config
    with Node() as node:
        found = whole.survey(config, node)
    said = services.look(config, given.config)
    found.trouble = said.trouble + trial.overdue() + found.trouble
    found.remarks += trial.running() + said.refused
    shown = status.status(config, found, said.daemon, said.responder)
    if given.instance:
        shown = status.of_instance(shown, given.instance)
    if given.json:
        print(json.dumps(shown, indent=2))
    else:
        sys.stdout.writelines(f"{line}\n" for line in status.table(shown))
    return 0


def explain_nics(given: argparse.Namespace, _: Mapping[str, str]) -> int:
    """Show NICs, their rules, and what becomes of a packet."""
    config = known(given)
    with Node() as node:
        shown = explain.explained(given.whom, given.packet, config, node)
    if given.json:
        print(json.dumps(shown, indent=2))
    else:
        sys.stdout.writelines(f"{line}\n" for line in explain.told(shown))
    return 0


def check(given: argparse.Namespace, _: Mapping[str, str]) -> int:
    """List each difference between desired and actual state; status 1 if there is one. Notes do not count."""
    config = in_force(given.config).config
    with Node() as node:
        found = whole.survey(config, node)
        found.trouble += forward_drops(found.nics, config, node)
    said = services.look(config, given.config)
    found.trouble = said.trouble + trial.overdue() + found.trouble
    found.remarks += trial.running() + said.refused
    if given.json:
        trouble = [{"what": failure.what, "do": failure.do} for failure in found.trouble]
        notes = [{"what": note.what, "do": note.do} for note in found.notes]
        print(json.dumps({"differences": found.findings, "trouble": trouble, "notes": notes}, indent=2))
    else:
        fixes = {failure.what: f"  {remedy(failure.do)}\n" for failure in found.trouble}
        sys.stdout.writelines(f"{line}\n{fixes.get(line, '')}" for line in found.findings)
        for note in found.notes:
            sys.stdout.writelines(f"{line}\n" for line in status.noted(note.what, note.do))
    return 1 if found.findings else 0


def reconcile(given: argparse.Namespace, _: Mapping[str, str]) -> int:
    """Reconcile the whole node, leftovers of dead taps included."""
    with lock.held("node"):
        config = applied(given)  # before the lock `nics`: a daemon that waits for that lock answers no client
        with lock.held("nics"), Node() as node:
            found = whole.survey(config, node) if given.dry_run else whole_node.reconcile(config, node)
    if not given.dry_run:
        whole_node.announce_moved(config)
        for line in findings(found.changes):
            log.say(f"reconciled: {line}", log.Level.WARNING)
    return report(given, found.changes, found.trouble)


def examine(given: argparse.Namespace, _: Mapping[str, str]) -> int:
    """Find conflicts with what else is on this node."""
    from ganeti_vif.cli import doctor  # only this verb needs it, and others must not wait for its import

    return doctor.run(given)


def import_settings(given: argparse.Namespace, _: Mapping[str, str]) -> int:
    """Turn settings of snf-network or gnt-networking into ours."""
    from ganeti_vif.cli import importing

    return importing.run(given)


def networks(given: argparse.Namespace, _: Mapping[str, str]) -> int:
    """Create, destroy and show private networks of the whole cluster."""
    from ganeti_vif.cli import network

    return network.run(given)


def attach_nic(given: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """Attach a NIC, described by flags or by Ganeti's environment."""
    if not _environment_of(given) and not environment.get("INTERFACE"):
        given.wrong("which NIC? say at least --instance, --interface, --mac, --mode and --link")
    nic = ganeti.parse_nic(_environment_of(given) or environment, tap_index)
    config = known(given)
    with lock.held("nics"), Node() as node:
        changes = up(nic, config, node, dry_run=given.dry_run)
        if not given.dry_run:
            announce(nic, config, node)
    return report(given, changes, [])


def _environment_of(given: argparse.Namespace) -> dict[str, str]:
    """The flags as Ganeti's environment; empty if there are none."""
    values = {flag: getattr(given, flag.replace("-", "_")) for flag in NIC_FLAGS}
    flags = {flag.replace("-", "_").upper(): value for flag, value in values.items() if value is not None}
    if flags:
        from uuid import NAMESPACE_URL, uuid5

        nic = f"{flags.get('INSTANCE', '')}/{flags.get('MAC', '')}"
        flags.setdefault("INTERFACE_UUID", str(uuid5(NAMESPACE_URL, nic)))
        if any(name.startswith("NETWORK_") for name in flags):
            flags.setdefault("NETWORK_NAME", "unnamed")
            flags.setdefault("NETWORK_UUID", str(uuid5(NAMESPACE_URL, flags["NETWORK_NAME"])))
    return flags


def detach_nic(given: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """Detach a NIC."""
    if not given.tap and not environment.get("INTERFACE"):
        given.wrong("which tap? ganeti-vif status shows those that are attached")
    tap = given.tap or ganeti.tap_of(environment)
    config = known(given)
    with lock.held("nics"), Node() as node:
        nic = _recorded(tap)
        changes = detach(nic, config, node, dry_run=given.dry_run)
    if not given.dry_run:
        log.say(f"{nic.whom}: detached, {len(changes)} changes; NIC {nic.uuid}")
    return report(given, changes, [])


def _recorded(tap: str) -> Nic:
    nic = recorded(tap)
    if nic is None:
        raise Failure(f"{tap} was not attached by ganeti-vif: there is no record of it", "see: ganeti-vif status")
    return nic
