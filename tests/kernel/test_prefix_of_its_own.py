# SPDX-License-Identifier: BSD-2-Clause
"""Each NIC has an IPv6 prefix of its own: its guest uses any address of it, and nobody else does."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import IPv6Address, IPv6Network

import pytest

from tests.lab import Node, PacketSocket, Tap, VirtualCable, wire

from .actions import answer, attach, complaint, differences, ip, link, manage, ping, shot, sysctl, udp, vif_script
from .conftest import MakeTap, Plug, apply
from .environment import BEYOND6, CONFIG, GATEWAY6, mac, public, public6, routed
from .forging import ICMP6, ether, group_mac, icmp6, ip6, solicitation, solicited_node, source_mac, target_mac
from .migration_site import ROUTER, Site, connected, link_of, moving
from .migration_site import state as state_of
from .responder_lab import RESPONDS, responding, state
from .vifd import launched, stopped, until

POOL = IPv6Network("2001:db8::/48")
PER_NIC = ("2001:db8::/64\n", f"{POOL}\nipv6-per-nic = /64\n")
CONFIGURED, ALONE = RESPONDS.replace(*PER_NIC), CONFIG.replace(*PER_NIC)
STABLE, TEMPORARY = {"addr_gen_mode": "2"}, {"use_tempaddr": "2"}
"""A guest as NetworkManager, dhcpcd or Windows makes its addresses (RFC 7217), and one as Ubuntu does (RFC 8981)."""
ROUTER6 = "fe80::c00:ff:fe00:1"
Guest = Callable[..., Node]


def prefix(number: int) -> IPv6Network:
    """The prefix of the guest with this NUMBER, whose IPv4 address is 192.0.2.NUMBER."""
    return IPv6Network(f"2001:db8:0:{number:x}::/64")


def address(number: int, rest: int) -> str:
    return str(prefix(number)[rest])


def eui64(number: int) -> str:
    """What SLAAC makes of that prefix and the MAC (RFC 4291, appendix A)."""
    return address(number, 0xA80000FFFE000000 + number)


@pytest.fixture
def serving(node: Node, gateway: Node) -> Iterator[Node]:
    """A node whose daemon and responder run. Its gateway takes the whole short prefix for on-link."""
    ip(gateway, f"route add {POOL} dev eth0")
    apply(node, CONFIGURED)
    with responding(node):  # its user is made first, as the package does
        daemon = launched(node)
        yield node
        stopped(daemon)


@pytest.fixture
def guest(stack: ExitStack) -> Guest:
    """Makes a guest behind a tap, attached, that makes its addresses by these sysctls of its eth0."""

    def make(node: Node, number: int, **conf: str) -> Node:
        one = stack.enter_context(Node(f"vm{number}"))
        stack.enter_context(VirtualCable(node, f"tap{number}", one, "eth0"))
        ip(one, f"link set eth0 address {mac(number)}")
        if conf.get("addr_gen_mode") == "2":
            sysctl(one, "net/ipv6/conf/eth0/stable_secret", f"2001:db8::{number}")
        for name, value in {"accept_ra": "2", **conf}.items():
            sysctl(one, f"net/ipv6/conf/eth0/{name}", value)
        attach(node, routed(f"tap{number}", number))
        ip(one, "link set eth0 up")
        return one

    return make


def addresses(one: Node) -> list[str]:
    """The usable global addresses of a guest."""
    told = json.loads(one.run(["ip", "-6", "-json", "addr", "show", "dev", "eth0", "scope", "global"]).stdout)
    found = [address for each in told for address in each.get("addr_info", [])]
    usable = [one for one in found if one and not one.get("tentative") and not one.get("dadfailed")]
    return [one["local"] for one in usable]


def reaches(one: Node, source: str, destination: str) -> None:
    """An answer from DESTINATION to SOURCE, an address of the guest, sooner or later."""
    command = ["ping", "-n", "-c", "1", "-W", "1", "-I", source, destination]
    until(lambda: one.run(command, check=False).returncode == 0, f"an answer to {source}")


@pytest.mark.parametrize("conf", [{}, STABLE, TEMPORARY], ids=["EUI-64", "RFC 7217", "RFC 8981"])
def test_a_guest_makes_its_addresses_in_its_own_prefix_and_reaches_the_world(
    serving: Node, gateway: Node, guest: Guest, conf: dict[str, str]
) -> None:
    one = guest(serving, 5, **conf)
    until(lambda: len(addresses(one)) == 1 + ("use_tempaddr" in conf), "addresses")
    for made in addresses(one):
        assert IPv6Address(made) in prefix(5)
        reaches(one, made, BEYOND6)
        ping(gateway, made)
    assert (eui64(5) in addresses(one)) == ("addr_gen_mode" not in conf)
    assert str(POOL) not in (routes := one.run(["ip", "-6", "route", "show"]).stdout)
    assert str(prefix(5)) not in routes, "the prefix is not on-link"
    assert differences(serving) == []


def test_dhcpv6_gives_the_address_that_the_mac_makes_in_its_own_prefix(node: Node, gateway: Node, plug: Plug) -> None:
    ip(gateway, f"route add {POOL} dev eth0")
    apply(node, CONFIGURED.replace("[responder]", "[responder]\ndhcpv6 = stateful"))
    one = plug(node, "tap5", 5)
    sysctl(one, "net/ipv6/conf/eth0/autoconf", "0")
    attach(node, routed("tap5", 5))
    with responding(node):
        one.run(["dhclient", "-6", "-1", "-q", "-lf", "/run/leases6", "-pf", "/run/pid6", "eth0"])
        assert addresses(one) == [eui64(5)]
        until(lambda: "default" in one.run(["ip", "-6", "route"]).stdout, "the router")
        ping(one, BEYOND6)


def test_a_guest_leaves_the_shared_prefix_as_soon_as_it_has_its_own(node: Node, gateway: Node, guest: Guest) -> None:
    ip(gateway, f"route add {POOL} dev eth0")
    apply(node, RESPONDS)
    with responding(node):
        one = guest(node, 5)
        until(lambda: addresses(one) == [public6(5)], "its address in the shared prefix")
        apply(node, CONFIGURED)
        manage(node, "reconcile")
        until(lambda: eui64(5) in addresses(one), "its address in its own prefix")
        until(lambda: f"src {eui64(5)}" in one.run(["ip", "-6", "route", "get", BEYOND6]).stdout, "its use")
        reaches(one, eui64(5), BEYOND6)
        assert differences(node) == []


def test_two_guests_have_two_prefixes_and_reach_each_other(serving: Node, guest: Guest) -> None:
    one, other = guest(serving, 5, **STABLE), guest(serving, 6, **STABLE)
    until(lambda: len(addresses(one)) == len(addresses(other)) == 1, "addresses")
    assert (IPv6Address(addresses(one)[0]) in prefix(5), IPv6Address(addresses(other)[0]) in prefix(6)) == (True, True)
    reaches(one, addresses(one)[0], addresses(other)[0])


def test_a_container_in_a_guest_has_an_address_of_its_prefix(
    serving: Node, gateway: Node, guest: Guest, stack: ExitStack
) -> None:
    """Nothing on the node, and nobody on the uplink, knows of it before."""
    one = guest(serving, 5)
    until(lambda: bool(addresses(one)), "an address")
    container = stack.enter_context(Node("container"))
    wire(one, "c0", container, "eth0")
    sysctl(one, "net/ipv6/conf/all/forwarding", "1")
    ip(one, "addr add fe80::1/64 dev c0 nodad", f"route add {address(5, 0xC0)} dev c0")
    ip(container, f"addr add {address(5, 0xC0)}/128 dev eth0 nodad", "route add default via fe80::1 dev eth0")
    ping(gateway, address(5, 0xC0))
    reaches(container, address(5, 0xC0), BEYOND6)
    assert differences(serving) == []


def test_the_prefix_of_another_never_leaves_as_a_source(serving: Node, gateway: Node, tap: MakeTap) -> None:
    one, other = tap(serving), tap(serving)
    attach(serving, routed(one.name, 5))
    attach(serving, routed(other.name, 6))
    to = link(serving, one.name)["address"]
    with PacketSocket(gateway, "eth0") as ears:
        for source in (address(6, 1), eui64(6), GATEWAY6, address(7, 1), "2001:db8:1::5"):
            one.send(udp(mac(5), to, source, BEYOND6, "stolen"))
        for source in (eui64(5), address(5, 1), address(5, 2**64 - 1)):
            one.send(udp(mac(5), to, source, BEYOND6, f"own {source}"))
            came = ears.before(lambda frame: f"own {source}".encode() in frame, "its own")  # noqa: B023
            assert not [frame for frame in came if b"stolen" in frame]


def test_a_guest_tells_neighbours_of_its_own_prefix_only(serving: Node, tap: MakeTap) -> None:
    """By the counters of its filter: both kinds of frames stay on the tap in any case."""
    one = tap(serving)
    attach(serving, routed(one.name, 5))
    for number in (5, 6):
        one.send(advertises(address(number, 7)))
        one.send(looks_for(address(number, 7)))
    counted = {str(rule["reason"]): 0 for rule in rules(serving, one.name)}
    until(lambda: dropped(serving, one.name) == 2, "the verdicts")
    for rule in rules(serving, one.name):
        counted[str(rule["reason"])] += int(rule["packets"] or 0)
    assert counted["duplicate address detection"] == 1
    assert counted["duplicate address detection of a foreign address"] == 1
    assert counted["advertisement of a foreign address"] == 1


def rules(node: Node, tap: str) -> list[dict[str, str | int | None]]:
    found: list[dict[str, str | int | None]] = answer(node, "explain", tap)["nics"][0]["chains"][0]["rules"]
    return found


def dropped(node: Node, tap: str) -> int:
    about = ("duplicate address detection of a foreign address", "advertisement of a foreign address")
    return sum(int(rule["packets"] or 0) for rule in rules(node, tap) if rule["reason"] in about)


def looks_for(target: str, number: int = 5) -> bytes:
    """Duplicate address detection (RFC 4862, 5.4.2)."""
    group = solicited_node(target)
    message = icmp6("::", group, 135, solicitation(target))
    return ether(mac(number), group_mac(group), 0x86DD, ip6("::", group, ICMP6, message))


def advertises(target: str, number: int = 5) -> bytes:
    """As a guest does after a migration (Linux, ndisc_send_unsol_na())."""
    message = icmp6(target, "ff02::1", 136, b"\x20\0\0\0" + IPv6Address(target).packed + target_mac(mac(number)))
    return ether(mac(number), group_mac("ff02::1"), 0x86DD, ip6(target, "ff02::1", ICMP6, message))


def asks(target: str, *, to: str | None = None) -> bytes:
    """The router's question for TARGET: to all that may have it, or to the MAC where it was the last time."""
    group = target if to else solicited_node(target)
    message = icmp6(ROUTER6, group, 135, solicitation(target, source_mac(ROUTER)))
    return ether(ROUTER, to or group_mac(group), 0x86DD, ip6(ROUTER6, group, ICMP6, message))


def probes(target: str) -> bytes:
    """The router's question whether TARGET is free."""
    group = solicited_node(target)
    message = icmp6("::", group, 135, solicitation(target))
    return ether(ROUTER, group_mac(group), 0x86DD, ip6("::", group, ICMP6, message))


def answers(ears: PacketSocket, question: bytes, last: bytes) -> list[bytes]:
    """The advertisements of QUESTION's target until the answer to LAST comes, which is asked after it."""
    ears.clear()
    ears.send(question)
    ears.send(last)
    came = ears.before(lambda frame: advertised(frame) == last[62:78], "the answer to the last")
    return [frame for frame in came if advertised(frame) == question[62:78]]


def the_answer(ears: PacketSocket, question: bytes, last: bytes) -> bytes:
    """The one advertisement that QUESTION leads to: to the asker, or to all if the asker has no address yet."""
    asker = question[22:38]
    to = asker if any(asker) else IPv6Address("ff02::1").packed

    def answers_it(frame: bytes) -> bool:
        return advertised(frame) == question[62:78] and frame[38:54] == to

    ears.clear()
    ears.send(question)
    said = ears.expect(answers_it, "the answer")
    ears.send(last)
    came = ears.before(lambda frame: advertised(frame) == last[62:78], "the answer to the last")
    assert not [frame for frame in came if answers_it(frame)], "answered twice"
    return said


def advertised(frame: bytes) -> bytes | None:
    """The address that FRAME, a neighbour advertisement, is about."""
    return frame[62:78] if frame[12:14] == b"\x86\xdd" and frame[54:55] == b"\x88" else None


@pytest.fixture
def uplink(serving: Node, gateway: Node) -> Iterator[PacketSocket]:
    """The ears and the mouth of a router whose kernel says nothing by itself."""
    ip(gateway, "addr flush dev eth0")
    with PacketSocket(gateway, "eth0") as ears:
        yield ears


def test_neighbours_are_answered_for_the_whole_prefix_and_for_nothing_else(
    serving: Node, tap: MakeTap, uplink: PacketSocket
) -> None:
    one, other = tap(serving), tap(serving)
    attach(serving, routed(one.name, 5))
    attach(serving, routed(other.name, 6))
    here, last = link(serving, "eth1")["address"], asks(address(6, 1))
    until(lambda: bool(answers(uplink, asks(address(5, 1)), last)), "the ears of the node")
    for target in (*(address(5, rest) for rest in (0, 1, 0xC0FFEE, 2**64 - 1)), eui64(5)):
        uplink.clear()
        for question in (asks(target), asks(target, to=here)):
            said = the_answer(uplink, question, last)
            assert said[:6] == bytes.fromhex(ROUTER.replace(":", ""))
            assert said[62:78] == IPv6Address(target).packed
            assert (said[58] & 0x40, said[78:86]) == (0x40, target_mac(here)), "solicited, at this node"
    said = the_answer(uplink, probes(address(5, 1)), last)
    assert said[58] & 0x40 == 0, "it is not free"
    for target in (address(7, 1), "2001:db8:1::1", BEYOND6):
        assert answers(uplink, asks(target), last) == []
    damaged = bytearray(asks(address(5, 1)))
    damaged[21] = 64  # a hop limit that tells that it came by a router
    assert answers(uplink, bytes(damaged), last) == []


def test_the_card_passes_the_questions_although_nobody_is_in_their_groups(
    node: Node, gateway: Node, tap: MakeTap
) -> None:
    """A macvlan passes only groups with members, as cards do."""
    made = "ip link add link eth1 name up0 type macvlan mode bridge"
    if node.run(made.split(), check=False).returncode:
        pytest.skip("this kernel has no macvlan")
    ip(node, "link set eth1 up")
    apply(node, ALONE.replace("eth1", "up0"))
    daemon = launched(node)
    one = tap(node)
    attach(node, routed(one.name, 5))
    ip(gateway, "addr flush dev eth0")
    with PacketSocket(gateway, "eth0") as ears:
        for rest in (1, 0xC0FFEE, 0xABCDEF, 0x123456, 2**64 - 1):

            def answered() -> bool:
                ears.send(asks(address(5, rest)))  # noqa: B023
                wanted = IPv6Address(address(5, rest)).packed  # noqa: B023
                return any(advertised(frame) == wanted for frame in arrived(ears))

            until(answered, "an answer")
    stopped(daemon)


def test_a_new_daemon_answers_where_the_old_one_died(node: Node, gateway: Node, tap: MakeTap) -> None:
    apply(node, ALONE)
    daemon = launched(node)
    one, other = tap(node), tap(node)
    attach(node, routed(one.name, 5))
    attach(node, routed(other.name, 6))
    ip(gateway, "addr flush dev eth0")
    last = asks(eui64(6))  # the kernel answers that one
    with PacketSocket(gateway, "eth0") as ears:
        the_answer(ears, asks(address(5, 1)), last)
        stopped(daemon, signal.SIGKILL)
        assert answers(ears, asks(address(5, 1)), last) == []
        daemon = launched(node)
        until(lambda: bool(answers(ears, asks(address(5, 1)), last)), "the ears of the new daemon")
    stopped(daemon)


def test_neighbours_are_answered_no_more_when_the_nic_is_detached(
    serving: Node, tap: MakeTap, uplink: PacketSocket
) -> None:
    one, other = tap(serving), tap(serving)
    attach(serving, routed(other.name, 6))
    before = shot(serving)
    attach(serving, routed(one.name, 5))
    last = asks(address(6, 1))
    the_answer(uplink, asks(address(5, 1)), last)
    manage(serving, "detach", one.name)
    assert answers(uplink, asks(address(5, 1)), last) == []
    assert shot(serving) == before
    assert differences(serving) == []


def test_who_scans_one_prefix_keeps_nobody_else_from_an_answer(
    serving: Node, tap: MakeTap, uplink: PacketSocket
) -> None:
    one, other = tap(serving), tap(serving)
    attach(serving, routed(one.name, 5))
    attach(serving, routed(other.name, 6))
    for rest in range(1, 600):
        uplink.send(asks(address(5, rest)))

    def answered() -> bool:
        uplink.send(asks(address(6, 1)))
        wanted = IPv6Address(address(6, 1)).packed
        return any(advertised(frame) == wanted for frame in arrived(uplink))

    until(answered, "the answer to the other")


def arrived(ears: PacketSocket) -> Iterator[bytes]:
    while frame := ears.receive(0.05):
        yield frame


def test_who_sends_to_many_addresses_of_a_prefix_fills_no_table(serving: Node, gateway: Node, tap: MakeTap) -> None:
    """RFC 6583. The node looks for none of them: it sends everything to the guest."""
    one = tap(serving)
    attach(serving, routed(one.name, 5))
    to = link(serving, "eth1")["address"]
    with PacketSocket(gateway, "eth0") as mouth:
        for rest in range(1, 200):
            mouth.send(udp(ROUTER, to, BEYOND6, address(5, rest), f"for {rest}."))
        one.expect(lambda frame: b"for 199." in frame, "the last packet")
    neighbours = json.loads(serving.run(["ip", "-6", "-json", "neigh", "show", "dev", one.name]).stdout)
    assert [one["dst"] for one in neighbours if one["state"] != ["PERMANENT"]] == []


def test_what_is_shown_of_it(serving: Node, tap: MakeTap) -> None:
    one = tap(serving)
    attach(serving, routed(one.name, 5))
    (shown,) = answer(serving, "status")["nics"]
    assert (shown["state"], shown["addresses"]) == ("ok", [public(5), eui64(5), str(prefix(5))])
    for known in (eui64(5), address(5, 77)):
        assert str(prefix(5)) in answer(serving, "explain", known)["nics"][0]["addresses"]
    for source, verdict in ((address(5, 77), "accept"), (address(6, 77), "drop"), (GATEWAY6, "drop")):
        packet = f"from={source} to={BEYOND6} proto=tcp"
        told = answer(serving, "explain", one.name, "--packet", packet)["nics"][0]["packet"]
        assert told["verdict"] == verdict
    found = serving.run(["ip", "-6", "route", "show", "table", "222"]).stdout
    assert f"{prefix(5)} via fe80::a800:ff:fe00:5 dev {one.name} proto 156" in found


def test_check_notices_what_is_missing_and_reconcile_mends_it(node: Node, tap: MakeTap) -> None:
    apply(node, ALONE)
    one = tap(node)
    attach(node, routed(one.name, 5))
    assert differences(node) == []
    ip(node, f"-6 route del {prefix(5)} table 222")
    assert len(differences(node)) == 1
    manage(node, "reconcile")
    assert differences(node) == []
    assert str(prefix(5)) in node.run(["ip", "-6", "route", "show", "table", "222"]).stdout


def test_the_key_comes_and_goes_under_a_running_guest(ready: Node, tap: MakeTap) -> None:
    one = tap(ready)
    attach(ready, routed(one.name, 5))
    before = shot(ready)
    apply(ready, ALONE)
    manage(ready, "reconcile")
    assert differences(ready) == []
    table = ready.run(["ip", "-6", "route", "show", "table", "222"]).stdout
    assert (str(prefix(5)) in table, f"2001:db8::a800:ff:fe00:5 dev {one.name}" in table) == (True, False)
    apply(ready, CONFIG)
    manage(ready, "reconcile")
    assert differences(ready) == []
    assert shot(ready) == before


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        (
            {"IP": None},
            "it has no IPv4 address, which leads to its IPv6 prefix (ipv6-per-nic of the public link public)",
        ),
        ({"IP": "2001:db8::77"}, "it has no IPv4 address, which leads to its IPv6 prefix"),
        ({"IP": "198.51.100.7"}, "its address 198.51.100.7 is in no subnet of the public link public"),
        ({"IP": "192.0.2.0"}, "its address 2001:db8::/64 takes 2001:db8::1 from the public link public"),
        ({"NETWORK_SUBNET6": "2001:db8:1::/64"}, "its network pubnet has the IPv6 prefix 2001:db8:1::/64"),
        ({"TAGS": "vif:0:address:2001:db8:0:9::7"}, "its address 2001:db8:0:9::7 is in 2001:db8::/48"),
    ],
)
def test_a_nic_that_cannot_have_a_prefix_is_refused(
    node: Node, tap: MakeTap, changes: dict[str, str | None], what: str
) -> None:
    apply(node, ALONE)
    one = tap(node)
    said = complaint(vif_script(node, routed(one.name, 5, **changes)))
    assert said.startswith(f"error: vm5.example.com NIC 0 ({one.name}): {what}")


def test_a_guest_without_ipv4_has_its_prefix_by_the_address_that_ganeti_keeps_for_it(node: Node, tap: MakeTap) -> None:
    apply(node, ALONE)
    one = tap(node)
    attach(node, routed(one.name, 5, TAGS="disable_ipv4"))
    (shown,) = answer(node, "status")["nics"]
    assert shown["addresses"] == [eui64(5), str(prefix(5))]
    assert differences(node) == []


def test_a_guest_without_ipv6_has_none(node: Node, tap: MakeTap) -> None:
    apply(node, ALONE)
    one = tap(node)
    attach(node, routed(one.name, 5, TAGS="disable_ipv6"))
    (shown,) = answer(node, "status")["nics"]
    assert shown["addresses"] == [public(5)]
    assert differences(node) == []


@pytest.fixture
def site(stack: ExitStack) -> Iterator[Site]:
    with connected(stack) as site:
        for node in (site.source, site.target):
            apply(node, CONFIGURED)
            stack.enter_context(responding(node))
        yield site


def test_a_prefix_follows_its_guest_to_another_node(site: Site, stack: ExitStack) -> None:
    _, arrival = moving(site, stack)  # the guest with the number 77 stays on the target
    uplinks = {link(node, "eth1")["address"]: node.name for node in (site.source, site.target)}

    def asked(target: str) -> list[str]:
        last = asks(address(77, 1))
        return [uplinks[frame[6:12].hex(":")] for frame in answers(site.router, asks(target), last)]

    until(lambda: bool(asked(address(77, 2))), "the ears of the target")
    until(lambda: asked(address(5, 1)) == ["node1"], "the ears of the source")
    assert asked(eui64(5)) == ["node1"]
    assert differences(site.target) == []
    arrival.speak()
    until(lambda: state_of(site.target) == "ok", "the answers for it")
    until(lambda: state_of(site.source) == "elsewhere", "the source's leave")
    for rest in (1, 0xC0FFEE, 0xA80000FFFE000000 + 5):
        assert asked(address(5, rest)) == ["node2"]
    there = link_of(site.target)
    until(lambda: there in state(site.target)["taps"], "its service there")
    wanted, site_router = IPv6Address(address(5, 0xC0FFEE)).packed, site.router

    def announced() -> bool:
        """What the guest says of itself is said on the uplink, too."""
        site_router.clear()
        arrival.send(advertises(address(5, 0xC0FFEE)))
        came = [frame for frame in arrived(site_router) if advertised(frame) == wanted]
        return {frame[6:12].hex(":") for frame in came} == {link(site.target, "eth1")["address"]}

    until(announced, "the announcement of the target")
    late = udp(ROUTER, link(site.source, "eth1")["address"], BEYOND6, address(5, 0xC0FFEE), "late")
    with PacketSocket(site.target, "eth1") as ears:
        site.router.send(late)
        ears.expect(lambda frame: b"late" in frame, "what still went to the source")
    assert differences(site.source) == differences(site.target) == []
    arrival.die()


def test_the_same_nic_has_the_same_prefix_on_every_node(site: Site, stack: ExitStack) -> None:
    found = set()
    for node, number in ((site.source, 5), (site.target, 5)):
        one = stack.enter_context(Tap(node))
        attach(node, routed(one.name, number))
        (shown,) = answer(node, "status")["nics"]
        found.add(shown["addresses"][-1])
        manage(node, "detach", one.name)
    assert found == {str(prefix(5))}
