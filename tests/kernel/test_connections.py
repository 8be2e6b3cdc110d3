# SPDX-License-Identifier: BSD-2-Clause
"""The kernel's table of connections: guests that need none have none there, and no guest fills it."""

from __future__ import annotations

import pytest

from tests.lab import Node, PacketSocket, Tap

from .actions import attach, differences, ip, link, manage, ping, sysctl, udp
from .conftest import MakeTap, Plug, apply
from .environment import BEYOND, BEYOND6, CONFIG, GATEWAY, GATEWAY6, mac, public, public6, routed
from .test_profiles import connects, guest_of

TAP_MAC = "fe:00:56:49:46:01"
WORLD = "02:00:00:00:00:99"
NEEDS_CONNECTIONS = "vif:0:profile:limited"
FLOWS = 200
FEW = 40
"""More connections than the node itself and the tests' own pings have."""
LIMIT = 100
LIMITED = CONFIG.replace("arp-source", f"connections = {LIMIT}\narp-source")
CHAIN = "eth1-unfollowed"


def connections(node: Node) -> int:
    """How many connections the kernel follows in NODE."""
    return int(sysctl(node, "net/netfilter/nf_conntrack_count"))


def speaks(guest: Tap, world: PacketSocket, first: bytes) -> None:
    """GUEST sends until its FIRST packet arrives: other tests can fill the machine's table of neighbours meanwhile."""
    for last in (False, False, False, True):
        guest.send(first)
        try:
            world.expect(
                lambda frame: b"the first word" in frame, "the first word", **({} if last else {"timeout": 5.0})
            )
            return
        except TimeoutError:
            if last:
                raise


def opens(guest: Tap, number: int, gateway: Node, *, flows: int = FLOWS, versions: tuple[int, ...] = (4, 6)) -> int:
    """GUEST opens so many flows to the world over each of VERSIONS, and one more. Returns how many packets arrived."""
    arrived = 0
    with PacketSocket(gateway, "eth0") as world:
        for version in versions:
            source, to = (public(number), BEYOND) if version == 4 else (public6(number), BEYOND6)
            speaks(guest, world, udp(mac(number), TAP_MAC, source, to, "the first word"))
            for port in range(flows):
                guest.send(udp(mac(number), TAP_MAC, source, to, "a flow", ports=(10000 + port, 4001)))
            guest.send(udp(mac(number), TAP_MAC, source, to, "the last word"))
            seen = world.before(lambda frame: b"the last word" in frame, "the last word")
            arrived += sum(b"a flow" in frame for frame in seen)
    return arrived


def listens(node: Node, world: Node, *to: str) -> None:
    """The world sends a packet of many flows to each of these addresses."""
    uplink = link(node, "eth1")["address"]
    with PacketSocket(world, "eth0") as sender:
        for address in to:
            source = BEYOND6 if ":" in address else BEYOND
            for port in range(FLOWS):
                sender.send(udp(WORLD, uplink, source, address, "a flow", ports=(4001, 10000 + port)))


def test_a_guest_without_a_profile_has_no_connections_in_the_table_of_all(
    ready: Node, gateway: Node, tap: MakeTap, plug: Plug
) -> None:
    """Another guest's profile makes the kernel follow connections at all, and works."""
    protected = guest_of(ready, plug)
    attach(ready, routed("tap5", TAGS="vif:0:profile:protected"))
    busy = tap(ready)
    attach(ready, routed(busy.name, 6))
    assert opens(busy, 6, gateway) == 2 * FLOWS
    listens(ready, gateway, public(6), public6(6))
    busy.send(udp(mac(6), TAP_MAC, public(6), BEYOND, "the last word"))
    assert connections(ready) < FEW
    assert connects(protected, gateway, GATEWAY, 80)
    assert not connects(gateway, protected, public(5), 80)
    assert differences(ready) == []


def test_a_guest_whose_profile_needs_connections_is_followed_whoever_it_talks_to(ready: Node, plug: Plug) -> None:
    """Between two guests of one node, one end is enough."""
    protected, plain = guest_of(ready, plug), guest_of(ready, plug, 6)
    attach(ready, routed("tap5", TAGS="vif:0:profile:protected"))
    attach(ready, routed("tap6", 6))
    for guest, other in ((protected, 6), (plain, 5)):
        ip(guest, f"-6 route add {public6(other)} via {GATEWAY6} dev eth0")
    assert connects(protected, plain, public(6), 80)
    assert not connects(plain, protected, public(5), 80)
    ping(protected, public6(6))
    ping(plain, public6(5))


def test_a_guest_that_is_followed_has_a_share_of_the_table(node: Node, gateway: Node, tap: MakeTap, plug: Plug) -> None:
    """What is beyond it is dropped, and the others open connections as before."""
    apply(node, LIMITED)
    greedy = tap(node)
    attach(node, routed(greedy.name, 6, TAGS=NEEDS_CONNECTIONS))
    other = guest_of(node, plug)
    attach(node, routed("tap5", TAGS=NEEDS_CONNECTIONS))
    arrived = opens(greedy, 6, gateway, versions=(4,))
    assert LIMIT / 2 < arrived < LIMIT
    listens(node, gateway, public(6), public6(6))
    assert connections(node) < LIMIT + FEW
    assert connects(other, gateway, GATEWAY, 80)
    assert connects(gateway, other, public(5), 22)
    assert differences(node) == []


def test_one_stream_without_answers_is_one_connection(node: Node, gateway: Node, tap: MakeTap) -> None:
    apply(node, LIMITED)
    guest = tap(node)
    attach(node, routed(guest.name, 5, TAGS=NEEDS_CONNECTIONS))
    stream = udp(mac(5), TAP_MAC, public(5), BEYOND, "a stream", ports=(5000, 5001))
    for _ in range(3 * LIMIT):
        guest.send(stream)
    assert opens(guest, 5, gateway, flows=10) == 20


def test_what_a_profile_drops_takes_nothing_of_the_guests_share(node: Node, gateway: Node, plug: Plug) -> None:
    apply(node, LIMITED)
    guest = guest_of(node, plug)
    attach(node, routed("tap5", TAGS="vif:0:profile:protected"))
    ping(guest, GATEWAY)
    listens(node, gateway, public(5), public6(5))
    assert connects(guest, gateway, GATEWAY, 80)
    ping(gateway, public(5))


def test_the_limit_goes_with_its_nic(ready: Node, tap: MakeTap) -> None:
    guest = tap(ready)
    attach(ready, routed(guest.name, 5, TAGS=NEEDS_CONNECTIONS))
    guest.close()
    guest.wait_gone()
    manage(ready, "reconcile")
    assert differences(ready) == []
    assert guest.name not in ready.run(["nft", "list", "table", "inet", "ganeti_vif"]).stdout


def rules(node: Node, *commands: str) -> None:
    """Another program makes its rules."""
    for command in commands:
        node.run(["sh", "-c", command])


def is_unfollowed(node: Node) -> bool:
    return node.run(["nft", "list", "chain", "inet", "ganeti_vif", CHAIN], check=False).returncode == 0


NAT = (
    "nft add table ip site",
    "nft 'add chain ip site out { type nat hook postrouting priority 100; }'",
)


@pytest.mark.parametrize(
    ("commands", "unfollowed"),
    [
        (["nft add table inet own", "nft 'add chain inet own in { type filter hook input priority 0; }'"], True),
        (
            [
                "nft add table inet own",
                "nft 'add chain inet own in { type filter hook input priority 0; }'",
                "nft add rule inet own in ct state established accept",
            ],
            True,
        ),
        (
            [
                "nft add table inet own",
                "nft 'add chain inet own through { type filter hook forward priority 0; }'",
                "nft add rule inet own through ct state established accept",
            ],
            False,
        ),
        (NAT, True),
        ([*NAT, "nft add rule ip site out ip saddr 10.1.2.3 masquerade"], False),
        (["iptables-nft -A FORWARD -m conntrack --ctstate INVALID -j DROP"], False),
        (["ip6tables-nft -A FORWARD -p tcp --dport 25 -j DROP"], True),
        (["iptables-nft -t nat -A POSTROUTING -s 10.1.2.3 -j MASQUERADE"], False),
    ],
)
def test_rules_of_others_that_read_connections_of_forwarded_packets_get_them(
    ready: Node, tap: MakeTap, commands: list[str], unfollowed: bool
) -> None:
    assert not is_unfollowed(ready), "nobody makes the kernel follow connections"
    attach(ready, routed(tap(ready).name, 5, TAGS=NEEDS_CONNECTIONS))
    assert is_unfollowed(ready)
    rules(ready, *commands)
    manage(ready, "setup")
    assert is_unfollowed(ready) is unfollowed
    assert differences(ready) == []


def test_a_rule_of_iptables_legacy_that_reads_connections_gets_them(ready: Node, tap: MakeTap) -> None:
    attach(ready, routed(tap(ready).name, 5, TAGS=NEEDS_CONNECTIONS))
    legacy = "iptables-legacy -A FORWARD -m conntrack --ctstate INVALID -j DROP"
    if ready.run(["sh", "-c", legacy], check=False).returncode:
        pytest.skip("no iptables-legacy here")
    manage(ready, "setup")
    assert not is_unfollowed(ready)
    assert differences(ready) == []


def test_a_rule_for_the_nodes_own_connections_does_not_have_guests_followed(
    ready: Node, gateway: Node, tap: MakeTap
) -> None:
    rules(
        ready,
        "nft add table inet own",
        "nft 'add chain inet own in { type filter hook input priority 0; }'",
        "nft add rule inet own in ct state established accept",
    )
    manage(ready, "setup")
    guest = tap(ready)
    attach(ready, routed(guest.name, 5))
    assert opens(guest, 5, gateway) == 2 * FLOWS
    assert connections(ready) < FEW
    assert differences(ready) == []


@pytest.mark.parametrize(("setting", "translated"), [("auto", True), ("all", True), ("profiles", False)])
def test_the_administrators_own_translation_of_a_guests_address_works_unless_told_otherwise(
    node: Node, gateway: Node, tap: MakeTap, setting: str, translated: bool
) -> None:
    rules(node, *NAT, f"nft add rule ip site out ip saddr {public(5)} oifname eth1 snat to {public(200)}")
    apply(node, CONFIG.replace("arp-source", f"conntrack = {setting}\narp-source"))
    guest = tap(node)
    attach(node, routed(guest.name, 5))
    with PacketSocket(gateway, "eth0") as world:
        guest.send(udp(mac(5), TAP_MAC, public(5), BEYOND, "who am I"))
        frame = world.expect(lambda frame: b"who am I" in frame, "the guest's packet")
    assert frame[26:30] == bytes(map(int, public(200 if translated else 5).split(".")))
    assert differences(node) == []


def test_nothing_of_it_stays_after_a_teardown(ready: Node) -> None:
    rules(ready, *NAT, "nft add rule ip site out ip saddr 10.1.2.3 masquerade")
    apply(ready, CONFIG.replace("arp-source", "conntrack = profiles\narp-source"))
    assert is_unfollowed(ready)
    manage(ready, "teardown")
    assert "ganeti_vif" not in ready.run(["nft", "list", "tables"]).stdout
