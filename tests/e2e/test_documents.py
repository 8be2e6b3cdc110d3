# SPDX-License-Identifier: BSD-2-Clause
"""What the documents say is done, word by word, by a new administrator on an installed node; and it prints what they show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from .cluster import VERIFY, Cluster
from .documents import REST, Block, Command, blocks, commands, configuration, forgotten, sample, shape, unlike
from .instance import Instance
from .machine import Machine
from .member import Member

CONF = "/etc/ganeti-vif/ganeti-vif.conf"
SCRIPT = "/etc/ganeti/kvm-vif-bridge"
NO_DISK = "-t diskless -o noop+default --no-install --no-name-check --no-ip-check -n node1.example.com"
HERE: Mapping[str, str] = {
    # Its nodes have two cards, of which eth0 joins the nodes.
    "vxlan eth2": "vxlan eth0",
    # No disks, and no operating system to install.
    "-t drbd -o debootstrap+default -B memory=1G --disk 0:size=10G": NO_DISK,
    "gnt-instance add ... ": f"gnt-instance add {NO_DISK} ",
    "gnt-cluster verify ": f"{' '.join(VERIFY)} ",
    # Nobody answers its question.
    "apt install": "DEBIAN_FRONTEND=noninteractive apt-get --yes install",
    "apt purge": "apt-get --yes purge",
}
"""What cannot be done here as it is written, and what is done instead."""
NOT_HERE: Mapping[str, str] = {
    "make demo ": "it makes a laboratory of its own, as this test does; .ci/run has make test",
    "Nov 23 01:31:03 node1 ": "the tour of two nodes compares it, after its migrations",
    "Nov 23 01:31:02 node2 ": "the tour of two nodes compares it, after its migrations",
    "not attached: vm5.example.com": "two NICs with one address, which Ganeti does not give; tests/kernel has that",
    "%monitoring ALL": "a line for sudo, which is not on these nodes",
    "kvm-vif-bridge   the stub": "a list of directories",
}
"""The blocks that are not typed here, by the beginning of a line of each, and the reason."""
EDITOR = f"editor {CONF}"
TOUCHED: set[str] = set()
"""The places of what was typed or compared."""


def here(text: str) -> str:
    """TEXT as it can be done here; what is done otherwise is printed."""
    for written, done in HERE.items():
        if written in text:
            print(f"instead of '{written}': '{done}'")
            text = text.replace(written, done)
    return text


def typed(machine: Machine, command: Command, *, status: int = 0) -> list[str]:
    """Type COMMAND on MACHINE. It must end with STATUS, and print what the document shows for it. Returns what it prints.

    Its output is in the report of a failure, and with `pytest -s` on the screen: the documents' samples come from there."""
    print(f"# {command.text}")
    TOUCHED.add(command.place)
    done = machine.try_("sh", "-c", f"exec 2>&1; {here(command.text)}")
    assert done.returncode == status, done.stdout
    print(done.stdout, end="")
    printed = done.stdout.splitlines()
    if command.output:
        assert unlike(command.output, printed) is None, f"{command.place}: {command.output}\nprinted: {done.stdout}"
    return printed


def typed_all(machine: Machine, document: str, heading: str, *, but: str = "") -> list[list[str]]:
    """Type every command of a section; those that begin with BUT are the test's to do."""
    return [
        typed(machine, command) for command in commands(document, heading) if not (but and command.text.startswith(but))
    ]


def shown(block: Block) -> tuple[str, ...]:
    """The lines of a block that is compared, or used, as a whole."""
    TOUCHED.add(block.place)
    return block.lines


def write_configuration(machine: Machine, document: str, heading: str) -> None:
    """The administrator's file becomes the one that the section shows."""
    TOUCHED.update(block.place for block in blocks(document, heading) if block.language == "ini")
    machine.write(CONF, here(configuration(document, heading)))


def doctored(machine: Machine, command: Command) -> None:
    """Do what the doctor prints, as an administrator does: afterwards it finds nothing. (A network namespace begins with
    bridge-nf-call-iptables = 1 if br_netfilter is there.)"""
    TOUCHED.add(command.place)
    said = machine.try_("sh", "-c", command.text).stdout.splitlines()
    for line in said:
        if line.startswith("  fix: "):
            machine.do("sh", "-c", line.removeprefix("  fix: "))
    assert machine.do("ganeti-vif", "doctor") == "no conflict found\n", said


@pytest.fixture(scope="module")
def master(cluster: Cluster) -> Member:
    """A node of Ganeti's, without the package: its Ganeti is as it was."""
    node = cluster.master
    node.do(
        "sh",
        "-c",
        "ganeti-vif teardown && apt-get --yes purge ganeti-vif && cp /mnt/ganeti-vif.deb /ganeti-vif_0_all.deb",
    )
    return node


@pytest.fixture(autouse=True)
def in_step() -> None:
    """What each step leaves is what the document says, and the test asks for it."""


class TestNewNode:
    """The README's five minutes, the tutorial and administration.md, one after the other on one node."""

    def test_the_tutorial_installs(self, master: Member) -> None:
        typed_all(master, "docs/tutorial.md", "1. Install")
        assert [master.ifindex(name) is not None for name in ("pvn1", "pvn100", "pvn101")] == [True, True, False]
        assert master.do("ganeti-vif", "check") == ""

    def test_five_minutes(self, cluster: Cluster, master: Member) -> None:
        heading = ("README.md", "Five minutes")
        dry_run, setup, *networks, add, status, stop, pull, check, reconcile = commands(*heading)
        write_configuration(master, *heading)
        typed(master, dry_run)
        typed(master, setup)
        assert master.do("ganeti-vif", "check") == ""
        cluster.init()
        for command in networks:
            typed(master, command)
        for name in ("web.example.com", "db.example.com"):
            typed(master, Command(1, add.text.replace("web.example.com", name), (), add.place))
            master.do("gnt-instance", "start", name)  # without an installation Ganeti starts nothing
        typed(master, status)
        journal = master.do("journalctl", "-q", "-t", "ganeti-vif").splitlines()
        assert unlike([REST, *shown(sample(*heading, "Nov ")), REST], journal) is None, journal
        typed(master, stop)
        typed(master, pull)
        typed(master, check, status=1)
        typed(master, reconcile)
        master.do("systemctl", "start", "ganeti-vifd")
        assert master.do("ganeti-vif", "check") == ""

    def test_what_cannot_be_done_is_said_as_the_readme_shows_it(self, cluster: Cluster, master: Member) -> None:
        cards = "--net 0:mode=routed,link=public2,ip=198.51.100.80"
        master.do("sh", "-c", f"gnt-instance add {NO_DISK} {cards} mail.example.com")
        done = master.try_("gnt-instance", "start", "mail.example.com")
        assert done.returncode != 0
        for line in shown(sample("README.md", "Five minutes", "error: ")):
            assert shape(line).search(f"{done.stderr} ".replace("\n", " \n")), done.stderr
        for name in ("mail.example.com", "web.example.com", "db.example.com"):
            cluster.gnt("instance", "remove", "-f", "--shutdown-timeout=0", name)
        for name in ("public", "internal"):
            cluster.gnt("network", "disconnect", name)
            cluster.gnt("network", "remove", name)

    def test_the_tutorial_configures_the_node(self, master: Member) -> None:
        write_configuration(master, "docs/tutorial.md", "2. Configure")
        *_, check = typed_all(master, "docs/tutorial.md", "2. Configure", but="ganeti-vif doctor")
        assert check == []
        doctored(master, commands("docs/tutorial.md", "2. Configure")[-1])

    def test_the_tutorial_adds_networks(self, master: Member) -> None:
        typed_all(master, "docs/tutorial.md", "3. Networks")
        master.do("gnt-network", "add", "--network=10.9.0.0/24", "wrong")
        for link in ("mode=routed,link=pubic", "mode=bridged,link=pvn111", "mode=bridged,link=br77"):
            refused = master.try_("gnt-network", "connect", "-N", link, "wrong")
            assert refused.returncode != 0 and "ganeti-vif on " in refused.stderr, link
        master.do("gnt-network", "remove", "wrong")

    def test_the_tutorial_adds_vms(self, cluster: Cluster, master: Member) -> None:
        every = commands("docs/tutorial.md", "4. VMs")
        (status,) = [command for command in every if command.text == "ganeti-vif status"]
        for command in every[: every.index(status)]:
            typed(master, command)
            master.do("gnt-instance", "start", command.text.split()[-1])
        Instance(cluster, "web.example.com").configure()  # it has booted, and takes part in hotplug
        for command in every[every.index(status) :]:
            typed(master, command)
        assert master.do("ganeti-vif", "check") == ""

    def test_the_tutorials_questions_are_answered(self, master: Member) -> None:
        check, doctor, *_ = typed_all(master, "docs/tutorial.md", "5. If something")
        assert check == []
        assert doctor == ["no conflict found"]

    def test_a_script_of_somebody_else_is_named_and_what_mends_it_does(self, master: Member) -> None:
        ours = master.path(SCRIPT).read_text()
        master.write(SCRIPT, "#!/bin/sh\nexit 0\n", 0o755)
        (check,) = commands("docs/administration.md", "What runs")
        _, fix = typed(master, check, status=1)
        master.do("sh", "-c", fix.removeprefix("  fix: "))
        assert master.path(SCRIPT).read_text() == ours
        assert master.do("ganeti-vif", "check") == ""

    def test_the_configuration_is_changed(self, master: Member) -> None:
        text = master.path(CONF).read_text()
        for command in commands("docs/administration.md", "Changing the configuration"):
            if command.text == EDITOR:
                assert "bridges = 1-100" in text
                TOUCHED.add(command.place)
                master.write(CONF, text.replace("bridges = 1-100", "bridges = 1-50"))
                continue
            typed(master, command)
        assert master.do("ganeti-vif", "check") == ""
        assert [master.ifindex(name) is not None for name in ("pvn50", "pvn51")] == [True, False]

    def test_a_change_of_the_configuration_takes_itself_back_unless_somebody_confirms(self, master: Member) -> None:
        text = master.path(CONF).read_text()
        master.write(CONF, text.replace("bridges = 1-50", "bridges = 1-52"))
        typed_all(master, "docs/administration.md", "A change that takes itself back")
        assert [master.ifindex(name) is not None for name in ("pvn52", "pvn53")] == [True, False]
        assert master.do("ganeti-vif", "check") == ""

    def test_the_package_is_removed(self, master: Member) -> None:
        for name in ("web.example.com", "db.example.com"):
            master.do("gnt-instance", "remove", "-f", "--shutdown-timeout=0", name)
        typed_all(master, "docs/administration.md", "Removing")
        assert not [name for name in master.do("ls", "/sys/class/net").split() if name.startswith(("pvn", "vx", "tap"))]
        assert not master.path("/etc/ganeti-vif").exists()


LEGACY = {
    "/etc/default/snf-network": (
        "# of snf-network\n\nMAC_MASK=ff:ff:ff:0:0:0\nTAP_CONSTANT_MAC=cc:47:52:4e:45:54\n"
        "NFDHCPD_STATE_DIR=/var/lib/nfdhcpd\nIFUP_EXTRA_SCRIPT=/etc/ganeti/ifup-extra\n"
    ),
    "/etc/iproute2/rt_tables": "255 local\n254 main\n253 default\n0 unspec\n222 snf_public\n",
    "/etc/network/interfaces": (
        "auto lo\niface lo inet loopback\n\nauto eth0.201\niface eth0.201 inet manual\n  ip-routing-table snf_public\n"
        "  ip-routes 192.0.2.0/24 2001:db8::/64\n  ip-gateway 192.0.2.1 2001:db8::1\n  arp-ip 192.0.2.254\n"
        "  up ip link set eth0.201 up\n"
    ),
    "/usr/sbin/nfdhcpd": "#!/bin/sh\nwhile sleep 60; do :; done\n",
    "/lib/systemd/system/nfdhcpd.service": (
        "[Service]\nExecStart=/usr/sbin/nfdhcpd\n[Install]\nWantedBy=multi-user.target\n"
    ),
    "/etc/ganeti/kvm-vif-bridge": "#!/bin/sh\n. /usr/share/snf-network/common.sh\nexit 0\n",
}
"""A node of snf-network and NFDHCPD, as far as this package looks at it."""


@pytest.fixture(scope="module")
def old_node(root: Path, shared: Path) -> Iterator[Machine]:
    with Machine("node2", root, shared) as machine:
        machine.do("ip", "link", "add", "eth0.201", "type", "veth", "peer", "name", "far")
        machine.do("ip", "link", "set", "eth0.201", "up")
        machine.do("cp", "/mnt/ganeti-vif.deb", "/ganeti-vif_0_all.deb")
        machine.do("mkdir", "/etc/nfdhcpd")
        for path, text in LEGACY.items():
            machine.write(path, text, 0o755)
        yield machine


class TestOldNode:
    """migration.md, from a node of snf-network without VMs; tests/kernel has it with VMs that run."""

    def test_what_becomes_of_the_settings_is_shown(self, old_node: Machine) -> None:
        unpack, show = commands("docs/migration.md", "1. Look")
        typed(old_node, unpack)
        printed = typed(old_node, show, status=1)
        lines = shown(sample("docs/migration.md", "1. Look", "[public"))
        assert unlike(lines, printed) is None, "\n".join(printed)
        assert not old_node.path("/etc/ganeti-vif").exists()

    def test_it_is_installed_and_ganeti_calls_it(self, old_node: Machine) -> None:
        typed_all(old_node, "docs/migration.md", "2. Install")
        assert "kvm-vif-bridge" in old_node.try_("ganeti-vif", "check").stdout
        typed_all(old_node, "docs/migration.md", "3. Let Ganeti")
        assert old_node.path(f"{SCRIPT}~").exists()
        assert "kvm-vif-bridge" not in old_node.try_("ganeti-vif", "check").stdout

    def test_it_is_configured_and_set_up(self, old_node: Machine) -> None:
        written, *rest = commands("docs/migration.md", "4. Configure")
        typed(old_node, written, status=1)  # a line wants to be looked at
        stanza = shown(sample("docs/migration.md", "4. Configure", "auto "))
        old_node.write("/etc/network/interfaces", "\n".join(("auto lo", "iface lo inet loopback", "", *stanza, "")))
        for command in rest:
            typed(old_node, command)
        assert "snf_public" in old_node.path(CONF).read_text()
        old_node.do("ganeti-vif", "teardown", "--private", "pvn=1-100")
        assert old_node.ifindex("pvn1") is None

    def test_running_vms_are_taken_over(self, old_node: Machine) -> None:
        _, adopt, check = typed_all(old_node, "docs/migration.md", "5. Take", but="ganeti-vif doctor")
        assert adopt == ["no instance of Ganeti runs here"]
        assert check == []
        doctored(old_node, commands("docs/migration.md", "5. Take")[-1])


class TestTheDocuments:
    """What is left of them."""

    def test_every_command_was_typed_or_cannot_be(self, request: pytest.FixtureRequest) -> None:
        ours = [item for item in request.session.items if item.path == request.path]
        if request.config.option.keyword or len(ours) < 2:
            pytest.skip("only some of the tests were run")
        for line, reason in NOT_HERE.items():
            print(f"not typed: {line}: {reason}")
        assert list(forgotten(TOUCHED, NOT_HERE)) == []
