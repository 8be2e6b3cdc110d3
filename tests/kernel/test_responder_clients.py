# SPDX-License-Identifier: BSD-2-Clause
"""Guests come up with their addresses: real clients, on taps that the package attached and with its own bindings."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

import dpkt
import pytest

from tests.lab import PATIENCE, Node, PacketSocket

from .actions import attach, ip, link, ping
from .conftest import Plug, apply
from .environment import BEYOND, BEYOND6, GATEWAY, bridged, private, public, public6, routed
from .responder_lab import RESPONDS, addresses, counts, leases, responding, script, udhcpc, until

SHORT = RESPONDS + "lease-time = 60\nrenewal-time = 3\nrebinding-time = 20\n"


@pytest.fixture
def responder(ready: Node) -> Iterator[subprocess.Popen[str]]:
    """The responder of a node that is set up."""
    apply(ready, RESPONDS)
    with responding(ready) as daemon:
        yield daemon


@pytest.mark.usefixtures("responder")
class TestLeases:
    """One responder, and clients that ask it."""

    def test_a_guest_of_the_public_link_gets_everything_that_it_needs(self, ready: Node, plug: Plug) -> None:
        guest = plug(ready, "tap5", 5)
        attach(ready, routed("tap5"))
        lease = udhcpc(guest)
        assert lease["ip"] == public(5)
        assert (lease["mask"], lease["subnet"], lease["broadcast"]) == ("24", "255.255.255.0", "192.0.2.255")
        assert (lease["router"], lease["serverid"]) == (GATEWAY, GATEWAY)
        assert lease["dns"] == "192.0.2.53 192.0.2.54"
        assert (lease["hostname"], lease["domain"]) == ("vm5", "guests.example.org")
        assert lease["search"] == "guests.example.org example.org"
        assert lease["lease"] == str(7 * 86400)
        ip(guest, f"route add default via {GATEWAY}")
        ping(guest, BEYOND)

    def test_a_guest_of_a_private_network_gets_its_address_and_no_router(self, ready: Node, plug: Plug) -> None:
        guest = plug(ready, "tap5", 5)
        attach(ready, bridged("tap5"))
        lease = udhcpc(guest)
        assert lease["ip"] == private(5)
        assert "router" not in lease
        assert lease["staticroutes"] == f"{lease['serverid']}/32 0.0.0.0"

    def test_the_same_addresses_on_two_private_networks(self, ready: Node, plug: Plug) -> None:
        one, other = plug(ready, "tap5", 5), plug(ready, "tap6", 6)
        attach(ready, bridged("tap5", 5, "pvn1"))
        attach(ready, bridged("tap6", 6, "pvn2", IP=private(5)))
        assert udhcpc(one)["ip"] == udhcpc(other)["ip"] == private(5)

    def test_the_mtu_of_the_network_is_told(self, ready: Node, plug: Plug) -> None:
        ip(ready, "link set eth1 mtu 1400")
        guest = plug(ready, "tap5", 5)
        attach(ready, routed("tap5"))
        assert udhcpc(guest)["mtu"] == "1400"

    def test_a_guest_of_isc_dhclient(self, ready: Node, plug: Plug) -> None:
        guest = plug(ready, "tap5", 5)
        attach(ready, routed("tap5"))
        command = ["dhclient", "-1", "-d", "-q", "-sf", script(guest), "-lf", "/run/leases", "-pf", "/run/pid", "eth0"]
        guest.popen(command)
        until(lambda: public(5) in addresses(guest), "an address")
        told = next(lease for lease in leases(guest) if lease["event"] == "BOUND")
        assert told["new_host_name"] == "vm5"
        assert told["new_domain_name"] == "guests.example.org"
        assert told["new_domain_name_servers"] == "192.0.2.53 192.0.2.54"
        assert told["new_dhcp_lease_time"] == str(7 * 86400)

    def test_a_guest_of_dhcpcd(self, ready: Node, plug: Plug) -> None:
        guest = plug(ready, "tap5", 5)
        attach(ready, routed("tap5"))
        guest.run(["mkdir", "-p", "/run/dhcpcd", "/var/lib/dhcpcd"])
        guest.path("/run/dhcpcd.conf").write_text("noarp\noption interface_mtu, host_name, domain_name_servers\n")
        guest.popen(["dhcpcd", "-4", "-B", "-f", "/run/dhcpcd.conf", "-c", script(guest), "eth0"])
        until(lambda: public(5) in addresses(guest), "an address")

    def test_a_guest_whose_kernel_makes_its_ipv6_address(self, ready: Node, plug: Plug) -> None:
        guest = plug(ready, "tap5", 5)
        attach(ready, routed("tap5"))
        until(lambda: public6(5) in addresses(guest, 6), "an address")
        ping(guest, "2001:db8:ffff::1")
        assert "on-link" not in guest.run(["ip", "-6", "route", "show", "2001:db8::/64"]).stdout
        assert guest.run(["ip", "-6", "route", "show", "2001:db8::/64"]).stdout == ""

    def test_rdisc6_sees_prefix_and_name_servers(self, ready: Node, plug: Plug) -> None:
        guest = plug(ready, "tap5", 5)
        attach(ready, routed("tap5"))
        seen = guest.run(["rdisc6", "-1", "-r", "10", "eth0"]).stdout
        for words in ("2001:db8::/64", "2001:db8::53", "guests.example.org", "example.org"):
            assert words in seen
        on_link = next(line for line in seen.splitlines() if "On-link" in line)
        assert "No" in on_link

    def test_dhclient_gets_name_servers_over_ipv6(self, ready: Node, plug: Plug) -> None:
        guest = plug(ready, "tap5", 5)
        attach(ready, routed("tap5"))
        command = ["dhclient", "-6", "-S", "-1", "-q", "-sf", script(guest), "-lf", "/run/leases6", "-pf", "/run/pid6"]
        guest.run([*command, "eth0"])
        told = leases(guest)[-1]
        assert told["new_dhcp6_name_servers"] == "2001:db8::53"
        assert told["new_dhcp6_domain_search"] == "guests.example.org. example.org."


def dhclient(guest: Node, *arguments: str) -> subprocess.Popen[str]:
    """ISC's client, with its own script as Debian has it, that stays to renew its lease."""
    return guest.popen(["dhclient", "-d", "-lf", "/run/leases", "-pf", "/run/pid", *arguments, "eth0"])


class Request:
    """A DHCP request as a guest's tap sees it."""

    def __init__(self, frame: bytes) -> None:
        packet = dpkt.ethernet.Ethernet(frame).data
        self.destination = str(ip_address(packet.dst))
        self.message = dpkt.dhcp.DHCP(packet.data.data)
        self.client = str(ip_address(self.message.ciaddr))
        self.type = dict(self.message.opts)[53][0]


def requests(ears: PacketSocket) -> Iterator[Request]:
    """The REQUESTs that come in, one after the other, for as long as it takes."""
    for frame in ears.frames(time.monotonic() + PATIENCE):
        if frame[12:14] == b"\x08\0" and frame[23] == 17 and frame[36:38] == b"\0\x43":
            request = Request(frame)
            if request.type == 3:
                yield request


class TestRenewing:
    """Leases with short times, and a client that keeps to them."""

    @pytest.mark.parametrize(
        ("attached", "address", "server"),
        [(routed, public(5), GATEWAY), (bridged, private(5), "169.254.86.73")],
        ids=["routed", "bridged"],
    )
    def test_a_lease_is_renewed_by_unicast(
        self, ready: Node, plug: Plug, attached: Callable[[str], dict[str, str]], address: str, server: str
    ) -> None:
        """The guest finds the server's MAC by ARP, which is answered, and its request is heard on its tap."""
        apply(ready, SHORT)
        guest = plug(ready, "tap5", 5)
        attach(ready, attached("tap5"))
        with responding(ready), PacketSocket(ready, "tap5") as ears:
            dhclient(guest)
            renewal = next(request for request in requests(ears) if request.client == address)
            assert renewal.destination == server
            until(lambda: counts(ready, "tap5")["dhcp4_ack"] >= 2, "a second lease")
            assert address in addresses(guest)

    def test_a_lease_is_rebound_by_broadcast_when_nobody_answered(self, ready: Node, plug: Plug) -> None:
        apply(ready, SHORT.replace("rebinding-time = 20", "rebinding-time = 8"))
        guest = plug(ready, "tap5", 5)
        attach(ready, routed("tap5"))
        with responding(ready):
            dhclient(guest)
            until(lambda: public(5) in addresses(guest), "an address")
        with PacketSocket(ready, "tap5") as ears:
            asked = next(r for r in requests(ears) if (r.client, r.destination) == (public(5), "255.255.255.255"))
            assert asked
        with responding(ready):
            until(lambda: counts(ready, "tap5").get("dhcp4_ack", 0) > 0, "a lease again")
        assert public(5) in addresses(guest)

    def test_a_guest_moves_to_the_address_that_its_binding_says_now(self, ready: Node, plug: Plug) -> None:
        apply(ready, SHORT)
        guest = plug(ready, "tap5", 5)
        attach(ready, routed("tap5"))
        with responding(ready):
            dhclient(guest)
            until(lambda: public(5) in addresses(guest), "an address")
            attach(ready, routed("tap5", IP=public(7)))
            until(lambda: addresses(guest) == {public(7)}, "the other address")
            assert counts(ready, "tap5")["dhcp4_nak"] >= 1

    def test_busybox_renews_when_it_is_told_to(self, ready: Node, plug: Plug) -> None:
        apply(ready, SHORT)
        guest = plug(ready, "tap5", 5)
        attach(ready, bridged("tap5"))
        with responding(ready), PacketSocket(ready, "tap5") as ears:
            command = ["busybox", "udhcpc", "-i", "eth0", "-f", "-O", "staticroutes", "-s", script(guest)]
            client = guest.popen(command)
            until(lambda: private(5) in addresses(guest), "an address")
            ip(guest, "route add 169.254.86.73/32 dev eth0")
            client.send_signal(signal.SIGUSR1)
            renewal = next(request for request in requests(ears) if request.client == private(5))
            assert renewal.destination == "169.254.86.73"
            until(lambda: leases(guest)[-1]["event"] == "renew", "the renewal")


def test_a_guest_in_debian_has_name_resolvers_and_routes_after_its_first_lease(ready: Node, plug: Plug) -> None:
    """By dhclient's own script, as a Debian guest has it."""
    apply(ready, RESPONDS)
    ip(ready, "link set eth1 mtu 1400")
    guest = plug(ready, "tap5", 5)
    guest.run(["hostname", "localhost"])
    attach(ready, routed("tap5"))
    with responding(ready):
        dhclient(guest)
        until(lambda: public(5) in addresses(guest), "an address")
        ping(guest, BEYOND)
        until(lambda: "192.0.2.53" in guest.run(["cat", "/etc/resolv.conf"]).stdout, "the resolvers")
        assert "search guests.example.org. example.org." in guest.run(["cat", "/etc/resolv.conf"]).stdout
        assert guest.run(["hostname"]).stdout.strip() == "vm5"
        assert link(guest, "eth0")["mtu"] == 1400


def test_a_guest_gets_its_ipv6_address_by_dhcpv6_where_that_is_configured(ready: Node, plug: Plug) -> None:
    apply(ready, RESPONDS.replace("[responder]", "[responder]\ndhcpv6 = stateful"))
    guest = plug(ready, "tap5", 5)
    attach(ready, routed("tap5", IP="2001:db8::77"))
    with responding(ready):
        command = ["dhclient", "-6", "-1", "-q", "-lf", "/run/leases6", "-pf", "/run/pid6", "eth0"]
        guest.run(command)
        assert addresses(guest, 6) == {"2001:db8::77"}
        until(lambda: "default" in guest.run(["ip", "-6", "route"]).stdout, "the router")
        ping(guest, BEYOND6)


def test_a_guest_of_networkd(ready: Node, plug: Plug) -> None:
    networkd = "/lib/systemd/systemd-networkd"
    if not Path(networkd).exists():
        pytest.skip(f"there is no {networkd}")
    apply(ready, RESPONDS)
    guest = plug(ready, "tap5", 5)
    attach(ready, bridged("tap5"))
    guest.path("/etc/systemd/network").mkdir(parents=True, exist_ok=True)
    guest.path("/etc/systemd/network/eth0.network").write_text("[Match]\nName=eth0\n[Network]\nDHCP=ipv4\n")
    # Where /sys cannot be written there is no udev to wait for.
    prepare = "mkdir -p /run/systemd/netif; chown -R systemd-network /run/systemd/netif; mount -o remount,ro /sys"
    guest.run(["sh", "-c", prepare])
    with responding(ready):
        client = guest.popen([networkd])
        until(lambda: private(5) in addresses(guest) or client.poll() is not None, "an address")
        if client.poll() is not None:
            pytest.skip(f"systemd-networkd does not run here: {client.communicate()}")
        routes = guest.run(["ip", "route", "show", "169.254.86.73"]).stdout
        assert "eth0" in routes


def test_guests_lose_their_router_when_the_responder_is_stopped_and_find_it_when_it_is_back(
    ready: Node, plug: Plug
) -> None:
    apply(ready, RESPONDS)
    guest = plug(ready, "tap5", 5)
    attach(ready, routed("tap5"))

    def router() -> bool:
        return "default" in guest.run(["ip", "-6", "route"]).stdout

    with responding(ready):
        until(router, "the router")
    until(lambda: not router(), "the end of the router")
    with responding(ready):
        until(router, "the router again")
    assert public6(5) in addresses(guest, 6)
