# SPDX-License-Identifier: BSD-2-Clause
"""What this node does at each of Ganeti's hooks.

A hook reads only its environment and never submits a job: the job that runs a hook holds locks. A pre hook that exits
with 1 aborts the operation. A post hook that exits with 1 puts its line into the job's log, and the one of
cluster-verify into the output of `gnt-cluster verify`. There newlines arrive as `\\n` and the node only as a UUID, so
the output is one ASCII line that names the host (ganeti lib/backend.py:5994-6000,
lib/cmdlib/cluster/verify.py:2258-2305 at 3.0.2).
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Mapping

from ganeti_vif.config.model import Config
from ganeti_vif.engine.failure import Failure, in_brackets, one_line
from ganeti_vif.engine.naming import finding, findings
from ganeti_vif.ganeti.hook import Hook, InstanceNow, hook_of
from ganeti_vif.lifecycle.refresh import refresh
from ganeti_vif.reconcile import connecting, services
from ganeti_vif.reconcile import reconcile as whole_node
from ganeti_vif.reconcile import survey as whole
from ganeti_vif.reconcile.forwarding import forward_drops
from ganeti_vif.reconcile.in_force import in_force
from ganeti_vif.system import lock, log
from ganeti_vif.system.node import Node

MOST = 3
"""How many findings a line of cluster-verify names. The rest is counted."""


def main(environment: Mapping[str, str]) -> int:
    """Serve one hook. Returns the exit status."""
    gc.disable()  # as in entry/vif_script.py
    hook = hook_of(environment)
    try:
        action = ACTIONS.get(hook.name)
        if action is None and hook.phase == "pre":
            return 0
        return (action or reconcile)(hook)
    except Failure as failure:
        return complain(f"{hook.name}: {failure.what} {in_brackets(failure.do)}")


def complain(text: str) -> int:
    """Print TEXT for Ganeti and log it. Returns the exit status, 1."""
    log.say(text, log.Level.ERROR)
    print(said(text))
    return 1


def said(text: str) -> str:
    """TEXT as Ganeti shows it: one line that names the host."""
    return one_line(f"ganeti-vif on {os.uname().nodename}: {text}")


def instance(hook: Hook) -> int:
    """An instance started, stopped, moved or changed: repair or remove what this node has of it."""
    if hook.instance is None:
        return reconcile(hook)
    with lock.held("nics"), Node() as node:
        in_step(hook, hook.instance, in_force().config, node)
    return 0


def in_step(hook: Hook, told: InstanceNow, config: Config, node: Node) -> None:
    """Do what instance() does. The caller holds the lock `nics`. Raises Failure if something could not be done."""
    for nic, changes in refresh(told.former_name, told.name, told.tags, told.networks, config, node):
        for change in changes:
            log.say(f"{nic.whom}: {hook.name}: {finding(change)}")


def network_connect_pre(hook: Hook) -> int:
    """Refuse a link that this node lacks and cannot get: instances would fail to start here later."""
    with lock.held("node"), Node() as node:
        failure = connecting.refusal(hook.mode, hook.link, in_force().config, node)
    return complain(f"{failure.what} {in_brackets(failure.do)}") if failure else 0


def set_up(hook: Hook) -> int:
    """Make what is missing on this node. What could not be made is logged, and does not fail the job."""
    with lock.held("node"), Node() as node:
        config = in_force().config
        changes, refused = whole_node.set_up(config.private, config, node)
    whole_node.announce_moved(config)
    if changes:
        log.say(f"{hook.name}: {len(changes)} changes")
    for failure in refused:
        log.say(f"{hook.name}: {failure.what}", log.Level.ERROR)
    return 0


def node_add(hook: Hook) -> int:
    """Set up the node that was added. The other nodes are set up already, apart from their tunnels to it."""
    here = os.uname().nodename
    if hook.node_name is None or hook.node_name.partition(".")[0] == here.partition(".")[0]:
        return set_up(hook)
    return nodes_changed(hook)


def nodes_changed(hook: Hook) -> int:
    """Another node came, went, or is another one now: tunnels lead to the nodes that the cluster has.

    Ganeti may write its files about the nodes only after its hooks have run. Then the daemon sees that they changed.
    """
    return set_up(hook) if in_force().config.follows_cluster else 0


def reconcile(hook: Hook) -> int:
    """Make this node what it should be: after a change without a hook of its own, and at every run of the watcher."""
    with lock.held("node"), lock.held("nics"), Node() as node:
        config = in_force().config
        found = whole_node.reconcile(config, node)
    whole_node.announce_moved(config)
    for line in findings(found.changes):
        log.say(f"{hook.name}: {line}", log.Level.WARNING)
    for failure in found.trouble:
        log.say(f"{hook.name}: {failure.what}", log.Level.ERROR)
    return 0


def cluster_verify(hook: Hook) -> int:
    """Tell `gnt-cluster verify` what is wrong on this node."""
    config = in_force().config
    with Node() as node:
        found = whole.survey(config, node)
        found.trouble += forward_drops(found.nics, config, node)
    found.trouble = services.trouble(config) + found.trouble
    wrong = found.findings
    if not wrong:
        return 0
    fixes = {failure.what: f" {in_brackets(failure.do)}" for failure in found.trouble}
    named = "; ".join(f"{line}{fixes.get(line, '')}" for line in wrong[:MOST])
    rest = f" and {len(wrong) - MOST} more" if len(wrong) > MOST else ""
    mends = ", ganeti-vif reconcile mends them" if found.changes else ""
    return complain(f"{named}{rest} (ganeti-vif check lists them{mends})")


INSTANCE = ("add", "start", "stop", "reboot", "migrate", "failover", "move", "modify", "rename", "remove", "export")

ACTIONS: Mapping[str, Callable[[Hook], int]] = {
    **{f"instance-{what}-post": instance for what in INSTANCE},
    "network-connect-pre": network_connect_pre,
    "network-connect-post": set_up,
    "node-add-post": node_add,
    "node-modify-post": nodes_changed,
    "node-remove-post": nodes_changed,
    "cluster-verify-post": cluster_verify,
}
"""Any other post hook runs reconcile(): the watcher and the other network hooks need that. Other pre hooks pass."""
