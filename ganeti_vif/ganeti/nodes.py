# SPDX-License-Identifier: BSD-2-Clause
"""The nodes of a cluster as Ganeti's files on every node have them, as data. The lines of these files are `NAME=VALUE`,
or `NAME` (ganeti src/Ganeti/WConfd/Ssconf.hs at 3.0.2)."""

from __future__ import annotations

from ipaddress import ip_address

from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.objects import Address
from host_setup.private import Underlay

UNKNOWN = "see: cat /var/lib/ganeti/ssconf_node_secondary_ips"


def underlay(here: str, secondary: str | None, primary: str | None, offline: str, vm_capable: str) -> Underlay:
    """The ends of the cluster's tunnels, seen from the node with the host name HERE, by the texts of Ganeti's files.

    The nodes have their SECONDARY addresses there: Ganeti writes the primary one for a node without a secondary one. If
    there is no such text, PRIMARY counts. A node that is OFFLINE, or on which no instances may run, is no peer. Raises
    Failure if this node is not among the nodes, or if a line has no address.
    """
    known = {name: _address(name, value) for name, value in _lines(secondary or primary or "")}
    mine = _own_name(here, known)
    idle = {name for name, _ in _lines(offline)} | {name for name, value in _lines(vm_capable) if value == "False"}
    peers = frozenset(address for name, address in known.items() if name != mine and name not in idle)
    return Underlay(here=known[mine], peers=peers - {known[mine]})


def _own_name(here: str, known: dict[str, Address]) -> str:
    """The name among KNOWN that means the host HERE: its full name, or else the one with the same first part."""
    if here in known:
        return here
    like = [name for name in known if name.partition(".")[0] == here.partition(".")[0]]
    if len(like) != 1:
        what = (
            f"this node, {here}, is not among the nodes that Ganeti names here"
            if not like
            else (f"this node, {here}, may be any of {', '.join(sorted(like))}")
        )
        raise Failure(what, UNKNOWN)
    return like[0]


def _lines(text: str) -> list[tuple[str, str]]:
    parts = (line.strip().partition("=") for line in text.splitlines() if line.strip())
    return [(name, value) for name, _, value in parts]


def _address(name: str, value: str) -> Address:
    try:
        return ip_address(value)
    except ValueError:
        raise Failure(f"Ganeti names the node {name} with '{value}' for its address", UNKNOWN) from None
