# SPDX-License-Identifier: BSD-2-Clause
"""The daemon in the tests: starting, hanging and ending it, and waiting until it has done what it does by itself."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab import PATIENCE, Node

from .actions import differences, ip

ROOT = Path(__file__).resolve().parents[2]
LOG = "/var/log/ganeti/vif.log"
RECORDS = "/run/ganeti-vif/nics"
SOCKET = "/run/ganeti-vif/control.sock"


def as_in_its_unit() -> list[str]:
    """The daemon's command, with the capabilities that its unit leaves it: root alone has more than it will have."""
    unit = (ROOT / "debian" / "ganeti-vif.ganeti-vifd.service").read_text(encoding="utf-8")
    (allowed,) = re.findall(r"^CapabilityBoundingSet=(.*)$", unit, re.MULTILINE)
    bounding = ",".join(["-all", *("+" + name.removeprefix("CAP_").lower() for name in allowed.split())])
    return ["setpriv", "--no-new-privs", f"--bounding-set={bounding}", "--", "ganeti-vifd", "--foreground"]


def until(met: Callable[[], bool], what: str) -> None:
    """Wait for what no event tells of: files, and the daemon's own log."""
    deadline = time.monotonic() + PATIENCE
    while not met():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def clean(node: Node) -> bool:
    return differences(node) == []


def said(node: Node) -> str:
    return node.path(LOG).read_text() if node.path(LOG).exists() else ""


def launched(node: Node) -> subprocess.Popen[str]:
    """A daemon that answers. It looks at the node when it comes to it."""
    daemon = node.popen(as_in_its_unit())
    until(lambda: answers(node) or daemon.poll() is not None, "an answer")
    assert daemon.poll() is None, daemon.communicate()
    return daemon


def answers(node: Node) -> bool:
    """Whether a daemon answers at its door."""
    ask = "import sys; sys.path.insert(0, '/usr/share/ganeti-vif'); from ganeti_vif.system.ask import ask; sys.exit(ask('state', {}) is None)"
    return node.run(["/usr/bin/python3", "-IS", "-c", ask], check=False).returncode == 0


def started(node: Node) -> subprocess.Popen[str]:
    """A daemon that has looked at the node once: it repairs something that was broken for that."""
    ip(node, "link set pvn1 mtu 1400")
    daemon = node.popen(as_in_its_unit())
    until(lambda: clean(node) or daemon.poll() is not None, "the first look")
    assert daemon.poll() is None, daemon.communicate()
    return daemon


def stopped(daemon: subprocess.Popen[str], number: int = signal.SIGTERM) -> None:
    daemon.send_signal(signal.SIGCONT)
    daemon.send_signal(number)
    daemon.communicate(timeout=PATIENCE)


@contextmanager
def hanging(daemon: subprocess.Popen[str], node: Node) -> Iterator[None]:
    """Meanwhile it hangs, and holds no lock: if it did, others would wait for its watchdog to end it."""

    def hangs() -> bool:
        os.kill(daemon.pid, signal.SIGSTOP)
        if node.run(["flock", "--nonblock", "/run/ganeti-vif/nics.lock", "true"], check=False).returncode == 0:
            return True
        os.kill(daemon.pid, signal.SIGCONT)
        return False

    until(hangs, "a moment without a lock")
    try:
        yield
    finally:
        os.kill(daemon.pid, signal.SIGCONT)


def without_records(node: Node) -> bool:
    """Whether there is no record of any NIC."""
    directory = node.path(RECORDS)
    return not directory.exists() or not list(directory.iterdir())


def impatient(node: Node) -> None:
    """From now on who asks the daemon of NODE waits for half a second, and not for ten."""
    node.run(["sed", "-i", "s/^PATIENCE = 10.0$/PATIENCE = 0.5/", "/usr/share/ganeti-vif/ganeti_vif/system/ask.py"])
