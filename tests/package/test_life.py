# SPDX-License-Identifier: BSD-2-Clause
"""The package comes, changes and goes, while guests go on working."""

from __future__ import annotations

import re
from contextlib import ExitStack

import pytest

from tests.kernel.environment import SCRIPT, bridged
from tests.lab import Node, Tap

from .actions import Pinging, attach, configure, daemon, install, plug, reaches, routed_over_ipv6, sh, until
from .conftest import NEXT, Boot
from .machine import Machine

KEPT = re.compile(
    r"/(proc|sys|dev|run|mnt|tmp)/|/var/(lib/(dpkg|apt|systemd|pam|logrotate)|cache|log/(journal|apt|dpkg.log|alternatives.log))"
    r"|/etc/ld.so.cache|/etc/(passwd|group|shadow|gshadow)-$|/usr/(lib|share)/[a-z0-9/.]*python3?/[^ ]*__pycache__"
)
"""What every installation of a package changes, and what a running system does."""


def files(machine: Machine) -> dict[str, str]:
    """Every file of the machine: its kind, mode and owner, and of small ones in which settings are the content."""
    listing = sh(machine, r"find / -xdev -printf '%p %y%m %U:%G %l\n'; cd /etc; find . -type f -exec md5sum {} +")
    found = {}
    for line in listing.splitlines():
        first, _, rest = line.partition(" ")
        name, rest = (first, rest) if first.startswith("/") else (f"/etc{rest.strip(' *.')}", first)
        if not KEPT.match(f"{name}/") and not KEPT.match(name):
            found[line if first.startswith("/") else name + " content"] = rest
    return found


def accounts(machine: Machine) -> str:
    return sh(machine, "getent passwd; getent group")


def units(machine: Machine) -> str:
    return sh(
        machine,
        "systemctl list-unit-files --no-legend | grep ganeti; ls /etc/rc*.d /etc/init.d | grep ganeti",
        check=False,
    )


def test_it_comes_and_changes_and_goes(machine: Machine, stack: ExitStack) -> None:
    before, people = files(machine), accounts(machine)
    said = install(machine)
    assert "is kept" not in said and "Traceback" not in said, said
    configure(machine)
    routed, private, other = (
        plug(machine, stack, "tap0", 5, "192.0.2.5/24"),
        plug(machine, stack, "tap1", 6, "10.0.0.6/24"),
        plug(machine, stack, "tap2", 7, "10.0.0.7/24"),
    )
    tap = stack.enter_context(Tap(machine))
    attach(machine, bridged(tap.name, 8))
    until(lambda: sh(machine, "ganeti-vif check", check=False) == "", "a node on which all is right")
    old = daemon(machine)
    assert old
    until(lambda: routed_over_ipv6(routed), "an IPv6 address by the responder's word")
    with Pinging(routed, "192.0.2.1") as first, Pinging(routed, "2001:db8::1"), Pinging(private, "10.0.0.7") as second:
        assert NEXT in install(machine, "next")
        until(lambda: daemon(machine) not in (0, old), "the daemon of the new version")
        old = daemon(machine)
        install(machine, "next", "--reinstall")
        until(lambda: daemon(machine) not in (0, old), "the daemon of the new installation")
    assert min(first.sent, second.sent) > 100
    assert sh(machine, "ganeti-vif check", check=False) == ""
    removed(machine, routed, private)
    sh(machine, "dpkg --purge ganeti-vif")
    reaches(private, "10.0.0.7")
    reaches(other, "10.0.0.6")
    after = files(machine)
    assert {name: after.get(name) for name in {*after, *before} if after.get(name) != before.get(name)} == {}
    assert accounts(machine) == people
    assert units(machine) == ""
    assert sh(machine, "find /run /var/lib/systemd /etc/systemd -name '*ganeti*'", check=False) == ""


def removed(machine: Machine, routed: Node, private: Node) -> None:
    """The package is removed: guests do not notice, who removes it is told what stays, and no NIC comes unfiltered."""
    with Pinging(routed, "192.0.2.1"), Pinging(private, "10.0.0.7"):
        said = sh(machine, "apt-get remove --yes ganeti-vif")
    assert "4 NICs" in said and "stay connected" in said and "teardown" in said, said
    assert "Traceback" not in said, said
    assert sh(machine, "pgrep -f '[g]aneti-vif'", check=False) == ""
    refused = machine.run([SCRIPT], env=bridged("tap9"), check=False)
    assert refused.returncode == 1 and "is not installed" in refused.stderr


@pytest.mark.parametrize("init", ["systemd", "sysv"])
def test_it_comes_again_after_it_was_removed(boot: Boot, init: str) -> None:
    machine = boot("bookworm", init)
    install(machine)
    sh(machine, "apt-get remove --yes ganeti-vif")
    install(machine)
    assert daemon(machine)
    assert sh(machine, "ganeti-vif check", check=False) == ""


def test_a_script_of_somebody_elses_is_kept_and_named(boot: Boot) -> None:
    machine = boot("bookworm", "sysv")
    sh(machine, "mkdir -p /etc/ganeti; echo '#!/bin/sh' > /etc/ganeti/mine; ln -s mine /etc/ganeti/kvm-vif-bridge")
    said = install(machine)
    assert "/etc/ganeti/kvm-vif-bridge is not this package's and is kept" in said
    assert sh(machine, "cat /etc/ganeti/kvm-vif-bridge; readlink /etc/ganeti/kvm-vif-bridge") == "#!/bin/sh\nmine\n"
    fix = next(line.partition("fix: ")[2] for line in said.splitlines() if "fix: install" in line)
    sh(machine, fix)
    assert "usr/lib/ganeti-vif" in sh(machine, "cat /etc/ganeti/kvm-vif-bridge")
    assert sh(machine, "cat /etc/ganeti/mine; readlink /etc/ganeti/kvm-vif-bridge~") == "#!/bin/sh\nmine\n"
    assert "is kept" not in install(machine, "next")
    sh(machine, "dpkg --purge ganeti-vif")
    assert sh(machine, "ls /etc/ganeti") == "kvm-vif-bridge~\nmine\n"
