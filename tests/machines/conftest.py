# SPDX-License-Identifier: BSD-2-Clause
"""A machine for each Debian, that all of its tests share; what each step costs is told at the end."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from _pytest.terminal import TerminalReporter

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.kernel.environment import bridged, private, public, routed  # noqa: E402
from tests.package.conftest import build  # noqa: E402

pytest.register_assert_rewrite(f"{__package__}.node")

from . import disk  # noqa: E402
from .accelerator import accelerator  # noqa: E402
from .machine import Machine  # noqa: E402
from .node import Guest, cable, install  # noqa: E402

if os.geteuid() != 0:
    pytest.skip("only root can make the disk of a machine", allow_module_level=True)

INSIDE = Path(__file__).with_name("inside")
COSTS: list[tuple[str, float]] = []
"""What took how many seconds."""


@contextmanager
def cost(what: str) -> Iterator[None]:
    """Note how long the block takes."""
    begun = time.monotonic()
    yield
    COSTS.append((what, time.monotonic() - begun))


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    terminalreporter.section("costs")
    for what, seconds in COSTS:
        terminalreporter.write_line(f"{seconds:8.1f} s  {what}")


@pytest.fixture(autouse=True)
def costs(request: pytest.FixtureRequest) -> Iterator[None]:
    """Note what the test costs, without its machine."""
    for name in ("machine", "node"):
        if name in request.fixturenames:
            request.getfixturevalue(name)
    with cost(request.node.name):
        yield


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What machines see as /mnt: the package, the programs that run in them, and the tests."""
    directory = tmp_path_factory.mktemp("shared")
    shutil.copytree(INSIDE, directory / "inside")
    with cost("the package, built"):
        build(directory / "this").rename(directory / "this.deb")
    return directory


Start = Callable[..., Machine]


@pytest.fixture(scope="session")
def start(shared: Path) -> Start:
    """Starts a machine with a Debian suite and with packages besides."""

    def start(suite: str, *more: str, options: str = "") -> Machine:
        with cost(f"{suite}: its disk"):
            made = disk.ensure(ROOT / "build" / "machines", suite, *more)
        with cost(f"{suite}: looking whether KVM works"):
            how = accelerator(made)
        with cost(f"{suite}: boot of {made.version} by {how.partition(',')[0]}"):
            return Machine(made, shared, how, options=options)

    return start


def installed(machine: Machine) -> Machine:
    """MACHINE as a node with the package, whose networks are set up."""
    cable(machine)
    with cost("the package, installed by apt; it sets up the networks"):
        install(machine)
    return machine


@pytest.fixture(scope="session", params=["bookworm", "trixie"])
def node(request: pytest.FixtureRequest, start: Start) -> Iterator[Machine]:
    """A node of each Debian, with everything installed and nothing of it running that administrators have besides."""
    with start(request.param, *disk.OTHERS, *disk.TESTS) as machine:
        yield installed(machine)


@pytest.fixture(scope="session")
def guests(node: Machine) -> tuple[Guest, Guest]:
    """A routed and a bridged guest that live while others meddle with the node."""
    one, other = Guest(node, 5, f"{public(5)}/24"), Guest(node, 6, f"{private(6)}/24")
    one.attach(routed(one.tap, 5))
    other.attach(bridged(other.tap, 6))
    return one, other


@pytest.fixture
def guest() -> Iterator[Callable[..., Guest]]:
    """Makes guests, which go with the test."""
    made: list[Guest] = []

    def make(machine: Machine, number: int, *addresses: str) -> Guest:
        made.append(Guest(machine, number, *addresses))
        return made[-1]

    yield make
    for guest in made:
        guest.gone()
