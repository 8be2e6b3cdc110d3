# SPDX-License-Identifier: BSD-2-Clause
"""In a node: a run of the product in a fork of this process, which dies (fails, is interrupted) at the change that is
asked for.

This process has imported the product already, what that imports late too, so a hundred runs take seconds.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import signal
import struct
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

sys.path.insert(0, "/usr/share/ganeti-vif")

import ganeti_vif.cli.command_line
import ganeti_vif.entry.vif_script
import ganeti_vif.kernel.netlink.changes
import ganeti_vif.kernel.nftables.changes
import ganeti_vif.system.node
from ganeti_vif.engine.difference import Change
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.naming import finding

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
NOTHING = 10**6
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGINT+SIGINT")
"""What asks a run to end, after a change; the last is somebody without patience."""


class Tap:
    """A tap that lives until close()."""

    def __init__(self) -> None:
        self._descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        answer = fcntl.ioctl(self._descriptor, TUNSETIFF, struct.pack("16sH22x", b"tap%d", IFF_TAP | IFF_NO_PI))
        self.name = answer[:16].rstrip(b"\0").decode()

    def close(self) -> None:
        os.close(self._descriptor)


class Count:
    """Counts what happens, and ends this process (or raises) at one of them."""

    def __init__(self, last: int, how: str, told: int) -> None:
        self.seen, self.last, self.how, self.told = 0, last, how, told

    def end(self, what: str) -> None:
        os.write(self.told, what.encode())
        if self.how == "fail":
            raise Failure("the test lets this change fail", "nothing")
        for name in self.how.split("+") if self.how in SIGNALS else ["SIGKILL"]:
            os.kill(os.getpid(), signal.Signals[name])


def dying(count: Count) -> None:
    """From now on this process dies at the change, or the rename, that COUNT says."""
    perform = ganeti_vif.system.node.Node.perform
    rename = os.rename

    def counted(node: ganeti_vif.system.node.Node, change: Change) -> None:
        count.seen += 1
        mine = count.seen == count.last
        if mine and count.how == "fail":
            count.end(finding(change))
        perform(node, change)
        if mine and count.how != "fail":
            count.end(finding(change))

    def renamed(source: str, target: str) -> None:
        count.seen += 1
        if count.seen == count.last:
            count.end(f"the rename to {target}")
        rename(source, target)

    if count.how == "rename":
        os.rename = renamed  # type: ignore[assignment]
    else:
        ganeti_vif.system.node.Node.perform = counted  # type: ignore[method-assign,assignment]


def forked(action: Callable[[], int], last: int = NOTHING, how: str = "after") -> dict[str, Any]:
    """Run ACTION in a process of its own. How it ended, what it printed, and at what it died or failed."""
    told, tells = os.pipe()
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.umask(0o077)
        out, err, status = io.StringIO(), io.StringIO(), 70
        try:
            dying(Count(last, how, tells))
            with redirect_stdout(out), redirect_stderr(err):
                status = action()
        except SystemExit as leaving:
            status = int(leaving.code or 0)
        except BaseException:
            err.write(traceback.format_exc())
        os.write(writes, json.dumps({"out": out.getvalue(), "err": err.getvalue()}).encode())
        os._exit(status)
    os.close(tells)
    os.close(writes)
    with os.fdopen(reads, "rb") as pipe:
        printed: dict[str, Any] = json.loads(pipe.read() or b'{"out": "", "err": ""}')
    with os.fdopen(told, "rb") as pipe:
        at = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    return printed | {"status": os.waitstatus_to_exitcode(status), "at": at}


def script(environment: dict[str, str]) -> Callable[[], int]:
    return lambda: ganeti_vif.entry.vif_script.main(environment)


def manage(*arguments: str) -> Callable[[], int]:
    return lambda: ganeti_vif.cli.command_line.main(list(arguments), {})


def well(run: dict[str, Any]) -> None:
    assert run["status"] == 0 and not run["err"], run
