# SPDX-License-Identifier: BSD-2-Clause
"""Ports of Open vSwitch bridges, through ovs-vsctl."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Iterator

from ganeti_vif.engine.difference import Alter, Change, Make, Remove
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.objects import OvsPort

TIMEOUT = 5
"""Seconds that ovs-vsctl waits for ovs-vswitchd. Without a limit it waits for ever, and so does a VM."""


def read(wanted: Iterable[OvsPort]) -> Iterator[OvsPort]:
    """The actual ports for those devices of WANTED that are on an Open vSwitch bridge. Raises Failure if unreadable."""
    for port in wanted:
        bridge = _run("port-to-br", port.device, missing_is_fine=True)
        if bridge:
            columns = "--columns=tag,trunks,other_config"
            listing = json.loads(_run("--format=json", columns, "list", "port", port.device))
            tag, trunks, options = listing["data"][0]
            yield OvsPort(
                device=port.device,
                bridge=bridge,
                tag=tag if isinstance(tag, int) else None,
                trunks=_set(trunks),
                isolated=["protected", "true"] in options[1],
            )


def bridge_exists(name: str) -> bool:
    """Whether Open vSwitch has a bridge NAME. Raises Failure if ovs-vsctl fails."""
    return name in _run("list-br").split()


def perform(change: Change) -> None:
    """Make CHANGE in one transaction of ovsdb. A port moves if it is on another bridge. Raises Failure if refused."""
    match change:
        case Make(OvsPort() as port) | Alter(_, OvsPort() as port):
            options = [] if port.tag is None else [f"tag={port.tag}"]
            options += [f"trunks={','.join(map(str, sorted(port.trunks)))}"] if port.trunks else []
            options += ["other_config:protected=true"] if port.isolated else []
            _run("--if-exists", "del-port", port.device, "--", "add-port", port.bridge, port.device, *options)
        case Remove(OvsPort() as port):
            _run("--if-exists", "del-port", port.bridge, port.device)
        case _:
            raise NotImplementedError(change)


def _set(value: object) -> frozenset[int]:
    """A set column as ovs-vsctl prints it in JSON: one bare number, or ["set", [numbers]]."""
    if isinstance(value, list):
        return frozenset(value[1])
    return frozenset({value}) if isinstance(value, int) else frozenset()


def _run(*arguments: str, missing_is_fine: bool = False) -> str:
    command = ["ovs-vsctl", f"--timeout={TIMEOUT}", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise Failure("ovs-vsctl is not installed", "apt install openvswitch-switch") from error
    if done.returncode == 0:
        return done.stdout.strip()
    if missing_is_fine and "no port named" in done.stderr:
        return ""
    raise Failure(f"Open vSwitch refuses: {done.stderr.strip() or done.returncode}", f"see: {' '.join(command)}")
