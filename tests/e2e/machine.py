# SPDX-License-Identifier: BSD-2-Clause
"""Machine: a whole Debian system that Ganeti takes for a computer: systemd is its first process, and starts its units.

Its files are an overlay, in memory, over a clean Debian root (tests/package/root.py). The package is installed on it with apt,
so what runs there is what an administrator has: units, sandboxes and journal.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.package import machine
from tests.package.actions import INSTALL

SLOW = 240.0
"""Seconds for one of Ganeti's jobs on a machine that has much else to do."""
UNITS = ("ganeti-vif", "ganeti-vifd", "ganeti-vif-responder")


class Machine(machine.Machine):
    """A computer; it exists from here until close(), the end of the `with` block or the end of this process."""

    def __init__(self, name: str, root: Path, shared: Path) -> None:
        """ROOT: the Debian that it runs; nothing is written there. SHARED: what it sees as /mnt; the package is in it."""
        super().__init__(name, root, systemd=True, shared=shared)

    def install_package(self) -> None:
        """Install the package as the README says. Raises CommandFailed."""
        self.do("sh", "-c", f"{INSTALL} /mnt/ganeti-vif.deb")

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

    def confinement(self) -> str:
        """What confines programs here besides their units: AppArmor's or SELinux' word, or that there is none."""
        for name, path in (
            ("AppArmor", "/sys/module/apparmor/parameters/enabled"),
            ("SELinux", "/sys/fs/selinux/enforce"),
        ):
            if (done := self.try_("cat", path)).returncode == 0:
                return f"{name} is {'on' if done.stdout.strip() in ('Y', '1') else 'off'}"
        return "the kernel has neither AppArmor nor SELinux"

    def pull_the_plug(self) -> None:
        """What a power cut takes: guests and daemons, what /run had of them, and what the kernel of this network knew.

        systemd itself stays, and starts the units again in power_on(); the cables stay plugged in, with their addresses.
        """
        # Units that systemd would start again at once are masked until the power is back.
        units = " ".join(f"{unit}.service" for unit in UNITS)
        self.do("sh", "-c", f"systemctl mask --runtime --quiet {units}; systemctl kill -s KILL {units} || :")
        self.do(
            "sh",
            "-c",
            f"pkill -9 -f '^(/usr/bin/qemu|[^ ]*python3 /usr/sbin/ganeti-|/usr/sbin/ganeti-)'; systemctl stop ganeti {units}",
        )
        self.do(
            "sh",
            "-c",
            "rm -rf /run/ganeti-vif /run/ganeti-vif-responder /run/ganeti/*;"
            " nft flush ruleset; ip route flush table all proto 156; ip rule flush proto 156;"
            " ip -6 route flush table all proto 156; ip -6 rule flush proto 156;"
            " ip neigh flush proxy >/dev/null 2>&1;"
            " for link in $(ip -o link show group 7686 | awk -F'[:@ ]+' '{print $2}'); do ip link del $link; done",
        )
        self.do("sh", "-c", f"systemctl unmask --runtime --quiet {units}; systemctl reset-failed")

    def power_on(self) -> None:
        """What a boot starts, in the units' own order."""
        self.do("sh", "-c", "systemd-tmpfiles --create >/dev/null 2>&1 || :")
        self.do("systemctl", "start", *UNITS, "ganeti")
