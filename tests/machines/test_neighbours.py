# SPDX-License-Identifier: BSD-2-Clause
"""What else manages networks on a node, for real: it starts, reloads and restarts, and guests go on.

After each, `check` finds nothing, at most one ping was lost where the uplink stayed up, and the doctor says what is true.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.kernel.environment import private, public

from .conftest import COSTS
from .machine import Machine, name_of
from .node import (
    CONFIG,
    REPAIRED,
    SECOND,
    UPLINK,
    Guest,
    Pings,
    answers,
    clean,
    doctor,
    heed,
    set_up,
    sh,
    write,
)

MANAGEMENT = name_of("mgmt")
File = Callable[[str, str], None]
Guests = tuple[Guest, Guest]
GUESTS = (public(5), private(6))


@contextmanager
def undisturbed(node: Machine, what: str, *, lost: int = 1) -> Iterator[None]:
    """While the block runs and until `check` finds nothing, at most LOST pings of each guest get no answer."""
    with Pings(node, *GUESTS) as pings:
        yield
        seconds = clean(node, REPAIRED)
        for address in GUESTS:
            answers(node, address)
    COSTS.append((f"{what}: check clean; lost {pings.lost}", seconds))
    assert max(pings.lost.values()) <= lost, pings.lost


@pytest.fixture
def file(node: Machine) -> Iterator[Callable[[str, str], None]]:
    """Writes files of the node, that go with the test."""
    paths: list[str] = []

    def file(path: str, text: str) -> None:
        write(node, path, text)
        paths.append(path)

    yield file
    sh(node, f"rm -f {' '.join(paths)}")


@contextmanager
def running(node: Machine, *units: str) -> Iterator[None]:
    """UNITS run while the block does."""
    sh(node, f"systemctl start {' '.join(units)}")
    try:
        yield
    finally:
        sh(node, f"systemctl stop {' '.join(units)}")
        clean(node)


@pytest.fixture(autouse=True)
def _guests(guests: Guests, node: Machine) -> None:
    """Each test begins with guests that are well."""
    clean(node)
    for address in GUESTS:
        answers(node, address)


def test_networkd(node: Machine, file: File) -> None:
    file("/etc/systemd/network/20-office.network", f"[Match]\nName={MANAGEMENT}\n[Network]\nDHCP=ipv4\n")
    file(
        "/etc/systemd/network/30-uplink.network",
        f"[Match]\nName={UPLINK}\n[Network]\nDHCP=no\nLinkLocalAddressing=no\n",
    )
    with running(node, "systemd-networkd"):
        assert heed(node) == [f"systemd-networkd sets proxy_ndp of {UPLINK} to 0, and IPv6 does not reach VMs"]
        online = f"/usr/lib/systemd/systemd-networkd-wait-online --timeout=300 -i {MANAGEMENT}"
        sh(node, online)
        assert doctor(node) == []
        clean(node)
        with undisturbed(node, "networkd, restarted and reloaded"):
            sh(node, f"systemctl restart systemd-networkd; networkctl reload; {online}")
    sh(node, "rm -r /etc/systemd/network/30-uplink.network.d")


def test_networkd_that_manages_the_vlans_is_told_of(node: Machine, file: File) -> None:
    """A broad pattern takes the VLAN from its bridge whenever networkd starts; what the doctor says to do ends that."""
    broad = f"[Match]\nName={UPLINK}*\n[Network]\nDHCP=no\nLinkLocalAddressing=no\nIPv6ProxyNDP=yes\n"
    file("/etc/systemd/network/30-uplink.network", broad)
    with running(node, "systemd-networkd"):
        (told,) = heed(node)
        assert f"systemd-networkd manages {UPLINK}.2991" in told
        assert doctor(node) == []
        clean(node)
        with undisturbed(node, "networkd, with what the doctor said"):
            sh(node, "systemctl restart systemd-networkd; networkctl reload")


def test_network_manager(node: Machine) -> None:
    """VLAN uplinks have names that the package cannot know: udev tells NetworkManager whose they are."""
    devices = ["tap5", "tap6", "pvn1", f"{UPLINK}.2991"]
    with running(node, "NetworkManager"):
        sh(
            node,
            f"nmcli connection add type ethernet con-name office ifname {MANAGEMENT} ipv4.method auto ipv6.method disabled",
        )
        sh(node, "nm-online -q -t 300")
        assert doctor(node) == []
        with undisturbed(node, "NetworkManager, restarted"):
            sh(node, "systemctl restart NetworkManager; nm-online -q -t 300; nmcli connection reload")
        # and a network that is made while it runs
        set_up(node, CONFIG.replace("bridges = 1-3", "bridges = 1-4"))
        clean(node)
        devices += ["pvn4", f"{UPLINK}.2994"]
        states = dict(line.split(":")[:2] for line in sh(node, "nmcli -t -f DEVICE,STATE device").splitlines())
        assert {name: states[name] for name in devices} == dict.fromkeys(devices, "unmanaged")
        assert doctor(node) == []
    set_up(node, CONFIG)
    sh(node, "ganeti-vif teardown --private pvn=4")
    clean(node)


def test_ifupdown(node: Machine) -> None:
    office = f"auto lo {MANAGEMENT}\niface lo inet loopback\niface {MANAGEMENT} inet static\n  address 10.64.0.1/24\n"
    write(node, "/etc/network/interfaces", office)
    with running(node, "networking"):
        with undisturbed(node, "ifupdown, restarted"):
            sh(node, "systemctl restart networking")
        assert doctor(node) == []
        # and with the uplink, which goes down and comes up meanwhile
        write(node, "/etc/network/interfaces", office + f"auto {UPLINK}\niface {UPLINK} inet manual\n")
        with undisturbed(node, "ifupdown, the uplink restarted", lost=1000):
            sh(node, "systemctl restart networking")
        assert doctor(node) == []
        write(node, "/etc/network/interfaces", office)


def test_ifupdown2(node: Machine) -> None:
    """It takes ifupdown's place for good, so this comes after that."""
    sh(
        node,
        "DEBIAN_FRONTEND=noninteractive apt-get -o Dpkg::Use-Pty=0 install --yes /root/ifupdown2_*.deb; systemctl disable networking",
    )
    # Debian 13's iproute2 has its files elsewhere, and ifupdown2 ends with 1 where this directory is missing.
    sh(node, "mkdir -p /etc/iproute2/rt_tables.d")
    bridge = f"auto {UPLINK} br9\niface {UPLINK} inet manual\niface br9 inet manual\n  bridge-ports {SECOND}\n"
    write(
        node,
        "/etc/network/interfaces",
        f"auto lo {MANAGEMENT}\niface lo inet loopback\niface {MANAGEMENT} inet static\n  address 10.64.0.1/24\n{bridge}",
    )
    try:
        sh(node, "ifreload -a")
        with undisturbed(node, "ifupdown2, reloaded"):
            sh(node, "ifreload -a")
        assert doctor(node) == []
    finally:
        write(node, "/etc/network/interfaces", "auto lo\niface lo inet loopback\n")
        sh(node, "ip link del br9", check=False)
    clean(node)


def test_firewalld(node: Machine) -> None:
    with running(node, "firewalld"):
        sh(node, f"firewall-cmd --zone=trusted --add-interface={UPLINK} --add-interface=tap5")
        with undisturbed(node, "firewalld, reloaded"):
            sh(node, "firewall-cmd --runtime-to-permanent; firewall-cmd --reload")
        assert doctor(node) == []


def test_nftables_service(node: Machine) -> None:
    """Debian's rules begin with `flush ruleset`: ours go with all others', and are back at once."""
    with running(node, "nftables"):
        with undisturbed(node, "nftables, restarted", lost=1000):
            sh(node, "systemctl restart nftables")
        assert doctor(node) == []


def test_docker(node: Machine) -> None:
    """What bridges forward passes Docker's rules, which drop it, until one does what the doctor says.

    Docker makes it so if it loads br_netfilter itself; where the module is loaded already, somebody else does.
    """
    passes = "what bridges forward passes iptables too"
    sh(node, "modprobe br_netfilter; sysctl -w net.bridge.bridge-nf-call-iptables=0")
    try:
        with running(node, "docker"):
            accept = "iptables -I DOCKER-USER -i tap5 -j ACCEPT; iptables -I DOCKER-USER -o tap5 -j ACCEPT"
            for command in ("true", "systemctl restart docker", "sysctl -w net.bridge.bridge-nf-call-iptables=1"):
                sh(node, command)
                sh(
                    node, f"iptables -C DOCKER-USER -i tap5 -j ACCEPT 2>/dev/null || {{ {accept}; }}"
                )  # a restart may take it
                switch = sh(node, "cat /proc/sys/net/bridge/bridge-nf-call-iptables")
                assert any(line.startswith(passes) for line in heed(node)) == (switch == "1\n"), command
                assert doctor(node) == []
                for address in GUESTS:
                    answers(node, address)
                clean(node, REPAIRED)
    finally:
        sh(node, "iptables -P FORWARD ACCEPT; iptables -F; sysctl -w net.bridge.bridge-nf-call-iptables=0", check=False)


def test_iptables_restored(node: Machine) -> None:
    """Rules of others come and go by iptables-restore, which flushes what it knows."""
    try:
        with undisturbed(node, "iptables-restore"):
            sh(
                node,
                "iptables-save > /run/rules; echo '*filter\n:FORWARD ACCEPT\n:USER -\n-A FORWARD -j USER\nCOMMIT' | iptables-restore; iptables-restore < /run/rules",
            )
    finally:
        sh(node, "iptables -F; iptables -X", check=False)


def test_udev(node: Machine) -> None:
    devices = ("tap5", "tap6", "pvn1", f"{UPLINK}.2991")
    before = [sh(node, f"cat /sys/class/net/{name}/address") for name in devices]
    with undisturbed(node, "udev, all devices again"):
        sh(node, "udevadm trigger --action=add --subsystem-match=net; udevadm settle")
        sh(
            node,
            "systemctl restart systemd-udevd; udevadm trigger --action=change --subsystem-match=net; udevadm settle",
        )
    assert [sh(node, f"cat /sys/class/net/{name}/address") for name in devices] == before
    assert doctor(node) == []


HARDENED = """\
net.ipv4.ip_forward = 0
net.ipv6.conf.all.forwarding = 0
net.ipv4.conf.all.rp_filter = 1
net.ipv4.conf.default.rp_filter = 1
net.ipv4.conf.all.accept_redirects = 0
net.ipv4.conf.all.send_redirects = 0
net.ipv4.conf.all.arp_ignore = 1
"""


def test_sysctl(node: Machine) -> None:
    write(node, "/etc/sysctl.d/99-hardened.conf", HARDENED)
    try:
        with undisturbed(node, "sysctl --system, hardened", lost=1000):
            sh(node, "sysctl --quiet --system")
        assert [line for line in doctor(node) if "rp_filter" not in line] == []
    finally:
        sh(
            node,
            "rm /etc/sysctl.d/99-hardened.conf; sysctl -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.all.arp_ignore=0",
        )
        clean(node)
