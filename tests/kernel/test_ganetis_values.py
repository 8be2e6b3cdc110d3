# SPDX-License-Identifier: BSD-2-Clause
"""Values that Ganeti accepts: a NIC is attached with them, and its guest has what they promise."""

from __future__ import annotations

from contextlib import nullcontext
from ipaddress import ip_address

import pytest

from tests.lab import Node

from .actions import answer, attach, differences, ip, manage, ping
from .conftest import MakeTap, Plug, apply
from .environment import (
    BEYOND,
    BEYOND6,
    CONFIG,
    GATEWAY,
    GATEWAY6,
    PATH,
    PUBLIC_NETWORK,
    bridged,
    mac,
    public,
    public6,
    routed,
    uuid,
)
from .responder_lab import RESPONDS, responding, until

LINK_LOCAL = "fe80::1"


def static(node: Node, plug: Plug, number: int) -> Node:
    """A guest without a DHCP client whose router is fe80::1, as its administrator wrote down."""
    guest = plug(node, f"tap{number}", number, f"{public(number)}/24", f"{public6(number)}/128")
    ip(guest, f"route add default via {GATEWAY}", f"-6 route add default via {LINK_LOCAL} dev eth0")
    return guest


@pytest.mark.parametrize("responds", [False, True])
def test_a_guest_reaches_everything_through_a_link_local_gateway(ready: Node, plug: Plug, responds: bool) -> None:
    """The tap answers for the gateway of the network; the link has another one on the uplink."""
    if responds:
        apply(ready, RESPONDS)
    one, other = static(ready, plug, 5), static(ready, plug, 6)
    attach(ready, routed("tap5", 5, NETWORK_GATEWAY6=LINK_LOCAL))
    attach(ready, routed("tap6", 6, NETWORK_GATEWAY6=f"{LINK_LOCAL}%eth0"))
    with responding(ready) if responds else nullcontext():
        everything(one, public6(6))
        everything(other, public6(5))
        # A question to the gateway alone, as a guest asks whether its neighbour is still there.
        ip(one, f"-6 neigh change {LINK_LOCAL} dev eth0 nud probe")
        everything(one, public6(6))
        assert differences(ready) == []


def everything(guest: Node, neighbour: str) -> None:
    for address in (GATEWAY, BEYOND, BEYOND6, neighbour):
        ping(guest, address)


def test_a_link_whose_gateway_is_link_local_leads_out(node: Node, gateway: Node, plug: Plug) -> None:
    ip(gateway, f"addr add {LINK_LOCAL}/64 dev eth0", f"-6 addr del {GATEWAY6}/64 dev eth0")
    ip(gateway, "-6 route add 2001:db8::/64 dev eth0")
    apply(node, CONFIG.replace(f"{GATEWAY} {GATEWAY6}", f"{GATEWAY} {LINK_LOCAL}"))
    guest = static(node, plug, 5)
    attach(node, routed("tap5", NETWORK_GATEWAY6=None))
    for address in (BEYOND, BEYOND6):
        ping(guest, address)
        ping(gateway, public6(5))
    assert differences(node) == []
    assert answer(node, "status")["public"][0]["gateways"] == [GATEWAY, LINK_LOCAL]


def test_a_bridged_nic_does_not_care_for_the_gateways_of_its_network(ready: Node, tap: MakeTap) -> None:
    for number, gateway6 in enumerate((LINK_LOCAL, f"{LINK_LOCAL}%eth0", "fd00:1::1"), 5):
        attach(ready, bridged(tap(ready).name, number, NETWORK_SUBNET6="fd00:1::/64", NETWORK_GATEWAY6=gateway6))
    assert differences(ready) == []


@pytest.mark.parametrize("tag", ["owner:müller", "réseau", "所有者:山田", 'odd "quoted" $(reboot)', "a\tb"])
def test_tags_of_others_are_nobodys_business(ready: Node, tap: MakeTap, tag: str) -> None:
    """Ganeti's tags have letters of any language. They come to our script, and to the hooks of an instance that runs."""
    mine, his = tap(ready), tap(ready)
    attach(ready, bridged(mine.name, 5, TAGS=f"before {tag}", NETWORK_TAGS=f"{tag} nfdhcpd"))
    attach(ready, routed(his.name, 6))
    granted = f"vif:0:address:{public(60)} {tag}"
    done = ready.run(["/usr/lib/ganeti-vif/hook"], env=modified(6, granted), check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    nics = answer(ready, "status")["nics"]
    assert [nic["state"] for nic in nics] == ["ok", "ok"]
    assert public(60) in nics[1]["addresses"]
    assert differences(ready) == []
    manage(ready, "explain", mine.name)


def test_an_environment_that_is_no_text(ready: Node, tap: MakeTap) -> None:
    """Tags in Latin-1 from a node of another locale, and variables that are nothing to us."""
    mine = tap(ready)
    given = bridged(mine.name, 5, TAGS=r"$(printf 'owner:m\374ller')", LANG=r"$(printf '\377')")
    words = " ".join(f'{name}="{value}"' for name, value in given.items())
    done = ready.run(["sh", "-c", f"env -i {words} /etc/ganeti/kvm-vif-bridge"], check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert differences(ready) == []


def modified(number: int, tags: str) -> dict[str, str]:
    """The hook after `gnt-instance add-tags`, `modify` or the like."""
    nic = {"MAC": mac(number), "UUID": uuid(number), "MODE": "routed"} | dict(PUBLIC_NETWORK)
    nic |= {"NETWORK_NAME": "netz-süd", "NETWORK_TAGS": f"{nic['NETWORK_TAGS']} {tags}"}
    nic["NETWORK_TAGS"] = nic["NETWORK_TAGS"].replace("vif:0:", "other:0:")
    return {
        "PATH": PATH,
        "GANETI_HOOKS_PATH": "instance-modify",
        "GANETI_HOOKS_PHASE": "post",
        "GANETI_CLUSTER_TAGS": tags,
        "GANETI_INSTANCE_NAME": f"vm{number}.example.com",
        "GANETI_INSTANCE_TAGS": tags,
        **{f"GANETI_INSTANCE_NIC0_{name}": value for name, value in nic.items()},
    }


def test_a_prefix_of_which_guests_make_no_address_is_told(ready: Node, tap: MakeTap) -> None:
    """Ganeti accepts any network6, and nobody sees that guests have no IPv6."""
    way, private = tap(ready), tap(ready)
    attach(ready, routed(way.name, 5, NETWORK_SUBNET6="2001:db8:0:0:f6::/80", NETWORK_GATEWAY6=LINK_LOCAL))
    attach(ready, bridged(private.name, 6, NETWORK_SUBNET6="fd00:1:0:0:f6::/80"))
    for verb in ("status", "check"):
        said = manage(ready, verb)
        assert said.count("gets no IPv6 address") == 2
        assert "2001:db8:0:0:f6::/80" in said and "fd00:1:0:0:f6::/80" in said
    assert [(one["what"][:3], one["do"][:4]) for one in answer(ready, "check")["notes"]] == [
        ("vm5", "note"),
        ("vm6", "note"),
    ]
    assert "gets no IPv6 address" in manage(ready, "explain", way.name)
    assert "no IPv6 address" in ready.path("/var/log/ganeti/vif.log").read_text()
    given = routed(way.name, 5, NETWORK_SUBNET6="2001:db8:0:0:f6::/80", NETWORK_GATEWAY6=LINK_LOCAL)
    attach(ready, given | {"TAGS": "vif:0:address:2001:db8:0:0:f6::5"})
    assert manage(ready, "check").count("gets no IPv6 address") == 1


def test_a_guest_of_such_a_prefix_gets_the_address_that_a_tag_grants(ready: Node, plug: Plug) -> None:
    """As the note says; its router is the one that advertises, whatever the gateway of the network is."""
    apply(ready, RESPONDS.replace("[responder]", "[responder]\ndhcpv6 = stateful"))
    guest = plug(ready, "tap5", 5)
    address = "2001:db8:0:0:f6::5"
    prefix = {"NETWORK_SUBNET6": "2001:db8:0:0:f6::/80", "NETWORK_GATEWAY6": LINK_LOCAL}
    attach(ready, routed("tap5") | prefix | {"TAGS": f"vif:0:address:{address}"})
    with responding(ready):
        guest.run(["dhclient", "-6", "-1", "-q", "-lf", "/run/leases6", "-pf", "/run/pid6", "eth0"])
        assert str(ip_address(address)) in guest.run(["ip", "-6", "addr", "show", "dev", "eth0"]).stdout
        until(lambda: "default" in guest.run(["ip", "-6", "route"]).stdout, "the router")
        ping(guest, BEYOND6)
