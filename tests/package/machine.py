# SPDX-License-Identifier: BSD-2-Clause
"""Machine: a whole Debian system in namespaces of its own, with systemd as its first process or without.

It is a Node of the laboratory, so wires, taps and guests fit; but its files are an overlay over a clean Debian root, and
it has its own processes. What it writes is gone with it. Of the kernel's settings it sees only those of its network.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.lab import Node
from tests.lab.namespace import CLEAN_ENV, PATIENCE, _tool

# The root file system of the machine: an overlay on a tmpfs that nobody in it sees.
# /proc/sys is read-only but for net and the host's name, which are the machine's own: all else there is the host's.
MOUNTS = r"""
set -eu
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o "lowerdir=$1,upperdir=/mnt/upper,workdir=/mnt/work" overlay /mnt/root
cd /mnt/root
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys  # writable, systemd-networkd would wait for a udev
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do
    : > dev/$device
    mount --bind /dev/$device dev/$device
done
mkdir dev/net dev/shm dev/pts run/lock
: > dev/net/tun
mount --bind /dev/net/tun dev/net/tun
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount --bind proc/sys proc/sys
mount --bind proc/sys/net proc/sys/net
mount --bind proc/sys/kernel/hostname proc/sys/kernel/hostname
mount -o remount,bind,ro proc/sys
if [ "$3" = systemd ]; then
    mount -t tmpfs tmpfs sys/fs/cgroup 2>/dev/null || :
    mount -t cgroup2 cgroup2 sys/fs/cgroup
fi
if [ "$3" != systemd ]; then
    # As sysvinit says it: without, invoke-rc.d starts nothing.
    rm -f usr/sbin/runlevel
    printf '#!/bin/sh\necho N 2\n' > usr/sbin/runlevel
    chmod 755 usr/sbin/runlevel
fi
rm -f etc/resolv.conf
echo "$2" > /proc/sys/kernel/hostname
echo "$2" > etc/hostname
echo "$2" | md5sum | cut -c1-32 > etc/machine-id  # each its own: bridges get their MAC addresses by it
mount --bind "$4" mnt
mkdir run/old
pivot_root . run/old
umount -l run/old
ip link set lo up
: > /run/ready
if [ "$3" = systemd ]; then
    exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --show-status=no
fi
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin python3 -c '
import os, time
while True:  # the first process has to bury the dead
    try:
        os.wait()
    except ChildProcessError:
        time.sleep(0.05)
'
"""

# Whoever waits for our end of the pipe kills the first process, and with it the kernel kills all the others.
HOLDER = r"""
[ -z "$CGROUP" ] || { mkdir "$CGROUP"; echo 0 > "$CGROUP/cgroup.procs"; }
unshare --fork --pid --kill-child --mount --net --uts --ipc --cgroup --propagation private \
    /bin/sh -c "$MOUNTS" machine "$@" </dev/null >"$CONSOLE" 2>&1 &
holder=$!
echo $holder
read -r _
read -r first rest < /proc/$holder/task/$holder/children
kill -9 $first
wait
[ -z "$CGROUP" ] || {
    cd "${CGROUP%/*}"
    echo 0 > cgroup.procs
    find "$CGROUP" -depth -type d -exec rmdir {} \;
}
"""


def cgroups() -> Path | None:
    """Where this host has its cgroups of the second kind (systemd of Debian 13 knows no other), or None."""
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    return None


class Machine(Node):
    """It exists from here until close(), the end of the `with` block or the end of this process.

    ROOT: its files before it changes them. SYSTEMD: whether it is the first process, and runs the services.
    SHARED: a directory of the host that it sees, as /mnt.
    """

    def __init__(self, name: str, root: Path, *, systemd: bool, shared: Path) -> None:
        self.name = name
        self.systemd = systemd
        self._started: list[subprocess.Popen[str]] = []
        cgroup = cgroups() if systemd else None
        self._console = shared / f"{name}.console"
        environment = dict(CLEAN_ENV) | {"MOUNTS": MOUNTS, "CONSOLE": str(self._console)}
        environment["CGROUP"] = str(cgroup / f"{name}-{os.getpid()}") if cgroup else ""
        self._holder = subprocess.Popen(
            ["/bin/sh", "-c", HOLDER, "holder", str(root), name, "systemd" if systemd else "alone", str(shared)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
        assert self._holder.stdout is not None
        holder = int(self._holder.stdout.readline())
        self.pid = self._first_process(holder)
        self._booted()

    def _first_process(self, holder: int) -> int:
        """The process that is 1 in the machine."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self._holder.poll() is None:
            with contextlib.suppress(OSError):
                if children := Path(f"/proc/{holder}/task/{holder}/children").read_text().split():
                    return int(children[0])
            time.sleep(0.01)
        raise RuntimeError(f"{self}: it did not start: {self.console()}")

    def _booted(self) -> None:
        """Wait until programs can be run, and until systemd has started what it starts."""
        deadline = time.monotonic() + PATIENCE
        running = "systemctl is-system-running --wait" if self.systemd else "true"
        while True:
            done = self.run(["sh", "-c", f"test -e /run/ready && {running}"], check=False, timeout=PATIENCE)
            if done.returncode == 0 or done.stdout.strip() == "degraded":
                return
            if time.monotonic() > deadline or self._holder.poll() is not None:
                raise RuntimeError(f"{self}: it did not come up: {done.stdout}{done.stderr}{self.console()}")
            time.sleep(0.1)

    def console(self) -> str:
        """What the machine's first process printed."""
        return self._console.read_text(encoding="utf-8", errors="replace")

    def popen(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        stdin: int | None = subprocess.DEVNULL,
        stdout: int | None = subprocess.PIPE,
        stderr: int | None = subprocess.PIPE,
        pass_fds: Sequence[int] = (),
    ) -> subprocess.Popen[str]:
        """As Node.popen, in all namespaces of the machine; the process id is that of nsenter, which waits for it."""
        process = subprocess.Popen(
            [_tool("nsenter"), "--target", str(self.pid), "--all", "--root", "--wd", "--", *argv],
            env=CLEAN_ENV if env is None else env,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=pass_fds,
            encoding="utf-8",
            errors="surrogateescape",
            start_new_session=True,
        )
        self._started.append(process)
        return process
