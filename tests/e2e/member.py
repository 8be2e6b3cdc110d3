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

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = f"cluster.{DOMAIN}"
LOG = "/var/log/ganeti/vif.log"

HOSTS = "127.0.0.1 localhost\n" + "".join(
    f"{MANAGEMENT}.{number} {name}.{DOMAIN} {name}\n" for number, name in ((1, "node1"), (2, "node2"), (100, "cluster"))
)
# An operating system that installs nothing: guests boot what the laboratory gives them.
OS = "/srv/ganeti/os/noop"
DAEMONS = ("noded", "confd", "wconfd", "rapi", "luxid", "mond")

# Every tap that anything of ours names, on standard output; the kernel's list of taps ends it.
TRACES = """
nft list ruleset; ip rule; ip -6 rule; ip route show table all; ip -6 route show table all
ip neigh show proxy; ip -6 neigh show proxy; ls /run/ganeti-vif/nics /var/lib/nfdhcpd /var/lib/nfdhcpd.staging 2>/dev/null
echo LIVE; ls /sys/class/net
"""


class Member(Machine):
    """A node of the cluster. What it runs is started by `boot`, and again after `pull_the_plug`."""

    def __init__(self, site: Site, number: int, image: Image, root: Path = Path("/")) -> None:
        super().__init__(f"node{number}.{DOMAIN}", root)
        site.connect(self, number)
        self.write("/etc/hosts", HOSTS)
        self.write("/etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files\n")
        self.write("/etc/resolv.conf", "nameserver 127.0.0.1\n")  # refuses at once
        self.write("/etc/machine-id", f"{number:032x}\n")
        for name in ("create", "import", "export", "rename", "verify"):
            self.write(f"{OS}/{name}", "#!/bin/sh\n", 0o755)
        for name, text in (("ganeti_api_version", "20\n"), ("variants.list", "default\n"), ("parameters.list", "")):
            self.write(f"{OS}/{name}", text)
        for source, name in ((image.kernel, "kernel"), (image.initrd, "initrd")):
            self.write(f"/boot/guest/{name}", "")
            shutil.copy(source, self.path(f"/boot/guest/{name}"))
        self.install(ROOT)
        self.write("/etc/ganeti-vif/ganeti-vif.conf", CONFIG)
        self.do("mkdir", "-p", "-m", "700", "/root/.ssh")
        self.path(LOG).unlink(missing_ok=True)  # this machine's own may be below
        self.do("useradd", "--system", "--no-create-home", "ganeti-vif-responder")  # as the package does
        self.boot()

    def boot(self) -> None:
        """What init does on a node, up to and without Ganeti's own daemons."""
        self.do("/usr/sbin/sshd")
        self.do("ganeti-vif", "setup")
        self.do("ganeti-vifd")
        self.do("ganeti-vif-responder")

    def start_ganeti(self) -> None:
        """What Ganeti's init script does. `daemon-util start-all` would fail at a daemon that runs already."""
        for daemon in DAEMONS:
            util = "/usr/lib/ganeti/daemon-util"
            self.do("sh", "-c", f"{util} check-and-start ganeti-{daemon} || {util} start ganeti-{daemon}")

    def stop_daemon(self) -> None:
        """End ganeti-vifd, whose lock has its pid, and wait for its end."""
        self.do(
            "sh",
            "-c",
            "pid=$(cat /run/ganeti-vif/vifd.lock); kill $pid; while kill -0 $pid 2>/dev/null; do sleep 0.1; done",
        )

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
        return self.try_("tail", "-n", "40", LOG).stdout
