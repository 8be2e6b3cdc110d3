# SPDX-License-Identifier: BSD-2-Clause
"""The daemon is killed at any moment: its successor makes everything right. See daemon_killer.py and kill_runner.py."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests.lab import Node

from .test_killed import SIGKILLED, deaths

KILLER = Path(__file__).resolve().parent / "daemon_killer.py"
KILLS = 200
TIMEOUT = 600.0


@pytest.mark.parametrize("verb", ["daemon-attach", "daemon-detach", "daemon-let-go", "daemon-answer", "daemon-look"])
def test_at_each_step_and_its_successor_makes_everything_right(ready: Node, verb: str) -> None:
    for report in deaths(ready, verb, "after", "restart"):
        assert report["status"] == SIGKILLED, report
        assert report["then"] == [0, ""], report
        assert report["check"] == [], report


def test_at_two_hundred_random_moments(ready: Node) -> None:
    seed = random.randrange(2**32)
    done = ready.run(["/usr/bin/python3", str(KILLER), str(KILLS), str(seed)], check=False, timeout=TIMEOUT)
    assert done.returncode == 0, (seed, done.stderr)
    assert json.loads(done.stdout) == [], f"seed {seed}"
