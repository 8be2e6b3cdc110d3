# SPDX-License-Identifier: BSD-2-Clause
"""The laboratory itself: if these fail, what the other tests say about ganeti-vif means nothing."""

import os
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import CommandFailed, Guest, Image, Node, PacketSocket, Result, Tap, ensure, needs, wait_for, wire
from .agent import GuestError
from .guest_image import BUSYBOX, ImageError
from .shared import crowded, fills

REPOSITORY = Path(__file__).resolve().parents[2]
BROADCAST = bytes.fromhex("ffffffffffff 020000000001 88b5") + bytes(46)
GUEST_MAC = "aa:00:00:12:34:56"

need_node = pytest.mark.skipif(bool(needs.node()), reason=needs.node())
need_tap = pytest.mark.skipif(bool(needs.tap()), reason=needs.tap())
need_guest = pytest.mark.skipif(bool(needs.guest()), reason=needs.guest())


@pytest.fixture
def node() -> Iterator[Node]:
    with Node("node") as node:
        yield node


@pytest.fixture(scope="session")
def image() -> Image:
    try:
        return ensure(REPOSITORY / "build")
    except ImageError as error:
        pytest.skip(f"no guest image: {error}")


def is_open(fd: int) -> bool:
    return os.path.exists(f"/proc/self/fd/{fd}")


@need_node
def test_two_nodes_on_a_wire_reach_each_other(node: Node) -> None:
    with Node("peer") as peer:
        wire(node, "eth1", peer, "eth0")
        node.run(["ip", "addr", "add", "192.0.2.1/24", "dev", "eth1"])
        peer.run(["ip", "addr", "add", "192.0.2.2/24", "dev", "eth0"])
        node.run(["ping", "-c", "1", "-w", "60", "192.0.2.2"])
        # Every node has its own name, and its own loopback that is up.
        assert [n.run(["uname", "-n"]).stdout for n in (node, peer)] == ["node\n", "peer\n"]
        peer.run(["ping", "-c", "1", "-w", "60", "127.0.0.1"])
    wait_for(node, lambda: node.ifindex("eth1") is None, "the wire has gone with the peer")


@need_node
def test_what_a_node_writes_stays_in_the_node(node: Node) -> None:
    name = f"lab-test-{os.getpid()}"
    for directory in ("/etc", "/usr", "/var", "/run", "/var/run"):
        node.run(["sh", "-c", f"echo inside > {directory}/{name}"])
        assert not Path(directory, name).exists()
        assert node.path(f"{directory}/{name}").read_text() == "inside\n"
    assert str(node.path("/var/run/x/../y")) == f"/proc/{node.pid}/root/run/y"  # not the host's /run
    node.run(["ip", "link", "add", "lab-test", "type", "bridge"])
    assert "lab-test" in os.listdir(node.path("/sys/class/net"))
    assert "lab-test" not in os.listdir("/sys/class/net")
    with pytest.raises(ValueError, match="not the node's"):
        node.path("/proc/sys/net/ipv4/ip_forward")


@need_node
def test_a_program_gets_the_environment_that_is_given_and_nothing_else(node: Node) -> None:
    assert node.run(["env"], env={"A": "b", "PATH": "/usr/bin"}).stdout.split() == ["A=b", "PATH=/usr/bin"]
    assert node.run(["cat"], input="words").stdout == "words"
    with pytest.raises(CommandFailed, match="(?s)status 3.*a reason"):
        node.run(["sh", "-c", "echo a reason >&2; exit 3"])
    assert node.run(["false"], check=False).returncode == 1
    with pytest.raises(subprocess.TimeoutExpired):
        node.run(["sleep", "60"], timeout=0.1)


@need_node
def test_inside_is_in_the_nodes_network_and_only_for_its_thread(node: Node) -> None:
    ours = os.readlink("/proc/thread-self/ns/net")
    assert (
        node.inside(lambda: os.readlink("/proc/thread-self/ns/net")) == os.readlink(f"/proc/{node.pid}/ns/net") != ours
    )
    assert os.readlink("/proc/thread-self/ns/net") == ours
    with pytest.raises(ZeroDivisionError):
        node.inside(lambda: 1 // 0)


@need_node
def test_a_node_made_by_a_thread_outlives_the_thread() -> None:
    nodes: list[Node] = []
    maker = threading.Thread(target=lambda: nodes.append(Node("node")))
    maker.start()
    maker.join()
    with nodes[0] as node:
        node.run(["true"])


@need_node
def test_nothing_is_left_when_the_laboratory_is_killed() -> None:
    lab = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"""
import sys
sys.path.insert(0, {str(REPOSITORY / "tests")!r})
from lab import Node
node = Node("node")
daemon = node.popen(["setsid", "sleep", "1000"])
print(node.pid, daemon.pid, flush=True)
sys.stdin.read()
""",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with lab:
        assert lab.stdout is not None
        ends = [os.pidfd_open(int(pid)) for pid in lab.stdout.readline().split()]
        lab.send_signal(signal.SIGKILL)
        for end in ends:
            assert select.select([end], [], [], 30)[0], "a process of the node is still there"
            os.close(end)


@need_tap
@pytest.mark.parametrize("vnet_hdr", [False, True])
def test_a_tap_is_as_ganeti_makes_it_and_carries_frames(node: Node, vnet_hdr: bool) -> None:
    with Tap(node, vnet_hdr=vnet_hdr) as tap:
        assert (tap.name, tap.exists()) == ("tap0", True)
        assert node.path("/sys/class/net/tap0/flags").read_text() == "0x1002\n"  # down
        kind = int(node.path("/sys/class/net/tap0/tun_flags").read_text(), 16)
        assert kind & 0x4802 == (0x4002 if vnet_hdr else 0x0002)  # a tap, IFF_VNET_HDR or not, not IFF_PERSIST
        node.run(["ip", "link", "set", "tap0", "addrgenmode", "none", "up"])
        with PacketSocket(node, "tap0") as ears, PacketSocket(node, "lo") as elsewhere:
            tap.send(BROADCAST)
            assert ears.expect(lambda frame: frame[12:14] == b"\x88\xb5", "the guest's frame") == BROADCAST
            ears.send(BROADCAST)
            assert tap.expect(lambda frame: frame[12:14] == b"\x88\xb5", "the node's frame") == BROADCAST
            assert ears.receive(0) is None  # its own
            assert elsewhere.receive(0) is None
        with Tap(node) as second:
            assert (second.name, second.ifindex > tap.ifindex) == ("tap1", True)
        second.wait_gone()
    tap.wait_gone()


@need_tap
def test_a_vlan_tag_is_seen(node: Node) -> None:
    with Node("peer") as peer:
        wire(node, "eth1", peer, "eth0")
        wait_for(node, lambda: node.path("/sys/class/net/eth1/operstate").read_text() == "up\n", "eth1 is up")
        tagged = BROADCAST[:12] + bytes.fromhex("8100 0064") + BROADCAST[12:]
        with PacketSocket(peer, "eth0") as far, PacketSocket(node, "eth1") as near:
            near.send(tagged)
            assert far.expect(lambda frame: frame[:6] == tagged[:6], "the frame") == tagged


@need_tap
def test_a_wait_that_is_in_vain_ends_and_says_for_what(node: Node) -> None:
    with Tap(node) as tap, pytest.raises(TimeoutError, match="tap0.*is gone"):
        tap.wait_gone(timeout=0.05)
    with PacketSocket(node, "lo") as ears:
        started = time.monotonic()
        assert ears.receive(0.05) is None
        assert time.monotonic() - started >= 0.05


@need_guest
@pytest.mark.parametrize("vnet_hdr", [False, True])
def test_a_guest_reaches_another_machine_over_its_tap(image: Image, vnet_hdr: bool) -> None:
    with Node("node") as node, Node("peer") as peer, Tap(node, vnet_hdr=vnet_hdr) as tap:
        fd = tap.fd
        wire(node, "eth1", peer, "eth0")
        peer.run(["ip", "addr", "add", "192.0.2.2/24", "dev", "eth0"])
        node.run(["ip", "link", "add", "br0", "type", "bridge"])
        for port in ("eth1", tap.name):
            node.run(["ip", "link", "set", port, "master", "br0", "up"])
        node.run(["ip", "link", "set", "br0", "up"])
        with Guest(node, "guest", image, [(tap, GUEST_MAC)]) as guest:
            assert not is_open(fd), "only QEMU may hold the tap"
            guest.wait_ready()
            assert guest.run("cat /sys/class/net/eth0/address").output == f"{GUEST_MAC}\n"
            guest.run("ip addr add 192.0.2.1/24 dev eth0; ip link set eth0 up; ping -c 1 -W 60 192.0.2.2")
            with pytest.raises(GuestError, match="(?s)status 3.*a reason"):
                guest.run("echo a reason; exit 3")
            assert guest.run("echo; printf 'a\\tb\\n\\n'; exit 4", check=False) == Result(4, "\na\tb\n\n")
            assert guest.run("seq 1 5000").output.split() == [str(n) for n in range(1, 5001)]
            with pytest.raises(GuestError, match="longer than 1 s"):
                guest.run("sleep 60", timeout=1)
            assert guest.run("true").status == 0
            assert tap.exists()
            os.kill(guest.pid, signal.SIGKILL)
            guest.wait_ended()
            tap.wait_gone()


@need_guest
def test_a_guest_gets_all_of_its_lease(image: Image) -> None:
    configuration = """
        interface tap0
        start 192.0.2.7
        end 192.0.2.7
        lease_file /run/leases
        option subnet 255.255.255.255
        option router 198.51.100.1
        option dns 192.0.2.53
        option domain example.org
        option hostname vm7
        option mtu 1400
    """
    with Node("node") as node, Tap(node) as tap:
        node.run(["ip", "addr", "add", "198.51.100.1/32", "dev", tap.name])
        node.run(["ip", "link", "set", tap.name, "up"])
        node.run(["ip", "route", "add", "192.0.2.7", "dev", tap.name])
        node.path("/run/udhcpd.conf").write_text(textwrap.dedent(configuration))
        node.path("/run/leases").touch()
        node.popen([str(BUSYBOX), "udhcpd", "-f", "/run/udhcpd.conf"])
        with Guest(node, "guest", image, [(tap, GUEST_MAC)]) as guest:
            guest.wait_ready()
            guest.run("dhcp eth0")
            assert "inet 192.0.2.7/32 " in guest.run("ip addr show eth0").output
            assert "default via 198.51.100.1 dev eth0" in guest.run("ip route").output
            assert guest.run("cat /sys/class/net/eth0/mtu").output == "1400\n"
            assert guest.run("cat /etc/resolv.conf; hostname").output == (
                "search example.org\nnameserver 192.0.2.53\nvm7\n"
            )
            guest.run("ping -c 1 -W 60 198.51.100.1")


def test_a_table_that_others_fill_is_named(tmp_path: Path) -> None:
    assert crowded(fills()) == ""
    for name, text in {
        "net/stat/arp_cache": "entries allocs\n00000390 00000222\n",
        "net/stat/ndisc_cache": "entries allocs\n0000000d 00000222\n",
        "sys/net/ipv4/neigh/default/gc_thresh3": "1024\n",
        "sys/net/ipv6/neigh/default/gc_thresh3": "1024\n",
        "loadavg": "0.1 0.2 0.3 1/200 4711\n",
        "sys/kernel/pid_max": "32768\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert crowded(fills(tmp_path)) == "IPv4 neighbours: 912 of 1024"
