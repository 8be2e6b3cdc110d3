# SPDX-License-Identifier: BSD-2-Clause
"""What Debian's kernels do by modules of their own: VLAN-aware bridges, bonds, Open vSwitch, queues; and chosen kernel tests."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.kernel.environment import bridged, openvswitch, private, routed

from .machine import Machine
from .node import CONFIG, PRIVATE_GATEWAY, REPAIRED, SECOND, UPLINK, Guest, clean, differences, set_up, sh

MakeGuest = Callable[..., Guest]
SOURCE = "/mnt/this/ganeti-vif"
"""The tree of which the package was built."""
CHOSEN = (
    "test_setup.py::test_vlan_uplinks",
    "test_bridged.py::test_vlans_on_a_bridge_that_knows_them_are_apart",
    "test_compiled_rules.py",
    "test_tap_reuse.py",
    "test_offload.py",
    "test_rates.py::test_a_rate_is_changed_live_and_taken_away",
    "test_openvswitch.py::test_a_nic_is_a_port_with_its_vlans_until_it_is_detached",
)
"""Of tests/kernel, those that other kernels see otherwise, or not at all."""
QUEUES = "test_nfdhcpd.py"


def reaches(guest: Guest, address: str) -> bool:
    """Whether ADDRESS answers GUEST, sooner or later."""
    return "1 received" in guest.sh(f"ping -n -c 1 -w 30 {address}", check=False)


def alone(guest: Guest, address: str) -> bool:
    """Whether ADDRESS does not answer GUEST's questions of some seconds."""
    return ", 0 received" in guest.sh(f"ping -n -c 3 -i 0.5 -W 5 {address}", check=False)


def netfilter(node: Machine) -> str:
    """What the bridge pvn1 says of itself."""
    return sh(node, "ip -d link show pvn1")


def test_a_kernel_with_modules_serves_nfdhcpd_bridged_guests_too(node: Machine, guest: MakeGuest) -> None:
    """br_netfilter is a module that nobody has loaded: setup does, and hands their questions to the queues."""
    assert "br_netfilter" not in sh(node, "lsmod")
    asking = "while :; do busybox udhcpc -i eth0 -n -q -t 1 -T 1 -s /bin/true; rdisc6 -r 1 -w 500 eth0; done"
    jobs = []
    try:
        set_up(
            node,
            CONFIG.replace("for = all\n", "for = all\nconsumer = nfdhcpd\n").replace(
                "[responder]\n", "[responder]\nenabled = no\n"
            ),
        )
        assert differences(node) == []
        assert sh(node, "cat /proc/sys/net/bridge/bridge-nf-call-iptables") == "0\n"
        assert "nf_call_iptables 1" in netfilter(node)
        one, other = guest(node, 61), guest(node, 62)
        one.attach(bridged(one.tap, 61))
        other.attach(routed(other.tap, 62))
        nfdhcpd = node.start(["/usr/bin/python3", "/mnt/inside/queues.py", "4", "42", "43"])
        jobs = [node.start(["ip", "netns", "exec", vm.name, "sh", "-c", asking]) for vm in (one, other)]
        told = nfdhcpd.wait()
        ways = f"pvn1 {one.tap}", f"{other.tap} -"
        assert sorted(told.stdout.splitlines()) == sorted(f"{queue} {way}" for queue in (42, 43) for way in ways), told
    finally:
        for job in jobs:
            job.signal(signal.SIGKILL)
            job.wait()
        set_up(node, CONFIG)
        clean(node)
    assert "nf_call_iptables 0" in netfilter(node)


def test_a_vlan_aware_bridge_keeps_vlans_apart(node: Machine, guest: MakeGuest) -> None:
    sh(node, "ip link add br7 up type bridge vlan_filtering 1")
    try:
        one, same, other = (guest(node, number, f"{private(number)}/24") for number in (21, 22, 23))
        for vm, vlan in ((one, ".10"), (same, ".10"), (other, ".20")):
            vm.attach(bridged(vm.tap, vm.number, "br7", VLAN=vlan))
        assert reaches(one, private(22)) and alone(one, private(23))
        sh(node, f"bridge vlan del dev {one.tap} vid 10")
        clean(node, REPAIRED)
        assert reaches(one, private(22))
    finally:
        for number in (21, 22, 23):
            sh(node, f"systemctl stop vm{number}", check=False)
        sh(node, "ip link del br7")
    clean(node)


def test_open_vswitch_by_the_kernels_datapath(node: Machine, guest: MakeGuest) -> None:
    sh(node, "systemctl start openvswitch-switch; ovs-vsctl add-br ovs1; ip link set ovs1 up")
    try:
        assert "openvswitch" in sh(node, "lsmod")
        one, same, other = (guest(node, number, f"{private(number)}/24") for number in (31, 32, 33))
        for vm, vlan in ((one, ".10"), (same, ".10"), (other, ".20")):
            vm.attach(openvswitch(vm.tap, vm.number, VLAN=vlan))
        assert reaches(one, private(32)) and alone(one, private(33))
        assert differences(node) == []
        sh(node, f"ovs-vsctl set port {one.tap} tag=20")
        clean(node)
        assert reaches(one, private(32))
        for vm in (one, same, other):
            vm.gone()
        clean(node)
        assert "tap3" not in sh(node, "ovs-vsctl show")
    finally:
        sh(node, "ovs-vsctl --if-exists del-br ovs1; systemctl stop openvswitch-switch")


def shapers(node: Machine, tap: str) -> str:
    return sh(node, f"tc qdisc show dev {tap}")


def test_packets_towards_a_guest_with_a_rate_take_turns(node: Machine, guest: MakeGuest) -> None:
    """tbf and fq_codel are modules that nobody has loaded: the kernel loads them when the daemon asks."""
    vm = guest(node, 71)
    vm.attach(routed(vm.tap, 71, TAGS="vif:0:rate:100M/50M"))
    found = shapers(node, vm.tap)
    assert "qdisc tbf 7686: root" in found and "rate 100Mbit burst 125000b" in found
    assert "qdisc fq_codel" in found and "parent 7686:1" in found
    assert differences(node) == []
    vm.attach(routed(vm.tap, 71, TAGS="vif:0:rate:1M"))
    found = shapers(node, vm.tap)
    assert "rate 1Mbit burst 16Kb" in found and "parent 7686:1" in found and "target 18ms" in found
    assert differences(node) == []
    vm.gone()
    clean(node)


def test_open_vswitch_leaves_the_shaper_alone(node: Machine, guest: MakeGuest) -> None:
    sh(node, "systemctl start openvswitch-switch; ovs-vsctl add-br ovs1; ip link set ovs1 up")
    try:
        vm = guest(node, 72)
        vm.attach(openvswitch(vm.tap, 72, TAGS="vif:0:rate:100M"))
        assert "parent 7686:1" in shapers(node, vm.tap)
        assert differences(node) == []
        vm.gone()
        clean(node)
    finally:
        sh(node, "ovs-vsctl --if-exists del-br ovs1; systemctl stop openvswitch-switch")


def test_a_bond_is_an_uplink(node: Machine, guest: MakeGuest) -> None:
    """One of its cards goes, and the guest's network goes on by the other."""
    sh(node, "ip link add bond0 type bond mode active-backup miimon 100")
    sh(
        node,
        f"ip link set {UPLINK} down; ip link set {UPLINK} master bond0; ip link set {SECOND} master bond0; ip link set bond0 up",
    )
    try:
        set_up(node, CONFIG.replace(UPLINK, "bond0"))
        vm = guest(node, 41, f"{private(41)}/24")
        vm.attach(bridged(vm.tap, 41))
        assert reaches(vm, PRIVATE_GATEWAY)
        sh(node, f"ip link set {UPLINK} down")
        assert reaches(vm, PRIVATE_GATEWAY)
        assert differences(node) == []
        vm.gone()
    finally:
        sh(node, f"ip link del bond0; ip link set {SECOND} down; ip link set {UPLINK} up")
        set_up(node, CONFIG)
    clean(node)


@pytest.mark.parametrize("chosen", [*CHOSEN, QUEUES])
def test_the_kernel_tests_that_matter(node: Machine, chosen: str) -> None:
    """They run with the installed package, on the machine itself."""
    env = "LAB_INSTALLED=1 LAB_PATIENCE=900 PYTHONPYCACHEPREFIX=/var/tmp/compiled"
    said = sh(
        node,
        f"cd {SOURCE} && {env} python3 -m pytest -q -p no:cacheprovider tests/kernel/{chosen}",
        check=False,
        timeout=3000,
    )
    assert "failed" not in said and " passed" in said and "error" not in said.splitlines()[-1], said[-6000:]
