# SPDX-License-Identifier: BSD-2-Clause
"""Which IPv6 addresses a guest may choose, and what its frames say of that."""

from __future__ import annotations

import struct
from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network

import pytest
from guest_frames import GUEST, icmp6, neighbour_solicitation, packed, serving
from hypothesis import given
from hypothesis import strategies as st
from samples import BRIDGED, ROUTED, nic_of

from ganeti_vif.kernel.capture_filter import about
from ganeti_vif.nic import announcement
from ganeti_vif.nic.claim import has, owner, prefix_of, refusal, shares, with_claims_of, without
from ganeti_vif.nic.nic import Mode, Nic, Vlans, eui64
from ganeti_vif.nic.record import nic_of as recorded
from ganeti_vif.nic.record import record_of
from ganeti_vif.responder.claim import claimed

PREFIX = IPv6Network("2001:db8:77::/64")
NIC = nic_of(ROUTED, NETWORK_SUBNET6=str(PREFIX), NETWORK_GATEWAY6="2001:db8:77::1")
CHOSEN, LOCAL = PREFIX[0x1234567812345678], IPv6Address("fe80::1234:5678:1234:5678")
identifiers = st.integers(0, (1 << 64) - 1)
macs = st.binary(min_size=5, max_size=5).map(lambda rest: "aa:" + rest.hex(":"))


def nic6(given: dict[str, str] = ROUTED, **changes: str) -> Nic:
    return nic_of(given, NETWORK_SUBNET6=str(PREFIX), NETWORK_GATEWAY6="2001:db8:77::1", **changes)


@given(identifier=identifiers)
def test_every_address_of_the_prefix_that_is_nobody_s_may_be_chosen(identifier: int) -> None:
    address = PREFIX[identifier]
    allowed = refusal(NIC, address) is None
    made_of_a_mac = identifier >> 24 & 0xFFFF == 0xFFFE and address != eui64(PREFIX, NIC.mac)
    anycast = identifier == 0 or identifier >= 0xFDFFFFFFFFFFFF80
    assert allowed == (not made_of_a_mac and not anycast and address != PREFIX[1])


@given(mac=macs)
def test_what_another_mac_makes_may_not_be_chosen(mac: str) -> None:
    for subnet in (PREFIX, IPv6Network("fe80::/64")):
        assert (refusal(NIC, eui64(subnet, mac)) is None) == (mac == NIC.mac)


@given(address=st.ip_addresses(v=6))
def test_nothing_outside_the_prefix_may_be_chosen(address: IPv6Address) -> None:
    assert address in PREFIX or address in IPv6Network("fe80::/64") or refusal(NIC, address) is not None


def test_no_router_s_address_may_be_chosen() -> None:
    assert refusal(NIC, PREFIX[2]) is None
    assert refusal(NIC, PREFIX[2], [PREFIX[2]]) == "it is the gateway's"
    assert refusal(NIC, PREFIX[1]) == "it is the gateway's"


@pytest.mark.parametrize(
    ("nic", "why"),
    [
        (nic_of(ROUTED, NETWORK_SUBNET6=None, NETWORK_GATEWAY6=None), "it may claim no address"),
        (nic6(NETWORK_TAGS="vif:unguarded"), "it may claim no address"),
        (replace(nic6(BRIDGED), mode=Mode.OPENVSWITCH), "on Open vSwitch guests choose no addresses"),
        (replace(nic6(BRIDGED), vlans=Vlans(untagged=10)), "in a VLAN of a bridge guests choose no addresses"),
        (nic6(TAGS="disable_ipv6"), "it may claim no address"),
    ],
    ids=["no IPv6", "unguarded", "Open vSwitch", "VLAN", "disabled"],
)
def test_a_nic_that_may_choose_no_address(nic: Nic, why: str) -> None:
    assert prefix_of(nic) is None
    assert refusal(nic, CHOSEN) == why


def test_the_owner_is_a_nic_that_hears_the_same_neighbours() -> None:
    other = replace(NIC, uuid="another", tap="tap9", claims=(CHOSEN, LOCAL))
    assert owner(CHOSEN, NIC, [NIC, other]) is other
    assert owner(LOCAL, NIC, [NIC, other]) is other
    assert owner(PREFIX[7], NIC, [NIC, other]) is None
    assert owner(CHOSEN, other, [NIC, other]) is None
    assert owner(CHOSEN, NIC, [replace(other, link="another")]) is None
    assert owner(CHOSEN, nic6(BRIDGED), [other]) is None


def test_nics_in_two_vlans_of_a_bridge_do_not_hear_each_other() -> None:
    one = nic6(BRIDGED)
    assert shares(one, replace(one, uuid="another"))
    assert not shares(one, replace(one, uuid="another", vlans=Vlans(untagged=10)))


def test_a_claim_is_an_address_of_the_nic_and_a_link_local_one_has_no_route() -> None:
    nic = replace(NIC, claims=(CHOSEN, LOCAL))
    assert IPv6Network(CHOSEN) in nic.networks(6)
    assert IPv6Network(LOCAL) not in nic.networks(6)
    assert nic.link_locals == (NIC.link_local, LOCAL)
    assert has(nic, CHOSEN)
    assert has(nic, LOCAL)
    assert not has(NIC, CHOSEN)
    assert not has(NIC, LOCAL)
    assert recorded(record_of(nic)) == nic
    assert "claims" not in record_of(NIC).text


def test_claims_stay_with_the_same_nic_as_far_as_they_are_allowed() -> None:
    former = replace(NIC, claims=(CHOSEN, PREFIX[5], LOCAL))
    assert with_claims_of(former, NIC) == former
    assert with_claims_of(None, NIC) == NIC
    assert with_claims_of(former, replace(NIC, mac="aa:00:00:00:00:99")).claims == ()
    network = NIC.network
    assert network
    elsewhere = replace(NIC, network=replace(network, subnet6=IPv6Network("2001:db8:78::/64")))
    assert with_claims_of(former, elsewhere).claims == (LOCAL,)
    moved = replace(NIC, network=replace(network, gateway6=PREFIX[5]))
    assert with_claims_of(former, moved).claims == (CHOSEN, LOCAL)
    assert without(former, [PREFIX[5]]).claims == (CHOSEN, LOCAL)


OTHER = "2001:db8::1234:5678:9abc:def0"


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (neighbour_solicitation(OTHER, "::"), (OTHER, True)),
        (neighbour_solicitation("2001:db8::1", OTHER), (OTHER, False)),
        (neighbour_solicitation("2001:db8::1", "fe80::1:2:3:4"), ("fe80::1:2:3:4", False)),
        (icmp6(136, bytes(4) + packed(OTHER), OTHER, "ff02::1"), (OTHER, False)),
        (neighbour_solicitation("2001:db8::a800:ff:fe00:5", "::"), None),
        (neighbour_solicitation("2001:db8::1", "fe80::a800:ff:fe00:5"), None),
        (neighbour_solicitation("ff02::5", "::"), None),
    ],
)
def test_what_a_frame_says_of_its_sender_s_address(frame: bytes, said: tuple[str, bool] | None) -> None:
    found = claimed(frame, serving())
    assert found == ((packed(said[0]), said[1]) if said else None)


def test_a_frame_of_another_mac_says_nothing() -> None:
    frame = neighbour_solicitation(OTHER, "::")
    assert claimed(frame[:6] + b"\2" + frame[7:], serving()) is None
    assert claimed(frame[:21] + b"\x40" + frame[22:], serving()) is None
    assert claimed(frame, serving(SUBNET6=None, GATEWAY6=None)) is None


@given(noise=st.binary(max_size=200))
def test_no_frame_of_a_guest_is_an_error(noise: bytes) -> None:
    claimed(packed("ff02::1")[:6] + GUEST + b"\x86\xdd" + noise, serving())


def passes(frame: bytes, address: IPv6Address) -> bool:
    """Whether the socket filter lets FRAME pass: a small interpreter of classic BPF."""
    lines, at, value = about(address), 0, 0
    while True:
        code, if_true, if_false, number = lines[at]
        at += 1
        if code == 0x06:
            return number > 0
        if code == 0x15:
            at += if_true if value == number else if_false
            continue
        size = {0x20: 4, 0x28: 2, 0x30: 1}[code]
        if number + size > len(frame):
            return False
        value = int.from_bytes(frame[number : number + size], "big")


def test_the_question_and_its_answers_are_captured_and_nothing_else() -> None:
    question = announcement.neighbour_solicitation(CHOSEN, "02:00:00:00:00:01")
    answer = announcement.neighbour_advertisement(CHOSEN, bytes(6))
    assert announcement.discovered(question) == (135, CHOSEN)
    assert announcement.discovered(answer) == (136, CHOSEN)
    for frame in (question, answer):
        assert passes(frame, CHOSEN)
        assert not passes(frame, PREFIX[7])
        assert not passes(frame[:21] + b"\x40" + frame[22:], CHOSEN)
    assert not passes(question[:54] + struct.pack("!B", 133) + question[55:], CHOSEN)


def test_the_question_is_a_well_formed_solicitation() -> None:
    frame = announcement.neighbour_solicitation(CHOSEN, "02:00:00:00:00:01")
    assert frame[:6] == bytes.fromhex("3333ff") + CHOSEN.packed[-3:]
    assert frame[22:38] == IPv6Address("fe80::ff:fe00:1").packed
    assert frame[38:54] == IPv6Address("ff02::1:ff34:5678").packed
    assert frame[78:86] == bytes.fromhex("0101020000000001")
    alone = announcement.neighbour_solicitation(CHOSEN, "02:00:00:00:00:01", "aa:00:00:00:00:05")
    assert (alone[:6], alone[38:54]) == (bytes.fromhex("aa0000000005"), CHOSEN.packed)
