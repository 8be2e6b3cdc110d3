# SPDX-License-Identifier: BSD-2-Clause
"""What else is on a node: packages that ours takes the place of, and rules that they leave."""

from __future__ import annotations

import pytest

from .actions import CONFIGURATION, configure, install, sh
from .conftest import Boot
from .machine import Machine

CONTROL = """\
Package: snf-network
Version: 0.16
Architecture: all
Maintainer: nobody <nobody@example.org>
Description: as much of snf-network as a node notices
"""
DEFAULTS = """\
# The dir to store nfdhcpd binding files
STATE_DIR=/var/lib/snf-network
NFDHCPD_STATE_DIR=/var/lib/bindings
IFUP_EXTRA_SCRIPT=/etc/ganeti/ifup-extra
LOGFILE=$(rm -rf /etc/ganeti; echo /var/log/x)
"""
INTERFACES = """\
auto eth1
iface eth1 inet manual
  ip-routing-table snf_public
  ip-routes 192.0.2.0/24
  ip-gateway 192.0.2.1
  arp-ip 192.0.2.254
"""


@pytest.fixture
def snf(boot: Boot) -> Machine:
    """A node with snf-network, its settings, and a script of an administrator's beside it."""
    machine = boot("bookworm", "sysv")
    sh(machine, "mkdir -p /tmp/snf/DEBIAN /tmp/snf/etc/ganeti /tmp/snf/etc/default /etc/network /etc/iproute2")
    machine.path("/tmp/snf/DEBIAN/control").write_text(CONTROL)
    machine.path("/tmp/snf/DEBIAN/conffiles").write_text("/etc/default/snf-network\n")
    machine.path("/tmp/snf/etc/default/snf-network").write_text(DEFAULTS)
    machine.path("/etc/network/interfaces").write_text(INTERFACES)
    sh(machine, "echo '222 snf_public' >> /etc/iproute2/rt_tables")
    sh(machine, "touch /tmp/snf/etc/ganeti/kvm-ifup-custom; ln -s kvm-ifup-custom /tmp/snf/etc/ganeti/kvm-vif-bridge")
    sh(machine, "dpkg-deb --build /tmp/snf /tmp/snf.deb && dpkg --install /tmp/snf.deb")
    return machine


def test_ours_takes_the_place_of_snf_network_and_its_settings_are_imported(snf: Machine) -> None:
    said = install(snf)
    assert "snf-network" in said.partition("REMOVED")[2].partition("NEW")[0]
    assert "ganeti-vif import --dry-run" in said
    assert "usr/lib/ganeti-vif" in sh(snf, "cat /etc/ganeti/kvm-vif-bridge")
    shown = sh(snf, "ganeti-vif import --dry-run", check=False)
    assert not snf.path(f"{CONFIGURATION}.imported").exists()
    said = sh(snf, "ganeti-vif import", check=False)
    assert "no counterpart: /etc/default/snf-network:4: IFUP_EXTRA_SCRIPT" in said
    assert "not understood: /etc/default/snf-network:5" in said
    written = snf.path(f"{CONFIGURATION}.imported").read_text()
    assert shown.startswith(written)
    assert "directory = /var/lib/bindings" in written and "table = 222" in written
    assert "is there already" in sh(snf, "ganeti-vif import", check=False)
    sh(snf, f"ip link add eth1 type bridge; ip link set eth1 up; ganeti-vif --config {CONFIGURATION}.imported setup")
    assert sh(snf, "ls -d /etc/ganeti") == "/etc/ganeti\n"


def test_the_doctor_finds_what_the_old_scripts_left(boot: Boot) -> None:
    machine = boot("bookworm", "sysv")
    install(machine)
    sh(machine, "ip link add eth1 type bridge; ip link set eth1 up")
    configure(machine)
    assert "tap" not in sh(machine, "ganeti-vif doctor", check=False)
    sh(machine, "ip rule add dev tap7 table 222; iptables-nft -A FORWARD -i tap7 -s 192.0.2.7 -j DROP")
    fixes = fixes_for("tap7", machine)
    assert len(fixes) == 2
    for fix in fixes:
        sh(machine, fix)
    assert fixes_for("tap7", machine) == []
    sh(machine, "/etc/init.d/ganeti-vifd stop")
    assert fixes_for("ganeti-vifd does not run", machine)
    sh(machine, "rm /etc/ganeti/hooks/watcher/50-ganeti-vif")
    assert fixes_for("hooks/watcher", machine) == [], "there is no Ganeti that would call it"
    sh(machine, "mkdir /usr/lib/ganeti")
    (fix,) = fixes_for("hooks/watcher", machine)
    sh(machine, fix)
    assert fixes_for("hooks/watcher", machine) == []


def fixes_for(what: str, machine: Machine) -> list[str]:
    """What the doctor says that mends the conflicts in which WHAT is."""
    lines = sh(machine, "ganeti-vif doctor", check=False).splitlines()
    return [
        fix.partition("fix: ")[2]
        for told, fix in zip(lines, lines[1:], strict=False)
        if what in told and " fix:" in fix
    ]


def test_its_log_is_rotated_by_a_file_that_logrotate_understands(boot: Boot) -> None:
    machine = boot("trixie", "sysv")
    install(machine)
    said = sh(machine, "ganeti-vif setup; logrotate --debug /etc/logrotate.d/ganeti-vif")
    assert "error" not in said.lower() and "/var/log/ganeti/vif.log" in said
