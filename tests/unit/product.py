# SPDX-License-Identifier: BSD-2-Clause
"""The product as source: its modules, as pyproject.toml lists their packages, and what each of them imports."""

from __future__ import annotations

import ast
import subprocess
from functools import cache

from samples import ROOT

PACKAGES = subprocess.run([ROOT / "tools" / "packages"], check=True, capture_output=True, text=True).stdout.split()
"""The directories of the product's packages, below ROOT."""
NAMES = sorted(package.replace("/", ".") for package in PACKAGES)
PYTHON = b"#!/usr/bin/python3"


def _is_python(package: str, name: str) -> bool:
    path = ROOT / package / name
    return path.is_file() and (path.suffix == ".py" or not path.suffix and path.read_bytes().startswith(PYTHON))


MODULES = sorted(
    f"{package}/{path.name}"
    for package in PACKAGES
    for path in (ROOT / package).iterdir()
    if _is_python(package, path.name)
)
"""Every module and every script of the product, the scripts without a suffix too: paths below ROOT."""
ROOMS = (
    "engine",
    "config",
    "nic",
    "guard",
    "host_setup",
    "nfdhcpd_bridge",
    "desired",
    "ganeti",
    "predecessors",
    "doctor",
    "responder",
    "kernel",
    "system",
    "lifecycle",
    "reconcile",
    "cluster",
    "cli",
    "responder/server",
    "hooks",
    "daemon",
    "entry",
)
"""The rooms of docs/architecture.md, from the ground up: a room may use those before it, and no room after it."""
PURE_ROOMS = {"engine", "nic", "guard", "host_setup", "desired", "predecessors", "doctor", "responder"}
"""The rooms in which nothing is read from outside and nothing is done."""
WITHIN = {"kernel/netlink": "kernel", "kernel/nftables": "kernel", "system/qemu": "system"}
"""Packages that are a part of a room."""


def room(module: str) -> str:
    """The room of MODULE: its package, without `ganeti_vif/` before it."""
    return _room(module.rpartition("/")[0])


def _room(package: str) -> str:
    name = package.removeprefix("ganeti_vif/")
    return WITHIN.get(name, name)


@cache
def tree(module: str) -> ast.Module:
    return ast.parse((ROOT / module).read_text(encoding="utf-8"), module)


def imports(module: str) -> set[str]:
    """The dotted names that MODULE imports anywhere, functions included."""
    found = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "an import says its whole name"
            assert node.module
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def top(module: str) -> set[str]:
    """The top-level packages and modules that MODULE imports."""
    return {name.partition(".")[0] for name in imports(module)}


def rooms(module: str) -> set[str]:
    """The rooms of the product from which MODULE imports."""
    found = set()
    for name in imports(module):
        parts = name.split(".")
        package = max((one for one in NAMES if parts[: one.count(".") + 1] == one.split(".")), key=len, default=None)
        if package:
            found.add(_room(package.replace(".", "/")))
    return found


def importers(name: str) -> set[str]:
    return {module for module in MODULES if any(i == name or i.startswith(f"{name}.") for i in imports(module))}
