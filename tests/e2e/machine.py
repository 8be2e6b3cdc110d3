# SPDX-License-Identifier: BSD-2-Clause
"""Machine: a node of the laboratory that Ganeti takes for a whole computer.

Beside network, mount and host name it has process ids and System V objects of its own, and a whole root file system:
an overlay whose upper layer is in memory, over this machine's root or another Debian's.  Its first process ends when
our end of a pipe is closed, and the kernel ends everything in it with that process, QEMU included.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.lab import Node
from tests.lab.namespace import CLEAN_ENV, CommandFailed

# /proc is the host's until it is mounted anew, so the shell's own entry there has the process id that the host knows.
# A fresh sysfs shows this network namespace: Ganeti looks for bridges in it (lib/utils/__init__.py:250 at 3.0.2).
# Children of processes that ended become the first process's; with SIGCHLD ignored the kernel buries them at once.
HOLDER = r"""
umask 022
read -r pid _ < /proc/self/stat
echo "$1" > /proc/sys/kernel/hostname
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/upper /run/work /run/root
mount -t overlay -o lowerdir="$2",upperdir=/run/upper,workdir=/run/work overlay /run/root
cd /run/root
mount --rbind /dev dev
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mkdir run/lock run/sshd
pivot_root . mnt
umount -l /mnt
ip link set lo up
exec /usr/bin/python3 -Ic "
import signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print('ready $pid', flush=True)
sys.stdin.read(1)"
"""

SLOW = 240.0
"""Seconds for one of Ganeti's jobs on a machine that has much else to do."""


class Machine(Node):
    """A computer; it exists from here until close(), the end of the `with` block or the end of this process."""

    NAMESPACES = ("--net", "--mount", "--uts", "--ipc", "--pid")
    MAKING = ("--propagation", "private", "--fork", "--kill-child")
    HOLDER = HOLDER

    def __init__(self, name: str, root: Path = Path("/")) -> None:
        """`root`: the Debian that it runs; nothing is written there."""
        super().__init__(name, str(root))
        self.root = root

    def install(self, source: Path) -> None:
        """Install the project into this machine's own file system, from outside: another Debian may have no make."""
        command = ["make", "-s", "-C", str(source), "install", f"DESTDIR=/proc/{self.pid}/root"]
        done = subprocess.run(command, env=dict(CLEAN_ENV), capture_output=True, text=True, timeout=SLOW)
        if done.returncode:
            raise CommandFailed(done.returncode, command, done.stdout, done.stderr)

    def try_(self, *command: str, timeout: float = SLOW) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, however it ends."""
        return self.run(command, check=False, timeout=timeout)

    def do(self, *command: str, timeout: float = SLOW) -> str:
        """Run a program that must succeed; returns what it prints. Raises CommandFailed."""
        return self.run(command, timeout=timeout).stdout

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file of this machine, and the directories above it."""
        there = self.path(path)
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_text(text, encoding="utf-8")
        there.chmod(mode)

    def pull_the_plug(self) -> None:
        """What a power cut takes: every process, all of /run, and what the kernel of this network knew.

        The cables stay plugged in, with their addresses; see conftest for who configures those at boot.
        """
        # 1 is spared by the kernel; nobody else can be spared by us. The shell that kills is told apart by its pid.
        self.run(
            [
                "sh",
                "-c",
                "kill -9 -1; find /run -mindepth 1 -delete; mkdir -p /run/lock /run/sshd;"
                " nft flush ruleset; ip route flush table all proto 156; ip rule flush proto 156;"
                " ip -6 route flush table all proto 156; ip -6 rule flush proto 156;"
                " ip neigh flush proxy >/dev/null 2>&1;"
                " for link in $(ip -o link show group 7686 | awk -F'[:@ ]+' '{print $2}'); do ip link del $link; done",
            ],
            timeout=SLOW,
        )
