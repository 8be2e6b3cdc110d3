# SPDX-License-Identifier: BSD-2-Clause
"""What nodes are made of: a clean Debian with Ganeti, and the package as it is built."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.package.root import CLUSTER, root

SOURCE = Path(__file__).resolve().parents[2]


def debian(suite: str) -> Path:
    """The root of a Debian SUITE with Ganeti, made once: a download of 200 MB and a minute or two. Skips the test if it
    cannot be had."""
    return root(suite, *CLUSTER)


def package(directory: Path) -> Path:
    """Build the package of this tree into DIRECTORY, as ganeti-vif.deb."""
    with (directory.parent / f"{directory.name}.log").open("w+") as log:
        command = [str(SOURCE / "tools" / "build-deb"), str(directory / "build")]
        done = subprocess.run(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=os.environ, timeout=600)
        log.seek(0)
        if done.returncode:
            raise RuntimeError(f"the package cannot be built: {log.read()[-3000:]}")
    (built,) = (directory / "build").glob("ganeti-vif_*.deb")
    return built.rename(directory / "ganeti-vif.deb")
