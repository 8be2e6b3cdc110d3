# SPDX-License-Identifier: BSD-2-Clause
"""Node: one machine of the laboratory.

A node has its own network, mount and host name, and shares the rest (process ids, users, /tmp, /dev) with the host.
It is held by a shell that waits on a pipe from us.  When the pipe closes, because close() was called or because our
process is gone, that shell kills whatever still runs in the node's network and leaves; the kernel clears up the rest.
A pipe and not PR_SET_PDEATHSIG: the signal comes when the *thread* that started the child ends, so a node made in a
worker thread would die at once.

No name of a node is known outside of it (wires are made straight inside), so any number of laboratories run in
parallel.
"""

import contextlib
import ctypes
import functools
import os
import select
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self, TypeVar

T = TypeVar("T")

CLEAN_ENV: Mapping[str, str] = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
CLONE_NEWNET = 0x40000000

# Seconds for steps that are never slow by themselves.  The kernel has one lock for all changes of all networks: whoever
# takes down a namespace with thousands of interfaces, even in another laboratory, makes everybody wait for a minute.
# An emulated machine needs more: whoever runs the tests there says so.
PATIENCE = float(os.environ.get("LAB_PATIENCE", "120"))

# The layers of the overlays live on a tmpfs that is unmounted as soon as the overlays hold it, so no program in the
# node sees them.  The shell ends processes by their network namespace, builtins only: a fork per process would be slow.
HOLDER = r"""
umask 022
echo "$1" > /proc/sys/kernel/hostname
mount -t tmpfs -o mode=755 tmpfs /run
for directory in etc usr var; do
    mkdir -p /run/$directory/upper /run/$directory/work
    mount -t overlay -o lowerdir=/$directory,upperdir=/run/$directory/upper,workdir=/run/$directory/work \
        overlay /$directory
done
umount /run
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/lock
mount -t sysfs sysfs /sys
ip link set lo up
echo ready $$
set +e
read -r _
rounds=2000 found=1
while [ $found = 1 ] && [ $((rounds -= 1)) -gt 0 ]; do
    found=0
    for process in /proc/[0-9]*; do
        if [ ${process#/proc/} != $$ ] && [ $process/ns/net -ef /proc/$$/ns/net ]; then
            kill -9 ${process#/proc/} 2>/dev/null
            found=1
        fi
    done
done
"""


class CommandFailed(subprocess.CalledProcessError):
    """A program in a node ended with a status other than 0; the message shows what it printed."""

    def __str__(self) -> str:
        return f"{super().__str__()}\nstdout: {self.stdout}\nstderr: {self.stderr}"


@functools.cache
def _tool(name: str) -> str:
    """The full path of a tool of the host: Popen would look for it in the PATH of the environment that it passes on."""
    if found := shutil.which(name, path=f"{CLEAN_ENV['PATH']}:{os.environ.get('PATH', '')}"):
        return found
    raise FileNotFoundError(f"the laboratory needs '{name}'")


class Node:
    """A machine; it exists from here until close(), the end of the `with` block or the end of this process."""

    NAMESPACES: Sequence[str] = ("--net", "--mount", "--uts")
    """What a node has of its own, as options of unshare and nsenter."""
    MAKING: Sequence[str] = ("--propagation", "private")
    """Further options of unshare."""
    HOLDER = HOLDER
    """The shell script that makes the node and holds it. It prints `ready PID`, with its process id as the host sees it,
    and ends everything in the node when its standard input ends."""

    def __init__(self, name: str, *arguments: str) -> None:
        """`arguments` are the HOLDER's, after the name."""
        self.name = name
        self._started: list[subprocess.Popen[str]] = []
        # A session of its own: Ctrl-C at the terminal must not take the node away from tests that still clean up in it.
        self._holder = subprocess.Popen(
            [
                _tool("unshare"),
                *self.NAMESPACES,
                *self.MAKING,
                "--",
                "/bin/sh",
                "-ec",
                self.HOLDER,
                "lab-node",
                name,
                *arguments,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=CLEAN_ENV,
            cwd="/",
            start_new_session=True,
        )
        assert self._holder.stdout is not None
        answer = f"no answer for {PATIENCE} s"
        if select.select([self._holder.stdout], [], [], PATIENCE)[0]:
            answer = self._holder.stdout.readline().strip()
        if not answer.startswith("ready "):
            self._holder.kill()
            rest, _ = self._holder.communicate()
            raise RuntimeError(f"node {name}: no namespaces: {answer} {rest.strip()}")
        self.pid = int(answer.removeprefix("ready "))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Node({self.name!r})"

    def popen(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        stdin: int | None = subprocess.DEVNULL,
        stdout: int | None = subprocess.PIPE,
        stderr: int | None = subprocess.PIPE,
        pass_fds: Sequence[int] = (),
    ) -> "subprocess.Popen[str]":
        """Start a program in the node, with / as its directory; `env` is its whole environment.

        The process id is the program's own (nsenter replaces itself), and the program dies with the node at the latest.
        """
        process = subprocess.Popen(
            [_tool("nsenter"), "--target", str(self.pid), *self.NAMESPACES, "--", *argv],
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

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        input: str | None = None,
        timeout: float = PATIENCE,
    ) -> "subprocess.CompletedProcess[str]":
        """Run a program to its end.  With `check`, a status other than 0 raises CommandFailed.

        After `timeout` seconds the program and its children are killed and subprocess.TimeoutExpired is raised.  A
        child that keeps the output open is waited for, as Ganeti does: that it blocks Ganeti is something to find here.
        """
        process = self.popen(argv, env=env, stdin=subprocess.DEVNULL if input is None else subprocess.PIPE)
        with process:
            try:
                stdout, stderr = process.communicate(input, timeout)
            except BaseException:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise
        self._started.remove(process)
        if check and process.returncode:
            raise CommandFailed(process.returncode, list(argv), stdout, stderr)
        return subprocess.CompletedProcess(list(argv), process.returncode, stdout, stderr)

    def path(self, path: str) -> Path:
        """The host's way to a file of the node, whether it exists or not.

        Symbolic links are followed here, within the node: the kernel would follow an absolute one (/var/run) into the
        host.  /proc is refused: /proc/sys/net shows the network of whoever looks, so a test would write to the host's.
        """
        root = Path(f"/proc/{self.pid}/root")
        todo, done = [part for part in reversed(path.split("/")) if part], Path("/")
        for _ in range(1000):
            if not todo:
                return root / done.relative_to("/")
            part = todo.pop()
            if part == "..":
                done = done.parent
                continue
            if part == ".":
                continue
            try:
                target = os.readlink(root / done.relative_to("/") / part)
            except OSError:  # no link, or not there: one question, as what is in /sys goes between two
                done /= part
                if done == Path("/proc"):
                    raise ValueError(
                        f"{path}: /proc is not the node's when read from here; use run() or inside()"
                    ) from None
                continue
            done = Path("/") if target.startswith("/") else done
            todo += [part for part in reversed(target.split("/")) if part]
        raise OSError(f"{self}: {path}: too many symbolic links")

    def ifindex(self, device: str) -> int | None:
        """The index of a network device, None if the node has none of that name.

        The kernel's own list is asked, as it says on netlink that a device has gone before it takes it out of /sys
        (unregister_netdevice_many_notify): whoever that message wakes may still see it there, and is not woken again.
        """
        try:
            return self.inside(lambda: socket.if_nametoindex(device))
        except OSError:
            return None

    def inside(self, function: Callable[[], T]) -> T:
        """Call a function in a thread that is in the node's network, and give back what it returns or raises.

        Sockets and taps that it opens stay in the node's network.  Its files are the host's (use path()), except
        /proc/sys/net; but /proc/net belongs to the process, hence to the host (use /proc/thread-self/net).
        """

        def enter() -> T:
            libc = ctypes.CDLL(None, use_errno=True)
            with open(f"/proc/{self.pid}/ns/net", "rb") as namespace:
                if libc.setns(namespace.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), f"setns into {self}")
            return function()

        with ThreadPoolExecutor(max_workers=1) as thread:
            return thread.submit(enter).result()

    def install(self, source: Path) -> None:
        """Install the project from its source tree as the Debian package would; only this node sees the files.

        With LAB_INSTALLED in the environment the package is there already, for this machine and so for its nodes; but
        a node starts no services, so there they are not enabled.
        """
        if "LAB_INSTALLED" in os.environ:
            self.run(["sh", "-c", "rm -f /etc/systemd/system/*/ganeti-vif* /etc/rc?.d/*ganeti-vif*"])
            return
        try:
            self.run(["make", "-s", "-C", str(source), "install", "DESTDIR="])
        except CommandFailed as failed:
            raise RuntimeError(f"{self}: 'make install' of {source} failed\n{failed}") from None

    def close(self) -> None:
        """End every program of the node and the node itself; a second call does nothing."""
        if self._holder.poll() is None:
            with contextlib.suppress(BrokenPipeError):
                self._holder.communicate("\n", timeout=PATIENCE)
        for process in self._started:
            process.wait(timeout=PATIENCE)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    with contextlib.suppress(BrokenPipeError):
                        stream.close()
        self._started.clear()


def wire(a: Node, a_interface: str, b: Node, b_interface: str) -> None:
    """A cable between two nodes: a veth pair with both ends up.  It goes away with either node."""
    a.run(["ip", "link", "add", a_interface, "type", "veth", "peer", "name", b_interface, "netns", str(b.pid)])
    b.run(["ip", "link", "set", b_interface, "up"])
    a.run(["ip", "link", "set", a_interface, "up"])
