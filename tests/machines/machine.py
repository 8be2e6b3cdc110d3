# SPDX-License-Identifier: BSD-2-Clause
"""Machine: a computer of QEMU with a Debian and its own kernel, and jobs for it."""

from __future__ import annotations

import itertools
import json
import os
import queue
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tests.lab.namespace import CommandFailed

from .disk import Disk

PATIENCE = 600.0
"""Seconds for anything: emulated, a machine is ten to twenty times slower than this one, which may have much else to do."""
CARDS = ("mgmt", "uplink", "gateway", "second")
"""The machine's cards. All but the first are on one cable: the node's uplink, the gateway's, and another one of the node's."""
KERNEL = "console=ttyS0 root=/dev/vda rw mitigations=off no_timer_check tsc=reliable nowatchdog audit=0 panic=-1 quiet"


def mac_of(card: str) -> str:
    """The MAC address of one of the CARDS."""
    return f"52:54:00:00:00:{CARDS.index(card):02x}"


def name_of(card: str) -> str:
    """How udev calls one of the CARDS: by its place on the bus."""
    return f"enp0s{16 + CARDS.index(card)}"


class Job:
    """A program that runs in a machine."""

    def __init__(self, machine: Machine, number: int, argv: Sequence[str]) -> None:
        self._machine, self._number, self._argv = machine, number, list(argv)
        self._answers: queue.Queue[Mapping[str, Any] | None] = queue.Queue()

    def signal(self, number: int) -> None:
        """Send it a signal: SIGKILL to its children, too."""
        self._machine.say({"job": self._number, "signal": number})

    def answer(self, answer: Mapping[str, Any] | None) -> None:
        """The machine says how it ended; None if the machine ended."""
        self._answers.put(answer)

    def wait(self, timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        """What it printed and its status, once it ended.

        Raises subprocess.TimeoutExpired if it takes longer than TIMEOUT, and then kills it; RuntimeError if the machine ends.
        """
        try:
            told = self._answers.get(timeout=timeout)
        except queue.Empty:
            self.signal(signal.SIGKILL)
            raise subprocess.TimeoutExpired(self._argv, timeout) from None
        if told is None:
            raise RuntimeError(f"the machine ended before {self._argv}: {self._machine.console()}")
        return subprocess.CompletedProcess(self._argv, told["status"], told["output"], told["errors"])


class Machine:
    """It exists from here until close(), the end of the `with` block or the end of this process.

    SHARED: a directory of the host that it sees as /mnt, and cannot change. OPTIONS: more of them for its kernel.
    """

    def __init__(self, disk: Disk, shared: Path, accelerator: str, memory: int = 2048, options: str = "") -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="machine-")
        self._console = Path(self._directory.name) / "console"
        self._numbers = itertools.count(1)
        self._jobs: dict[int, Job] = {}
        self._boots: queue.Queue[str] = queue.Queue()
        self._lock = threading.Lock()
        ours, theirs = socket.socketpair()
        with theirs:
            command = self._command(disk, shared, accelerator, memory, theirs.fileno(), f"{KERNEL} {options}")
            # no machine outlives these tests, however they end
            command = ["setpriv", "--pdeathsig", "KILL", *command]
            self._qemu = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, pass_fds=[theirs.fileno()],
                env=os.environ | {"TMPDIR": self._directory.name},
            )  # fmt: skip
        self._port = ours.makefile("rw", encoding="utf-8", newline="\n")
        ours.close()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.booted()
        except BaseException:
            self.close()
            raise

    def _command(self, disk: Disk, shared: Path, accelerator: str, memory: int, port: int, kernel: str) -> list[str]:
        command = [
            "qemu-system-x86_64", "-machine", "q35", "-accel", accelerator, "-cpu", "max", "-smp", "2", "-m", str(memory),
            "-nodefaults", "-display", "none", "-kernel", str(disk.kernel), "-initrd", str(disk.initrd), "-append", kernel,
            "-drive", f"file={disk.image},if=virtio,format=raw,snapshot=on,cache=unsafe", "-device", "virtio-rng-pci",
            "-fsdev", f"local,id=host,path={shared},security_model=none,multidevs=remap,readonly=on",
            "-device", "virtio-9p-pci,fsdev=host,mount_tag=host", "-device", "virtio-serial-pci",
            "-chardev", f"socket,id=jobs,fd={port}", "-device", "virtserialport,chardev=jobs,name=jobs",
            "-serial", f"file:{self._console}",
        ]  # fmt: skip
        for place, card in enumerate(CARDS, 16):
            hub = int(card != "mgmt")
            command += ["-netdev", f"hubport,id={card},hubid={hub}"]
            command += ["-device", f"virtio-net-pci,netdev={card},mac={mac_of(card)},addr={place:#x}"]
        # Whoever is there has an address for the management card: nobody beyond.
        return [*command, "-netdev", "user,id=user,restrict=on", "-netdev", "hubport,id=office,hubid=0,netdev=user"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> None:
        """What the machine says, until it ends."""
        for line in self._port:
            told = json.loads(line)
            if "boot" in told:
                self._drop_jobs()
                self._boots.put(told["boot"])
            elif job := self._jobs.pop(told["job"], None):
                job.answer(told)
        self._drop_jobs()
        self._boots.put("")

    def _drop_jobs(self) -> None:
        for number in list(self._jobs):
            self._jobs.pop(number).answer(None)

    def say(self, what: Mapping[str, Any]) -> None:
        """Tell the machine something, as inside/agent.py says."""
        with self._lock:
            self._port.write(json.dumps(what) + "\n")
            self._port.flush()

    def start(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, input: str | None = None) -> Job:
        """Start a program; `env` is its whole environment."""
        number = next(self._numbers)
        job = self._jobs[number] = Job(self, number, argv)
        self.say({"job": number, "argv": list(argv), "env": env if env is None else dict(env), "input": input})
        return job

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        input: str | None = None,
        timeout: float = PATIENCE,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end. With `check`, a status other than 0 raises CommandFailed; Job.wait says what else."""
        done = self.start(argv, env=env, input=input).wait(timeout)
        if check and done.returncode:
            raise CommandFailed(done.returncode, list(argv), done.stdout, done.stderr)
        return done

    def booted(self) -> None:
        """Wait until it takes jobs and systemd has started what it starts. Raises RuntimeError if it does not come up."""
        try:
            if not self._boots.get(timeout=PATIENCE):
                raise RuntimeError(f"QEMU ended: {self._qemu.stderr and self._qemu.stderr.read()}{self.console()}")
        except queue.Empty:
            raise RuntimeError(f"the machine does not come up: {self.console()}") from None
        self.run(["systemctl", "is-system-running", "--wait"], check=False)

    def reboot(self) -> None:
        """Start it anew, as an administrator does. Its disk stays as it is."""
        self.start(["systemctl", "reboot"])
        self.booted()

    def console(self) -> str:
        """The end of what the kernel and systemd said."""
        return self._console.read_text(encoding="utf-8", errors="replace")[-3000:] if self._console.exists() else ""

    def close(self) -> None:
        """End it at once; a second call does nothing."""
        if self._qemu.poll() is None:
            self._qemu.kill()
        self._qemu.wait()
        self._reader.join()
        self._port.close()
        if self._qemu.stderr:
            self._qemu.stderr.close()
        self._directory.cleanup()


def since(moment: float) -> float:
    """Seconds since a moment of time.monotonic()."""
    return time.monotonic() - moment
