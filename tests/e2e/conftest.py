# SPDX-License-Identifier: BSD-2-Clause
"""One cluster for each test module; its tests are the steps of a tour, in their order."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.lab import Image, ensure, needs  # noqa: E402

pytest.register_assert_rewrite(*(f"{__package__}.{name}" for name in ("instance", "member", "one_node", "two_nodes")))

from . import debian13  # noqa: E402
from .cluster import Cluster  # noqa: E402
from .member import LOG  # noqa: E402

PROGRAMS = {"gnt-cluster": "ganeti", "/usr/sbin/sshd": "openssh-server", "fping": "fping", "nft": "nftables"}

if reason := needs.guest():
    pytest.skip(reason, allow_module_level=True)
for program, package in PROGRAMS.items():
    if not shutil.which(program):
        pytest.skip(f"a cluster needs {program} (Debian package {package})", allow_module_level=True)

CLUSTERS: list[Cluster] = []
FAILED: dict[pytest.Module | None, str] = {}


@pytest.fixture(scope="session")
def image() -> Image:
    """What guests boot."""
    return ensure(ROOT / "build")


@pytest.fixture(scope="session", autouse=True)
def debian13_root(request: pytest.FixtureRequest) -> Iterator[Future[Path] | None]:
    """The root with Debian 13, if a test wants it: it is made while the tour of Debian 12 runs."""
    with ThreadPoolExecutor(1) as pool:
        wanted = any(item.path.name == "test_debian13.py" for item in request.session.items)
        yield pool.submit(debian13.ensure, ROOT / "build") if wanted else None


@pytest.fixture(scope="module")
def root() -> Path:
    """The Debian that the nodes run: this machine's."""
    return Path("/")


@pytest.fixture(scope="module")
def cluster(image: Image, root: Path) -> Iterator[Cluster]:
    """The cluster of the module: one member, on which Ganeti is not initialized yet."""
    with Cluster(image, root) as cluster:
        CLUSTERS.append(cluster)
        yield cluster
        CLUSTERS.remove(cluster)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """A step that failed: say what the nodes logged, and take no further one."""
    report: pytest.TestReport = (yield).get_result()
    if report.failed:
        FAILED.setdefault(item.getparent(pytest.Module), item.name)
        for cluster in CLUSTERS:
            for member in cluster.members:
                for log in (LOG, "/var/log/ganeti/node-daemon.log"):
                    report.sections.append((f"{member.name}: {log}", member.try_("tail", "-n", "60", log).stdout))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """The steps after one that failed would fail for no reason of their own."""
    if failed := FAILED.get(item.getparent(pytest.Module)):
        pytest.skip(f"the tour ended at {failed}")
