# SPDX-License-Identifier: BSD-2-Clause
"""`ganeti-vif network`: private networks of the whole cluster, by Ganeti's remote API."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from ganeti_vif.cli import status
from ganeti_vif.cli.help import INTERRUPTED
from ganeti_vif.cli.progress import Line
from ganeti_vif.cluster import credentials, leftovers, rapi
from ganeti_vif.cluster.creation import AUTO, FILTERED, UNFINISHED, Wish, unfinished
from ganeti_vif.cluster.links import Use, free, uses
from ganeti_vif.cluster.model import Cluster, Network
from ganeti_vif.cluster.networks import Connected, Networks
from ganeti_vif.config import values
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.interruption import Interrupted
from ganeti_vif.reconcile.in_force import in_force
from ganeti_vif.system.complaint import complain

FEW = 10
"""A percentage: if less of the links are free, `free` says so."""
Row = dict[str, Any]


def run(given: argparse.Namespace) -> int:
    """Run one verb. Returns the exit status. Raises Failure if it could not do its work."""
    verb = given.network_verb
    links = _links(given, needed=verb in ("create", "free"))
    with Line() as line:
        known = credentials.read(given.credentials or credentials.USERS)
        host, port = _place(given.rapi)
        client = rapi.connect(known, host, port, given.certificate)
        api = rapi.Rapi(client, line.show, place=f"{host or rapi.HOST}:{port}")
        try:
            shown, lines = _VERBS[verb](given, Networks(api, links))
        except Interrupted as interrupted:
            line.clear()
            complain(_half(given, interrupted, api.going))
            return INTERRUPTED
    text = json.dumps(shown, indent=2, default=sorted) if given.json else "\n".join(lines).rstrip("\n")
    print(text)
    return 1 if verb == "repair" and shown["trouble"] else 0


def _half(given: argparse.Namespace, interrupted: Interrupted, job: rapi.Job | None) -> Failure:
    """What an interrupted verb leaves."""
    what = f"interrupted by {interrupted.signal}"
    if job:
        return Failure(f"{what}: job {job.number} ({job.what}) goes on in Ganeti", f"see: gnt-job watch {job.number}")
    if given.network_verb == "create":
        return Failure(f"{what}: the network {given.name} was not created, and nothing of it is left", _LIST)
    return Failure(f"{what}: no job of it goes on", _LIST)


_LIST = "see: ganeti-vif network list"


def _place(text: str) -> tuple[str, int]:
    """The host and port in TEXT, as HOST[:PORT] or [IPV6]:PORT. Raises Failure if the port is no number."""
    host, colon, port = text.rpartition(":")
    if not colon or ":" in host and not host.endswith("]"):
        return text.strip("[]"), rapi.PORT
    if not port.isdecimal():
        raise Failure(f"--rapi {text}: '{port}' is no port", "note: for example: --rapi cluster.example.com:5080")
    return host.strip("[]"), int(port)


def _links(given: argparse.Namespace, *, needed: bool) -> tuple[str, ...]:
    """The links of private networks. Raises Failure if they are NEEDED and there is no configuration."""
    if given.links:
        prefix, _, ranges = given.links.partition("=")
        try:
            return tuple(f"{prefix}{number}" for number in values.numbers(ranges))
        except ValueError as error:
            raise Failure(f"--links {given.links}: {error}", "note: for example: --links pvn=1-100") from error
    if not needed and not os.path.exists(given.config):
        return ()
    return tuple(bridge for private in in_force(given.config).config.private for bridge in private.bridges)


def _create(given: argparse.Namespace, networks: Networks) -> tuple[Any, list[str]]:
    groups = given.groups.split(",") if given.groups else networks.cluster().groups
    if unknown := sorted(set(groups) - set(networks.cluster().groups)):
        raise Failure(f"there is no node group {unknown[0]}", "see: gnt-group list")
    tags = {*given.tag, *(["nfdhcpd"] if given.dhcp else []), *([FILTERED] if given.isolate else [])}
    network = networks.create(
        Wish(
            name=given.name,
            links=networks.links,
            groups=tuple(groups),
            subnet=given.subnet,
            gateway=given.gateway or "",
            subnet6=given.subnet6 or "",
            gateway6=given.gateway6 or "",
            mac_prefix=given.mac_prefix or (AUTO if given.isolate else ""),
            tags=frozenset(tags),
        )
    )
    return asdict(network), [f"{network.name}: created, link {_joined(network.links)} in {_joined(network.groups)}"]


def _destroy(given: argparse.Namespace, networks: Networks) -> tuple[Any, list[str]]:
    network = networks.destroy(given.name, disconnect=given.disconnect)
    return asdict(network), [f"{network.name}: destroyed, link {_joined(network.links) or 'none'} is free"]


def _connect(given: argparse.Namespace, networks: Networks) -> tuple[Any, list[str]]:
    ip = "" if given.ip == "none" else given.ip
    done = networks.connect(given.instance, given.name, ip=ip, nic=given.nic, reboot=given.reboot)
    return _connected(done, f"added to {given.name}, link {done.nic.link}")


def _disconnect(given: argparse.Namespace, networks: Networks) -> tuple[Any, list[str]]:
    done = networks.disconnect(given.instance, given.name, nic=given.nic, reboot=given.reboot)
    return _connected(done, f"removed from {given.name}")


def _connected(done: Connected, what: str) -> tuple[Any, list[str]]:
    lines = [f"{done.nic.whom}: {what}"]
    if done.reboot:
        lines += ["its guest runs, and could not be told: it notices at the next reboot"]
        lines += [f"  fix: gnt-instance reboot {done.nic.instance}"]
    return asdict(done), lines


def _list(_: argparse.Namespace, networks: Networks) -> tuple[Any, list[str]]:
    cluster = networks.cluster()
    rows = [_row(network, cluster, networks.links) for network in cluster.networks]
    cells = [(r["name"], r["link"] or "-", r["groups"] or "-", r["subnet"] or "-", r["nics"], r["state"]) for r in rows]
    return {"networks": rows}, [*status.section(("NETWORK", "LINK", "GROUPS", "SUBNET", "NICS", "STATE"), cells)]


def _row(network: Network, cluster: Cluster, links: tuple[str, ...]) -> Row:
    return {
        "name": network.name,
        "uuid": network.uuid,
        "link": _joined(network.links),
        "groups": _joined(network.groups),
        "subnet": " ".join(one for one in (network.subnet, network.subnet6) if one),
        "nics": sum(1 for _ in cluster.members(network)),
        "state": _state(network, links),
    }


def _state(network: Network, links: tuple[str, ...]) -> str:
    if unfinished(network):
        return "unfinished"
    if not network.connections:
        return "not connected"
    private = all(connection.mode == "bridged" for connection in network.connections)
    return "outside of the ranges" if private and links and not network.links <= set(links) else "ok"


def _show(given: argparse.Namespace, networks: Networks) -> tuple[Any, list[str]]:
    cluster = networks.cluster()
    network = cluster.network(given.name)
    nics = [*cluster.members(network)]
    fields = {
        "network": network.name,
        "uuid": network.uuid,
        "state": _state(network, networks.links),
        "connected": ", ".join(f"{one.group}: {one.mode} {one.link}" for one in network.connections),
        "subnet": network.subnet,
        "gateway": network.gateway,
        "subnet6": network.subnet6,
        "gateway6": network.gateway6,
        "mac prefix": network.mac_prefix,
        "tags": _joined(network.tags),
    }
    lines = [f"{name + ':':<12}{value}" for name, value in fields.items() if value]
    if nics:
        cells = [(nic.instance, nic.index, nic.name or "-", nic.mac, nic.ip or "-") for nic in nics]
        lines += ["", *status.section(("INSTANCE", "NIC", "NAME", "MAC", "ADDRESS"), cells)]
    return asdict(network) | {"nics": [asdict(nic) for nic in nics]}, lines


def _free(_: argparse.Namespace, networks: Networks) -> tuple[Any, list[str]]:
    cluster = networks.cluster()
    used, left = uses(cluster), free(networks.links, cluster)
    mine = {link: used[link] for link in networks.links if link in used}
    bridged = {c.link for network in cluster.networks for c in network.connections if c.mode == "bridged"}
    outside = {link: used[link] for link in sorted(bridged - set(networks.links))}
    lines = [*status.section(("LINK", "USED BY"), [(link, _users(use, cluster)) for link, use in mine.items()])]
    lines += [f"outside of the ranges: {link}, used by {_users(use, cluster)}" for link, use in outside.items()]
    lines += [f"free: {len(left)} of {len(networks.links)}{f', the lowest: {left[0]}' if left else ''}"]
    if len(left) * 100 < FEW * len(networks.links):
        lines += ["note: the links run out; extend the range `bridges` of [private ...] on every node"]
    shown = {
        name: {link: _names(use) for link, use in some.items()} for name, some in (("used", mine), ("outside", outside))
    }
    return shown | {"free": left}, lines


def _users(use: Use, cluster: Cluster) -> str:
    counts = [(network.name, sum(1 for _ in cluster.members(network))) for network in use.networks]
    words = [f"{name} ({count} NIC{'' if count == 1 else 's'})" for name, count in counts]
    return ", ".join([*words, *(f"{nic.whom} without a network" for nic in use.nics)])


def _names(use: Use) -> Row:
    return {"networks": [network.name for network in use.networks], "nics": [nic.uuid for nic in use.nics]}


def _repair(given: argparse.Namespace, networks: Networks) -> tuple[Any, list[str]]:
    done = [_told(network, mend) for network, mend in networks.repair(older=60 * given.older, dry_run=given.dry_run)]
    trouble = [*leftovers.trouble(networks.cluster(), networks.links)]
    for failure in trouble:
        complain(failure)
    told = [{"what": failure.what, "do": failure.do} for failure in trouble]
    return {"done": done, "trouble": told}, done or ["nothing is unfinished"]


def _told(network: Network, mend: leftovers.Mend) -> str:
    match mend:
        case leftovers.Take():
            return f"{network.name}: taken from its creator"
        case leftovers.Release():
            return f"{network.name}: NICs are in it, so it stays (tag {UNFINISHED} removed)"
        case leftovers.Disconnect(_, group):
            return f"{network.name}: disconnected from {group}"
        case leftovers.Remove():
            return f"{network.name}: removed"


def _joined(words: frozenset[str]) -> str:
    return ", ".join(sorted(words))


_VERBS: Mapping[str, Callable[[argparse.Namespace, Networks], tuple[Any, list[str]]]] = {
    "create": _create,
    "destroy": _destroy,
    "connect": _connect,
    "disconnect": _disconnect,
    "list": _list,
    "show": _show,
    "free": _free,
    "repair": _repair,
}
