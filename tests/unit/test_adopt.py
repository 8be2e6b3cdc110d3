# SPDX-License-Identifier: BSD-2-Clause
"""Whose a tap is: what is certain is adopted, what is ours is left, and all the rest is refused with its reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import BRIDGED, ROUTED, context, nic_of, proper

from ganeti_vif.config.model import Config
from ganeti_vif.desired.adopt import Described, Here, Instance, Plugged, Verdict, judge
from ganeti_vif.desired.bridged import port_mac
from ganeti_vif.desired.needs import needs
from ganeti_vif.desired.routed import TAP_MAC
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.objects import Link, Record
from ganeti_vif.nic.nic import Nic
from ganeti_vif.nic.record import nic_of as nic_of_record
from ganeti_vif.nic.record import record_of
from ganeti_vif.system.qemu import monitor

ONE = replace(nic_of(BRIDGED, INTERFACE_INDEX=None), tap="unknown", index=0)
OTHER = replace(
    nic_of(ROUTED, INTERFACE_INDEX=None, INTERFACE_UUID="2261b892-74ab-4e0a-8f25-e1c0c5a7b201", INTERFACE_NAME="eth1"),
    tap="unknown",
    index=0,
)
ANY_MAC = "e6:11:22:33:44:55"


def tap(name: str, index: int = 7, mac: str = ANY_MAC) -> Link:
    return Link(name=name, kind="tun", tun="tap", index=index, mac=mac, mtu=1500)


def verdict(
    *nics: tuple[Nic, str],
    taps: dict[str, set[str]],
    links: tuple[Link, ...] = (tap("tap0", 7), tap("tap1", 8)),
    masters: dict[str, str] | None = None,
    recorded: tuple[Nic, ...] = (),
    by_mac: dict[str, str] | None = None,
    refused: tuple[tuple[str, Failure], ...] = (),
) -> Verdict:
    instance = Instance(
        name="i1.example.com", nics=tuple(Described(nic=nic, netdev=netdev) for nic, netdev in nics), refused=refused
    )
    plugged = Plugged(taps={netdev: frozenset(names) for netdev, names in taps.items()}, by_mac=by_mac or {})
    here = Here(
        links={link.name: link for link in links},
        masters=masters or {},
        recorded={nic.tap: nic for nic in recorded},
    )
    found = judge(instance, plugged, here)
    for failure in found.refused:
        proper(failure)
    return found


def reasons(found: Verdict) -> str:
    return "\n".join(failure.what for failure in found.refused)


def test_each_nic_has_the_tap_that_qemu_says_it_has() -> None:
    found = verdict((ONE, "nic-1"), (OTHER, "nic-2"), taps={"nic-2": {"tap0"}, "nic-1": {"tap1"}})
    assert [(nic.uuid, nic.tap, nic.index) for nic in found.adopted] == [(ONE.uuid, "tap1", 8), (OTHER.uuid, "tap0", 7)]
    assert not found.refused


def test_a_nic_with_its_record_is_left_alone() -> None:
    known = replace(ONE, tap="tap0", index=7)
    found = verdict((ONE, "nic-1"), taps={"nic-1": {"tap0"}}, recorded=(known,))
    assert [nic.tap for nic in found.recorded] == ["tap0"]
    assert not found.adopted


def test_a_record_of_a_former_owner_of_the_name_is_none() -> None:
    former = replace(OTHER, tap="tap0", index=3)
    found = verdict((ONE, "nic-1"), taps={"nic-1": {"tap0"}}, recorded=(former,))
    assert [nic.uuid for nic in found.adopted] == [ONE.uuid]


def test_a_record_of_this_very_tap_that_names_another_nic_is_told() -> None:
    found = verdict((ONE, "nic-1"), taps={"nic-1": {"tap0"}}, recorded=(replace(OTHER, tap="tap0", index=7),))
    assert not found.adopted
    assert OTHER.uuid in reasons(found)


@pytest.mark.parametrize("taps", [set(), {"tap0", "tap1"}])
def test_a_netdev_with_no_tap_or_two_is_refused(taps: set[str]) -> None:
    found = verdict((ONE, "nic-1"), taps={"nic-1": taps})
    assert not found.adopted
    assert "where one tap should be" in reasons(found)


def test_two_nics_that_qemu_cannot_tell_apart_are_refused() -> None:
    found = verdict((ONE, "nic-1"), (OTHER, "nic-1"), taps={"nic-1": {"tap0"}})
    assert not found.adopted
    assert len(found.refused) == 2


def test_a_tap_behind_two_netdevs_is_refused() -> None:
    found = verdict((ONE, "nic-1"), (OTHER, "nic-2"), taps={"nic-1": {"tap0"}, "nic-2": {"tap0"}})
    assert not found.adopted
    assert len(found.refused) == 2


def test_a_nic_that_qemu_has_not_is_told_apart_from_one_that_cannot_be_had() -> None:
    found = verdict((ONE, "nic-1"), taps={})
    assert [nic.uuid for nic in found.unplugged] == [ONE.uuid]
    assert not found.refused


def test_a_tap_that_no_nic_accounts_for_is_told() -> None:
    found = verdict(taps={"nic-1": {"tap0"}})
    assert "nic-1 on tap0" in reasons(found)


def test_a_nic_that_could_not_be_understood_is_told_once() -> None:
    found = verdict(taps={"nic-1": {"tap0"}}, refused=(("nic-1", Failure("i1 NIC eth0: rubbish", "mend it")),))
    assert reasons(found) == "i1 NIC eth0: rubbish"


def test_taps_of_instance_communication_are_none_of_ours() -> None:
    found = verdict((ONE, "nic-1"), taps={"nic-1": {"gnt.com.0"}, "nic-2": {"gnt.com.1"}})
    assert found == Verdict()


def test_a_tap_in_another_namespace_is_refused() -> None:
    assert "not on this node" in reasons(verdict((ONE, "nic-1"), taps={"nic-1": {"tap5"}}))


def test_a_netdev_with_a_number_for_a_name_is_found_by_its_mac() -> None:
    found = verdict((ONE, "nic-1"), taps={"netdev1": {"tap1"}}, by_mac={ONE.mac: "netdev1"})
    assert [(nic.uuid, nic.tap) for nic in found.adopted] == [(ONE.uuid, "tap1")]


@pytest.mark.parametrize(("nic", "master"), [(ONE, "br9"), (OTHER, "br0"), (ONE, "ovs-system")])
def test_nobody_is_moved(nic: Nic, master: str) -> None:
    found = verdict((nic, "nic-1"), taps={"nic-1": {"tap0"}}, masters={"tap0": master})
    assert not found.adopted
    assert f"tap0 is a port of {master}" in reasons(found)


@pytest.mark.parametrize(("nic", "usual"), [(ONE, port_mac(ONE.mac)), (OTHER, TAP_MAC)])
def test_a_tap_keeps_its_mac(nic: Nic, usual: str) -> None:
    for mac, kept in ((ANY_MAC, ANY_MAC), (usual, None)):
        (found,) = verdict((nic, "nic-1"), taps={"nic-1": {"tap0"}}, links=(tap("tap0", mac=mac),)).adopted
        assert found.tap_mac == kept
        wanted = needs(found, Config(), context(found)).own["link", "tap0"]
        assert isinstance(wanted, Link)
        assert wanted.mac == mac
        assert nic_of_record(record_of(found)) == found


def test_a_record_of_a_nic_that_was_not_adopted_is_as_it_always_was() -> None:
    assert "tap_mac" not in record_of(nic_of(BRIDGED)).text
    assert nic_of_record(Record(tap="tap0", text=record_of(nic_of(BRIDGED)).text)).tap_mac is None


NETDEVS = st.sampled_from(["nic-1", "nic-2", "nic-3"])
TAPS = st.sampled_from(["tap0", "tap1", "tap2", "gnt.com.0"])


@given(st.lists(NETDEVS, max_size=3), st.dictionaries(NETDEVS, st.sets(TAPS, max_size=2)))
def test_no_tap_is_given_to_two_nics_or_to_one_that_qemu_does_not_have_on_it(
    netdevs: list[str], taps: dict[str, set[str]]
) -> None:
    nics = [replace(ONE, uuid=f"{number:08x}-74ab-4e0a-8f25-e1c0c5a7b201") for number in range(len(netdevs))]
    names = {nic.uuid: netdev for nic, netdev in zip(nics, netdevs, strict=True)}
    found = verdict(*zip(nics, netdevs, strict=True), taps=taps, links=tuple(tap(f"tap{n}", n + 1) for n in range(3)))
    assert len({nic.tap for nic in found.adopted}) == len(found.adopted)
    for nic in found.adopted:
        assert taps[names[nic.uuid]] == {nic.tap}
        assert sum(nic.tap in theirs for theirs in taps.values()) == 1


ANSWER = """\
nic-11111111-2222-3333: index=0,type=nic,model=virtio-net-pci,macaddr=aa:00:00:00:00:01
 \\ nic-11111111-2222-3333: index=0,type=tap,fd=3
rtl8139.0: index=0,type=nic,model=rtl8139,macaddr=aa:00:00:00:00:02
 \\ netdev1: index=0,type=tap,fd=4
nic-44444444-2222-3333: index=0,type=nic,model=virtio-net-pci,macaddr=aa:00:00:00:00:03
 \\ nic-44444444-2222-3333: index=0,type=tap,fd=5
nic-44444444-2222-3333: index=1,type=nic,
 \\ nic-44444444-2222-3333: index=1,type=tap,fd=6
user0: index=0,type=user,net=10.0.2.0,restrict=off
nic-55555555-2222-3333: index=0,type=tap,fd=17
"""
"""Of QEMU 7.2: one queue, a NIC that Ganeti gave no ID, two queues, no tap, and a netdev without a device."""


def test_what_qemu_says_of_its_taps() -> None:
    assert monitor.parse(ANSWER.replace("\n", "\r\n")) == {
        "nic-11111111-2222-3333": {3},
        "netdev1": {4},
        "nic-44444444-2222-3333": {5, 6},
        "nic-55555555-2222-3333": {17},
    }


@given(st.text() | st.integers() | st.none())
def test_any_answer_is_understood_or_a_value_error(answer: Any) -> None:
    try:
        assert isinstance(monitor.parse(answer), dict)
    except ValueError:
        assert not isinstance(answer, str)
