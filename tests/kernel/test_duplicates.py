# SPDX-License-Identifier: BSD-2-Clause
"""Another machine on the uplink has an address of a guest: it is noticed and told, and takes nothing from the guest."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from ganeti_vif.nic.announcement import ARP_REPLY, ARP_REQUEST, gratuitous_arp, neighbour_advertisement
from tests.lab import Node, PacketSocket, Tap

from .actions import answer, arp, attach, differences, ip, link, octets, ping
from .conftest import MakeTap, Plug, apply
from .environment import ARP_SOURCE, BEYOND, CONFIG, GATEWAY, GATEWAY6, public, public6, routed
from .migration_site import connected, link_of, moving, state
from .vifd import launched, said, stopped, until

ADMINISTRATION = (Path(__file__).resolve().parents[2] / "docs" / "administration.md").read_text(encoding="utf-8")
STRANGER = "0e:99:99:99:99:99"
REFUSE = CONFIG.replace("arp-source", "duplicates = refuse\narp-source")
ADDRESSES = (public(5), public6(5))


@pytest.fixture
def vifd(ready: Node) -> Iterator[subprocess.Popen[str]]:
    """The daemon of a node that is set up."""
    daemon = launched(ready)
    yield daemon
    stopped(daemon)


def other_machine(gateway: Node, *addresses: str) -> Node:
    """The machine beyond the uplink has ADDRESSES, too."""
    ip(gateway, *(f"addr add {one}/{128 if ':' in one else 32} dev eth0" for one in addresses))
    return gateway


def told(node: Node) -> list[str]:
    """What check says of duplicates."""
    return [line for line in differences(node) if " is also used by " in line]


def says(node: Node, line: str) -> bool:
    return line in told(node)


def conflict(gateway: Node, tap: str, address: str, then: str = "") -> str:
    mac = link(gateway, "eth0")["address"]
    return f"vm5.example.com NIC 0 ({tap}): its address {address} is also used by {mac} on eth1{then}"


@pytest.mark.usefixtures("vifd")
def test_a_machine_that_has_the_address_already_is_found_by_a_question(
    ready: Node, gateway: Node, tap: MakeTap
) -> None:
    """It says nothing by itself: it hears that somebody asks, and answers."""
    other_machine(gateway, *ADDRESSES)
    one = tap(ready)
    attach(ready, routed(one.name))
    expected = sorted(conflict(gateway, one.name, address) for address in ADDRESSES)
    until(lambda: sorted(told(ready)) == expected, "both conflicts")
    assert sorted(trouble["what"] for trouble in answer(ready, "status")["trouble"]) == expected
    assert all(line in said(ready) for line in expected)
    shown = re.findall(r"^vm5.*is also used by.*\n  note: .*$", ADMINISTRATION, re.MULTILINE)
    (sample,) = (re.sub(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", link(gateway, "eth0")["address"], one) for one in shown)
    assert sample.replace("tap0", one.name) in ready.run(["ganeti-vif", "check"], check=False).stdout
    ip(gateway, *(f"addr del {one}/{128 if ':' in one else 32} dev eth0" for one in ADDRESSES))
    until(lambda: differences(ready) == [], "the end of both")
    assert all(f"does not use {address} any more" in said(ready) for address in ADDRESSES)


STATEMENTS: dict[str, Callable[[], bytes]] = {
    "gratuitous request": lambda: gratuitous_arp(ARP_REQUEST, IPv4Address(public(5)), octets(STRANGER)),
    "gratuitous reply": lambda: gratuitous_arp(ARP_REPLY, IPv4Address(public(5)), octets(STRANGER)),
    "a question of its own": lambda: arp(STRANGER, public(5), GATEWAY),
    "advertisement": lambda: neighbour_advertisement(IPv6Address(public6(5)), octets(STRANGER)),
}


@pytest.mark.usefixtures("vifd")
@pytest.mark.parametrize("statement", STATEMENTS)
def test_what_a_machine_says_later_is_heard(ready: Node, gateway: Node, tap: MakeTap, statement: str) -> None:
    one = tap(ready)
    attach(ready, routed(one.name))
    with PacketSocket(gateway, "eth0") as mouth:
        mouth.send(STATEMENTS[statement]())
    address = public6(5) if statement == "advertisement" else public(5)
    expected = f"vm5.example.com NIC 0 ({one.name}): its address {address} is also used by {STRANGER} on eth1"
    until(lambda: told(ready) == [expected], "the conflict")
    assert one.name in ready.run(["ip", "route", "show", "table", "222"]).stdout
    one.close()
    until(lambda: differences(ready) == [], "the end of the conflict with the guest")


@pytest.mark.usefixtures("vifd")
def test_who_says_nothing_of_this_node_s_guests_is_no_duplicate(ready: Node, gateway: Node, tap: MakeTap) -> None:
    """The gateway, other nodes, guests of other nodes, and who asks whether an address is free."""
    one = tap(ready)
    attach(ready, routed(one.name))
    with PacketSocket(gateway, "eth0") as mouth:
        for frame in (
            arp(STRANGER, "0.0.0.0", public(5)),
            arp(STRANGER, GATEWAY, public(5)),
            arp(STRANGER, ARP_SOURCE, public(5)),
            arp(STRANGER, public(6), public(6)),
            arp(STRANGER, "198.51.100.7", public(5)),
            arp(link(ready, "eth1")["address"], public(5), public(5)),
            arp("aa:00:00:00:00:05", public(5), public(5)),
            arp("01:00:5e:00:00:05", public(5), public(5)),
            neighbour_advertisement(IPv6Address(GATEWAY6), octets(STRANGER)),
        ):
            mouth.send(frame)
        mouth.send(neighbour_advertisement(IPv6Address(public6(5)), octets(STRANGER)))
    until(lambda: told(ready) != [], "the last one")
    assert [line for line in told(ready) if public6(5) not in line] == []


@pytest.mark.usefixtures("vifd")
def test_a_flood_of_lies_fills_neither_memory_nor_log_and_takes_nothing(
    ready: Node, gateway: Node, tap: MakeTap
) -> None:
    one = tap(ready)
    attach(ready, routed(one.name, TAGS="vif:0:address:192.0.2.128/26"))
    with PacketSocket(gateway, "eth0") as mouth:
        for number in range(128, 192):
            for mac in (STRANGER, "0e:99:99:99:99:98"):
                mouth.send(arp(mac, public(number), public(number)))
    until(lambda: len(told(ready)) == 64, "all of them")
    lines = [line for line in said(ready).splitlines() if " is also used by " in line]
    assert 20 <= len(lines) < 40, "20 at once, and one in ten seconds"
    assert ready.run(["ip", "route", "show", "table", "222"]).stdout.count(one.name) == 2


def test_nothing_leads_to_an_address_that_another_machine_has_until_it_has_it_no_more(
    ready: Node, gateway: Node, plug: Plug
) -> None:
    apply(ready, REFUSE)
    daemon = launched(ready)
    other_machine(gateway, public(5))
    guest = plug(ready, "tap5", 5, f"{public(5)}/24")
    with PacketSocket(gateway, "eth0") as ears:
        attach(ready, routed("tap5"))
        expected = conflict(gateway, "tap5", public(5), ", and does not lead here meanwhile")
        until(lambda: told(ready) == [expected], "the conflict")
        heard = ears.frames(time.monotonic() + 0.1)
        assert not any(frame[28:32] == frame[38:42] == octets("c0:00:02:05") for frame in heard if frame[12] == 8)
    assert "192.0.2.5 " not in ready.run(["ip", "route", "show", "table", "222"]).stdout
    assert "tap5" in ready.run(["ip", "-6", "route", "show", "table", "222"]).stdout, "the other address is free"
    attach(ready, routed("tap5"))  # Ganeti asks again: it stays so
    assert "192.0.2.5 " not in ready.run(["ip", "route", "show", "table", "222"]).stdout
    stopped(daemon)  # and a daemon that starts anew knows it by the record
    daemon = launched(ready)
    ip(gateway, f"addr del {public(5)}/32 dev eth0")
    until(lambda: differences(ready) == [], "the end of the conflict")
    ip(guest, f"route add default via {GATEWAY}")
    ping(guest, BEYOND)
    stopped(daemon)


def test_no_lie_cuts_off_a_guest_that_runs(ready: Node, gateway: Node, tap: MakeTap) -> None:
    apply(ready, REFUSE)
    daemon = launched(ready)
    one = tap(ready)
    with PacketSocket(gateway, "eth0") as mouth:
        attach(ready, routed(one.name))
        mouth.expect(lambda frame: frame[28:32] == frame[38:42] == octets("c0:00:02:05"), "the announcement")
        mouth.send(arp(STRANGER, public(5), public(5)))
    until(lambda: told(ready) != [], "the lie")
    assert "does not lead here" not in told(ready)[0]
    attach(ready, routed(one.name))
    assert "192.0.2.5 " in ready.run(["ip", "route", "show", "table", "222"]).stdout
    stopped(daemon)


def test_two_nodes_with_one_address_both_say_so(stack: ExitStack) -> None:
    with connected(stack) as site:
        taps = [stack.enter_context(Tap(node)) for node in (site.source, site.target)]
        attach(site.source, routed(taps[0].name))
        attach(site.target, routed(taps[1].name, 6, IP=public(5)))
        for node, other, vm in ((site.source, site.target, 5), (site.target, site.source, 6)):
            mac = link(other, "eth1")["address"]
            expected = f"vm{vm}.example.com NIC 0 (tap0): its address {public(5)} is also used by {mac} on eth1"
            until(partial(says, node, expected), "the conflict")


def test_a_live_migration_is_no_conflict(stack: ExitStack) -> None:
    with connected(stack) as site:
        before, arrival = moving(site, stack)
        arrival.speak()
        until(lambda: state(site.target) == "ok", "the guest's arrival")
        assert site.asked() == {"node2"}
        site.told(site.target)
        site.told(site.target)
        before.close()
        attach(site.target, routed(link_of(site.target)))  # as Ganeti does when the source's QEMU is gone
        site.told(site.target)
        for node in (site.source, site.target):
            assert " is also used by " not in said(node)
        arrival.die()
