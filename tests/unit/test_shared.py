# SPDX-License-Identifier: BSD-2-Clause
"""Shared addresses: what the tag grants, where such an address leads, and what the daemon does when it is announced."""

from __future__ import annotations

import socket
from contextlib import nullcontext
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path

import pytest
from guest_frames import BINDING, GUEST, serving
from memory_node import MemoryNode, memory_node
from samples import CONFIG, ROUTED, nic_of

from ganeti_vif.daemon import lives as lives_module
from ganeti_vif.daemon import shared as module
from ganeti_vif.daemon.lives import Lives
from ganeti_vif.daemon.shared import BURST, SharedAddresses
from ganeti_vif.daemon.tasks import Announce, Lead, LeadAway, Reconsider, Task
from ganeti_vif.daemon.timers import Timers
from ganeti_vif.desired import routed
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.objects import Address
from ganeti_vif.guard.control import rules as control_rules
from ganeti_vif.kernel.guest_socket import NOTHING_ELSE, _attach, interesting
from ganeti_vif.lifecycle.attach import attach
from ganeti_vif.lifecycle.recorded import recorded
from ganeti_vif.nic.announcement import gratuitous_arp, neighbour_advertisement, question
from ganeti_vif.nic.nic import Nic
from ganeti_vif.nic.record import nic_of as read_record
from ganeti_vif.nic.record import record_of
from ganeti_vif.nic.shared import Announced, leaders, leading, not_leading, with_leads_of
from ganeti_vif.nic.tags import grants_of
from ganeti_vif.reconcile.survey import reconcile
from ganeti_vif.responder.shared import announces, packed
from ganeti_vif.system import claim_socket, log
from ganeti_vif.system.claim_socket import ClaimSender, ClaimSocket
from nfdhcpd_bridge.binding import SHARED
from nfdhcpd_bridge.reading import Invalid, reading

FIRST = nic_of(ROUTED)
VIP = IPv4Address(int(FIRST.address or 0) + 1)
VIP6 = IPv6Address("2001:db8::100")
MAC = "0e:99:99:99:99:99"


def sharing(nic: Nic, *addresses: Address) -> Nic:
    return replace(nic, grants=replace(nic.grants, shared=addresses or (VIP,)))


def granted(tag: str) -> tuple[Address, ...]:
    return grants_of([tag], [], index=0, name=None, uuid="u").shared


def test_the_tag_names_one_address() -> None:
    assert granted("vif:0:shared-address:192.0.2.100") == (IPv4Address("192.0.2.100"),)
    assert granted("vif:0:shared-address:2001:db8::100") == (VIP6,)
    assert granted("vif:1:shared-address:192.0.2.100") == ()
    for wrong in ("192.0.2.0/24", "fe80::1", "224.0.0.1", "", "fe80::1%eth0"):
        with pytest.raises(Failure, match="vif:0:shared-address"):
            granted(f"vif:0:shared-address:{wrong}")


def test_without_the_ip_version_nothing_is_shared() -> None:
    nic = replace(sharing(FIRST), tags=frozenset({"disable_ipv4"}))
    assert (nic.shared, nic.networks(4)) == ((), ())


def test_the_guest_may_use_it_and_nothing_leads_to_it_until_it_is_announced() -> None:
    nic = sharing(FIRST)
    assert ip_network(VIP) in nic.networks(4)
    assert nic.led(4) == FIRST.led(4)
    assert VIP not in routed.led(nic)
    assert VIP in routed.answered(nic), "its neighbour entry waits for it"
    assert VIP in routed.led(leading(nic, VIP))
    assert leading(FIRST, VIP) == FIRST, "without the tag it never leads"
    assert not_leading(leading(nic, VIP), VIP) == nic
    assert not any(rule.reason == "redundancy protocol" for rule in control_rules(nic))


def test_what_is_its_own_is_not_shared() -> None:
    assert FIRST.address
    nic = sharing(FIRST, FIRST.address, VIP)
    assert nic.shared == (VIP,)
    assert FIRST.address in routed.led(nic)


def test_the_record_keeps_where_it_leads() -> None:
    nic = leading(sharing(FIRST), VIP)
    assert read_record(record_of(nic)) == nic
    assert with_leads_of(nic, sharing(FIRST)) == nic
    assert with_leads_of(nic, FIRST) == FIRST, "the tag is gone"
    assert with_leads_of(None, sharing(FIRST)).leads == ()
    assert "leads" not in record_of(FIRST).text and "shared" not in record_of(FIRST).text
    other = replace(nic, uuid="another", tap="tap9")
    assert leaders(nic, VIP, [nic, other, replace(other, link="elsewhere"), not_leading(other, VIP)]) == [other]


def test_the_responder_sees_announcements_of_shared_addresses_only() -> None:
    service = serving(f"{BINDING}{SHARED}={VIP} {VIP6}\n")
    hardware = bytes.fromhex(MAC.replace(":", ""))
    assert announces(gratuitous_arp(1, VIP, hardware), service) == VIP
    assert announces(neighbour_advertisement(VIP6, GUEST), service) == VIP6
    assert announces(gratuitous_arp(1, IPv4Address("192.0.2.9"), GUEST), service) is None
    assert announces(question(VIP, MAC), service) is None, "who asks does not have it"
    assert announces(gratuitous_arp(1, VIP, hardware), serving()) is None
    assert announces(b"", service) is None
    with pytest.raises(Invalid, match=SHARED):
        reading(f"MAC=aa:00:00:00:00:01\n{SHARED}=192.0.2.0/24\n")


@pytest.mark.parametrize("address", [VIP, VIP6])
def test_a_message_has_either_ip_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: Address) -> None:
    monkeypatch.setattr(claim_socket, "PATH", str(tmp_path / "claims.sock"))
    monkeypatch.setattr(claim_socket.os, "chown", lambda *_: None)
    with ClaimSocket() as ears:
        mouth = ClaimSender()
        assert mouth.say(7, bytes.fromhex(MAC.replace(":", "")), packed(address), first=False, announced=True)
        assert list(ears.read()) == [Announced(7, MAC, address)]
        mouth.close()


class Site:
    """Two NICs of one node that share an address, and what the daemon sends and announces."""

    def __init__(self, node: MemoryNode, monkeypatch: pytest.MonkeyPatch) -> None:
        self.timers = Timers[Task]()
        self.lives = Lives(CONFIG, node, self.timers)
        self.sent: list[tuple[str, bytes]] = []
        self.announced: list[Nic] = []
        self.clock = 1000.0
        monkeypatch.setattr(
            module.packets, "send", lambda device, frames: self.sent.extend((device, f) for f in frames)
        )
        monkeypatch.setattr(lives_module, "announce", lambda nic, *_: self.announced.append(nic))
        monkeypatch.setattr(module.time, "monotonic", lambda: self.clock)
        monkeypatch.setattr(module, "guest_behind", self._guest)
        self.nics = [node.plug(sharing(FIRST)), node.plug(sharing(nic_of(ROUTED, **SECOND)))]
        for nic in self.nics:
            attach(nic, CONFIG, node)
        self.shared = SharedAddresses(self.lives, node, self.timers)

    def _guest(self, index: int, mac: str) -> Nic | None:
        return next((nic for nic in self.nics if nic.index == index), None)

    def due(self) -> list[Task]:
        found = []
        while task := self.timers.take(self.clock):
            found.append(task)
        return found

    def leads(self) -> list[str]:
        records = [recorded(nic.tap) for nic in self.nics]
        return [nic.tap for nic in records if nic and VIP in nic.leads]


SECOND = {
    "INTERFACE": "tap8",
    "INTERFACE_UUID": "00000008-498b-449c-b73e-37c3b9ff8c03",
    "MAC": "aa:00:09:09:63:08",
    "IP": str(VIP + 1),
    "INSTANCE": "second.example.com",
}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    node = memory_node(tmp_path, monkeypatch)
    reconcile(CONFIG, node)
    monkeypatch.setattr(lives_module.lock, "held", lambda *_, **__: nullcontext())
    monkeypatch.setattr(node, "forget", lambda: None)
    monkeypatch.setattr(log, "say", lambda *_: None)
    return Site(node, monkeypatch)


def test_it_leads_to_whom_announced_it_last(site: Site) -> None:
    for nic in (*site.nics, site.nics[0]):
        site.shared.announced(Announced(nic.index, nic.mac, VIP))
        assert site.due() == [Lead(nic.tap, VIP)]
        site.shared.lead(nic.tap, VIP)
        assert site.leads() == [nic.tap]
        assert site.announced[-1].tap == nic.tap
        later = [task for task in iter(lambda: site.timers.take(site.clock + 5), None)]
        assert [task.after for task in later if isinstance(task, Announce)] == [1.0, 2.0]


def test_nobody_gets_what_he_does_not_share(site: Site) -> None:
    site.shared.announced(Announced(site.nics[0].index, MAC, VIP + 7))
    site.shared.announced(Announced(-1, MAC, VIP))
    assert site.due() == []


def test_moves_are_bounded(site: Site) -> None:
    moves = 0
    for _ in range(3 * BURST):
        site.shared.announced(Announced(site.nics[0].index, MAC, VIP))
        moves += len(site.due())
    assert moves == BURST


@pytest.mark.parametrize("answered", [True, False])
def test_what_another_machine_took_comes_back_only_if_it_does_not_have_it(site: Site, answered: bool) -> None:
    nic = site.nics[0]
    site.shared.lead(nic.tap, VIP)
    site.shared.taken(nic, VIP)
    assert LeadAway(nic.tap, VIP) in site.due()
    site.shared.lead_away(nic.tap, VIP)
    assert site.leads() == []
    assert [device for device, _ in site.sent] == [CONFIG.public[0].uplink]
    if answered:
        site.shared.said(VIP, MAC)
    site.clock += module.ANSWER
    assert Reconsider(nic.tap, VIP) in site.due()
    site.shared.ask(nic)
    site.shared.reconsider(nic.tap, VIP)
    asked = [device for device, _ in site.sent][1:]
    assert asked == ([] if answered else [nic.tap]), "its own guest says whether it still has it"


def test_a_daemon_that_starts_asks_for_all(site: Site) -> None:
    site.shared.lead(site.nics[0].tap, VIP)
    site.shared.recall()
    assert len(site.sent) == 2
    site.shared.said(VIP, MAC)
    for nic in site.nics:
        site.shared.reconsider(nic.tap, VIP)
    assert site.leads() == []
    assert len(site.sent) == 2


def test_the_socket_takes_ipv4_only_where_it_is_shared() -> None:
    """Other guests' ARP does not wake the responder."""
    ears, mouth = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ears, mouth:
        ears.setblocking(False)
        # The filter's first lines look at a packet's device, which a frame here does not have.
        _attach(ears, (interesting(1, [int(VIP)]) + NOTHING_ELSE)[4 * 8 :])
        mouth.send(gratuitous_arp(1, VIP + 1, GUEST))
        mouth.send(gratuitous_arp(2, VIP, GUEST))
        assert ears.recv(100) == gratuitous_arp(2, VIP, GUEST)
