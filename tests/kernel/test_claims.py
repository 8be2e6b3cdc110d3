# SPDX-License-Identifier: BSD-2-Clause
"""Guests choose IPv6 addresses, as most operating systems do, and have them; and no guest has another's."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import IPv6Address, IPv6Network

import pytest

from tests.lab import Node, PacketSocket, Tap, VirtualCable

from .actions import attach, differences, ip, manage, octets, ping, sysctl
from .conftest import MakeTap, apply
from .environment import BEYOND6, GATEWAY6, bridged, mac, public6, routed
from .forging import ICMP6, ether, group_mac, icmp6, ip6, solicitation, solicited_node, source_mac, target_mac
from .migration_site import connected, link_of, moving
from .responder_lab import RESPONDS, counts, responding, state
from .vifd import launched, stopped, until

PREFIX, PRIVATE, LINK_LOCAL = IPv6Network("2001:db8::/64"), IPv6Network("fd00:1::/64"), IPv6Network("fe80::/64")
NM, TEMPORARY = {"addr_gen_mode": "2"}, {"use_tempaddr": "2"}
"""A guest as NetworkManager, dhcpcd or Windows makes its addresses (RFC 7217), and one as Ubuntu does (RFC 8981)."""
Guest = Callable[..., Node]


@pytest.fixture
def serving(ready: Node) -> Iterator[Node]:
    """A node whose daemon and responder run."""
    apply(ready, RESPONDS)
    with responding(ready):  # its user is made first, as the package does
        daemon = launched(ready)
        yield ready
        stopped(daemon)


@pytest.fixture
def guest(stack: ExitStack) -> Guest:
    """Makes a guest behind a tap, that waits for its link, and makes its addresses by these sysctls of its eth0."""

    def make(node: Node, number: int, **conf: str) -> Node:
        one = stack.enter_context(Node(f"vm{number}"))
        stack.enter_context(VirtualCable(node, f"tap{number}", one, "eth0"))
        ip(one, f"link set eth0 address {mac(number)}")
        if conf.get("addr_gen_mode") == "2":
            sysctl(one, "net/ipv6/conf/eth0/stable_secret", f"2001:db8::{number}")
        for name, value in {"accept_ra": "2", **conf}.items():
            sysctl(one, f"net/ipv6/conf/eth0/{name}", value)
        return one

    return make


def up(one: Node) -> None:
    ip(one, "link set eth0 up")


def addresses(one: Node, prefix: IPv6Network = PREFIX) -> list[str]:
    """The usable addresses of a guest in PREFIX, those that it made last first."""
    told = json.loads(one.run(["ip", "-6", "-json", "addr", "show", "dev", "eth0"]).stdout)
    found = [address for each in told for address in each["addr_info"]]
    usable = [address["local"] for address in found if not address.get("tentative") and not address.get("dadfailed")]
    return [address for address in usable if IPv6Address(address) in prefix]


def claims(node: Node, tap: str) -> list[str]:
    shown = json.loads(manage(node, "explain", tap, "--json"))
    found: list[str] = shown["nics"][0]["claims"]
    return found


def ping_from(one: Node, address: str, destination: str) -> None:
    """An answer from DESTINATION to ADDRESS (or to the one that the guest chooses on that device), sooner or later."""
    ping = ["ping", "-n", "-c", "1", "-W", "1", "-I", address, destination]
    until(lambda: one.run(ping, check=False).returncode == 0, f"an answer to {address}")


def source(one: Node, destination: str) -> str:
    """The address from which a guest speaks to DESTINATION."""
    told = json.loads(one.run(["ip", "-6", "-json", "route", "get", destination]).stdout)
    address: str = told[0]["prefsrc"]
    return address


@pytest.mark.parametrize("conf", [{}, NM, TEMPORARY, NM | TEMPORARY], ids=["EUI-64", "RFC 7217", "RFC 8981", "both"])
def test_a_routed_guest_reaches_the_world_from_addresses_of_its_own_choice(
    serving: Node, guest: Guest, conf: dict[str, str]
) -> None:
    one = guest(serving, 5, **conf)
    attach(serving, routed("tap5"))
    up(one)
    until(lambda: len(addresses(one)) == 1 + ("use_tempaddr" in conf), "addresses")
    for address in addresses(one):
        ping_from(one, address, BEYOND6)
    ping(one, GATEWAY6)
    chosen = {address for address in addresses(one) if address != public6(5)}
    assert {address for address in claims(serving, "tap5") if not IPv6Address(address).is_link_local} == chosen
    assert differences(serving) == []


@pytest.mark.parametrize("conf", [NM, NM | TEMPORARY], ids=["RFC 7217", "both"])
def test_bridged_guests_reach_each_other_from_addresses_of_their_own_choice(
    serving: Node, guest: Guest, conf: dict[str, str]
) -> None:
    guests = [guest(serving, number, **conf) for number in (5, 6)]
    for number in (5, 6):
        attach(serving, private6(number))
    for one in guests:
        up(one)
        until(lambda: len(addresses(one, PRIVATE)) == 1 + ("use_tempaddr" in conf), "addresses")  # noqa: B023
    for one, other in (guests, guests[::-1]):
        for mine, theirs in zip(addresses(one, PRIVATE), addresses(other, PRIVATE), strict=True):
            ping_from(one, mine, theirs)
        (local,) = addresses(other, LINK_LOCAL)
        ping_from(one, "eth0", local)
    assert differences(serving) == []


def private6(number: int) -> dict[str, str]:
    return bridged(f"tap{number}", number, NETWORK_SUBNET6=str(PRIVATE), NETWORK_TAGS="nfdhcpd")


CHOSEN, OTHER = "2001:db8::77", "2001:db8::1234:5678:9abc:def0"


def looks_for(address: str, number: int = 5) -> bytes:
    """Duplicate address detection (RFC 4862, 5.4.2)."""
    group = solicited_node(address)
    return ether(
        mac(number), group_mac(group), 0x86DD, ip6("::", group, ICMP6, icmp6("::", group, 135, solicitation(address)))
    )


def says_it_has(address: str, number: int = 5) -> bytes:
    """As a guest does after a migration (Linux, ndisc_send_unsol_na())."""
    message = icmp6(address, "ff02::1", 136, b"\x20\0\0\0" + IPv6Address(address).packed + target_mac(mac(number)))
    return ether(mac(number), group_mac("ff02::1"), 0x86DD, ip6(address, "ff02::1", ICMP6, message))


def speaks_from(address: str, number: int = 5) -> bytes:
    """As a guest does whose router does not answer (neighbour unreachability detection)."""
    group = solicited_node(GATEWAY6)
    message = icmp6(address, group, 135, solicitation(GATEWAY6, source_mac(mac(number))))
    return ether(mac(number), group_mac(group), 0x86DD, ip6(address, group, ICMP6, message))


def refused(node: Node, tap: str) -> str | None:
    """The last refusal of the guest of TAP."""
    told: dict[str, dict[str, str]] = json.loads(manage(node, "status", "--json"))["daemon"]["claims"]
    return told[tap]["what"] if tap in told else None


@pytest.mark.parametrize("frame", [looks_for, says_it_has, speaks_from])
def test_a_guest_claims_an_address_by_all_that_shows_it(
    serving: Node, tap: MakeTap, frame: Callable[[str], bytes]
) -> None:
    one = tap(serving)
    attach(serving, routed(one.name))
    until(lambda: one.name in state(serving)["taps"], "its service")
    one.send(frame(OTHER))
    until(lambda: claims(serving, one.name) == [OTHER], "the claim")
    assert f"{OTHER} dev {one.name}" in serving.run(["ip", "-6", "route", "show", "table", "222"]).stdout
    assert OTHER in serving.run(["ip", "-6", "neigh", "show", "proxy", "dev", "eth1"]).stdout
    assert differences(serving) == []
    manage(serving, "detach", one.name)
    assert OTHER not in serving.run(["ip", "-6", "route", "show", "table", "222"]).stdout
    assert OTHER not in serving.run(["ip", "-6", "neigh", "show", "proxy", "dev", "eth1"]).stdout


@pytest.mark.parametrize(
    ("address", "why"),
    [
        (GATEWAY6, "it is the gateway's"),
        (public6(6), "it is made of another MAC"),
        (public6(9), "it is made of another MAC"),
        ("2001:db8:1::5", "it is not in 2001:db8::/64"),
        ("2001:db8::", "it is an anycast address"),
        ("2001:db8::fdff:ffff:ffff:fffe", "it is an anycast address"),
        (CHOSEN, "vm7.example.com NIC 0 (tap7) has it"),
    ],
)
def test_no_guest_claims_what_is_somebody_else_s(serving: Node, tap: MakeTap, address: str, why: str) -> None:
    one = tap(serving)
    other = Tap(serving, name="tap7")
    with other:
        attach(serving, routed(one.name))
        attach(serving, routed("tap7", 7, IP=CHOSEN))
        until(lambda: one.name in state(serving)["taps"], "its service")
        for frame in (looks_for, says_it_has, speaks_from):
            one.send(frame(address))
        until(lambda: refused(serving, one.name) is not None, "the refusal")
        told = refused(serving, one.name)
        assert told and told.endswith(f"its guest may not have {address}: {why}")
        assert claims(serving, one.name) == []
        assert differences(serving) == []


def test_what_another_machine_on_the_uplink_has_is_not_claimed(serving: Node, gateway: Node, tap: MakeTap) -> None:
    ip(gateway, f"addr add {OTHER}/64 dev eth0 nodad")
    one = tap(serving)
    attach(serving, routed(one.name))
    until(lambda: one.name in state(serving)["taps"], "its service")
    one.send(looks_for(OTHER))
    until(lambda: refused(serving, one.name) is not None, "the refusal")
    assert (
        refused(serving, one.name)
        == f"vm5.example.com NIC 0 ({one.name}): its guest may not have {OTHER}: another machine has it"
    )
    assert claims(serving, one.name) == []


def test_a_guest_has_as_many_as_it_may_and_the_unused_ones_make_room(serving: Node, tap: MakeTap) -> None:
    one = tap(serving)
    attach(serving, routed(one.name))
    until(lambda: one.name in state(serving)["taps"], "its service")
    chosen = [f"2001:db8::1:{number:x}" for number in range(1, 18)]
    for address in chosen[:16]:
        one.send(looks_for(address))
    until(lambda: claims(serving, one.name) == chosen[:16], "sixteen claims")
    one.send(looks_for(chosen[16]))
    asked = one.expect(
        lambda frame: frame[54:55] == b"\x87" and frame[62:78] == IPv6Address(chosen[0]).packed, "a question"
    )
    assert asked[:6] == octets(mac(5))
    one.send(says_it_has(chosen[2]))
    until(lambda: claims(serving, one.name) == [chosen[2], chosen[16]], "room")
    assert differences(serving) == []


def test_a_flood_of_claims_keeps_nobody_else_from_an_address(serving: Node, tap: MakeTap) -> None:
    flooder, other = tap(serving), tap(serving)
    for number, one in ((5, flooder), (6, other)):
        attach(serving, routed(one.name, number))
    until(lambda: {flooder.name, other.name} <= set(state(serving)["taps"]), "their service")
    for number in range(300):
        flooder.send(looks_for(f"2001:db8::3:{number:x}"))
    other.send(looks_for(OTHER, 6))
    until(lambda: claims(serving, other.name) == [OTHER], "the claim of the other")
    assert len(claims(serving, flooder.name)) <= 16
    assert counts(serving, flooder.name)["claims_limited"] > 0
    assert differences(serving) == []


def test_what_a_guest_claimed_outlives_the_daemon_and_a_change_by_ganeti(ready: Node, tap: MakeTap) -> None:
    apply(ready, RESPONDS)
    one = tap(ready)
    with responding(ready):
        daemon = launched(ready)
        attach(ready, routed(one.name))
        until(lambda: one.name in state(ready)["taps"], "its service")
        one.send(looks_for(OTHER))
        until(lambda: claims(ready, one.name) == [OTHER], "the claim")
        stopped(daemon, signal.SIGKILL)
        assert differences(ready) == []
        daemon = launched(ready)
        attach(ready, routed(one.name, TAGS="vif:0:address:192.0.2.77"))
        assert claims(ready, one.name) == [OTHER]
        assert differences(ready) == []
        stopped(daemon)


def test_an_address_that_ganeti_gives_is_taken_from_the_guest_that_chose_it(serving: Node, tap: MakeTap) -> None:
    one, other = tap(serving), tap(serving)
    attach(serving, routed(one.name))
    until(lambda: one.name in state(serving)["taps"], "its service")
    one.send(looks_for(CHOSEN))
    until(lambda: claims(serving, one.name) == [CHOSEN], "the claim")
    attach(serving, routed(other.name, 6, IP=CHOSEN))
    assert claims(serving, one.name) == []
    assert f"{CHOSEN} dev {other.name}" in serving.run(["ip", "-6", "route", "show", "table", "222"]).stdout
    assert differences(serving) == []


def test_what_a_guest_claimed_follows_it_to_another_node(stack: ExitStack) -> None:
    site = stack.enter_context(connected(stack))
    for node in (site.source, site.target):
        apply(node, RESPONDS)
        stack.enter_context(responding(node))
    before, arrival = moving(site, stack)
    until(lambda: before.name in state(site.source)["taps"], "its service")
    before.send(looks_for(OTHER))
    until(lambda: claims(site.source, before.name) == [OTHER], "the claim")
    arrival.speak()
    there = link_of(site.target)
    until(lambda: there in state(site.target)["taps"], "its service there")

    def follows() -> bool:
        arrival.send(says_it_has(OTHER))
        return claims(site.target, there) == [OTHER]

    until(follows, "the claim on the other node")
    proxies = ["ip", "-6", "neigh", "show", "proxy", "dev", "eth1"]
    assert OTHER in site.target.run(proxies).stdout
    assert OTHER not in site.source.run(proxies).stdout
    attach(site.target, routed(there))
    before.close()
    assert claims(site.target, there) == [OTHER]
    until(lambda: differences(site.source) == differences(site.target) == [], "order")
    arrival.die()


def test_one_bridge_does_not_give_one_address_to_two_guests(serving: Node, tap: MakeTap) -> None:
    """The node's question tells all guests of the bridge which address somebody claims."""
    one, other = tap(serving), tap(serving)
    for number, each in ((5, one), (6, other)):
        attach(serving, private6(number) | {"INTERFACE": each.name})
    until(lambda: {one.name, other.name} <= set(state(serving)["taps"]), "their service")
    one.send(looks_for("fd00:1::77"))
    other.expect(
        lambda frame: frame[54:55] == b"\x87" and frame[62:78] == IPv6Address("fd00:1::77").packed, "a question"
    )
    other.send(says_it_has("fd00:1::77", 6))
    until(lambda: claims(serving, one.name) == ["fd00:1::77"], "the claim of the first")
    until(lambda: refused(serving, other.name) is not None, "the refusal of the second")
    assert claims(serving, other.name) == []


def test_no_guest_has_an_address_of_the_node_itself(serving: Node, tap: MakeTap) -> None:
    ip(serving, f"addr add {OTHER}/64 dev eth1 nodad")
    one = tap(serving)
    attach(serving, routed(one.name))
    until(lambda: one.name in state(serving)["taps"], "its service")
    one.send(looks_for(OTHER))
    until(lambda: refused(serving, one.name) is not None, "the refusal")
    assert str(refused(serving, one.name)).endswith(f"{OTHER}: it is the node's own")


def test_two_nodes_do_not_give_one_address_to_two_guests(stack: ExitStack) -> None:
    site = stack.enter_context(connected(stack))
    taps = []
    for number, node in ((5, site.source), (6, site.target)):
        apply(node, RESPONDS)
        stack.enter_context(responding(node))
        one = stack.enter_context(Tap(node))
        attach(node, routed(one.name, number))
        until(lambda: one.name in state(node)["taps"], "its service")  # noqa: B023
        taps.append(one)
    for round_, (first, second) in enumerate(((0, 1), (1, 0), (0, 1))):
        address = f"2001:db8::2:{round_}"
        for place in (first, second):
            taps[place].send(looks_for(address, 5 + place))
        nodes = (site.source, site.target)

        def decided() -> list[bool]:
            return [
                address in claims(node, one.name) or address in (refused(node, one.name) or "")  # noqa: B023
                for node, one in zip(nodes, taps, strict=True)  # noqa: B023
            ]

        until(lambda: all(decided()), "the decisions")
        assert sum(address in claims(node, one.name) for node, one in zip(nodes, taps, strict=True)) <= 1


def test_a_guest_of_dhcpcd_reaches_the_world_from_the_addresses_that_it_makes(serving: Node, guest: Guest) -> None:
    one = guest(serving, 5, accept_ra="0")
    attach(serving, routed("tap5"))
    up(one)
    one.popen(["dhcpcd", "--nobackground", "--script", "/bin/true", "eth0"])
    until(lambda: bool(addresses(one)), "an address")
    assert public6(5) not in addresses(one)
    for address in addresses(one):
        ping_from(one, address, BEYOND6)
    assert differences(serving) == []


def test_nobody_claims_for_a_guest_or_takes_its_claim_by_the_uplink(serving: Node, gateway: Node, tap: MakeTap) -> None:
    one = tap(serving)
    attach(serving, routed(one.name))
    until(lambda: one.name in state(serving)["taps"], "its service")
    with PacketSocket(gateway, "eth0") as outside:
        for frame in (looks_for, says_it_has, speaks_from):
            outside.send(frame(CHOSEN))
        one.send(looks_for(OTHER))
        until(lambda: claims(serving, one.name) == [OTHER], "the guest's own claim")  # the others came before it
        for frame in (looks_for, says_it_has, speaks_from):
            outside.send(frame(OTHER, 9))
        one.send(looks_for("2001:db8::88"))
        until(lambda: claims(serving, one.name) == [OTHER, "2001:db8::88"], "its next claim")
    assert [line for line in differences(serving) if f"{OTHER} is also used by" not in line] == [], "that is told"


def test_nobody_takes_the_address_of_a_guest_that_is_migrating(stack: ExitStack) -> None:
    site = stack.enter_context(connected(stack))
    for node in (site.source, site.target):
        apply(node, RESPONDS)
        stack.enter_context(responding(node))
    before, arrival = moving(site, stack)
    thief = stack.enter_context(Tap(site.target, name="tap6"))
    attach(site.target, routed("tap6", 6))
    for node, tap_ in ((site.source, before.name), (site.target, "tap6")):
        until(lambda: tap_ in state(node)["taps"], "its service")  # noqa: B023
    before.send(looks_for(OTHER))
    until(lambda: claims(site.source, before.name) == [OTHER], "the claim")
    thief.send(looks_for(OTHER, 6))
    until(lambda: refused(site.target, "tap6") is not None, "the refusal")
    assert str(refused(site.target, "tap6")).endswith(f"may not have {OTHER}: another machine has it")
    arrival.speak()
    there = link_of(site.target)
    until(lambda: there in state(site.target)["taps"], "its service there")

    def follows() -> bool:
        arrival.send(says_it_has(OTHER))
        return claims(site.target, there) == [OTHER]

    until(follows, "the claim on the other node")
    for frame in (looks_for, says_it_has, speaks_from):
        thief.send(frame(OTHER, 6))
    thief.send(looks_for(CHOSEN, 6))
    until(lambda: CHOSEN in claims(site.target, "tap6"), "the thief's next claim")
    assert claims(site.target, "tap6") == [CHOSEN]
    assert claims(site.target, there) == [OTHER]
    attach(site.target, routed(there))
    before.close()
    until(lambda: differences(site.source) == differences(site.target) == [], "order")
    arrival.die()
