# SPDX-License-Identifier: BSD-2-Clause
"""The examples in the manual and in --help are typed as they stand there, on a node with a guest, and do what they say."""

from __future__ import annotations

import pytest

from ganeti_vif.cli.help import HELP
from tests.lab import Node

from .actions import attach, differences, manage, names, shot
from .conftest import MakeTap
from .environment import routed

ELSEWHERE = {"network": "tests/e2e", "cluster": "tests/e2e", "confirm": "tests/package", "revert": "tests/package"}
"""Verbs whose examples need a cluster, or systemd, and where those are typed."""
EXAMPLES = [
    (verb, example)
    for verb, about in HELP.items()
    if verb not in ELSEWHERE
    for example in about.examples
    if "--try" not in example  # as confirm
]
SETTINGS = "NFDHCPD_STATE_DIR=/var/lib/nfdhcpd\n"


def typed(node: Node, command: str) -> tuple[int, str, str]:
    """Status, output and complaints of a shell command on NODE."""
    done = node.run(["sh", "-c", command], check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(("verb", "example"), EXAMPLES, ids=[example for _, example in EXAMPLES])
def test_an_example_does_what_it_says(ready: Node, tap: MakeTap, verb: str, example: str) -> None:
    if verb == "teardown":
        assert typed(ready, example)[::2] == (0, "")
        assert ("pvn3" in names(ready)) == (example != "ganeti-vif teardown")
        return
    one = tap(ready)
    assert one.name == "tap0"
    attach(ready, routed(one.name, INSTANCE="web.example.com"))
    if verb == "import":
        ready.path("/etc/default").mkdir(exist_ok=True)
        ready.path("/etc/default/snf-network").write_text(SETTINGS, encoding="utf-8")
    if verb == "config":
        ready.path("/root/new.conf").write_text(ready.path("/etc/ganeti-vif/ganeti-vif.conf").read_text())
    before = shot(ready)
    status, out, err = typed(ready, example)
    assert "Traceback" not in err
    assert status in HELP[verb].statuses
    assert status == 0 or verb in ("doctor", "import"), (out, err)
    assert out or verb == "check" or "--dry-run" in example
    assert shot(ready) == before
    assert differences(ready) == []


def test_every_verb_that_finds_something_wrong_exits_with_one_and_what_is_typed_wrong_with_two(ready: Node) -> None:
    """As the manual says it of each."""
    manage(ready, "teardown")
    assert typed(ready, "ganeti-vif check")[0] == 1
    assert typed(ready, "ganeti-vif explain tap9")[0] == 1
    assert typed(ready, "ganeti-vif detach tap9")[0] == 1
    assert typed(ready, "ganeti-vif status")[0] == 0
    for wrong in ("ganeti-vif", "ganeti-vif detach", "ganeti-vif no-such-verb", "ganeti-vif check --no-such-flag"):
        status, out, err = typed(ready, wrong)
        assert (status, out) == (2, "") and err.startswith("usage: "), wrong
