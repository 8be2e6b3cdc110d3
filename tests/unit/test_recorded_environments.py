# SPDX-License-Identifier: BSD-2-Clause
"""Every environment that real Ganeti 3.0.2 was seen to run its network script with leads to a sound plan.

The files in captures/ are records of real runs: starts, reboots, hotplugs, migrations, failovers. New ones
may be added; none is to be edited.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path

import netaddr
import pytest
from samples import CONFIG, PUBLIC, RECORDED, TAP_INDEX, assert_golden, context, nic_of, variables, words

from ganeti_vif.desired.needs import Needs, needs
from ganeti_vif.desired.obstacle import obstacle
from ganeti_vif.engine.chains import Chain
from ganeti_vif.engine.difference import Change, Make, Remove, difference, subject
from ganeti_vif.engine.objects import Binding, BridgePort, Link, ProxyNeighbour, Record, Route, Rule, Sysctl, Up
from ganeti_vif.engine.state import state
from ganeti_vif.nic.nic import Nic
from ganeti_vif.nic.record import nic_of as nic_of_record
from ganeti_vif.nic.record import record_of
from host_setup import public


def each(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", paths, ids=lambda path: path.name.removesuffix(".vif.env"))


recorded = each(RECORDED)
bridged = each([path for path in RECORDED if variables(path)["MODE"] == "bridged"])
routed = each([path for path in RECORDED if variables(path)["MODE"] == "routed"])


def load(path: Path) -> tuple[dict[str, str], Nic, Needs]:
    given = variables(path)
    nic = nic_of(given)
    return given, nic, needs(nic, CONFIG, context(nic))


def first_start(nic: Nic, wanted: Needs) -> tuple[Change, ...]:
    """The plan for a tap that Ganeti just made, on a node that is set up."""
    tap = context(nic).tap
    assert tap
    return difference(wanted.all, state([tap, *wanted.shared.values()]))


def test_there_are_recordings_of_both_modes() -> None:
    modes = {variables(path)["MODE"] for path in RECORDED}
    assert len(RECORDED) >= 46
    assert modes == {"bridged", "routed"}


@recorded
def test_everything_that_ganeti_said_is_understood(path: Path) -> None:
    given, nic, _ = load(path)
    assert nic.instance == given["INSTANCE"]
    assert nic.tap == given["INTERFACE"]
    assert nic.index == TAP_INDEX
    assert nic.uuid == given["INTERFACE_UUID"]
    assert str(nic.number) == given["INTERFACE_INDEX"]
    assert nic.name == given.get("INTERFACE_NAME")
    assert (nic.mac, nic.mode.value, nic.link) == (given["MAC"], given["MODE"], given["LINK"])
    assert (str(nic.ip) if nic.ip else None) == given.get("IP")
    assert nic.tags == set(given["TAGS"].split())
    assert (nic.network is None) == ("NETWORK_UUID" not in given)
    for name in ("name", "uuid", "subnet", "gateway", "subnet6", "gateway6", "mac_prefix"):
        value = getattr(nic.network, name, None)
        assert (str(value) if value else None) == given.get(f"NETWORK_{name.upper()}"), name
    assert nic.network_tags == set(given.get("NETWORK_TAGS", "").split())


@recorded
def test_the_record_remembers_the_whole_nic(path: Path) -> None:
    _, nic, _ = load(path)
    record = record_of(nic)
    assert nic_of_record(record) == nic
    assert record_of(nic_of_record(record)) == record
    assert record.tap == nic.tap


@recorded
def test_nothing_stands_against_it_on_a_node_that_is_set_up(path: Path) -> None:
    _, nic, _ = load(path)
    assert obstacle(nic, context(nic)) is None


@recorded
def test_the_tap_is_recorded_first_then_filtered_then_attached_then_up(path: Path) -> None:
    _, nic, wanted = load(path)
    plan = [subject(change) for change in first_start(nic, wanted)]
    kinds = [type(thing) for thing in plan]
    filters = [at for at, thing in enumerate(plan) if isinstance(thing, Chain) and thing.device == nic.tap]
    up = plan.index(Up(device=nic.tap))
    assert kinds.index(Record) == 0
    assert any(plan[at].hook == "ingress" and plan[at].policy == "drop" for at in filters)  # type: ignore[union-attr]
    assert max(filters) < min(at for at, kind in enumerate(kinds) if kind in (BridgePort, Up))
    assert all(at < up for at, kind in enumerate(kinds) if kind in (Link, Sysctl, BridgePort))
    assert all(at > up for at, kind in enumerate(kinds) if kind in (Route, ProxyNeighbour, Binding))
    if Binding in kinds:
        assert kinds.index(Binding) == len(kinds) - 1


@recorded
def test_the_reason_of_each_rule_fits_into_a_comment_of_nft(path: Path) -> None:
    """128 bytes at most (libnftnl), with a blank and eight digits of ours in them, and in quotes."""
    _, _, wanted = load(path)
    rules = [rule for thing in wanted.all.values() if isinstance(thing, Chain) for rule in thing.rules]
    assert rules
    for rule in rules:
        assert len(rule.reason) < 115
        assert rule.reason.isascii()
        assert not set(rule.reason) & set('"\n')
        assert rule.text.isprintable()


@recorded
def test_attaching_what_is_attached_changes_nothing(path: Path) -> None:
    _, _, wanted = load(path)
    assert difference(wanted.all, wanted.all) == ()


@recorded
def test_detaching_takes_away_all_that_does_not_go_with_the_tap(path: Path) -> None:
    _, nic, wanted = load(path)
    changes = difference({}, wanted.all, wanted.removable)
    assert all(isinstance(change, Remove) for change in changes)
    gone = {subject(change).key for change in changes}
    assert wanted.own.keys() - gone == {key for key, t in wanted.own.items() if isinstance(t, Link | Sysctl)}
    assert not gone & wanted.shared.keys()
    assert isinstance(subject(changes[-1]), Record)


@bridged
def test_a_bridged_nic_becomes_a_port_of_its_link_and_gets_no_route(path: Path) -> None:
    given, nic, wanted = load(path)
    things = list(wanted.own.values())
    assert BridgePort(device=given["INTERFACE"], bridge=given["LINK"]) in things
    assert Sysctl(path=f"net/ipv6/conf/{nic.tap}/disable_ipv6", value="1") in things
    assert not any(isinstance(thing, Route | Rule | ProxyNeighbour) for thing in things)
    assert wanted.shared == {}


@routed
def test_a_routed_nic_gets_a_host_route_for_each_address(path: Path) -> None:
    given, nic, wanted = load(path)
    things = list(wanted.own.values())
    addresses = [given["IP"]]
    if subnet := given.get("NETWORK_SUBNET6"):
        # netaddr's own EUI-64, not ours
        addresses.append(str(netaddr.EUI(given["MAC"]).ipv6(int(netaddr.IPNetwork(subnet).first))))
        proxy = ProxyNeighbour(device=PUBLIC.uplink, address=ip_address(addresses[1]))
        assert proxy in things
    routes = [thing for thing in things if isinstance(thing, Route)]
    assert {route.destination for route in routes} == {ip_network(address) for address in addresses}
    assert all((route.table, route.device) == (PUBLIC.table, nic.tap) for route in routes)
    assert not any(isinstance(thing, BridgePort) for thing in things)
    assert wanted.shared == state(public.desired(PUBLIC, False))


@recorded
def test_a_network_with_the_tag_nfdhcpd_and_no_other_gets_a_binding(path: Path) -> None:
    given, nic, wanted = load(path)
    bindings = [thing for thing in wanted.own.values() if isinstance(thing, Binding)]
    assert [binding.tap for binding in bindings] == ([nic.tap] if "nfdhcpd" in given.get("NETWORK_TAGS", "") else [])
    for binding in bindings:
        lines = binding.text.splitlines()
        assert f"MAC={given['MAC']}" in lines
        assert f"IP={given['IP']}" in lines
        assert f"HOSTNAME={given['INSTANCE']}" in lines


@pytest.mark.parametrize(
    "name",
    [
        "instance-start.node1.015",  # routed, IPv4 and IPv6, binding
        "instance-start.node1.016",  # bridged, in a network
        "instance-start.node1.017",  # bridged, in no network
        "fin-add.node1.013",  # routed, IPv4 only, no binding
        "two-migrate-to-node2.node2.026",
    ],
)
def test_the_whole_plan_of_a_first_start(name: str) -> None:
    _, nic, wanted = load(next(path for path in RECORDED if path.name.startswith(name)))
    changes = first_start(nic, wanted)
    assert any(
        isinstance(change, Make) and isinstance(change.wanted, Chain) and change.wanted.rules for change in changes
    )
    assert_golden(name, words(changes))
