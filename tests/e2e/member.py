# SPDX-License-Identifier: BSD-2-Clause
"""Member: a machine with Ganeti, QEMU and ganeti-vif, ready to be a node of a cluster."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path
from typing import Any

from tests.lab import Image
from tests.lab.namespace import CommandFailed

from .machine import SLOW, Machine
from .site import CONFIG, DOMAIN, MANAGEMENT, Site

CLUSTER = f"cluster.{DOMAIN}"
IDENTIFIERS = ("ganeti-vif", "ganeti-vifd", "ganeti-vif-responder")
"""What our programs call themselves in the journal."""

HOSTS = "127.0.0.1 localhost\n" + "".join(
    f"{MANAGEMENT}.{number} {name}.{DOMAIN} {name}\n" for number, name in ((1, "node1"), (2, "node2"), (100, "cluster"))
)
# An operating system that installs nothing: guests boot what the laboratory gives them.
OS = "/srv/ganeti/os/noop"

# Every tap that anything of ours names, on standard output; the kernel's list of taps ends it.
TRACES = """
nft list ruleset; ip rule; ip -6 rule; ip route show table all; ip -6 route show table all
ip neigh show proxy; ip -6 neigh show proxy; ls /run/ganeti-vif/nics /var/lib/nfdhcpd /var/lib/nfdhcpd.staging 2>/dev/null
echo LIVE; ls /sys/class/net
"""


class Member(Machine):
    """A node of the cluster. What it runs is started by systemd, and again by `power_on` after `pull_the_plug`."""

    def __init__(self, site: Site, number: int, image: Image, root: Path, shared: Path) -> None:
        super().__init__(f"node{number}.{DOMAIN}", root, shared)
        site.connect(self, number)
        self.write("/etc/hosts", HOSTS)
        self.write("/etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files\n")
        self.write("/etc/resolv.conf", "nameserver 127.0.0.1\n")  # refuses at once
        for name in ("create", "import", "export", "rename", "verify"):
            self.write(f"{OS}/{name}", "#!/bin/sh\n", 0o755)
        for name, text in (("ganeti_api_version", "20\n"), ("variants.list", "default\n"), ("parameters.list", "")):
            self.write(f"{OS}/{name}", text)
        for source, name in ((image.kernel, "kernel"), (image.initrd, "initrd")):
            self.write(f"/boot/guest/{name}", "")
            shutil.copy(source, self.path(f"/boot/guest/{name}"))
        self.do("mkdir", "-p", "-m", "700", "/root/.ssh")
        self.write("/etc/ssh/sshd_config.d/node.conf", "UsePAM no\nUseDNS no\n")
        self.do("systemctl", "restart", "ssh")
        self.install_package()
        self.write("/etc/ganeti-vif/ganeti-vif.conf", CONFIG)
        self.do("ganeti-vif", "setup")
        # What the shipped configuration made and this one has not stays with setup (docs/administration.md).
        self.do("ganeti-vif", "teardown", "--private", "pvn=4-100")
        self._seen = ""

    def stop_daemon(self) -> None:
        """End ganeti-vifd, and wait for its end."""
        self.do("systemctl", "stop", "ganeti-vifd")

    def start_daemon(self) -> None:
        self.do("systemctl", "start", "ganeti-vifd")

    def complaints(self) -> list[str]:
        """The warnings and errors that our programs wrote into the journal since this was asked last, and units that failed."""
        since = ["--after-cursor", self._seen] if self._seen else []
        words = ["journalctl", "--quiet", "--output=cat", "--priority=warning", "--show-cursor", *since]
        lines = self.try_(
            *words, *(f"--identifier={name}" for name in IDENTIFIERS)
        ).stdout.splitlines()  # 1 if there is none
        if lines and lines[-1].startswith("-- cursor: "):
            self._seen = lines.pop().removeprefix("-- cursor: ")
        failed = self.do("systemctl", "list-units", "--failed", "--plain", "--no-legend", "ganeti-vif*").splitlines()
        return [line for line in lines if line.strip()] + failed

    def findings(self) -> list[str]:
        """What `ganeti-vif check` finds."""
        done = self.try_("ganeti-vif", "check")
        lines = done.stdout.splitlines()
        if (done.returncode, done.stderr) != (1 if lines else 0, ""):
            raise CommandFailed(done.returncode, done.args, done.stdout, done.stderr)
        return lines

    def status(self) -> dict[str, Any]:
        """What `ganeti-vif status --json` says."""
        answer: dict[str, Any] = json.loads(self.try_("ganeti-vif", "status", "--json").stdout)
        return answer

    def stale(self) -> set[str]:
        """Taps that do not live and that something on this node still names. Looks with iproute2's and nft's eyes."""
        named, _, live = self.do("sh", "-c", TRACES).partition("LIVE\n")
        return set(re.findall(r"\btap\d+\b", named)) - set(live.split())

    def settle(self) -> None:
        """Wait until nothing is wrong or stale here: the daemon needs a moment for what no hook tells."""
        deadline = time.monotonic() + SLOW
        while (findings := self.findings()) or (stale := self.stale()):
            if time.monotonic() > deadline:
                raise AssertionError(f"{self}: {findings or stale}\n{self.log()}")

    def log(self) -> str:
        """The last lines of ganeti-vif's log here."""
        return self.try_(
            "journalctl", "--quiet", "--lines=40", *(f"--identifier={name}" for name in IDENTIFIERS)
        ).stdout
