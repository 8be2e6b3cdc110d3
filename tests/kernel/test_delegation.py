# SPDX-License-Identifier: BSD-2-Clause
"""Prefixes for the networks behind a guest: real clients get them by DHCPv6, and packets find their way there."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.lab import Node

from .actions import attach, complaint, differences, ip, no_ping, ping, run, sysctl, vif_script
from .conftest import Plug, apply
from .environment import BEYOND6, GATEWAY6, bridged, public, routed
from .responder_lab import RESPONDS, counts, leases, responding, script, until

PREFIX, INSIDE, OUTSIDE = "2001:db8:0:100::/56", "2001:db8:0:100::1", "2001:db8:0:200::1"
TAG = f"vif:0:delegate:{PREFIX}"
WIDE = RESPONDS.replace("2001:db8::/64", "2001:db8::/48")


@pytest.fixture
def ready(node: Node) -> Node:
    """The node, set up. Its public link has room for prefixes."""
    apply(node, WIDE)
    return node


@pytest.fixture
def responder(ready: Node, gateway: Node) -> Iterator[subprocess.Popen[str]]:
    """The responder of that node, to which the gateway routes a prefix."""
    uplink = ready.run(["ip", "-6", "-o", "addr", "show", "dev", "eth1", "scope", "link"]).stdout.split()
    ip(gateway, f"route add {PREFIX} via {uplink[uplink.index('inet6') + 1].partition('/')[0]} dev eth0")
    with responding(ready) as daemon:
        yield daemon


def router(guest: Node) -> None:
    """GUEST is a router that takes router advertisements."""
    sysctl(guest, "net/ipv6/conf/all/forwarding", "1")
    sysctl(guest, "net/ipv6/conf/eth0/accept_ra", "2")
    ip(guest, "link set eth0 down", "link set eth0 up")
    until(lambda: "default" in guest.run(["ip", "-6", "route"]).stdout, "the router")


@pytest.mark.usefixtures("responder")
def test_a_guest_of_dhclient_routes_its_prefix(ready: Node, gateway: Node, plug: Plug) -> None:
    guest = plug(ready, "tap5", 5)
    attach(ready, routed("tap5", TAGS=TAG))
    router(guest)
    command = ["dhclient", "-6", "-P", "-1", "-q", "-sf", script(guest), "-lf", "/run/leases6", "-pf", "/run/pid6"]
    guest.run([*command, "eth0"])
    assert leases(guest)[-1]["new_ip6_prefix"] == PREFIX
    ip(guest, f"addr add {INSIDE}/128 dev lo", f"addr add {OUTSIDE}/128 dev lo")
    ping(gateway, INSIDE)
    guest.run(["ping", "-n", "-c", "1", "-w", "60", "-I", INSIDE, BEYOND6])
    assert guest.run(["ping", "-n", "-c", "2", "-W", "1", "-I", OUTSIDE, BEYOND6], check=False).returncode
    no_ping(gateway, OUTSIDE)
    assert differences(ready) == []
    assert f"delegated   {PREFIX}" in run(ready, "explain", "tap5").stdout
    assert PREFIX in run(ready, "status").stdout
    run(ready, "detach", "tap5")
    assert PREFIX not in ready.run(["ip", "-6", "route", "show", "table", "222"]).stdout


@pytest.mark.usefixtures("responder")
@pytest.mark.skipif(shutil.which("dhcpcd") is None, reason="dhcpcd is missing: apt install dhcpcd-base")
def test_a_guest_of_dhcpcd_numbers_its_network(ready: Node, gateway: Node, plug: Plug) -> None:
    guest = plug(ready, "tap5", 5)
    attach(ready, routed("tap5", TAGS=TAG))
    router(guest)
    ip(guest, "link add lan0 type bridge", "link set lan0 up")
    guest.run(["mkdir", "-p", "/run/dhcpcd", "/var/lib/dhcpcd"])
    guest.path("/run/dhcpcd.conf").write_text(
        "ipv6only\nnodelay\nallowinterfaces eth0 lan0\nscript /bin/true\ninterface eth0\nia_pd 1 lan0/1/64\n"
    )
    guest.popen(["dhcpcd", "-B", "-f", "/run/dhcpcd.conf", "eth0"])
    there = "2001:db8:0:101::1"
    until(lambda: there in guest.run(["ip", "-6", "addr", "show", "dev", "lan0"]).stdout, "an address on its network")
    ping(gateway, there)


@pytest.mark.usefixtures("responder")
def test_no_prefix_without_the_tag(ready: Node, plug: Plug) -> None:
    guest = plug(ready, "tap5", 5)
    attach(ready, routed("tap5"))
    command = ["dhclient", "-6", "-P", "-d", "-sf", script(guest), "-lf", "/run/leases6", "-pf", "/run/pid6"]
    client = guest.popen([*command, "eth0"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: counts(ready, "tap5").get("dhcp6_advertise", 0) > 1, "two answers")
    client.terminate()
    assert not [lease for lease in leases(guest) if "new_ip6_prefix" in lease]


@pytest.mark.usefixtures("responder")
def test_two_guests_never_have_overlapping_prefixes(ready: Node, plug: Plug) -> None:
    plug(ready, "tap5", 5), plug(ready, "tap6", 6)
    attach(ready, routed("tap5", TAGS="vif:0:delegate:2001:db8:0:1100::/56"))
    for other in ("2001:db8:0:1100::/56", "2001:db8:0:1180::/64", "2001:db8:0:1000::/52"):
        said = complaint(vif_script(ready, routed("tap6", 6, TAGS=f"vif:0:delegate:{other}")))
        assert "vm6.example.com" in said and "2001:db8:0:1100::" in said
    run(ready, "detach", "tap6")
    attach(ready, routed("tap6", 6, TAGS="vif:0:delegate:2001:db8:0:1200::/56"))
    assert differences(ready) == []


def test_what_cannot_be_routed_is_refused(ready: Node, plug: Plug) -> None:
    plug(ready, "tap5", 5)
    assert "is not routed" in complaint(vif_script(ready, bridged("tap5", TAGS=TAG)))
    no_subnet = routed("tap5", TAGS=TAG, IP=public(5), NETWORK_SUBNET6=None, NETWORK_GATEWAY6=None)
    assert "no IPv6 address of its own" in complaint(vif_script(ready, no_subnet))
    outside = complaint(vif_script(ready, routed("tap5", TAGS="vif:0:delegate:2001:db8:9::/56")))
    assert "in no subnet of the public link" in outside
    assert GATEWAY6 in complaint(vif_script(ready, routed("tap5", TAGS="vif:0:delegate:2001:db8::/60")))
