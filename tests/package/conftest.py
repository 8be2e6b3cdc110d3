# SPDX-License-Identifier: BSD-2-Clause
"""The package, built; and machines to install it on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.lab import Node, wire  # noqa: E402

from .machine import Machine, cgroups  # noqa: E402
from .root import SUITES, root  # noqa: E402

if os.geteuid() != 0:
    pytest.skip("only root can make namespaces", allow_module_level=True)

NEXT = "99~next"
"""The version of the build that comes after this one."""

Boot = Callable[..., Machine]


def build(directory: Path, *version: str, **environment: str) -> Path:
    """The package of this tree, built in DIRECTORY."""
    with (directory.parent / f"{directory.name}.log").open("w+") as log:
        command = [str(ROOT / "tools" / "build-deb"), str(directory), *version]
        done = subprocess.run(
            command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=os.environ | environment, timeout=600
        )
        log.seek(0)
        assert done.returncode == 0, log.read()[-3000:]
    (package,) = directory.glob("ganeti-vif_*.deb")
    return package


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that machines see as /mnt; both builds of the package are in it.

    With UPGRADE_FROM=FILE, the first is that package: so an upgrade from an earlier version is tried.
    """
    directory = tmp_path_factory.mktemp("shared")
    if earlier := os.environ.get("UPGRADE_FROM"):
        shutil.copy(earlier, directory / "this.deb")
    else:
        build(directory / "this").rename(directory / "this.deb")
    build(directory / "next", NEXT).rename(directory / "next.deb")
    return directory


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Whatever a test enters here is left at its end."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def boot(stack: ExitStack, shared: Path) -> Boot:
    """Starts machines: a suite, `systemd` or `sysv`, and packages that it has besides."""

    def boot(suite: str, init: str, *more: str) -> Machine:
        if init == "systemd" and cgroups() is None:
            pytest.skip("this host has no cgroup2, which systemd needs")
        return stack.enter_context(Machine("node1", root(suite, *more), systemd=init == "systemd", shared=shared))

    return boot


@pytest.fixture(params=[f"{suite}-{init}" for suite in SUITES for init in ("systemd", "sysv")])
def machine(request: pytest.FixtureRequest, boot: Boot, stack: ExitStack) -> Machine:
    """A clean Debian system of each kind, with an uplink, eth1, to a gateway."""
    machine = boot(*request.param.split("-"))
    gateway = stack.enter_context(Node("gateway"))
    wire(gateway, "eth0", machine, "eth1")
    gateway.run(["ip", "addr", "add", "192.0.2.1/24", "dev", "eth0"])
    gateway.run(["ip", "addr", "add", "2001:db8::1/64", "dev", "eth0", "nodad"])
    return machine
