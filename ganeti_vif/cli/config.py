# SPDX-License-Identifier: BSD-2-Clause
"""The verbs of `ganeti-vif config`: what is in force, whole, and whether a file could be."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping

from ganeti_vif.cli.configuration import known
from ganeti_vif.config import effective, parse, source
from ganeti_vif.engine.failure import Failure, remedy

VERBS: Mapping[str, str] = {
    "show": "print the configuration in force, by which the daemon works, with all defaults",
    "check": "say whether a file is a correct configuration. Nothing on the node is looked at",
}
"""The verbs of `ganeti-vif config`, with their help."""


def add(parser: argparse.ArgumentParser) -> None:
    """Give PARSER its verbs."""
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB", dest="config_verb")
    for name, text in VERBS.items():
        one = verbs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        one.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON object")
        if name == "check":
            what = "the file (default: the file of --config)"
            one.add_argument("file", nargs="?", default=None, metavar="FILE", help=what)


def run(given: argparse.Namespace, _: Mapping[str, str]) -> int:
    """Run the GIVEN verb. Returns the exit status. Raises Failure if a file cannot be read or is wrong."""
    return _check(given) if given.config_verb == "check" else _show(given)


def _show(given: argparse.Namespace) -> int:
    text = "\n".join(effective.lines(known(given)))
    sys.stdout.write(json.dumps({"configuration": text}, indent=2) + "\n" if given.json else text)
    return 0


def _check(given: argparse.Namespace) -> int:
    """Check the file. It and each of its profiles must be right."""
    path = given.file or given.config
    trouble: list[Failure] = []
    try:
        trouble = [one.trouble for one in parse.config_of(source.read(path)).profiles if one.trouble]
    except Failure as failure:
        trouble = [failure]
    if given.json:
        print(json.dumps({"trouble": [{"what": one.what, "do": one.do} for one in trouble]}, indent=2))
    else:
        sys.stdout.writelines(f"{one.what}\n  {remedy(one.do)}\n" for one in trouble)
        if not trouble:
            print(f"{path} is a correct configuration")
    return 1 if trouble else 0
