# SPDX-License-Identifier: BSD-2-Clause
"""Ganeti's files about the cluster on every node: /var/lib/ganeti/ssconf_* (ganeti src/Ganeti/WConfd/Ssconf.hs), and
the key that its nodes share (lib/pathutils.py, CONFD_HMAC_KEY, at 3.0.2)."""

from __future__ import annotations

import os

from ganeti_vif.engine.failure import Failure
from ganeti_vif.system import settings

VM_CAPABLE = "/var/lib/ganeti/ssconf_node_vm_capable"
KEY = "/var/lib/ganeti/hmac.key"
CLUSTER_NAME = "/var/lib/ganeti/ssconf_cluster_name"
SSH_PORTS = "/var/lib/ganeti/ssconf_ssh_ports"


def vm_capable() -> bool:
    """Whether instances may run on this node. A master node may exist for the cluster only.

    The lines of the file are `NODE=True`. Without a line for this node the answer is yes. Raises Failure if the file
    cannot be read.
    """
    said = dict(line.partition("=")[::2] for line in (settings.text(VM_CAPABLE) or "").splitlines())
    return not any(is_here(name) and value == "False" for name, value in said.items())


def is_here(node: str) -> bool:
    """Whether NODE is the name of this node, with its domain or without."""
    return node.partition(".")[0] == os.uname().nodename.partition(".")[0]


def cluster_key() -> bytes | None:
    """The key that the nodes of this cluster share; None if there is none. Raises Failure if it cannot be read."""
    found = (settings.text(KEY) or "").strip()
    return found.encode() or None


def cluster_name() -> str:
    """The name of the cluster. Raises Failure if this node is in none, or if the file cannot be read."""
    name = (settings.text(CLUSTER_NAME) or "").strip()
    if not name:
        raise Failure(f"this node is in no cluster: {CLUSTER_NAME} is missing or empty", "see: gnt-cluster info")
    return name


def ssh_ports() -> dict[str, int]:
    """The port of each node's ssh, by the node's name (`NODE=PORT`). Raises Failure if the file cannot be read."""
    pairs = (line.partition("=")[::2] for line in (settings.text(SSH_PORTS) or "").splitlines())
    return {name: int(port) for name, port in pairs if port.strip().isdecimal()}
