# SPDX-License-Identifier: BSD-2-Clause
"""What Debian runs for each version of the package (debian/tests), run once here."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.lab import Image, ensure
from tests.lab.guest_image import ImageError

from .actions import install, sh
from .conftest import ROOT, Boot
from .root import TESTED


def image(directory: Path) -> Image:
    try:
        return ensure(directory)
    except ImageError as error:
        pytest.skip(f"no guest can be made: {error}")


def test_the_installed_package_attaches_a_tap_and_its_guest_gets_an_address(boot: Boot, shared: Path) -> None:
    kernel = image(ROOT / "build").kernel.parents[1]
    control = (ROOT / "debian" / "tests" / "control").read_text(encoding="utf-8")
    (depends,) = re.findall(r"^Depends: @, (.*)$", control, re.MULTILINE)
    machine = boot("bookworm", "systemd", *sorted({*depends.split(", "), *TESTED}))
    install(machine)
    # the kernel is the one thing that it would download
    shutil.copytree(kernel, shared / "guest" / "guest-kernel", symlinks=True)
    said = sh(machine, "cd /mnt/this/ganeti-vif && AUTOPKGTEST_TMP=/mnt debian/tests/guest")
    assert "192.0.2.5" in said, said
