# SPDX-License-Identifier: BSD-2-Clause
"""Modules of the running kernel: which ones it has or can load; and loading one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator

from ganeti_vif.engine.difference import Change, Make, Remove
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.objects import ZEROED, Module
from ganeti_vif.kernel import sysctl

TRACES = {"br_netfilter": "/proc/sys/net/bridge/bridge-nf-call-iptables"}
"""A file that exists while the module does. A module that is built in may have no directory in /sys/module."""
PATIENCE = 30
"""Seconds that modprobe may take."""


def read(wanted: Iterable[Module]) -> Iterator[Module]:
    """Those of WANTED that are built in or loaded."""
    yield from (module for module in wanted if os.path.exists(_trace(module.name)))


def _trace(name: str) -> str:
    return TRACES.get(name, f"/sys/module/{name}")


def perform(change: Change) -> None:
    """Load a module. Never unloads one: another program may use it. Raises Failure if it cannot be loaded."""
    match change:
        case Make(Module(name=name)):
            _load(name)
            for path in ZEROED.get(name, ()):
                sysctl.write(path, "0")
        case Remove():
            pass
        case _:
            raise NotImplementedError(change)


def _load(name: str) -> None:
    import subprocess  # an attach must not wait for an import that it almost never needs

    try:
        done = subprocess.run(
            ["modprobe", name], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=PATIENCE
        )
        reason = done.stderr.strip() if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = str(error)
    if not os.path.exists(_trace(name)):
        # The daemon cannot load modules (ProtectKernelModules= in its unit), so the message names the command.
        raise Failure(
            f"the kernel module {name} is not loaded: {reason or 'modprobe does not do it'}", f"modprobe {name}"
        )


def available(name: str) -> bool | None:
    """Whether the module NAME is built in, loaded or can be loaded; None if that is unknown.

    It is unknown where the running kernel's directory of modules is missing: in a container, or after the kernel's
    package was removed. Then a module that is built in leaves no trace unless it has parameters (/sys/module).
    """
    if os.path.exists(_trace(name)) or os.path.isdir(f"/sys/module/{name}"):
        return True
    directory = f"/lib/modules/{os.uname().release}"
    pattern = re.compile(rf"(^|/){name.replace('_', '[-_]')}\.ko", re.MULTILINE)
    found = False
    for file in ("modules.builtin", "modules.dep"):
        try:
            with open(f"{directory}/{file}", encoding="ascii", errors="replace") as listing:
                found = found or any(pattern.search(line.partition(":")[0]) for line in listing)
        except FileNotFoundError:
            return None
    return found
