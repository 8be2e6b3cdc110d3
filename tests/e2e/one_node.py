# SPDX-License-Identifier: BSD-2-Clause
"""The tour of one node: what can happen to a VM that stays where it is, and to its node."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab import PATIENCE, Image, Node

from .cluster import ARGS, Cluster
from .instance import Instance
from .member import Member
from .site import BEYOND, CONFIG, GATEWAY, GATEWAY6, NEIGHBOUR

NEW = "new.example.com"
WEB, DB, STORE = "web.example.com", "db.example.com", "store.example.com"
"""DB is renamed to STORE on the way."""
PUBLIC = ("--network=192.0.2.0/24", f"--gateway={GATEWAY}", "--network6=2001:db8::/64", f"--gateway6={GATEWAY6}")
NETWORKS = {
    "public": ((*PUBLIC, "--tags=nfdhcpd,ip-less-routed"), "mode=routed,link=public"),
    "private": (("--network=10.0.0.0/24", "--mac-prefix=aa:00:01"), "mode=bridged,link=pvn1"),
    "red": (("--network=10.1.0.0/24", "--mac-prefix=aa:00:02", "--tags=private-filtered"), "mode=bridged,link=pvn2"),
    "blue": (("--network=10.2.0.0/24", "--mac-prefix=aa:00:03", "--tags=private-filtered"), "mode=bridged,link=pvn2"),
}
"""Options of the network, and of its connection."""
SERVER = Path(__file__).resolve().parents[1] / "lab" / "tftp_server.py"
EVERYWHERE = (GATEWAY, BEYOND, GATEWAY6, NEIGHBOUR)


@pytest.fixture
def web(cluster: Cluster) -> Instance:
    return Instance(cluster, WEB)


@pytest.fixture
def db(cluster: Cluster) -> Instance:
    return Instance(cluster, DB)


@pytest.fixture
def store(cluster: Cluster) -> Instance:
    return Instance(cluster, STORE)


def connect(cluster: Cluster, *names: str) -> None:
    """Add those of NETWORKS, and connect them."""
    for name in names:
        options, link = NETWORKS[name]
        cluster.gnt("network", "add", *options, name)
        cluster.gnt("network", "connect", "-N", link, name)


def add(cluster: Cluster, node: Member, name: str, *networks: str) -> Instance:
    """An instance with a card in each of NETWORKS, started."""
    cards = [
        word for number, network in enumerate(networks) for word in ("--net", f"{number}:network={network},ip=pool")
    ]
    # From 3.1 on these checks are off and the options are gone (ganeti NEWS 3.1).
    checks = ["--no-name-check", "--no-ip-check"] if cluster.version < (3, 1) else []
    cluster.gnt(
        "instance", "add", "-t", "diskless", "-o", "noop+default", "--no-install", "--no-start", *checks,
        "-n", node.name, *cards, name,
    )  # fmt: skip
    cluster.gnt("instance", "start", name)
    return Instance(cluster, name)


def works(instance: Instance) -> None:
    """All that a public and a private card promise."""
    assert instance.state == "running"
    instance.attached()
    instance.configure()
    instance.reaches(*EVERYWHERE)


def tap_of(instance: Instance, mode: str) -> str:
    """The tap of its only card of that mode."""
    (tap,) = {n["tap"] for n in instance.home.status()["nics"] if (n["instance"], n["mode"]) == (instance.name, mode)}
    return str(tap)


@contextmanager
def boot_server(node: Node, image: Image) -> Iterator[Path]:
    """A TFTP server on NODE that has IMAGE and a script of iPXE for it. Gives the file with what it was asked for."""
    directory, asked = node.path("/run/boot-files"), node.path("/run/asked")
    directory.mkdir()
    for name, file in (("kernel", image.kernel), ("initrd", image.initrd)):
        (directory / name).write_bytes(file.read_bytes())
    (directory / "boot.ipxe").write_text(f"#!ipxe\nkernel kernel {ARGS}\ninitrd initrd\nboot\n")
    with asked.open("w") as output:
        server = node.popen([sys.executable, "-I", str(SERVER), "/run/boot-files", BEYOND], stdout=output.fileno())
    try:
        yield asked
    finally:
        server.kill()
        server.wait(timeout=PATIENCE)


class OneNode:
    """The steps, in their order."""

    def test_a_cluster_begins_and_verify_is_clean(self, cluster: Cluster) -> None:
        cluster.init()
        done = cluster.verify()
        assert done.returncode == 0, done.stdout

    def test_networks_of_every_kind_are_connected(self, cluster: Cluster) -> None:
        connect(cluster, *NETWORKS)

    @pytest.mark.complaints("pvn111 is outside")
    def test_a_bridge_that_nobody_configured_is_refused(self, cluster: Cluster) -> None:
        cluster.gnt("network", "add", "--network=10.3.0.0/24", "stray")
        done = cluster.gnt("network", "connect", "-N", "mode=bridged,link=pvn111", "stray", check=False)
        assert done.returncode != 0
        assert "pvn111" in done.stderr and "ganeti-vif setup" in done.stderr
        cluster.gnt("network", "remove", "stray")

    def test_instances_start_and_their_guests_reach_what_they_should(self, cluster: Cluster) -> None:
        web = add(cluster, cluster.master, WEB, "public", "private", "red")
        db = add(cluster, cluster.master, DB, "public", "private", "red", "blue")
        works(web)
        works(db)
        web.reaches(*(card.ip for card in db.cards[:3] if card.ip))

    def test_a_filtered_network_hears_nothing_of_its_bridges_others(self, web: Instance, db: Instance) -> None:
        with db.console() as console:
            for card, device, seconds, status in ((db.cards[2], "eth2", 60, 0), (db.cards[3], "eth3", 3, 1)):
                ask = f"arping -f -w {seconds} -s {card.ip} -I {device} {web.cards[2].ip}"
                asked = console.run(ask, check=False)
                assert asked.status == status, asked.output

    def test_a_card_that_is_plugged_in_works(self, cluster: Cluster, web: Instance, db: Instance) -> None:
        cluster.gnt("instance", "modify", "--net", "add:network=blue,ip=pool", *cluster.hotplug(), WEB)
        web.attached()
        web.configure()
        web.reaches(str(db.cards[3].ip))

    def test_a_card_that_is_exchanged_works(self, cluster: Cluster, web: Instance, db: Instance) -> None:
        cluster.gnt("instance", "modify", "-f", "--net", "3:modify,ip=10.2.0.77", *cluster.hotplug(), WEB)
        web.attached()
        web.configure()
        db.reaches("10.2.0.77")

    def test_a_card_that_is_pulled_leaves_nothing(self, cluster: Cluster, web: Instance) -> None:
        cluster.gnt("instance", "modify", "--net", "3:remove", *cluster.hotplug(), WEB)
        web.attached()
        web.reaches(*EVERYWHERE)

    def test_an_address_without_hotplug_waits_for_the_next_start(self, cluster: Cluster, web: Instance) -> None:
        before = web.cards[0].ip
        cluster.gnt("instance", "modify", "--net", "0:modify,ip=192.0.2.77", *cluster.no_hotplug(), WEB)
        web.reaches(GATEWAY, BEYOND)
        cluster.gnt("instance", "reboot", "-t", "soft", WEB)
        binding = web.home.path(f"/var/lib/nfdhcpd/{tap_of(web, 'routed')}").read_text()
        assert f"IP={before}\n" in binding, "a soft reboot starts the NICs of the runtime file"
        # Its kernel may not have heard of power buttons yet.
        cluster.gnt("instance", "reboot", "-t", "hard", "--shutdown-timeout=0", WEB)
        works(web)
        web.says(f"ping -c 1 -W 10 -I 192.0.2.77 {BEYOND}")

    def test_tags_count_from_the_next_start(self, cluster: Cluster, web: Instance) -> None:
        public6 = web.cards[0].public6
        routes = ("ip", "-6", "route", "show", "table", "222", public6)
        cluster.gnt("instance", "add-tags", WEB, "disable_ipv6")
        cluster.settle()
        assert public6 in web.home.do(*routes)
        cluster.gnt("instance", "reboot", "-t", "soft", WEB)
        assert public6 not in web.home.do(*routes)
        web.configure(ipv6=False)
        web.reaches(GATEWAY, NEIGHBOUR)
        assert public6 not in web.says("ip -6 addr")
        cluster.gnt("instance", "remove-tags", WEB, "disable_ipv6")

    def test_an_instance_boots_from_the_network_and_its_guest_is_told_what_tags_say(
        self, cluster: Cluster, image: Image
    ) -> None:
        told = f"[network public]\nnext-server = {BEYOND}\nboot-file-bios = boot.ipxe\n"
        cluster.master.write("/etc/ganeti-vif/ganeti-vif.conf", f"{CONFIG}\n{told}")
        cluster.master.do("ganeti-vif", "setup")
        checks = ["--no-name-check", "--no-ip-check"] if cluster.version < (3, 1) else []
        cluster.gnt(
            "instance", "add", "-t", "diskless", "-o", "noop+default", "--no-install", "--no-start", *checks,
            "-n", cluster.master.name, "--net", "0:network=public,ip=pool", NEW,
        )  # fmt: skip
        new = Instance(cluster, NEW)
        with boot_server(cluster.site.gateway, image) as asked:
            cluster.gnt("instance", "start", "-H", "kernel_path=,initrd_path=,boot_order=network", NEW)
            new.attached()
            new.configure()
            assert asked.read_text().split() == ["ready", "boot.ipxe", "kernel", "initrd"]
        new.reaches(GATEWAY, BEYOND)
        cluster.gnt("instance", "add-tags", NEW, "vif:0:dhcp:domain:tag.example.org")
        cluster.gnt("instance", "modify", "-B", "maxmem=129", NEW)
        explained = cluster.master.do("ganeti-vif", "explain", NEW)
        assert "domain tag.example.org  (tag of the instance)" in explained
        cluster.gnt("instance", "remove", "-f", "--shutdown-timeout=0", NEW)
        new.gone()
        cluster.master.write("/etc/ganeti-vif/ganeti-vif.conf", CONFIG)
        cluster.master.do("ganeti-vif", "setup")

    def test_a_full_reboot_brings_everything_back(self, cluster: Cluster, web: Instance) -> None:
        """Soft and hard ones were above. This guest is told to shut down, and does."""
        cluster.gnt("instance", "reboot", "-t", "full", WEB)
        works(web)

    def test_a_guest_that_is_shut_down_leaves_nothing(self, cluster: Cluster, web: Instance, db: Instance) -> None:
        cluster.gnt("instance", "shutdown", WEB)
        web.gone()
        cluster.settle()
        cluster.gnt("instance", "shutdown", "--timeout=0", DB)
        db.gone()
        cluster.settle()
        assert cluster.master.ifindex("tap0") is None

    def test_a_new_name_is_everywhere_after_the_start(self, cluster: Cluster, web: Instance, db: Instance) -> None:
        options = ["-f", "--no-name-check", "--no-ip-check"] if cluster.version < (3, 1) else []
        cluster.gnt("instance", "rename", *options, DB, STORE)
        for name in (STORE, WEB):
            cluster.gnt("instance", "start", name)
        db.gone()
        store = Instance(cluster, STORE)
        works(store)
        binding = cluster.master.path(f"/var/lib/nfdhcpd/{tap_of(store, 'routed')}").read_text()
        assert f"HOSTNAME={STORE}\n" in binding
        works(web)

    def test_a_guest_that_is_killed_leaves_nothing_and_the_watcher_starts_it(
        self, cluster: Cluster, web: Instance
    ) -> None:
        web.home.do("kill", "-9", str(web.pid))
        cluster.settle()
        web.gone()
        assert web.state == "ERROR_down"
        cluster.watch()
        works(web)

    @pytest.mark.complaints("repaired: left over: binding ")
    def test_a_node_that_lost_power_comes_back(self, cluster: Cluster, web: Instance, store: Instance) -> None:
        node = cluster.master
        node.pull_the_plug()
        node.power_on()
        cluster.settle()
        assert node.status()["nics"] == []
        cluster.watch()
        for instance in (web, store):
            works(instance)

    @pytest.mark.complaints("ganeti-vifd does not run, or does not answer|repaired: missing: ip route ")
    def test_verify_names_what_is_broken(self, cluster: Cluster, store: Instance) -> None:
        """The daemon would mend it before verify comes to it."""
        node = cluster.master
        tap = tap_of(store, "routed")
        node.stop_daemon()
        node.do("ip", "route", "flush", "table", "222", "dev", tap)
        done = cluster.verify()
        assert done.returncode != 0
        assert f"ganeti-vif on {node.name}" in done.stdout and tap in done.stdout
        node.start_daemon()
        cluster.settle()
        done = cluster.verify()
        assert done.returncode == 0, done.stdout
        store.reaches(*EVERYWHERE)


class End:
    """The last steps: everything goes, and nothing is left of it."""

    def test_instances_that_are_removed_leave_nothing(self, cluster: Cluster) -> None:
        for name in (WEB, STORE):
            cluster.gnt("instance", "remove", "-f", "--shutdown-timeout=0", name)
            Instance(cluster, name).gone()

    def test_networks_are_disconnected_and_removed(self, cluster: Cluster) -> None:
        for name in NETWORKS:
            cluster.gnt("network", "disconnect", name)
            cluster.gnt("network", "remove", name)

    def test_verify_is_clean_at_the_end(self, cluster: Cluster) -> None:
        done = cluster.verify()
        assert done.returncode == 0, done.stdout

    def test_a_teardown_takes_the_rest(self, cluster: Cluster) -> None:
        """Though the daemon runs: it makes nothing again that was torn down."""
        for member in cluster.members:
            member.do("ganeti-vif", "teardown")
            assert not [
                name for name in member.do("ls", "/sys/class/net").split() if name.startswith(("pvn", "vx", "tap"))
            ]
            member.do("ganeti-vif", "setup")
