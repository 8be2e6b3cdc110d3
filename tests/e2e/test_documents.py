# SPDX-License-Identifier: BSD-2-Clause
"""What the documents say is done, word by word, by a new administrator on an installed node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from .cluster import VERIFY, Cluster
from .documents import Command, commands, configuration
from .instance import Instance
from .machine import Machine
from .member import Member

CONF = "/etc/ganeti-vif/ganeti-vif.conf"
HERE: Mapping[str, str] = {
    # Its nodes have two cards, of which eth0 joins the nodes.
    "vxlan eth2": "vxlan eth0",
    # No disks, and no operating system to install.
    "-t drbd -o debootstrap+default -B memory=1G --disk 0:size=10G": "-t diskless -o noop+default --no-install --no-name-check --no-ip-check -n node1.example.com",
    "gnt-cluster verify ": f"{' '.join(VERIFY)} ",
}
"""What cannot be done here as it is written, and what is done instead."""
EDITOR = f"editor {CONF}"


def here(text: str) -> str:
    """TEXT as it can be done here; what is done otherwise is printed."""
    for written, done in HERE.items():
        if written in text:
            print(f"instead of '{written}': '{done}'")
            text = text.replace(written, done)
    return text


def typed(machine: Machine, command: Command) -> list[str]:
    """Type COMMAND on MACHINE, where it works; what it prints."""
    print(f"# {command.text}")
    return machine.do("sh", "-c", here(command.text)).splitlines()


def typed_all(machine: Machine, document: str, heading: str, *, but: str = "") -> list[list[str]]:
    """Type every command of a section; those that begin with BUT are the test's to do."""
    return [
        typed(machine, command) for command in commands(document, heading) if not (but and command.text.startswith(but))
    ]


def mended(machine: Machine) -> None:
    """Do what the doctor prints, as an administrator does: afterwards it finds nothing. (A network namespace begins with
    bridge-nf-call-iptables = 1 if br_netfilter is there.)"""
    said = machine.try_("ganeti-vif", "doctor").stdout.splitlines()
    for line in said:
        if line.startswith("  fix: "):
            machine.do("sh", "-c", line.removeprefix("  fix: "))
    assert machine.do("ganeti-vif", "doctor") == "no conflict found\n", said


@pytest.fixture(scope="module")
def master(cluster: Cluster) -> Member:
    return cluster.master


@pytest.fixture(autouse=True)
def in_step() -> None:
    """What each step leaves is what the document says, and the test asks for it."""


class TestNewNode:
    """README's five minutes, the tutorial and administration.md, one after the other on one node."""

    def test_five_minutes(self, master: Member) -> None:
        master.write(CONF, here(configuration("README.md", "Five minutes")))
        first, second, *_ = commands("README.md", "Five minutes")
        assert (first.text, second.text) == ("ganeti-vif setup --dry-run", "ganeti-vif setup")
        shown = typed(master, first)
        (like,) = {line.split()[0] for line in first.output if line.startswith("ip link add")}
        assert any(line.startswith(like) for line in shown)
        typed(master, second)
        assert master.do("ganeti-vif", "check") == ""

    def test_the_tutorial_configures_the_node(self, master: Member) -> None:
        master.write(CONF, here(configuration("docs/tutorial.md", "2. Configure")))
        *_, check = typed_all(master, "docs/tutorial.md", "2. Configure", but="ganeti-vif doctor")
        assert check == []
        mended(master)

    def test_the_tutorial_adds_networks(self, cluster: Cluster, master: Member) -> None:
        cluster.init()
        typed_all(master, "docs/tutorial.md", "3. Networks")
        refused = master.try_("gnt-network", "add", "--network=10.9.0.0/24", "wrong")
        assert refused.returncode == 0
        for link in ("mode=routed,link=pubic", "mode=bridged,link=pvn111", "mode=bridged,link=br77"):
            refused = master.try_("gnt-network", "connect", "-N", link, "wrong")
            assert refused.returncode != 0 and "ganeti-vif on " in refused.stderr, link
        master.do("gnt-network", "remove", "wrong")

    def test_the_tutorial_adds_vms(self, cluster: Cluster, master: Member) -> None:
        every = commands("docs/tutorial.md", "4. VMs")
        (status,) = [command for command in every if command.text == "ganeti-vif status"]
        before, after = every[: every.index(status)], every[every.index(status) + 1 :]
        for command in before:
            typed(master, command)
            master.do(
                "gnt-instance", "start", command.text.split()[-1]
            )  # without an installation Ganeti starts nothing
        Instance(cluster, "web.example.com").configure()  # it has booted, and takes part in hotplug
        head, *rows = [line.split() for line in status.output]
        shown = [line.split() for line in typed(master, status)]
        assert head in shown
        for row in rows:  # its addresses are those of the moment
            same = [line for line in shown if line[:5] == row[:5]]
            assert [(line[-2:], len(line)) for line in same] == [(row[-2:], len(row))], row
        for command in after:
            typed(master, command)
        assert master.do("ganeti-vif", "check") == ""

    def test_the_tutorials_questions_are_answered(self, master: Member) -> None:
        check, doctor, *_ = typed_all(master, "docs/tutorial.md", "5. If something")
        assert check == []
        assert doctor == ["no conflict found"]

    def test_the_configuration_is_changed(self, master: Member) -> None:
        text = master.path(CONF).read_text()
        for command in commands("docs/administration.md", "Changing the configuration"):
            if command.text == EDITOR:
                assert "bridges = 1-100" in text
                master.write(CONF, text.replace("bridges = 1-100", "bridges = 1-50"))
                continue
            typed(master, command)
        assert master.do("ganeti-vif", "check") == ""
        assert master.ifindex("pvn50") is not None
        assert master.ifindex("pvn51") is None

    def test_the_package_is_removed(self, master: Member) -> None:
        for name in ("web.example.com", "db.example.com"):
            master.do("gnt-instance", "remove", "-f", "--shutdown-timeout=0", name)
        for command in commands("docs/administration.md", "Removing"):
            typed(master, Command(command.number, command.text.replace("apt ", "apt-get --yes ")))
        assert not [name for name in master.do("ls", "/sys/class/net").split() if name.startswith(("pvn", "vx", "tap"))]
        assert not master.path("/etc/ganeti-vif").exists()


LEGACY = {
    "/etc/default/snf-network": "PUBLIC_VLAN=eth1\nMAC_MASK=ff:ff:ff:0:0:0\nTAP_CONSTANT_MAC=cc:47:52:4e:45:54\n",
    "/etc/iproute2/rt_tables": "255 local\n254 main\n253 default\n0 unspec\n222 snf_public\n",
    "/etc/network/interfaces": (
        "auto lo\niface lo inet loopback\n\nauto eth1\niface eth1 inet manual\n  ip-routing-table snf_public\n"
        "  ip-routes 192.0.2.0/24\n  ip-gateway 192.0.2.1\n  arp-ip 192.0.2.254\n  up ip link set eth1 up\n"
    ),
    "/etc/ganeti/kvm-vif-bridge": "#!/bin/sh\n. /usr/share/snf-network/common.sh\nexit 0\n",
}
"""A node of snf-network, as far as this package looks at it."""


@pytest.fixture(scope="module")
def old_node(root: Path, shared: Path) -> Iterator[Machine]:
    with Machine("node2", root, shared) as machine:
        machine.do("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "far")
        machine.do("ip", "link", "set", "eth1", "up")
        machine.do("cp", "/mnt/ganeti-vif.deb", "/ganeti-vif_0_all.deb")
        for path, text in LEGACY.items():
            machine.write(path, text, 0o755)
        yield machine


class TestOldNode:
    """migration.md, from a node of snf-network without VMs; tests/kernel has it with VMs that run."""

    def test_what_becomes_of_the_settings_is_shown(self, old_node: Machine) -> None:
        unpack, show = commands("docs/migration.md", "1. Look")
        typed(old_node, unpack)
        done = old_node.try_("sh", "-c", show.text)
        assert "[public snf_public]" in done.stdout and "table = 222" in done.stdout
        assert not old_node.path("/etc/ganeti-vif").exists()

    def test_it_is_installed_and_ganeti_calls_it(self, old_node: Machine) -> None:
        save, install = commands("docs/migration.md", "2. Install")
        typed(old_node, save)
        typed(old_node, Command(2, install.text.replace("apt ", "DEBIAN_FRONTEND=noninteractive apt-get --yes ")))
        said = old_node.try_("ganeti-vif", "check").stdout
        assert "kvm-vif-bridge" in said
        typed_all(old_node, "docs/migration.md", "3. Let Ganeti")
        assert old_node.path("/etc/ganeti/kvm-vif-bridge~").exists()
        assert "kvm-vif-bridge" not in old_node.try_("ganeti-vif", "check").stdout

    def test_it_is_configured_and_set_up(self, old_node: Machine) -> None:
        for command in commands("docs/migration.md", "4. Configure"):
            done = old_node.try_("sh", "-c", command.text)
            # import says by its status that a line wants to be looked at
            assert done.returncode == 0 or command.text.startswith("ganeti-vif import"), done
        assert "snf_public" in old_node.path(CONF).read_text()
        old_node.do("ganeti-vif", "teardown", "--private", "pvn=1-100")
        assert old_node.ifindex("pvn1") is None

    def test_running_vms_are_taken_over(self, old_node: Machine) -> None:
        told = dict(
            zip(
                ("dry", "adopt", "check"),
                typed_all(old_node, "docs/migration.md", "5. Take", but="ganeti-vif doctor"),
                strict=True,
            )
        )
        assert told["adopt"] == ["no instance of Ganeti runs here"]
        assert told["check"] == []
        said = old_node.try_("ganeti-vif", "doctor").stdout
        assert "kvm-vif-bridge" not in said and "Traceback" not in said
