# SPDX-License-Identifier: BSD-2-Clause
"""What `ganeti-vif status` shows of a node."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest
from samples import BRIDGED, PUBLIC, ROUTED, assert_golden, nic_of

from ganeti_vif.cli.status import of_instance, status, table
from ganeti_vif.config.effective import ranges
from ganeti_vif.config.model import Config, Private, VlanUplink, VxlanUplink
from ganeti_vif.engine.difference import Make, Remove
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.objects import Binding, Link, Record, Up
from ganeti_vif.kernel.netlink.links import Device, Devices
from ganeti_vif.reconcile.survey import Survey

CONFIG = Config(
    private=(
        Private(prefix="pvn", numbers=(1, 2, 3, 7), uplink=VlanUplink("eth1", 2990)),
        Private(prefix="vx-", numbers=(1,), uplink=VxlanUplink("eth2", 10000), mtu=1400),
    ),
    public=(PUBLIC,),
)


def device(name: str, *, kind: str | None = None, up: bool = True, master: str | None = None) -> Device:
    return Device(Link(name=name, kind=kind, index=1), up, master)


def survey(*, uplink: bool | None = True) -> Survey:
    found = [
        device("pvn1", kind="bridge"),
        device("pvn2", kind="bridge", up=False),
        device("eth1.2991", kind="vlan", master="pvn1"),
        device("tap1", kind="tun", master="pvn1"),
        device("tap2", kind="tun", master="pvn1"),
        *([device("eth1", up=uplink)] if uplink is not None else []),
    ]
    routed = nic_of(ROUTED, INTERFACE="tap0")
    bridged = nic_of(BRIDGED, INTERFACE="tap1", LINK="pvn1", IP=None, INTERFACE_NAME=None, NETWORK_UUID=None)
    third = nic_of(BRIDGED, INTERFACE="tap2", LINK="pvn1", INTERFACE_INDEX=None, INTERFACE_NAME=None)
    binding = Binding(directory="/var/lib/nfdhcpd", tap="tap0", text="")
    return Survey(
        devices=Devices({one.name: one for one in found}),
        nics=[routed, bridged, third],
        wanted={
            "tap0": frozenset({binding.key, Up(device="tap0").key}),
            "tap1": frozenset({Up(device="tap1").key}),
        },
        dead=[nic_of(ROUTED, INTERFACE="tap9", INSTANCE="i9.example.com")],
        trouble=[Failure("i1.example.com NIC 1 (tap2): the bridge pvn1 is closed", "open it")],
        changes=(Make(Up(device="tap1")), Remove(Record(tap="tap9", text=""))),
    )


def test_the_table_for_the_eye() -> None:
    daemon = {"pid": 4711, "retrying": {"tap2": "i1.example.com NIC 1 (tap2): the bridge pvn1 is closed"}}
    assert_golden("status", table(status(CONFIG, survey(), daemon)))


def test_the_last_refusals_of_addresses_are_shown_with_what_to_do() -> None:
    found = survey()
    found.remarks = [Failure("it may not have that", "note: take it away")]
    lines = [*table(status(CONFIG, found))]
    at = lines.index("note: it may not have that")
    assert lines[at + 1] == "  take it away"


def test_the_table_lines_up_and_has_no_blanks_at_its_ends() -> None:
    lines = list(table(status(CONFIG, survey())))
    assert all(line == line.rstrip() for line in lines)
    head = next(line for line in lines if line.startswith("INSTANCE"))
    for row in lines[lines.index(head) + 1 : lines.index(head) + 4]:
        assert row[head.index("TAP") - 1] == " "
        assert row[head.index("TAP") :].startswith("tap")


def test_the_data_for_a_program() -> None:
    shown = json.loads(json.dumps(status(CONFIG, survey())))
    assert shown["private"][0] == {
        "prefix": "pvn",
        "bridges": "1-3,7",
        "uplink": "vlan eth1 +2990",
        "mtu": None,
        "configured": 4,
        "up": 1,
        "missing": ["pvn3", "pvn7"],
        "ports": 2,
    }
    assert shown["private"][1]["uplink"] == "vxlan eth2 +10000"
    assert shown["public"][0]["nics"] == 1
    assert shown["public"][0]["gateways"] == ["10.77.1.1", "2001:db8:77::1"]
    assert shown["differences"] == 2
    assert [left["tap"] for left in shown["left_over"]] == ["tap9"]
    assert shown["trouble"] == [{"what": "i1.example.com NIC 1 (tap2): the bridge pvn1 is closed", "do": "open it"}]


@pytest.mark.parametrize(("up", "shown"), [(True, "up"), (False, "down"), (None, "missing")])
def test_the_state_of_a_public_links_uplink(up: bool | None, shown: str) -> None:
    assert status(CONFIG, survey(uplink=up))["public"][0]["uplink_state"] == shown


def test_each_nic_is_well_or_different_or_in_trouble() -> None:
    nics = status(CONFIG, survey())["nics"]
    assert [nic["state"] for nic in nics] == ["ok", "1 difference", "in trouble"]
    assert [nic["binding"] for nic in nics] == ["/var/lib/nfdhcpd/tap0", None, None]
    assert nics[0]["addresses"] == ["10.77.1.2", "2001:db8:77:0:a800:9ff:fe09:6336"]
    assert nics[1]["network"] is None
    assert nics[2]["nic"] is None


def test_a_nic_that_could_not_be_attached_says_so() -> None:
    found = survey()
    found.pending = {"tap1"}
    nics = status(CONFIG, found)["nics"]
    assert [nic["state"] for nic in nics] == ["ok", "not attached", "in trouble"]
    assert found.findings[0] == f"not attached: {found.nics[1].whom}, to pvn1; NIC {found.nics[1].uuid}"


@pytest.mark.parametrize(
    ("standby", "known", "life", "shown"),
    [
        (False, {}, "attached", "ok"),
        (False, {"tap0": "leaving"}, "leaving", "leaving"),
        (True, {}, "standby", "standby"),
        (True, {"tap0": "claiming"}, "claiming", "claiming"),
        (True, {"tap0": "leaving"}, "standby", "standby"),
    ],
)
def test_where_a_nic_is_in_its_life_is_shown_where_nothing_is_wrong(
    standby: bool, known: dict[str, str], life: str, shown: str
) -> None:
    """What the daemon says counts as far as the record does not say another thing."""
    found = survey()
    found.nics[0] = replace(found.nics[0], standby=standby)
    node = status(CONFIG, found, {"pid": 1, "retrying": {}, "lives": known})
    assert node["nics"][0]["life"] == life
    (row,) = (line for line in table(node | {"responder": None}) if "tap0" in line)
    assert row.endswith(f" {shown}")


def test_a_nic_that_could_not_be_attached_is_pending() -> None:
    found = survey()
    found.pending = {"tap1"}
    assert status(CONFIG, found)["nics"][1]["life"] == "pending"


def test_a_node_without_anything_shows_that_it_has_no_daemon() -> None:
    assert list(table(status(Config(), Survey(Devices())))) == ["daemon: ganeti-vifd does not run, or does not answer"]


@pytest.mark.parametrize(
    ("numbers", "text"),
    [((), ""), ((5,), "5"), ((1, 2), "1-2"), ((1, 3), "1,3"), ((0, 1, 2, 9, 11, 12), "0-2,9,11-12")],
)
def test_numbers_are_shown_as_ranges(numbers: tuple[int, ...], text: str) -> None:
    assert ranges(numbers) == text


def responder(**past: object) -> dict[str, object]:
    """The state of a responder that the guest of tap0 asked."""
    known = {"asked": 86400, "leased": None, "declined": None, "vendor_class": None, "hostname": None}
    return {"taps": {"tap0": {"guest": {"ipv4": known | past}}}}


def rows(shown: dict[str, object]) -> list[str]:
    """The rows of the table of requests."""
    return [line for line in table(shown) if " ipv4 " in line]


def test_when_a_guest_had_its_lease_and_by_which_client() -> None:
    shown = status(CONFIG, survey(), None, responder(leased=86401, vendor_class="udhcp 1.35.0", hostname="web"))
    (row,) = rows(shown)
    asked, leased = (time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when)) for when in (86400, 86401))
    expected = f"i1.example.com eth0 ipv4 {asked} {leased} udhcp 1.35.0 web"
    assert row.split() == expected.split()
    assert shown["nics"][0]["guest"]["ipv4"]["leased"] == 86401
    assert rows(status(CONFIG, survey(), None, responder()))[0].split()[-3:] == ["-", "-", "-"]
    assert "declined" in rows(status(CONFIG, survey(), None, responder(declined=86402)))[0].split()
    assert rows(status(CONFIG, survey())) == []


def test_the_status_of_one_instance() -> None:
    shown = of_instance(status(CONFIG, survey(), None, responder()), "i1.example.com")
    assert [nic["tap"] for nic in shown["nics"]] == ["tap0", "tap1", "tap2"]
    assert len(rows(shown)) == 1
    assert [one["what"] for one in shown["trouble"]] == ["i1.example.com NIC 1 (tap2): the bridge pvn1 is closed"]
    assert "PRIVATE" not in "".join(table(shown))
    with pytest.raises(Failure, match=r"the instance i9\.example\.com has no NIC"):
        of_instance(shown, "i9.example.com")
