# SPDX-License-Identifier: BSD-2-Clause
"""Each source file says its licence in its first line, or in the second if the first is for the kernel."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from samples import ROOT

SPDX = b"# SPDX-License-Identifier: BSD-2-Clause"
SKIPPED = {".git", "__pycache__", ".hypothesis", ".pytest_cache", ".mypy_cache", ".ruff_cache", "build", "captures"}
SOURCES = {".py", ".toml", ".service", ".init"}
WITHOUT = {"kvm-vif-bridge"}
"""The stub in /etc/ganeti is compared byte by byte with what earlier versions installed: it never changes."""


def sources() -> Iterator[Path]:
    """The files of the tree that are read by an interpreter, a build tool or a service manager."""
    for directory, directories, names in os.walk(ROOT):
        directories[:] = [name for name in directories if name not in SKIPPED]
        for path in (Path(directory, name) for name in names):
            if path.is_symlink() or not path.is_file() or str(path.relative_to(ROOT)) in WITHOUT:
                continue
            if path.suffix in SOURCES or path.name == "Makefile" or path.read_bytes().startswith(b"#!"):
                yield path


def test_each_source_says_its_licence() -> None:
    found = list(sources())
    assert len(found) > 350
    silent = [str(p.relative_to(ROOT)) for p in found if SPDX not in p.read_bytes().splitlines()[:2]]
    assert silent == []
