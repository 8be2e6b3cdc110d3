# SPDX-License-Identifier: BSD-2-Clause
"""The daemon: what goes away is cleared, what others break comes back, and it never stands in anybody's way."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import dpkt
import pytest

from tests.lab import PATIENCE, Node, PacketSocket

from .actions import answer, arp_of, attach, complaint, differences, ip, run, vif_script
from .conftest import MakeTap, configure
from .environment import bridged, routed
from .vifd import clean, said, started, stopped, until


def last(node: Node, word: str) -> str:
    """The last line of the log in which WORD is."""
    return [line for line in said(node).splitlines() if word in line][-1]


@pytest.fixture
def vifd(ready: Node) -> Iterator[subprocess.Popen[str]]:
    """The daemon of a node that is set up."""
    daemon = started(ready)
    yield daemon
    stopped(daemon)
    assert daemon.returncode == 0


@pytest.mark.usefixtures("vifd")
class TestWhileItRuns:
    """One daemon on one node."""

    def test_a_tap_that_goes_away_leaves_nothing(self, ready: Node, tap: MakeTap) -> None:
        taps = [tap(ready) for _ in range(4)]
        for number, one in enumerate(taps, 5):
            attach(ready, (routed if number % 2 else bridged)(one.name, number))
        assert clean(ready)
        for one in taps:
            one.close()
        until(lambda: not any(ready.path(f"/run/ganeti-vif/nics/{one.name}.json").exists() for one in taps), "the end")
        assert clean(ready)

    @pytest.mark.parametrize(
        "damage",
        [
            "ip link set {tap} nomaster",
            "ip link set {tap} down",
            "nft flush ruleset",
            "ip link del pvn2",
            "ip rule del pref 20000",
            "ip route flush table 222",
            "ip link set eth1 down; ip link set eth1 up",
            "rm /var/lib/nfdhcpd/*",
            "rm -r /var/lib/nfdhcpd",
            "sysctl --quiet net.ipv4.conf.eth1.proxy_arp=0",
        ],
    )
    def test_what_somebody_broke_comes_back(self, ready: Node, tap: MakeTap, damage: str) -> None:
        one, other = tap(ready), tap(ready)
        attach(ready, bridged(one.name))
        attach(ready, routed(other.name, 6))
        assert clean(ready)
        ready.run(["sh", "-c", damage.format(tap=one.name)])
        until(lambda: "repaired:" in said(ready).rpartition("attached")[2], "a repair")
        until(lambda: clean(ready), "the whole of it")

    def test_what_all_nics_share_is_filtered_again_at_once(self, ready: Node, tap: MakeTap) -> None:
        """Not by a look, which finds it late and waits for whoever has a NIC in hand."""
        one = tap(ready)
        attach(ready, routed(one.name))
        assert clean(ready)
        holding = ["flock", "/run/ganeti-vif/nics.lock", "sh", "-c", "echo held; read _"]
        with ready.popen(holding, stdin=subprocess.PIPE) as holder:
            assert holder.stdout and holder.stdout.readline() == "held\n"
            ready.run(["nft", "flush", "ruleset"])
            until(
                lambda: differences(ready) == [f"missing: filter chain netdev {one.name}-in"], "all but the NIC's own"
            )
            holder.communicate("")
        until(lambda: clean(ready), "the NIC's own")

    def test_an_announcement_is_repeated(self, ready: Node, gateway: Node, tap: MakeTap) -> None:
        def gratuitous(frame: bytes) -> bool:
            found = arp_of(frame)
            return found is not None and found.op == dpkt.arp.ARP_OP_REQUEST and found.spa == found.tpa

        with PacketSocket(gateway, "eth0") as ears:
            attach(ready, routed(tap(ready).name))
            for which in ("the first", "one after a second", "one after two"):
                ears.expect(gratuitous, which)

    def test_it_attaches_for_ganetis_script(self, ready: Node, tap: MakeTap, vifd: subprocess.Popen[str]) -> None:
        for number in range(5, 9):
            attach(ready, bridged(tap(ready).name, number))
            assert f"ganeti-vif[{vifd.pid}]" in last(ready, "attached")
        assert clean(ready)

    def test_what_it_refuses_is_refused_in_the_same_words(self, ready: Node, tap: MakeTap) -> None:
        said = complaint(vif_script(ready, bridged(tap(ready).name, MAC="ff:ff:ff:ff:ff:ff")))
        assert "vm5.example.com" in said and "MAC" in said

    def test_it_serves_hooks_of_instances(self, ready: Node, tap: MakeTap, vifd: subprocess.Popen[str]) -> None:
        attach(ready, bridged(tap(ready).name))
        hook = {
            "GANETI_HOOKS_PATH": "instance-rename",
            "GANETI_HOOKS_PHASE": "post",
            "GANETI_INSTANCE_NAME": "vm5.example.com",
            "GANETI_INSTANCE_NEW_NAME": "vm9.example.com",
        }
        done = ready.run(["/usr/lib/ganeti-vif/hook"], env=hook, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert f"ganeti-vif[{vifd.pid}]" in last(ready, "instance-rename-post")
        assert "vm9.example.com" in run(ready, "status").stdout
        assert clean(ready)

    def test_a_nic_that_cannot_be_attached_is_tried_until_it_can(self, ready: Node, tap: MakeTap) -> None:
        one = tap(ready)
        said = complaint(vif_script(ready, bridged(one.name, LINK="br9", BRIDGE="br9")))
        assert "br9" in said
        (nic,) = answer(ready, "status")["nics"]
        assert (nic["tap"], nic["state"]) == (one.name, "not attached")
        assert one.name in answer(ready, "status")["daemon"]["retrying"]
        assert any(line.startswith("not attached: vm5.example.com") for line in differences(ready))
        ip(ready, "link add br9 type bridge", "link set br9 up")
        until(lambda: clean(ready), "an attempt")
        until(lambda: answer(ready, "status")["daemon"]["retrying"] == {}, "no more attempts")
        ip(ready, "link del br9")

    def test_a_nic_that_could_not_be_attached_is_forgotten_with_its_tap(self, ready: Node, tap: MakeTap) -> None:
        one = tap(ready)
        complaint(vif_script(ready, bridged(one.name, LINK="br9", BRIDGE="br9")))
        one.close()
        until(lambda: clean(ready), "the end of it")
        until(lambda: answer(ready, "status")["daemon"]["retrying"] == {}, "no more attempts")

    def test_there_is_one_of_it(self, ready: Node, vifd: subprocess.Popen[str]) -> None:
        second = ready.run(["ganeti-vifd", "--foreground"], check=False)
        assert second.returncode == 1
        assert f"held by process {vifd.pid}" in second.stderr and len(second.stderr.splitlines()) == 2

    def test_a_broken_configuration_is_refused_and_the_old_one_kept(
        self, ready: Node, tap: MakeTap, vifd: subprocess.Popen[str]
    ) -> None:
        good = ready.path("/etc/ganeti-vif/ganeti-vif.conf").read_text()
        configure(ready, "[private pvn]\nbridges = x\n")
        vifd.send_signal(signal.SIGHUP)
        until(lambda: "the old configuration stays in force" in said(ready), "the refusal")
        one = tap(ready)
        configure(ready, good)
        attach(ready, bridged(one.name))
        one.close()
        until(lambda: "its tap is gone" in said(ready), "the clearing")
        assert clean(ready)

    def test_a_new_configuration_is_taken(self, ready: Node, vifd: subprocess.Popen[str]) -> None:
        text = ready.path("/etc/ganeti-vif/ganeti-vif.conf").read_text()
        configure(ready, text + "\n[private new]\nbridges = 1\n")
        vifd.send_signal(signal.SIGHUP)
        until(lambda: ready.ifindex("new1") is not None, "the new bridge")


def test_what_happened_while_it_was_down_is_cleared_when_it_starts(ready: Node, tap: MakeTap) -> None:
    one, other = tap(ready), tap(ready)
    attach(ready, bridged(one.name))
    attach(ready, routed(other.name, 6))
    other.close()
    daemon = started(ready)
    assert clean(ready)
    stopped(daemon, signal.SIGKILL)
    one.close()
    stopped(started(ready))
    assert clean(ready)


def test_a_tap_name_that_has_a_new_owner_is_not_cleared(ready: Node, tap: MakeTap) -> None:
    """The daemon hears late of the old tap: the new one of that name is attached by then."""
    daemon = started(ready)
    os.kill(daemon.pid, signal.SIGSTOP)
    one = tap(ready)
    attach(ready, bridged(one.name))
    one.close()
    again = tap(ready)
    assert again.name == one.name
    attach(ready, routed(again.name, 6))
    os.kill(daemon.pid, signal.SIGCONT)
    ip(ready, "link set pvn1 mtu 1300")
    until(lambda: said(ready).count("repaired:") >= 2, "a look after all events")
    assert clean(ready)
    assert "vm6.example.com" in run(ready, "status").stdout
    stopped(daemon)


def test_it_detaches_and_says_its_pid(ready: Node) -> None:
    ready.run(["ganeti-vifd"])
    lock = ready.path("/run/ganeti-vif/vifd.lock")
    until(lambda: lock.exists() and lock.read_text().strip().isdigit(), "its pid")
    pid = int(lock.read_text())
    assert "ganeti-vifd" in Path(f"/proc/{pid}/cmdline").read_text()
    ip(ready, "link set pvn1 mtu 1400")
    until(lambda: clean(ready), "a repair")
    os.kill(pid, signal.SIGTERM)
    until(lambda: not os.path.exists(f"/proc/{pid}"), "its end")


def test_systemd_hears_when_it_is_ready_and_that_it_lives(ready: Node, tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        systemd.settimeout(PATIENCE)
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "NOTIFY_SOCKET": address, "WATCHDOG_USEC": "200000"}
        daemon = ready.popen(["ganeti-vifd", "--foreground"], env=env)
        assert systemd.recv(100) == b"READY=1"
        assert {systemd.recv(100) for _ in range(3)} == {b"WATCHDOG=1"}
        stopped(daemon)
        assert daemon.returncode == 0
