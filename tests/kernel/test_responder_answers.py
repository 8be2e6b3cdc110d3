# SPDX-License-Identifier: BSD-2-Clause
"""Guests are told what they can use and no more; what is gone is taken back; and the node says what a guest did."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.lab import PATIENCE, Node, PacketSocket, VirtualCable, wire

from .actions import answer, attach, differences, ip, manage, ping, run
from .conftest import Plug, apply, quick
from .environment import BEYOND, BEYOND6, bridged, mac, private, public, public6, routed
from .guest_frames import asks
from .responder_lab import RESPONDS, addresses, counts, leases, responding, said, script, udhcpc, until

NETWORKD = "/lib/systemd/systemd-networkd"
FAR = RESPONDS.replace("192.0.2.53 192.0.2.54 2001:db8::53", f"{BEYOND} 10.0.0.53 2001:db8::53")
ROUTER = "fe80::fc00:56ff:fe49:4601"
TWO_PREFIXES = RESPONDS.replace("2001:db8::/64", "2001:db8::/64 2001:db8:77::/64")


def networkd(guest: Node, network: str) -> None:
    """Let systemd-networkd configure the cards of GUEST that NETWORK matches, for as long as the test takes."""
    if not Path(NETWORKD).exists():
        pytest.skip(f"there is no {NETWORKD}")
    guest.path("/etc/systemd/network").mkdir(parents=True, exist_ok=True)
    guest.path("/etc/systemd/network/guest.network").write_text(network)
    # Where /sys cannot be written there is no udev to wait for.
    prepare = "mkdir -p /run/systemd/netif; chown -R systemd-network /run/systemd/netif; mount -o remount,ro /sys"
    guest.run(["sh", "-c", prepare])
    guest.popen([NETWORKD])


def plug_second(stack: ExitStack, node: Node, guest: Node, tap: str, number: int) -> None:
    """Give GUEST a second card, eth1."""
    stack.enter_context(VirtualCable(node, tap, guest, "eth1"))
    ip(guest, f"link set eth1 address {mac(number)} up")


def addresses6(guest: Node) -> dict[str, Any]:
    """The global IPv6 addresses of the guest's card, with what the kernel says of each."""
    (device,) = json.loads(guest.run(["ip", "-j", "-6", "addr", "show", "dev", "eth0"]).stdout)
    return {one["local"]: one for one in device["addr_info"] if one["scope"] == "global"}


def deprecated(guest: Node, address: str) -> bool:
    """Whether the guest uses ADDRESS for no new connection, and keeps it for two hours at most."""
    found = addresses6(guest).get(address)
    return found is None or (found.get("deprecated", False) and found["valid_life_time"] <= 7200)


def past(node: Node, instance: str, version: str) -> Any:
    """What `ganeti-vif status INSTANCE` says of its guest's requests; None if it made none."""
    (nic,) = answer(node, "status", instance)["nics"]
    return nic["guest"].get(version)


@pytest.fixture
def responder(ready: Node) -> Iterator[None]:
    apply(ready, FAR)
    with responding(ready):
        yield


@pytest.mark.usefixtures("responder")
class TestNameServers:
    """A guest with a public and a private NIC, and a name server beyond the gateway."""

    def test_a_private_network_is_told_only_those_that_it_reaches(self, ready: Node, plug: Plug) -> None:
        guest = plug(ready, "tap5", 5)
        attach(ready, bridged("tap5"))
        assert udhcpc(guest)["dns"] == "10.0.0.53"

    def test_a_private_network_without_any_is_told_none(self, ready: Node, plug: Plug) -> None:
        apply(ready, FAR.replace(" 10.0.0.53", ""))
        guest = plug(ready, "tap5", 5)
        attach(ready, bridged("tap5"))
        assert "dns" not in udhcpc(guest)

    def test_a_guest_of_networkd_reaches_its_name_server(self, ready: Node, plug: Plug, stack: ExitStack) -> None:
        guest = plug(ready, "tap5", 5)
        plug_second(stack, ready, guest, "tap6", 6)
        attach(ready, routed("tap5"))
        attach(ready, bridged("tap6", 6))
        networkd(guest, "[Match]\nName=eth*\n[Network]\nDHCP=ipv4\n")
        until(lambda: private(6) in guest.run(["ip", "addr", "show", "dev", "eth1"]).stdout, "the private address")
        until(lambda: public(5) in addresses(guest), "the public address")
        until(lambda: "default" in guest.run(["ip", "route"]).stdout, "the default route")
        assert "eth1" not in guest.run(["ip", "route", "show", BEYOND]).stdout
        ping(guest, BEYOND)


@pytest.mark.usefixtures("responder")
class TestIPv6:
    def test_an_address_that_slaac_does_not_make_is_given_in_the_default_mode(self, ready: Node, plug: Plug) -> None:
        guest = plug(ready, "tap5", 5)
        attach(ready, routed("tap5", IP="2001:db8::77"))
        networkd(guest, "[Match]\nName=eth0\n[Network]\nDHCP=no\nIPv6AcceptRA=yes\n")
        until(lambda: "2001:db8::77" in addresses(guest, 6), "the address")
        assert addresses(guest, 6) == {"2001:db8::77"}
        ping(guest, BEYOND6)

    def test_a_client_that_solicits_in_vain_is_told_so(self, ready: Node, plug: Plug) -> None:
        guest = plug(ready, "tap5", 5)
        attach(ready, routed("tap5"))
        client = ["dhclient", "-6", "-d", "-v", "-sf", script(guest), "-lf", "/run/leases6", "-pf", "/run/pid6", "eth0"]
        guest.popen(client)
        until(lambda: counts(ready, "tap5").get("dhcp6_advertise", 0) > 0, "an answer")

    def test_the_router_is_solicited_once_and_answers_once(self, ready: Node, plug: Plug) -> None:
        guest = plug(ready, "tap5", 5)
        attach(ready, routed("tap5"))
        until(lambda: public6(5) in addresses(guest, 6), "an address")
        with PacketSocket(guest, "eth0") as ears:
            ip(guest, f"neigh replace {ROUTER} dev eth0 lladdr fe:00:56:49:46:01 nud probe")
            assert [kind for kind in _discovery(guest, ears) if kind == 136] == [136]
        until(lambda: "REACHABLE" in guest.run(["ip", "neigh", "show", ROUTER]).stdout, "the router's answer")

    def test_a_guest_finds_its_router_behind_a_firewall_that_keeps_the_question_from_the_node(
        self, ready: Node, plug: Plug
    ) -> None:
        guest = plug(ready, "tap5", 5)
        attach(ready, routed("tap5"))
        until(lambda: public6(5) in addresses(guest, 6), "an address")
        rules = "add chain inet site in { type filter hook input priority 0; }; "
        drop = "add rule inet site in iifname tap5 icmpv6 type nd-neighbor-solicit drop"
        ready.run(["nft", f"add table inet site; {rules}{drop}"])
        ip(guest, "-6 neigh flush dev eth0")
        ping(guest, BEYOND6)


def _discovery(guest: Node, ears: PacketSocket) -> Iterator[int]:
    """The ICMPv6 types that EARS hear, until the router answers what GUEST asks it after everything before."""
    asker = guest.popen(["rdisc6", "-1", "-r", "10", "eth0"])
    for frame in ears.frames(time.monotonic() + PATIENCE):
        if frame[12:14] == b"\x86\xdd" and frame[20] == 58:
            yield frame[54]
            if frame[54] == 134:
                break
    assert asker.wait(timeout=PATIENCE) == 0


class TestWithdrawal:
    """The guest's own kernel makes its address from the prefix, and hears what becomes of it."""

    @pytest.fixture
    def guest(self, ready: Node, plug: Plug) -> Iterator[Node]:
        apply(ready, TWO_PREFIXES)
        guest = plug(ready, "tap5", 5)
        attach(ready, routed("tap5"))
        with responding(ready):
            until(lambda: public6(5) in addresses(guest, 6), "an address")
            assert not deprecated(guest, public6(5))
            yield guest

    def test_another_prefix_replaces_the_old_one(self, ready: Node, guest: Node) -> None:
        attach(ready, routed("tap5", NETWORK_SUBNET6="2001:db8:77::/64"))
        new = public6(5).replace("2001:db8::", "2001:db8:77:0:")
        until(lambda: new in addresses6(guest), "the new address")
        until(lambda: deprecated(guest, public6(5)), "the end of the old address")
        assert not deprecated(guest, new)

    def test_a_binding_that_goes_takes_its_prefix_with_it(self, ready: Node, guest: Node) -> None:
        ready.path("/var/lib/nfdhcpd/tap5").unlink()
        until(lambda: deprecated(guest, public6(5)), "the end of the address")

    def test_a_responder_that_stops_leaves_the_address(self, ready: Node, guest: Node) -> None:
        apply(ready, TWO_PREFIXES + "enabled = no\n")
        until(lambda: "default" not in guest.run(["ip", "-6", "route"]).stdout, "the end of the router")
        assert not deprecated(guest, public6(5))


@pytest.mark.usefixtures("responder")
class TestClients:
    """What a guest did, as its administrator sees it."""

    def test_dhcpcd_has_its_lease_after_one_round(self, ready: Node, plug: Plug) -> None:
        guest = plug(ready, "tap5", 5)
        attach(ready, routed("tap5"))
        guest.run(["mkdir", "-p", "/run/dhcpcd", "/var/lib/dhcpcd"])
        guest.path("/run/dhcpcd.conf").write_text("noarp\noption rapid_commit\n")
        guest.popen(["dhcpcd", "-4", "-B", "-f", "/run/dhcpcd.conf", "-c", script(guest), "eth0"])
        until(lambda: public(5) in addresses(guest), "an address")
        assert "dhcp4_offer" not in counts(ready, "tap5")

    def test_a_client_of_bootp_has_its_address(self, ready: Node, plug: Plug) -> None:
        guest = plug(ready, "tap5", 5)
        attach(ready, routed("tap5"))
        with PacketSocket(guest, "eth0") as card:
            question = asks(5)
            plain = question[:282] + b"\xff".ljust(60, b"\0")  # without its options
            plain = _shortened(plain)
            card.send(plain)
            reply = card.expect(lambda frame: frame[36:38] == b"\0\x44", "an answer")
        assert reply[58:62] == bytes([192, 0, 2, 5])

    @pytest.mark.parametrize(
        ("attached", "address"), [(routed, public(5)), (bridged, private(5))], ids=["routed", "bridged"]
    )
    def test_status_shows_when_a_guest_had_its_lease_and_by_which_client(
        self, ready: Node, plug: Plug, attached: Callable[[str], dict[str, str]], address: str
    ) -> None:
        guest = plug(ready, "tap5", 5)
        attach(ready, attached("tap5"))
        assert past(ready, "vm5.example.com", "ipv4") is None
        udhcpc(guest, "-x", "hostname:web", "-V", "busybox of a test")
        found = past(ready, "vm5.example.com", "ipv4")
        assert (found["vendor_class"], found["hostname"]) == ("busybox of a test", "web")
        assert found["leased"] == found["asked"] and found["declined"] is None
        shown = [line.split() for line in manage(ready, "status", "vm5.example.com").splitlines()]
        (row,) = [line for line in shown if "ipv4" in line]
        assert row[:3] == ["vm5.example.com", "0", "ipv4"] and row[-1] == "web"
        line = f"responder: tap5 (vm5.example.com): leased {address} to busybox of a test, web"
        assert line in said(ready)
        unknown = run(ready, "status", "vm9.example.com")
        assert (unknown.returncode, unknown.stdout) == (1, "")

    def test_a_renewal_is_logged_for_the_curious(self, ready: Node, plug: Plug) -> None:
        apply(ready, FAR + "lease-time = 60\nrenewal-time = 3\nrebinding-time = 20\n[daemon]\nverbose = yes\n")
        guest = plug(ready, "tap5", 5)
        attach(ready, routed("tap5"))
        guest.popen(["dhclient", "-d", "-sf", script(guest), "-lf", "/run/leases", "-pf", "/run/pid", "eth0"])
        until(lambda: f"renewed {public(5)}" in said(ready), "a renewal in the log")

    def test_status_shows_a_lease_by_ipv6(self, ready: Node, plug: Plug) -> None:
        guest = plug(ready, "tap5", 5)
        attach(ready, routed("tap5", IP="2001:db8::77"))
        guest.run(["dhclient", "-6", "-1", "-q", "-lf", "/run/leases6", "-pf", "/run/pid6", "eth0"])
        found = past(ready, "vm5.example.com", "ipv6")
        assert found["leased"] is not None

    def test_an_address_that_somebody_else_uses_is_named(self, ready: Node, plug: Plug, stack: ExitStack) -> None:
        """A machine that Ganeti does not know is in the guest's network, with the guest's address."""
        other = quick(stack.enter_context(Node("other")))
        wire(ready, "port", other, "eth0")
        ip(ready, "link set port master pvn1", "link set port up")
        ip(other, f"addr add {private(5)}/24 dev eth0")
        guest = plug(ready, "tap5", 5)
        attach(ready, bridged("tap5"))
        command = ["busybox", "udhcpc", "-i", "eth0", "-f", "-a", "-s", script(guest)]
        guest.popen(command)
        until(lambda: counts(ready, "tap5").get("dhcp4_decline", 0) > 0, "the guest to decline")
        ip(ready, "link set port nomaster")
        (line,) = [line for line in differences(ready) if "declined" in line]
        assert line.startswith(f"vm5.example.com NIC 0 (tap5): its guest declined {private(5)} at ")
        (row,) = [line for line in manage(ready, "status", "vm5.example.com").splitlines() if " ipv4 " in line]
        assert "declined" in row.split() or leases(guest)[-1]["event"] == "bound"


def _shortened(frame: bytes) -> bytes:
    """FRAME, a DHCP request of which the end was changed, with lengths that are right and without a UDP checksum."""
    length = len(frame) - 14
    head = bytearray(frame[14:34])
    head[2:4] = length.to_bytes(2, "big")
    head[10:12] = b"\0\0"
    total = sum(int.from_bytes(head[at : at + 2], "big") for at in range(0, 20, 2))
    total = (total & 0xFFFF) + (total >> 16)
    head[10:12] = (~total & 0xFFFF).to_bytes(2, "big")
    return frame[:14] + bytes(head) + frame[34:38] + (length - 20).to_bytes(2, "big") + b"\0\0" + frame[42:]
