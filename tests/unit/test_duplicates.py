# SPDX-License-Identifier: BSD-2-Clause
"""Duplicate addresses: who says what in frames, what a filter lets pass, what is withheld, and what a migration changes."""

from __future__ import annotations

import struct
from contextlib import nullcontext
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import cast

import pytest
from memory_node import MemoryNode, memory_node
from samples import CONFIG, ROUTED, nic_of

from ganeti_vif.config.model import Duplicates
from ganeti_vif.config.parse import parse
from ganeti_vif.daemon import duplicates as module
from ganeti_vif.daemon import lives as lives_module
from ganeti_vif.daemon.duplicates import AGE, MOST, DuplicateAddresses
from ganeti_vif.daemon.lives import Lives
from ganeti_vif.daemon.shared import SharedAddresses
from ganeti_vif.daemon.tasks import Task
from ganeti_vif.daemon.timers import Timers
from ganeti_vif.daemon.trouble import Trouble
from ganeti_vif.desired import routed
from ganeti_vif.kernel import capture_filter
from ganeti_vif.kernel.capture_filter import Filter
from ganeti_vif.lifecycle.attach import attach
from ganeti_vif.lifecycle.recorded import recorded
from ganeti_vif.nic.announcement import (
    arp_answer,
    gratuitous_arp,
    neighbour_advertisement,
    neighbour_solicitation,
    owned,
    question,
)
from ganeti_vif.nic.life import State
from ganeti_vif.nic.nic import Nic
from ganeti_vif.nic.record import nic_of as read_record
from ganeti_vif.nic.record import record_of
from ganeti_vif.nic.withheld import with_withheld_of, withholding
from ganeti_vif.reconcile.survey import reconcile
from ganeti_vif.system import log

MAC, OTHER = "0e:00:00:00:00:01", "0e:00:00:00:00:02"
FOUR, SIX = IPv4Address("192.0.2.5"), IPv6Address("2001:db8::5")
HARDWARE = bytes.fromhex(MAC.replace(":", ""))


def test_a_frame_says_who_has_an_address() -> None:
    assert owned(gratuitous_arp(1, FOUR, HARDWARE)) == (FOUR, MAC)
    assert owned(gratuitous_arp(2, FOUR, HARDWARE)) == (FOUR, MAC)
    assert owned(arp_answer(FOUR, MAC, OTHER)) == (FOUR, MAC)
    assert owned(neighbour_advertisement(SIX, HARDWARE)) == (SIX, MAC)
    assert owned(question(FOUR, MAC)) is None
    assert owned(question(SIX, MAC)) is None
    assert owned(neighbour_solicitation(SIX, MAC)) is None
    assert owned(b"") is None
    assert owned(neighbour_advertisement(SIX, HARDWARE)[:78]) == (SIX, MAC), "no option: who sent the frame"


def test_a_question_asks_without_an_address_of_its_own() -> None:
    probe = question(FOUR, MAC)
    assert (probe[:6], probe[20:22], probe[28:32], probe[38:42]) == (b"\xff" * 6, b"\0\1", bytes(4), FOUR.packed)
    solicitation = question(SIX, MAC)
    assert solicitation[:6] == bytes.fromhex("3333ff000005")
    assert (solicitation[22:38], solicitation[62:78]) == (bytes(16), SIX.packed)
    assert struct.unpack_from("!H", solicitation, 18) == (24,), "no option: RFC 4861, 4.3"


def passes(program: Filter, frame: bytes) -> bool:
    """What the kernel makes of FRAME by PROGRAM, in classic BPF."""
    accumulator, at = 0, 0
    sizes = {0x20: 4, 0x28: 2, 0x30: 1}
    while True:
        code, then, otherwise, value = program[at]
        at += 1
        if code in sizes:
            if value + sizes[code] > len(frame):
                return False
            accumulator = int.from_bytes(frame[value : value + sizes[code]], "big")
        elif code == 0x54:
            accumulator &= value
        elif code == 0x15:
            at += then if accumulator == value else otherwise
        else:
            assert code == 0x06
            return value > 0


@pytest.mark.parametrize(
    ("address", "heard"),
    [("192.0.2.5", True), ("192.0.3.5", False), ("198.51.100.200", True), ("192.0.2.1", False), ("0.0.0.0", False)],
)
def test_only_senders_of_the_link_are_heard(address: str, heard: bool) -> None:
    subnets = [IPv4Network("192.0.2.0/24"), IPv4Network("198.51.100.128/25")]
    program = capture_filter.senders(subnets, [IPv4Address("192.0.2.1")])
    assert passes(program, gratuitous_arp(1, IPv4Address(address), HARDWARE)) is heard


@pytest.mark.parametrize(
    ("address", "heard"),
    [("2001:db8::5", True), ("2001:db8:0:1::5", False), ("2001:db8:7:8::1", True), ("2001:db8:7:9::1", False)],
)
def test_only_advertisements_of_the_link_are_heard(address: str, heard: bool) -> None:
    program = capture_filter.advertised([IPv6Network("2001:db8::/64"), IPv6Network("2001:db8:7:8::/64")])
    frame = neighbour_advertisement(IPv6Address(address), HARDWARE)
    assert passes(program, frame) is heard
    assert not passes(program, frame[:21] + b"\xfe" + frame[22:]), "it came by a router"
    assert not passes(program, neighbour_solicitation(IPv6Address(address), MAC))


def test_a_guest_may_use_what_is_withheld_and_nothing_leads_to_it() -> None:
    nic = nic_of(ROUTED)
    assert nic.address
    held = withholding(nic, [nic.address, FOUR])
    assert held.withheld == (nic.address,), "what is not its own cannot be withheld"
    assert held.networks(4) == nic.networks(4)
    assert (held.led(4), held.led(6)) == ((), nic.led(6))
    assert routed.led(held) == routed.addresses(nic)[1:]
    assert read_record(record_of(held)) == held
    assert "withheld" not in record_of(nic).text
    assert with_withheld_of(held, nic) == held
    assert with_withheld_of(None, nic) == nic
    assert with_withheld_of(held, replace(nic, ip=FOUR)).withheld == ()


def test_the_key_is_read() -> None:
    text = "[public p]\ntable = 222\nuplink = eth1\nsubnets = 192.0.2.0/24\n"
    assert parse(text).public[0].duplicates is Duplicates.WARN
    assert parse(text + "duplicates = refuse\n").public[0].duplicates is Duplicates.REFUSE


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryNode:
    found = memory_node(tmp_path, monkeypatch)
    reconcile(CONFIG, found)
    monkeypatch.setattr(lives_module.lock, "held", lambda *_, **__: nullcontext())
    monkeypatch.setattr(found, "forget", lambda: None)
    monkeypatch.setattr(log, "say", lambda *_: None)
    return found


@pytest.fixture
def nic(node: MemoryNode, monkeypatch: pytest.MonkeyPatch) -> Nic:
    one = node.plug(nic_of(ROUTED))
    attach(one, CONFIG, node)
    monkeypatch.setattr(module, "owner", lambda address, *_: recorded(one.tap))
    return one


SHARED = IPv4Address("10.77.1.200")


class Site:
    """The duplicates of a node, the asked and the announced."""

    def __init__(self, node: MemoryNode, monkeypatch: pytest.MonkeyPatch) -> None:
        self.timers = Timers[Task]()
        self.lives = Lives(CONFIG, node, self.timers)
        self.told = Trouble()
        self.shared = SharedAddresses(self.lives, node, self.timers)
        self.asked: list[bytes] = []
        self.announced: list[Nic] = []
        self.clock = 1000.0
        monkeypatch.setattr(module.packets, "send", lambda device, frames: self.asked.extend(frames))
        monkeypatch.setattr(lives_module, "announce", lambda nic, *_: self.announced.append(nic))
        monkeypatch.setattr(module.time, "monotonic", lambda: self.clock)
        self.duplicates = DuplicateAddresses(self.lives, node, self.timers, self.told, self.shared)

    def says(self, address: object, mac: str = MAC) -> None:
        self.duplicates._owned(cast(IPv4Address, address), mac, CONFIG.public[0], self.clock)

    @property
    def trouble(self) -> list[str]:
        return [one["what"] for one in self.told.told]


@pytest.fixture
def site(node: MemoryNode, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(node, monkeypatch)


def test_a_duplicate_is_told_with_its_mac_and_ages_out(site: Site, nic: Nic) -> None:
    site.says(nic.address)
    assert len(site.trouble) == 1
    assert site.trouble[0].startswith(f"{nic.whom}: its address {nic.address} is also used by {MAC} on ")
    site.says(nic.address, OTHER)
    assert OTHER in site.trouble[0]
    site.clock += AGE - 1
    site.duplicates.ask_again()
    assert len(site.asked) == len(site.trouble) == 1
    site.clock += 2
    site.duplicates.ask_again()
    assert site.trouble == []


@pytest.mark.parametrize("state", [one for one in State if one not in (State.UNKNOWN, State.ATTACHED)])
def test_a_nic_on_its_way_has_no_duplicates(
    site: Site, nic: Nic, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site.lives, "state", lambda tap: state)
    site.says(nic.address)
    assert site.trouble == []
    assert not site.duplicates.ask(nic, first=True)
    assert site.asked == []


def test_a_shared_address_goes_to_who_announces_it_also_while_the_nic_is_on_its_way(
    site: Site, nic: Nic, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[object] = []
    shares = replace(nic, grants=replace(nic.grants, shared=(SHARED,)))
    monkeypatch.setattr(module, "owner", lambda *_: shares)
    monkeypatch.setattr(site.lives, "state", lambda tap: State.LEAVING)
    monkeypatch.setattr(site.shared, "taken", lambda nic, address: taken.append(address))
    site.duplicates._owned(SHARED, MAC, CONFIG.public[0], site.clock, announces=True)
    assert taken == [SHARED]


def test_refuse_withholds_in_the_first_moment_and_gives_back(site: Site, nic: Nic, node: MemoryNode) -> None:
    refusing = replace(CONFIG.public[0], duplicates=Duplicates.REFUSE)
    site.lives.config = replace(CONFIG, public=(refusing, *CONFIG.public[1:]))
    assert not site.duplicates.ask(nic, first=False)
    assert site.duplicates.ask(nic, first=True)
    site.says(nic.address)
    site.duplicates.admit(nic.tap)
    held = recorded(nic.tap)
    assert held and held.withheld == (nic.address,)
    assert site.announced == [held]
    site.says(nic.address6)
    assert recorded(nic.tap) == held, "what is heard later is told only"
    anew = DuplicateAddresses(site.lives, node, site.timers, Trouble(), site.shared)
    anew.ask_again()
    assert recorded(nic.tap) == held, "the next daemon waits, too"
    site.clock += AGE + 1
    anew.ask_again()
    assert recorded(nic.tap) == nic
    assert site.announced == [held, nic]


def test_what_is_remembered_is_bounded(site: Site, nic: Nic) -> None:
    for number in range(2 * MOST):
        site.says(IPv4Address("192.0.2.0") + number)
    assert len(site.trouble) == MOST
