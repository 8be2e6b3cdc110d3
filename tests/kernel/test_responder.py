# SPDX-License-Identifier: BSD-2-Clause
"""Guests come up with their addresses: real clients, on taps that the package attached and with its own bindings."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.lab import Node

from .actions import PATIENCE, attach, ip, ping
from .conftest import Plug, configure
from .environment import BEYOND, GATEWAY, bridged, private, public, public6, routed
from .responder_lab import (
    RESPONDS,
    addresses,
    leases,
    responding,
    script,
    udhcpc,
    until,
)

SHORT = RESPONDS + "lease-time = 60\nrenewal-time = 3\nrebinding-time = 20\n"


@pytest.fixture
def responder(ready: Node) -> Iterator[subprocess.Popen[str]]:
    """The responder of a node that is set up."""
    configure(ready, RESPONDS)
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
        ip(guest, f"route add {lease['serverid']}/32 dev eth0")
        guest.run(["arping", "-c", "1", "-w", "20", "-I", "eth0", lease["serverid"]], check=False, timeout=PATIENCE)

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
        attach(ready, bridged("tap5"))
        command = ["dhclient", "-1", "-d", "-q", "-sf", script(guest), "-lf", "/run/leases", "-pf", "/run/pid", "eth0"]
        guest.popen(command)
        until(lambda: private(5) in addresses(guest), "an address")
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
        seen = guest.run(["rdisc6", "-1", "-r", "10", "eth0"], timeout=PATIENCE).stdout
        for words in ("2001:db8::/64", "2001:db8::53", "guests.example.org", "example.org"):
            assert words in seen
        on_link = next(line for line in seen.splitlines() if "On-link" in line)
        assert "No" in on_link

    def test_dhclient_gets_name_servers_over_ipv6(self, ready: Node, plug: Plug) -> None:
        guest = plug(ready, "tap5", 5)
        attach(ready, routed("tap5"))
        command = ["dhclient", "-6", "-S", "-1", "-q", "-sf", script(guest), "-lf", "/run/leases6", "-pf", "/run/pid6"]
        guest.run([*command, "eth0"], timeout=PATIENCE)
        told = leases(guest)[-1]
        assert told["new_dhcp6_name_servers"] == "2001:db8::53"
        assert told["new_dhcp6_domain_search"] == "guests.example.org. example.org."
