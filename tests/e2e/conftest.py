# SPDX-License-Identifier: BSD-2-Clause
"""One cluster for each test module; its tests are the steps of a tour, in their order."""

from __future__ import annotations

import re
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

from tests.package.machine import cgroups  # noqa: E402

from .cluster import Cluster  # noqa: E402
from .installed import debian, package  # noqa: E402

if reason := needs.guest():
    pytest.skip(reason, allow_module_level=True)
if cgroups() is None:
    pytest.skip("this host has no cgroup2, which systemd needs", allow_module_level=True)

CLUSTERS: list[Cluster] = []
FAILED: dict[pytest.Module | None, str] = {}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "complaints(pattern): what our programs may warn of during this step")


@pytest.fixture(scope="session")
def image() -> Image:
    """What guests boot."""
    return ensure(ROOT / "build")


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that machines see as /mnt, with the package in it."""
    directory = tmp_path_factory.mktemp("shared")
    package(directory)
    return directory


@pytest.fixture(scope="session", autouse=True)
def debian13_root(request: pytest.FixtureRequest) -> Iterator[Future[Path] | None]:
    """The root with Debian 13, if a test wants it: it is made while the tour of Debian 12 runs."""
    with ThreadPoolExecutor(1) as pool:
        wanted = any(item.path.name == "test_debian13.py" for item in request.session.items)
        yield pool.submit(debian, "trixie") if wanted else None


@pytest.fixture(scope="module")
def root() -> Path:
    """The Debian that the nodes run."""
    return debian("bookworm")


@pytest.fixture(scope="module")
def cluster(image: Image, root: Path, shared: Path) -> Iterator[Cluster]:
    """The cluster of the module: one member, on which Ganeti is not initialized yet."""
    with Cluster(image, root, shared) as cluster:
        CLUSTERS.append(cluster)
        print(f"{cluster.master}: {cluster.master.confinement()}")
        yield cluster
        CLUSTERS.remove(cluster)


@pytest.fixture(autouse=True)
def in_step(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[None]:
    """After each step everything is as it should be on every node, nothing of anything is left, and our programs have
    complained of nothing in the journal but of what the step says that they may (the mark `complaints`)."""
    yield
    cluster.settle()
    mark = request.node.get_closest_marker("complaints")
    for member in cluster.members:
        said = [line for line in member.complaints() if not (mark and re.search(mark.args[0], line))]
        assert said == [], f"{member} complained"


@pytest.hookimpl(hookwrapper=True)  # type: ignore[untyped-decorator]  # Debian 12's pytest says nothing of it
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """A step that failed: say what the nodes logged, and take no further one."""
    report: pytest.TestReport = (yield).get_result()
    if report.failed:
        FAILED.setdefault(item.getparent(pytest.Module), item.name)
        for cluster in CLUSTERS:
            for member in cluster.members:
                noded = member.try_("tail", "-n", "60", "/var/log/ganeti/node-daemon.log").stdout
                report.sections += [(f"{member.name}: journal", member.log()), (f"{member.name}: noded", noded)]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """The steps after one that failed would fail for no reason of their own."""
    if failed := FAILED.get(item.getparent(pytest.Module)):
        pytest.skip(f"the tour ended at {failed}")
