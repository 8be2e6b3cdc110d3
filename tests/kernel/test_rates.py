# SPDX-License-Identifier: BSD-2-Clause
"""Limits of one NIC with real frames: rates in both directions, floods, and guests that are kept from each other.

The kernel's own counters say what passed. The machine is busy, so bounds are wide; bench/rates has the exact figures.
"""

from __future__ import annotations

import json
import os
import time

import pytest

from ganeti_vif.config.limits import Flood
from ganeti_vif.guard.limits import ABOVE_PACKETS, ABOVE_RATE, TOO_MANY
from tests.lab import Node, PacketSocket, Tap

from .actions import BROADCAST, answer, arp, attach, complaint, differences, link, manage, shot, udp, vif_script
from .conftest import MakeTap, apply
from .environment import CONFIG, GATEWAY, bridged, mac, private, public, routed

TAP_MAC = "fe:00:56:49:46:01"
WORLD = "02:00:00:00:00:99"
RATE = 8_000_000
SECONDS = 2.0
LOW, HIGH = 0.5, 1.2


def shaper(node: Node, tap: str) -> str:
    """The kind and rate of our shaper of TAP, as tc prints them; empty if there is none."""
    found = node.run(["tc", "qdisc", "show", "dev", tap, "root"]).stdout.split()
    return " ".join([found[1], found[found.index("rate") + 1]]) if "7686:" in found else ""


def dropped(node: Node, tap: str, reason: str) -> int:
    """How many frames the filter of TAP dropped for REASON, as the administrator sees it."""
    (nic,) = answer(node, "explain", tap)["nics"]
    rules = [rule for chain in nic["chains"] for rule in chain["rules"] if rule["reason"] == reason]
    assert rules, f"no rule drops what is {reason}"
    return sum(rule["packets"] for rule in rules)


def rate_of(node: Node, tap: Tap, frame: bytes, seconds: float) -> float:
    """Bits a second of FRAME's bytes behind the Ethernet header that the kernel took from TAP, of as many as fit."""
    counted = ["nft", "-j", "list", "counter", "netdev", "seen", "passed"]
    begin = time.monotonic()
    before = json.loads(node.run(counted).stdout)
    while (now := time.monotonic()) < begin + seconds:
        for _ in range(50):
            tap.send(frame)
    after = json.loads(node.run(counted).stdout)
    first, last = (next(one["counter"] for one in found["nftables"] if "counter" in one) for found in (before, after))
    return float(8 * (last["bytes"] - first["bytes"]) / (now - begin))


def count_after_our_filter(node: Node, tap: str) -> None:
    rule = f"add chain netdev seen in {{ type filter hook ingress device {tap} priority 1; }}"
    words = (
        f"add table netdev seen; add counter netdev seen passed; {rule}; add rule netdev seen in counter name passed"
    )
    node.run(["nft", words])


@pytest.mark.parametrize("mode", ["routed", "bridged"])
def test_a_guest_sends_at_its_rate_and_no_faster(ready: Node, tap: MakeTap, mode: str) -> None:
    guest = tap(ready)
    given = routed(guest.name, 5) if mode == "routed" else bridged(guest.name, 5)
    attach(ready, given | {"TAGS": f"vif:0:rate:none/{RATE // 1000}k"})
    count_after_our_filter(ready, guest.name)
    source, target = (public(5), GATEWAY) if mode == "routed" else (private(5), private(6))
    frame = udp(mac(5), TAP_MAC if mode == "routed" else mac(6), source, target, "x" * 1400)
    spend = RATE // 8 // len(frame) + 100
    for _ in range(spend):
        guest.send(frame)
    found = rate_of(ready, guest, frame, SECONDS)
    assert LOW * RATE < found < HIGH * RATE
    assert dropped(ready, guest.name, ABOVE_RATE) > 0
    assert shaper(ready, guest.name) == ""


def test_a_large_frame_of_a_slow_guest_passes_whole(ready: Node, tap: MakeTap) -> None:
    """A virtio card hands over 64 KB at once: a bucket that held less would never let it pass."""
    guest = tap(ready)
    attach(ready, bridged(guest.name, 5, TAGS="vif:0:rate:none/64k"))
    frame = udp(mac(5), mac(6), private(5), private(6), "x" * 60000)
    guest.send(frame)
    assert dropped(ready, guest.name, ABOVE_RATE) == 0
    guest.send(frame)
    assert dropped(ready, guest.name, ABOVE_RATE) == 1


def test_what_reaches_a_guest_waits_for_its_turn(ready: Node, gateway: Node, tap: MakeTap) -> None:
    guest = tap(ready)
    attach(ready, routed(guest.name, 5, TAGS=f"vif:0:rate:{RATE // 1000}k/none"))
    assert shaper(ready, guest.name) == "tbf 8Mbit"
    assert differences(ready) == []
    frame = udp(WORLD, link(ready, "eth1")["address"], GATEWAY, public(5), "x" * 1400)
    got = 0
    with PacketSocket(gateway, "eth0") as world:
        begin = time.monotonic()
        first = None
        while (now := time.monotonic()) < begin + SECONDS:
            for _ in range(20):
                world.send(frame)
            while (found := _next(guest)) is not None:
                if b"xxxx" in found:
                    got += len(found)
            first = first or (now, got)
    assert first
    rate = 8 * (got - first[1]) / (now - first[0])
    assert LOW * RATE < rate < HIGH * RATE


def _next(guest: Tap) -> bytes | None:
    try:
        return os.read(guest.fd, 70000)
    except BlockingIOError:
        return None


LOOK = """\
import sys
sys.path.insert(0, "/usr/share/ganeti-vif")
from ganeti_vif.kernel import packets
packets.send(sys.argv[1], [bytes.fromhex(sys.argv[2])], waits=False)
"""


def test_a_look_at_a_guest_does_not_wait_behind_what_others_sent_it(ready: Node, gateway: Node, tap: MakeTap) -> None:
    """During a migration the source counts how many frames its guest reads in 0.2 s (daemon/second_look.py)."""
    guest = tap(ready)
    attach(ready, routed(guest.name, 5, TAGS="vif:0:rate:64k/none"))
    frame = udp(WORLD, link(ready, "eth1")["address"], GATEWAY, public(5), "x" * 1400)
    with PacketSocket(gateway, "eth0") as world:
        for _ in range(60):
            world.send(frame)
    guest.expect(lambda one: b"xxxx" in one, "what others sent")
    look = udp(WORLD, mac(5), GATEWAY, public(5), "a look")
    ready.run(["/usr/bin/python3", "-c", LOOK, guest.name, look.hex()])
    earlier = guest.before(lambda one: b"a look" in one, "the look")
    waiting = json.loads(ready.run(["tc", "-s", "-j", "qdisc", "show", "dev", guest.name, "root"]).stdout)[0]
    assert waiting["backlog"] > 0 or waiting["drops"] > 0, "nothing had to wait"
    assert len(earlier) < 50


def test_packets_a_second_are_limited_in_both_directions(ready: Node, gateway: Node, tap: MakeTap) -> None:
    guest = tap(ready)
    attach(ready, routed(guest.name, 5, TAGS="vif:0:packets:100+50/100+50"))
    out = udp(mac(5), TAP_MAC, public(5), GATEWAY, "out")
    inwards = udp(WORLD, link(ready, "eth1")["address"], GATEWAY, public(5), "in")
    with PacketSocket(gateway, "eth0") as world:
        begin = time.monotonic()
        for _ in range(2000):
            guest.send(out)
            world.send(inwards)
        refilled = 100 * (time.monotonic() - begin)
    (nic,) = answer(ready, "explain", guest.name)["nics"]
    for chain in nic["chains"]:
        over = sum(rule["packets"] for rule in chain["rules"] if rule["reason"] == ABOVE_PACKETS)
        assert 2000 - 50 - refilled - 100 < over < 2000, chain["name"]  # the node itself sends some packets, too


def test_a_rate_is_changed_live_and_taken_away(ready: Node, tap: MakeTap) -> None:
    """As Ganeti's hook does after `gnt-instance modify`: the same NIC with other tags."""
    guest = tap(ready)
    attach(ready, routed(guest.name, 5))
    without = shot(ready)
    for tags, expected in (("vif:0:rate:100M", "tbf 100Mbit"), ("vif:0:rate:1G/none", "tbf 1Gbit"), ("", "")):
        attach(ready, routed(guest.name, 5, TAGS=tags))
        assert shaper(ready, guest.name) == expected
        assert differences(ready) == []
    assert {key: value for key, value in shot(ready).items() if key not in ("links", "files")} == {
        key: value for key, value in without.items() if key not in ("links", "files")
    }


def test_a_rate_that_somebody_changed_is_named_and_repaired(ready: Node, tap: MakeTap) -> None:
    guest = tap(ready)
    attach(ready, routed(guest.name, 5, TAGS="vif:0:rate:100M"))
    for words in (
        "change dev {} root handle 7686: tbf rate 1gbit burst 1m limit 2m",
        "del dev {} root",
    ):
        ready.run(["tc", "qdisc", *words.format(guest.name).split()])
        (found,) = differences(ready)
        assert f"shaper of {guest.name}" in found
        manage(ready, "reconcile")
        assert (shaper(ready, guest.name), differences(ready)) == ("tbf 100Mbit", [])
    attach(ready, routed(guest.name, 5))
    ready.run(
        [
            "tc",
            "qdisc",
            "add",
            "dev",
            guest.name,
            "root",
            "handle",
            "7686:",
            *["tbf", "rate", "1mbit", "burst", "9k", "limit", "9k"],
        ]
    )
    assert differences(ready) == [f"left over: shaper of {guest.name}"]
    manage(ready, "reconcile")
    assert differences(ready) == []


def test_a_queueing_discipline_of_somebody_else_is_not_replaced(ready: Node, tap: MakeTap) -> None:
    guest = tap(ready)
    attach(ready, routed(guest.name, 5))
    ready.run(["tc", "qdisc", "add", "dev", guest.name, "root", "handle", "1:", "htb"])
    said = complaint(vif_script(ready, routed(guest.name, 5, TAGS="vif:0:rate:100M")))
    assert "has a queueing discipline of another program" in said
    assert " htb 1:" in ready.run(["tc", "qdisc", "show", "dev", guest.name, "root"]).stdout


def test_detach_takes_the_shaper_away(ready: Node, tap: MakeTap) -> None:
    guest = tap(ready)
    attach(ready, routed(guest.name, 5, TAGS="vif:0:rate:100M"))
    manage(ready, "detach", guest.name)
    assert shaper(ready, guest.name) == ""


def test_tags_come_before_the_network_and_this_before_the_configuration(node: Node, tap: MakeTap) -> None:
    apply(node, CONFIG.replace("[public public]", "[public public]\nguest-rate = 10M\nguest-packets = 5k/none"))
    one = tap(node)
    for tags, network, expected in (
        ("", "nfdhcpd", "10M/10M"),
        ("", "nfdhcpd vif:rate:20M/30M", "20M/30M"),
        ("vif:0:rate:40M", "nfdhcpd vif:rate:20M/30M", "40M/40M"),
        ("vif:0:rate:none", "nfdhcpd vif:rate:20M", "none/none"),
    ):
        attach(node, routed(one.name, 5, TAGS=tags, NETWORK_TAGS=network))
        (nic,) = answer(node, "explain", one.name)["nics"]
        assert (nic["limits"]["rate"], nic["limits"]["packets"]) == (expected, "5k+500/none")
        assert answer(node, "status")["nics"][0]["limits"] == nic["limits"]


FLOODS = {
    Flood.ARP: arp(mac(5), private(5), private(6), destination=mac(6)),
    Flood.BROADCAST: udp(mac(5), BROADCAST, private(5), "10.0.0.255", "broadcast"),
    Flood.MULTICAST: udp(mac(5), "01:00:5e:00:00:fb", private(5), "224.0.0.251", "multicast"),
    Flood.DHCP: udp(mac(5), mac(6), private(5), private(6), "no such request", ports=(4000, 67)),
}


@pytest.mark.parametrize("kind", FLOODS, ids=lambda kind: kind.value)
def test_a_flood_of_what_all_must_look_at_is_cut(ready: Node, tap: MakeTap, kind: Flood) -> None:
    guest, other = tap(ready), tap(ready)
    attach(ready, bridged(other.name, 6))
    attach(ready, bridged(guest.name, 5, TAGS=f"vif:0:limit:{kind.value}:50"))
    begin = time.monotonic()
    for _ in range(1000):
        guest.send(FLOODS[kind])
    refilled = 50 * (time.monotonic() - begin)
    assert 1000 - 100 - refilled - 50 < dropped(ready, guest.name, TOO_MANY[kind]) <= 900
    quiet = udp(mac(5), mac(6), private(5), private(6), "a quiet word")
    guest.send(quiet)
    other.expect(lambda frame: b"a quiet word" in frame, "what is no flood")


def test_usual_limits_let_a_guest_with_many_addresses_announce_them_all(ready: Node, tap: MakeTap) -> None:
    """64 addresses is the most that tags grant. keepalived announces each five times when it takes them over."""
    guest = tap(ready)
    attach(ready, bridged(guest.name, 5))
    for _ in range(64 * 5):
        guest.send(arp(mac(5), private(5), private(5)))
    assert dropped(ready, guest.name, TOO_MANY[Flood.ARP]) == 0
    assert dropped(ready, guest.name, TOO_MANY[Flood.BROADCAST]) == 0


def test_isolated_guests_of_a_bridge_do_not_reach_each_other(ready: Node, tap: MakeTap) -> None:
    one, two, open_one = tap(ready), tap(ready), tap(ready)
    for number, each in ((5, one), (6, two)):
        attach(ready, bridged(each.name, number, NETWORK_TAGS="vif:isolated"))
    attach(ready, bridged(open_one.name, 7))
    assert differences(ready) == []
    one.send(arp(mac(5), private(5), private(6)))
    open_one.expect(lambda frame: arp_from(frame, mac(5)), "a broadcast of the isolated guest")
    open_one.send(arp(mac(7), private(7), private(6)))
    earlier = two.before(lambda frame: arp_from(frame, mac(7)), "a broadcast of the guest that is not isolated")
    assert not [frame for frame in earlier if arp_from(frame, mac(5))]
    ready.run(["bridge", "link", "set", "dev", one.name, "isolated", "off"])
    assert differences(ready) == [
        f"different: {one.name} as a port of pvn1: isolated is off, should be on",
    ]
    manage(ready, "reconcile")
    assert differences(ready) == []
    attach(ready, bridged(one.name, 5))
    assert link(ready, one.name)["linkinfo"]["info_slave_data"]["isolated"] is False
    attach(ready, bridged(one.name, 5, NETWORK_TAGS="vif:isolated"))
    attach(ready, bridged(one.name, 5, link="pvn2", NETWORK_TAGS="vif:isolated"))
    found = link(ready, one.name)
    assert (found["master"], found["linkinfo"]["info_slave_data"]["isolated"]) == ("pvn2", True)


def arp_from(frame: bytes, source: str) -> bool:
    return frame[6:14] == bytes.fromhex(source.replace(":", "")) + b"\x08\x06"


@pytest.mark.parametrize("tag", ["rate:fast", "rate:1M/2M/3M", "rate:63k", "packets:0", "limit:arp", "limit:tcp:5"])
def test_a_limit_that_nobody_understands_is_refused(ready: Node, tap: MakeTap, tag: str) -> None:
    said = complaint(vif_script(ready, routed(tap(ready).name, 5, TAGS=f"vif:0:{tag}")))
    assert f"the instance tag 'vif:0:{tag}'" in said
