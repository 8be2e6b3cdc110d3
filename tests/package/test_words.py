# SPDX-License-Identifier: BSD-2-Clause
"""What the installed commands say, and what purging takes."""

from __future__ import annotations

from .actions import CONFIGURATION, install, sh
from .conftest import Boot


def test_the_version_is_the_packages(boot: Boot) -> None:
    machine = boot("bookworm", "sysv")
    for package in ("this", "next"):
        install(machine, package)
        version = sh(machine, "dpkg-query -f '${Version}' -W ganeti-vif")
        for program in ("ganeti-vif", "ganeti-vifd", "ganeti-vif-responder"):
            assert sh(machine, f"{program} --version") == f"{program} {version}\n"
        assert version in sh(machine, "zcat -f /usr/share/man/man8/ganeti-vif.8.gz").replace("\\-", "-")


def test_somebody_who_is_not_root_is_told_what_he_may_not_read(boot: Boot) -> None:
    machine = boot("bookworm", "systemd")
    install(machine)
    said = sh(machine, "setpriv --reuid nobody --regid nogroup --clear-groups ganeti-vif check", check=False)
    what, fix = said.splitlines()
    assert what.startswith("error: only root can look at all of this: nobody may not read the filters in nftables ")
    assert "/run/ganeti-vif/control.sock" in what
    assert fix == "  fix: sudo ganeti-vif check"
    assert "ganeti-vif 0" in sh(machine, "setpriv --reuid nobody --regid nogroup --clear-groups ganeti-vif --version")


def test_a_configuration_that_was_deleted_comes_back(boot: Boot) -> None:
    machine = boot("bookworm", "sysv")
    install(machine)
    sh(machine, "rm -r /etc/ganeti-vif/ganeti-vif.conf")
    said = sh(machine, "ganeti-vif setup", check=False)
    assert f"there is no configuration file {CONFIGURATION}" in said
    sh(machine, said.splitlines()[1].partition("fix: ")[2])
    assert sh(machine, "ganeti-vif setup") == "nothing to change\n"


def test_purging_takes_what_was_imported_and_bindings_wherever_they_are(boot: Boot) -> None:
    machine = boot("bookworm", "sysv")
    install(machine)
    sh(machine, f"sed -i 's,^directory .*,directory = /srv/bindings,' {CONFIGURATION}")
    sh(machine, "mkdir /srv/bindings; echo GANETI_VIF=x >/srv/bindings/tap0; echo IP=192.0.2.9 >/srv/bindings/tap1")
    sh(machine, f"cp {CONFIGURATION} {CONFIGURATION}.imported")
    sh(machine, "dpkg --purge ganeti-vif")
    assert sh(machine, "ls /srv/bindings") == "tap1\n"
    assert sh(machine, "find / -xdev -path /mnt -prune -o -path /proc -prune -o -name '*ganeti-vif*' -print") == ""
