# SPDX-License-Identifier: BSD-2-Clause
"""The flags that all our programs have."""

from __future__ import annotations

import argparse
from typing import Any

from ganeti_vif.config import source
from ganeti_vif.system.version import version


class _Version(argparse.Action):
    """Prints the version. It is read only then."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        print(f"{parser.prog} {version()}")
        parser.exit()


def add_common(parser: argparse.ArgumentParser) -> None:
    """Give PARSER --version and --config."""
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    parser.add_argument(
        "--config", default=source.PATH, metavar="FILE", help="configuration file (default: %(default)s)"
    )
