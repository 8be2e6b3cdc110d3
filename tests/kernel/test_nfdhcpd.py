# SPDX-License-Identifier: BSD-2-Clause
"""A node with a real NFDHCPD: its guests' questions reach its queues, and its answers reach its guests.

The listener plays NFDHCPD's part by its own rules: it reads the queues 42 to 45, finds the binding by the device that
the packet came from, and answers from the MAC of the binding's INDEV, by a packet socket on the tap.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv6Address

import dpkt
import pytest

from tests.lab import PATIENCE, Node, PacketSocket, Tap
from tests.lab.queue import Queue, Queued

from .actions import BROADCAST, attach, differences, ethernet, ip, link, manage, octets, run, sysctl, udp
from .conftest import MakeTap, configure
from .environment import CONFIG, GATEWAY6, bridged, mac, private, routed

DHCP, ROUTER, NEIGHBOUR, DHCPV6 = 42, 43, 44, 45
LINK_LOCAL = "fe80::a800:ff:fe00:5"
DISCOVER = udp(mac(5), BROADCAST, "0.0.0.0", "255.255.255.255", "where am I?", ports=(68, 67))
INFORMATION = udp(mac(5), "33:33:00:01:00:02", LINK_LOCAL, "ff02::1:2", "who resolves?", ports=(546, 547))


SOURCE = b"\1\1" + octets(mac(5))
"""The option that says the source's MAC: without it the kernel does not answer for another."""


def icmp6(kind: int, destination: str, group: str, target: str | None = None) -> bytes:
    """A router or neighbour solicitation of the guest number 5."""
    body = bytes([kind, 0, 0, 0, 0, 0, 0, 0]) + (IPv6Address(target).packed if target else b"") + SOURCE
    source, sink = IPv6Address(LINK_LOCAL).packed, IPv6Address(group).packed
    total = dpkt.in_cksum(source + sink + len(body).to_bytes(4, "big") + b"\0\0\0\x3a" + body)
    body = body[:2] + total.to_bytes(2, "big") + body[4:]
    header = b"\x60\0\0\0" + len(body).to_bytes(2, "big") + b"\x3a\xff" + source + sink
    return ethernet(mac(5), destination, 0x86DD, header + body)


SOLICITATION = icmp6(133, "33:33:00:00:00:02", "ff02::2")
NEIGHBOUR_SOLICITATION = icmp6(135, "33:33:ff:00:00:01", "ff02::1:ff00:1", GATEWAY6)


@pytest.fixture
def served(node: Node) -> Node:
    """A node whose bindings a real NFDHCPD reads."""
    configure(node, CONFIG + "consumer = nfdhcpd\n")
    manage(node, "setup")
    return node


@pytest.fixture
def nfdhcpd(served: Node) -> Iterator[Queue]:
    with Queue(served, (DHCP, ROUTER, NEIGHBOUR, DHCPV6)) as queue:
        yield queue


def expect(queue: Queue, number: int) -> Queued:
    """The next packet of that queue; of another one, nothing is expected."""
    found = queue.receive(PATIENCE)
    assert found and found.queue == number, found
    return found


def answered(node: Node, tap: Tap, source: str) -> bool:
    """Whether an answer from the MAC SOURCE reaches the guest."""
    with PacketSocket(node, tap.name) as mouth:
        mouth.send(udp(source, mac(5), "192.0.2.1", private(5), "here you are", ports=(67, 68)))
    return b"here you are" in tap.expect(lambda frame: b"here you are" in frame, "the answer")


def test_a_routed_guests_questions_reach_their_queues(served: Node, nfdhcpd: Queue, tap: MakeTap) -> None:
    one = tap(served)
    attach(served, routed(one.name))
    for frame, number in (
        (DISCOVER, DHCP),
        (SOLICITATION, ROUTER),
        (NEIGHBOUR_SOLICITATION, NEIGHBOUR),
        (INFORMATION, DHCPV6),
    ):
        one.send(frame)
        found = expect(nfdhcpd, number)
        assert found.device == one.ifindex
        assert frame[14 : 14 + len(found.packet)] == found.packet
    assert f"INDEV={one.name}\n" in served.path(f"/var/lib/nfdhcpd/{one.name}").read_text()
    assert answered(served, one, link(served, one.name)["address"])
    assert differences(served) == []


@pytest.mark.parametrize("tags", ["", "private-filtered"])
def test_a_bridged_guests_questions_reach_their_queues(served: Node, nfdhcpd: Queue, tap: MakeTap, tags: str) -> None:
    one, other = tap(served), tap(served)
    # Without an IPv6 subnet Ganeti gives it no IPv6 address, and its link-local one is its own affair.
    attach(served, bridged(one.name, 5, NETWORK_TAGS=tags))
    attach(served, bridged(other.name, 6, NETWORK_TAGS=tags))
    other.clear()
    for frame, number in ((DISCOVER, DHCP), (SOLICITATION, ROUTER), (INFORMATION, DHCPV6)):
        one.send(frame)
        found = expect(nfdhcpd, number)
        assert (found.device, found.port) == (link(served, "pvn1")["ifindex"], one.ifindex)
    one.send(NEIGHBOUR_SOLICITATION)
    last = udp(mac(5), BROADCAST, private(5), "255.255.255.255", "the last word")
    one.send(last)
    seen = other.before(lambda frame: b"the last word" in frame, "the last word")
    assert [frame[:14].hex() for frame in seen] == [NEIGHBOUR_SOLICITATION[:14].hex()], "neighbours are theirs alone"
    assert "INDEV=pvn1\n" in served.path(f"/var/lib/nfdhcpd/{one.name}").read_text()
    assert answered(served, one, link(served, "pvn1")["address"])


def test_while_it_does_not_run_ipv6_goes_on(served: Node, tap: MakeTap) -> None:
    """Its queues are bypassed: the node itself answers for the gateway, as without NFDHCPD."""
    one = tap(served)
    attach(served, routed(one.name))
    one.send(NEIGHBOUR_SOLICITATION)

    def advertisement(frame: bytes) -> bool:
        return frame[12:14] == b"\x86\xdd" and frame[20] == 58 and frame[54] == 136

    one.expect(advertisement, "the gateway's neighbour advertisement")


def test_the_rules_come_back_and_go_with_the_configuration(served: Node) -> None:
    served.run(["nft", "flush", "chain", "inet", "ganeti_vif", "nfdhcpd"])
    assert differences(served) == ["different: filter chain inet nfdhcpd"]
    manage(served, "reconcile")
    assert differences(served) == []
    configure(served, CONFIG)
    assert "delete chain inet ganeti_vif nfdhcpd" in manage(served, "reconcile", "--dry-run")
    manage(served, "reconcile")
    assert "queue" not in served.run(["nft", "list", "ruleset"]).stdout
    assert differences(served) == []


def test_bridges_are_themselves_again_without_it(served: Node, tap: MakeTap) -> None:
    """What they forward is no affair of the node's rules any more, where setup had made it so."""
    ip(served, "link add br0 type bridge nf_call_iptables 1")
    attach(served, bridged(tap(served).name))

    def heard(bridge: str) -> tuple[int, int]:
        found = link(served, bridge)["linkinfo"]["info_data"]
        return found["nf_call_iptables"], found["nf_call_ip6tables"]

    assert heard("pvn1") == (1, 1)
    configure(served, CONFIG)
    assert "ip link set pvn1 type bridge nf_call_iptables 0 nf_call_ip6tables 0" in manage(
        served, "reconcile", "--dry-run"
    )
    manage(served, "reconcile")
    assert [heard(bridge) for bridge in ("pvn1", "pvn3", "br0")] == [(0, 0), (0, 0), (1, 0)]
    assert differences(served) == []


SWITCH = "net/bridge/bridge-nf-call-iptables"
MODULE = "/proc/sys/net/bridge"
MODPROBE = f"""#!/bin/sh
[ "$*" = br_netfilter ] && umount {MODULE}
"""
NO_MODPROBE = """#!/bin/sh
echo "modprobe: FATAL: Module $1 not found in directory /lib/modules/6.1.0" >&2
exit 1
"""


@pytest.fixture
def unloaded(node: Node) -> Node:
    """A node whose kernel has br_netfilter as a module, which nobody has loaded: its only trace is hidden. Where the
    kernel really has not loaded it there is nothing to hide it with, and its own modprobe does."""
    if node.run(["test", "-d", MODULE], check=False).returncode:
        pytest.skip("br_netfilter is a module here, which would be loaded for the whole machine")
    node.run(["mount", "-t", "tmpfs", "tmpfs", MODULE])
    configure(node, CONFIG + "consumer = nfdhcpd\n")
    program(node, MODPROBE)
    return node


def program(node: Node, text: str) -> None:
    """A modprobe(8) of this node alone."""
    node.run(["rm", "-f", "/usr/sbin/modprobe"])
    node.path("/usr/sbin/modprobe").write_text(text)
    node.path("/usr/sbin/modprobe").chmod(0o755)


def test_setup_loads_the_module_and_gives_it_to_our_bridges_only(
    unloaded: Node, stack: ExitStack, tap: MakeTap
) -> None:
    ip(unloaded, "link add br0 type bridge")
    shown = manage(unloaded, "setup", "--dry-run").splitlines()
    assert (
        shown[0] == "modprobe br_netfilter"
        and shown[1].startswith("sysctl -w ")
        and "bridge-nf-call-iptables=0" in shown[1]
    )
    assert "ip link set pvn1 type bridge nf_call_iptables 1 nf_call_ip6tables 1" in shown
    manage(unloaded, "setup")
    # The kernel sets it to 1 for all bridges, as it has here from the node's start.
    assert sysctl(unloaded, SWITCH) == "0"
    flags = {name: link(unloaded, name)["linkinfo"]["info_data"]["nf_call_iptables"] for name in ("pvn1", "br0")}
    assert flags == {"pvn1": 1, "br0": 0}
    assert differences(unloaded) == []
    one = tap(unloaded)
    attach(unloaded, bridged(one.name))
    queue = stack.enter_context(Queue(unloaded, (DHCP, ROUTER, NEIGHBOUR, DHCPV6)))
    one.send(DISCOVER)
    assert expect(queue, DHCP).port == one.ifindex


def test_a_sysctl_that_was_on_before_stays_as_it_is(served: Node) -> None:
    """Somebody else loaded the module, and wants it so."""
    assert sysctl(served, SWITCH) == "1"


def test_a_module_that_cannot_be_loaded_is_told_of_and_routed_guests_are_served(
    unloaded: Node, stack: ExitStack, tap: MakeTap
) -> None:
    program(unloaded, NO_MODPROBE)
    done = run(unloaded, "setup")
    assert done.returncode == 1
    assert "NFDHCPD on bridges: the kernel module br_netfilter is not loaded: modprobe: FATAL" in done.stderr
    assert differences(unloaded) == ["missing: kernel module br_netfilter"]
    one = tap(unloaded)
    attach(unloaded, routed(one.name))
    queue = stack.enter_context(Queue(unloaded, (DHCP, ROUTER, NEIGHBOUR, DHCPV6)))
    one.send(DISCOVER)
    assert expect(queue, DHCP).device == one.ifindex
    program(unloaded, MODPROBE)
    manage(unloaded, "reconcile")
    assert differences(unloaded) == []


def test_what_nfdhcpd_needs_of_a_bridge_is_repaired_by_the_next_attach(served: Node, tap: MakeTap) -> None:
    one = tap(served)
    ip(served, "link set pvn1 type bridge nf_call_iptables 0")
    assert differences(served) == ["different: br_netfilter on pvn1: iptables is off, should be on"]
    attach(served, bridged(one.name))
    assert differences(served) == []


def test_a_bridge_of_others_is_told_of_and_left_alone(served: Node, nfdhcpd: Queue, tap: MakeTap) -> None:
    sysctl(served, SWITCH, "0")
    ip(served, "link add br0 type bridge", "link set br0 up")
    one = tap(served)
    attach(served, bridged(one.name, link="br0"))
    assert link(served, "br0")["linkinfo"]["info_data"]["nf_call_iptables"] == 0
    (told,) = differences(served)
    assert told.startswith(f"NFDHCPD does not hear vm5.example.com NIC 0 ({one.name})")
    fix = run(served, "check").stdout.splitlines()[1].removeprefix("  fix: ")
    served.run(["bash", "-ec", fix])
    assert differences(served) == []
    one.send(DISCOVER)
    assert expect(nfdhcpd, DHCP).port == one.ifindex


def test_the_doctor_does_not_tell_the_opposite(served: Node) -> None:
    assert "bridge-nf-call" not in run(served, "doctor").stdout


def test_a_part_that_is_torn_down_leaves_the_queues_of_the_rest(served: Node) -> None:
    manage(served, "setup", "--private", "other=1")
    assert differences(served) == []
    configure(served, "[public" + CONFIG.partition("[public")[2] + "consumer = nfdhcpd\n")
    manage(served, "setup")
    manage(served, "teardown", "--private", "other=1")
    manage(served, "teardown", "--private", "pvn=1-3")
    assert differences(served) == []
