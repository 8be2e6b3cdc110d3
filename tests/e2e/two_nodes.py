# SPDX-License-Identifier: BSD-2-Clause
"""The tour of two nodes: instances that move, fail to move, and a node that joins and leaves."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from .claims import Claims
from .cluster import Cluster
from .documents import REST, commands, unlike
from .instance import Instance
from .member import Member
from .migration import measured, migrate
from .one_node import EVERYWHERE, STORE, WEB, works
from .site import CONFIG, GATEWAY, NEIGHBOUR

CONF = "/etc/ganeti-vif/ganeti-vif.conf"
MIGRATIONS = 5
"""An odd number, that ends where it should: the step before migrates once, too."""
MOST = 3
"""Pings of 10 ms that a routed card may lose more than the bridged card of the same guest, in the median."""
SHARE = 4
"""On a machine with much else to do the bridged card loses dozens, and a quarter of that is within its own spread."""


@contextmanager
def without_public_link(member: Member) -> Iterator[None]:
    """The cable of MEMBER's public link is unknown by its name: nothing routed can be attached there."""
    member.do("ip", "link", "set", "eth1", "down")
    member.do("ip", "link", "set", "eth1", "name", "unplugged")
    try:
        yield
    finally:
        member.do("ip", "link", "set", "unplugged", "name", "eth1")
        member.do("ip", "link", "set", "eth1", "up")


@contextmanager
def misconfigured(member: Member) -> Iterator[None]:
    """Nothing can be attached on MEMBER: its configuration is broken, and nothing is in force, as after a boot."""
    member.stop_daemon()
    member.path("/run/ganeti-vif/configuration.json").unlink()
    member.write(CONF, "[private pvn]\nbridges = x\n")
    try:
        yield
    finally:
        member.write(CONF, CONFIG)
        member.start_daemon()


class TwoNodes:
    """The steps, in their order; they begin and end with all instances on the master."""

    def test_a_node_that_joins_is_set_up(self, cluster: Cluster) -> None:
        member = cluster.add_node()
        assert [family["up"] for family in member.status()["private"]] == [3]
        done = cluster.verify()
        assert done.returncode == 0, done.stdout

    def test_the_master_sees_all_nodes_at_a_glance(self, cluster: Cluster) -> None:
        master, member = cluster.master, cluster.member("node2.example.com")
        for command in commands("docs/networks.md", "All nodes at a glance"):
            printed = master.do("sh", "-c", command.text)
            print(f"# {command.text}\n{printed}", end="")
            assert unlike(command.output, printed.splitlines()) is None, printed
        member.write(CONF, CONFIG + "[daemon]\nverbose = yes\n")
        member.do("ganeti-vif", "setup")
        done = master.try_("ganeti-vif", "cluster", "check")
        assert (done.returncode, "node2.example.com: [daemon] verbose = yes" in done.stdout) == (1, True), done.stdout
        member.write(CONF, CONFIG)
        member.do("ganeti-vif", "setup")
        assert master.do("ganeti-vif", "cluster", "reconcile") == "all nodes are as they should be\n"

    def test_only_one_node_speaks_for_a_guest_that_migrates(self, cluster: Cluster, web: Instance) -> None:
        source, target = web.home, cluster.other(web.home)
        routed, bridged = (next(card for card in web.cards if card.mode == mode) for mode in ("routed", "bridged"))
        assert routed.ip
        with Claims(cluster.site, cluster.members, routed.ip) as claims:
            claims.wait(routed.ip, source)
            web.reaches(NEIGHBOUR)
            migrate(web)
            claims.wait(routed.ip, target)
            web.reaches(NEIGHBOUR)
            assert claims.of(bridged.mac) == [source.name, target.name]
            both = claims.overlap_ms(routed.ip, source, target)
            print(f"both nodes answered for {both} ms")
            assert claims.of(routed.ip) == [source.name, target.name], f"both answered for {both} ms"
            assert claims.of(routed.public6) in ([source.name, target.name], [target.name])

    def test_a_migrated_guest_is_connected_where_it_is_now(self, web: Instance) -> None:
        web.attached()
        web.reaches(*EVERYWHERE)

    def test_a_routed_card_loses_as_few_pings_as_a_bridged_one(self, cluster: Cluster, web: Instance) -> None:
        """Five migrations, and back on the master at the end; `bench/migration` has the figures of many."""
        costs = [measured(web) for _ in range(MIGRATIONS)]
        for cost in costs:
            words = (f"{mode} {one.worse.lost} (gap {one.worse.gap_ms:.0f} ms)" for mode, one in cost.items())
            print(f"pings of 10 ms lost: {', '.join(words)}")
        more = sorted(cost["routed"].worse.lost - cost["bridged"].worse.lost for cost in costs)
        allowed = max(MOST, statistics.median(cost["bridged"].worse.lost for cost in costs) / SHARE)
        assert statistics.median(more) <= allowed, f"the routed card lost so many more than the bridged one: {more}"
        web.attached()
        web.reaches(*EVERYWHERE)

    def test_the_journals_tell_of_a_migration_what_the_document_shows(self, cluster: Cluster) -> None:
        """Each node was the source and the target by now."""
        shown = [one for one in commands("docs/administration.md", "Live migration") if "journalctl" in one.text]
        for member, command in zip(cluster.members, shown, strict=True):
            journal = member.do("sh", "-c", f"{command.text} --quiet").splitlines()
            told = [word for line in command.output for word in (line.replace("vm5.", "web."), REST)]
            assert unlike([REST, *told], journal) is None, journal

    @pytest.mark.complaints("ganeti-vif.conf:2: bridges: ")
    def test_a_migration_that_the_target_refuses_changes_nothing(self, cluster: Cluster, web: Instance) -> None:
        source, target = web.home, cluster.other(web.home)
        with misconfigured(target):
            done = cluster.gnt("instance", "migrate", "-f", "-n", target.name, WEB, check=False)
        assert done.returncode != 0
        assert "ganeti-vif.conf:2" in done.stdout + done.stderr
        assert web.home is source
        web.reaches(*EVERYWHERE)
        web.attached()
        cluster.gnt("instance", "migrate", "-f", "--cleanup", WEB)
        web.attached()
        web.reaches(*EVERYWHERE)

    @pytest.mark.complaints(r"web\.example\.com|eth1|repaired: |public link|hook|uplink")
    def test_a_failure_that_ganeti_swallows_is_told_and_mended(self, cluster: Cluster, web: Instance) -> None:
        """A routed NIC is attached after the guest has moved, and Ganeti does not ask how that went
        (ganeti lib/hypervisor/hv_kvm/__init__.py:2557-2560 at 3.0.2)."""
        target = cluster.other(web.home)
        with without_public_link(target):
            migrate(web)
            done = cluster.verify()
            assert done.returncode != 0
            assert f"ganeti-vif on {target.name}: " in done.stdout and WEB in done.stdout
        cluster.settle()
        web.attached()
        web.reaches(*EVERYWHERE)
        done = cluster.verify()
        assert done.returncode == 0, done.stdout

    def test_a_failover_starts_the_guest_on_the_other_node(self, cluster: Cluster, web: Instance) -> None:
        cluster.gnt("instance", "failover", "-f", "-n", cluster.other(web.home).name, WEB)
        works(web)
        Instance(cluster, STORE).reaches(GATEWAY, *(card.ip for card in web.cards[:2] if card.ip))

    def test_a_node_that_leaves_keeps_its_networks(self, cluster: Cluster, web: Instance) -> None:
        assert {Instance(cluster, name).home for name in (WEB, STORE)} == {cluster.master}
        gone = cluster.members[1]
        cluster.gnt("node", "remove", gone.name)
        gone.settle()
        assert gone.status()["nics"] == []
        done = cluster.verify()
        assert done.returncode == 0, done.stdout
