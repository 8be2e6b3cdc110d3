# SPDX-License-Identifier: BSD-2-Clause
"""Cluster: Ganeti with its own daemons on one or two members."""

from __future__ import annotations

import json
import re
import subprocess
from contextlib import ExitStack
from pathlib import Path

from tests.lab import Image, wait_for
from tests.lab.guest import KERNEL_ARGS

from .machine import SLOW
from .member import CLUSTER, Member
from .site import Site

Done = subprocess.CompletedProcess[str]

# loglevel: what the kernel has to say must not get into the agent's lines.
ARGS = KERNEL_ARGS.replace("lab_agent=ttyS1", "lab_agent=ttyS0 loglevel=1")
HYPERVISOR = (
    "kvm:kvm_path=/usr/bin/qemu-system-x86_64,kvm_flag=disabled,kernel_path=/boot/guest/kernel,"
    f"initrd_path=/boot/guest/initrd,root_path=/dev/ram0,serial_console=True,vhost_net=False,migration_bandwidth=1000,kernel_args={ARGS}"
)
SMALL = "memory-size=128,cpu-count=1,disk-count=0,disk-size=0,nic-count=0,spindle-use=0"
LARGE = "memory-size=1024,cpu-count=4,disk-count=16,disk-size=1024,nic-count=8,spindle-use=12"
# This kernel has no /proc/sysrq-trigger, which verify misses on every node.
VERIFY = ("gnt-cluster", "verify", "--ignore-errors", "ENODESETUP")


class Cluster:
    """A cluster; it and all its machines are gone with the `with` block. Its first member is its master."""

    def __init__(self, image: Image, root: Path, shared: Path) -> None:
        """IMAGE: what guests boot. ROOT: the Debian that nodes run. SHARED: a directory with the package, ganeti-vif.deb."""
        self._image, self._root, self._shared = image, root, shared
        with ExitStack() as stack:
            self.site = stack.enter_context(Site())
            self._stack = stack
            self.members: list[Member] = []
            self.changes = 0
            """How often something was asked of Ganeti that may change what it says of instances."""
            self._member(1)
            self._kept = stack.pop_all()
        self._stack = self._kept

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self._kept.close()

    def _member(self, number: int) -> Member:
        member = self._stack.enter_context(Member(self.site, number, self._image, self._root, self._shared))
        self.members.append(member)
        return member

    @property
    def master(self) -> Member:
        return self.members[0]

    def member(self, name: str) -> Member:
        """The member with that full name."""
        return next(member for member in self.members if member.name == name)

    def other(self, member: Member) -> Member:
        """The one of two members that is not MEMBER."""
        (other,) = set(self.members) - {member}
        return other

    def init(self) -> None:
        """Make the cluster, on its first member."""
        policy = f"min:{SMALL}/max:{LARGE}"
        self.gnt(
            "cluster", "init", "--enabled-hypervisors", "kvm", "--enabled-disk-templates", "diskless",
            "--ipolicy-disk-templates", "diskless", "--no-etc-hosts", "--master-netdev", "eth0",
            "--master-netmask", "32", "-N", "mode=bridged,link=pvn1", "-B", "minmem=128M,maxmem=128M,vcpus=1",
            "--ipolicy-bounds-specs", policy, "--ipolicy-std-specs", SMALL, "-H", HYPERVISOR, CLUSTER,
        )  # fmt: skip
        # Ganeti 3.1 is through before its master address is there, and verify misses it.
        wait_for(self.master, self._has_master_address, "the master's address", timeout=SLOW)

    def _has_master_address(self) -> bool:
        return len(json.loads(self.master.do("ip", "-4", "-j", "addr", "show", "dev", "eth0"))[0]["addr_info"]) > 1

    def add_node(self) -> Member:
        """A second member."""
        member = self._member(2)
        key = self.master.path("/root/.ssh/id_rsa.pub").read_text()
        member.write("/root/.ssh/authorized_keys", key, 0o600)
        self.gnt("node", "add", "--no-ssh-key-check", member.name)
        return member

    @property
    def version(self) -> tuple[int, ...]:
        """Ganeti's version, as (3, 0)."""
        found = re.search(r"(\d+)\.(\d+)", self.master.do("gnt-cluster", "--version"))
        assert found
        return tuple(map(int, found.groups()))

    def gnt(self, noun: str, verb: str, *arguments: str, check: bool = True) -> Done:
        """Run a command of Ganeti's on the master. Raises CommandFailed."""
        self.changes += verb != "list"
        return self.master.run([f"gnt-{noun}", verb, *arguments], check=check, timeout=SLOW)

    def verify(self) -> Done:
        """`gnt-cluster verify`, whatever it says."""
        return self.master.try_(*VERIFY)

    def watch(self) -> None:
        """One run of the watcher, which cron would start every five minutes."""
        self.changes += 1
        self.master.do("/usr/sbin/ganeti-watcher")

    def hotplug(self) -> tuple[str, ...]:
        """What makes a modify reach a running guest: the default from 3.1 on (ganeti NEWS 3.1)."""
        return ("--hotplug",) if self.version < (3, 1) else ()

    def no_hotplug(self) -> tuple[str, ...]:
        """What keeps a modify from reaching a running guest."""
        return () if self.version < (3, 1) else ("--no-hotplug",)

    def settle(self) -> None:
        """Wait until every member is as it should be."""
        for member in self.members:
            member.settle()
