# SPDX-License-Identifier: BSD-2-Clause
"""TapHolder: a process that holds many taps, as QEMU holds one. When it is killed they are all gone at once."""

import signal
import sys
from pathlib import Path

from .namespace import PATIENCE, Node

PROGRAM = Path(__file__).with_name("hold_taps.py")


class TapHolder:
    """COUNT taps of NODE, each as tap.Tap makes it, in a process of their own. NAMES has their names."""

    def __init__(self, node: Node, count: int) -> None:
        self._process = node.popen([sys.executable, "-I", str(PROGRAM), str(count)], stdin=-1)
        assert self._process.stdout
        self.names = self._process.stdout.readline().split()
        if len(self.names) != count:
            _, errors = self._process.communicate(timeout=PATIENCE)
            raise OSError(f"{node}: {len(self.names)} of {count} taps: {errors}")

    def __enter__(self) -> "TapHolder":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def close(self, tap: str) -> None:
        """Close this one. Returns when the kernel has taken it away."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(f"{tap}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline().strip() == tap

    def kill(self) -> None:
        """kill -9; returns when it is dead, and with it the taps. A second call does nothing."""
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate(timeout=PATIENCE)
