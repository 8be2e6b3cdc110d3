# SPDX-License-Identifier: BSD-2-Clause
"""What the unit tests share: recorded environments, a plausible node around a NIC, golden files.

To write the golden files anew after a change that is meant: GOLDEN=write pytest tests/unit
Then read the diff.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path
from typing import Any, TypeVar

import pytest

from ganeti_vif.config.model import Config, Public
from ganeti_vif.desired.context import Context
from ganeti_vif.engine.chains import Chain
from ganeti_vif.engine.commands import commands
from ganeti_vif.engine.difference import Alter, Change, Make
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.objects import Link
from ganeti_vif.ganeti import environment
from ganeti_vif.nic.nic import Mode, Nic

T = TypeVar("T")
HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RECORDED = sorted((HERE / "captures").glob("*.vif.env"))
TAP_INDEX = 42

PUBLIC = Public(
    name="rt_pub",
    table=222,
    uplink="eth1",
    subnets=(ip_network("10.77.1.0/24"), ip_network("2001:db8:77::/64")),
    gateways=(IPv4Address("10.77.1.1"), IPv6Address("2001:db8:77::1")),
    arp_source=IPv4Address("10.77.1.254"),
)
CONFIG = Config(public=(PUBLIC,))

BRIDGED = {
    "INSTANCE": "i1.example.com",
    "INTERFACE": "tap0",
    "INTERFACE_INDEX": "0",
    "INTERFACE_NAME": "eth0",
    "INTERFACE_UUID": "1161b892-74ab-4e0a-8f25-e1c0c5a7b201",
    "MAC": "aa:00:09:09:63:36",
    "MODE": "bridged",
    "LINK": "br0",
    "BRIDGE": "br0",
    "VLAN": "",
    "IP": "10.9.0.2",
    "TAGS": "tagA tagB",
    "NETWORK_NAME": "net-a",
    "NETWORK_UUID": "1f2b3607-90f7-4b41-a9a4-6c6c25f1f3c1",
    "NETWORK_TAGS": "nfdhcpd private-filtered",
    "NETWORK_SUBNET": "10.9.0.0/24",
    "NETWORK_GATEWAY": "10.9.0.1",
    "NETWORK_SUBNET6": "fd00:9::/64",
    "NETWORK_GATEWAY6": "fd00:9::1",
    "NETWORK_MAC_PREFIX": "aa:00:09",
    "LC_ALL": "C",
}
"""The environment of a NIC with everything that Ganeti can say about one."""

ROUTED = {key: value for key, value in BRIDGED.items() if key != "BRIDGE"} | {
    "MODE": "routed",
    "LINK": "rt_pub",
    "IP": "10.77.1.2",
    "NETWORK_TAGS": "nfdhcpd ip-less-routed",
    "NETWORK_SUBNET": "10.77.1.0/24",
    "NETWORK_GATEWAY": "10.77.1.1",
    "NETWORK_SUBNET6": "2001:db8:77::/64",
    "NETWORK_GATEWAY6": "2001:db8:77::1",
}


def variables(path: Path) -> dict[str, str]:
    """The variables of a recorded environment."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def nic_of(given: dict[str, str], **changes: str | None) -> Nic:
    """The NIC of an environment with CHANGES; None takes a variable away."""
    merged = {name: value for name, value in (given | changes).items() if value is not None}
    return environment.parse_nic(merged, lambda tap: TAP_INDEX)


def refusal(given: dict[str, str], **changes: str | None) -> Failure:
    """Why this environment is refused: two lines that a log and a terminal can take as they are."""
    with pytest.raises(Failure) as caught:
        nic_of(given, **changes)
    return proper(caught.value)


def proper(failure: Failure) -> Failure:
    """FAILURE, after a look at its form."""
    for line in (failure.what, failure.do):
        assert line
        assert line.isascii(), line
        assert line.isprintable(), line
    assert str(failure).splitlines() == [failure.what, failure.do]
    return failure


def outcome(action: Callable[[], T]) -> T | Failure:
    """What ACTION returns, or the Failure that it raises. Anything else that it raises is a bug."""
    try:
        return action()
    except Failure as failure:
        return proper(failure)


def context(nic: Nic, **changes: Any) -> Context:
    """A node on which nothing stands against NIC."""
    tap = Link(name=nic.tap, kind="tun", tun="tap", index=nic.index, group=0, mac="e6:11:22:33:44:55", mtu=1500)
    common = Context(tap=tap)
    match nic.mode:
        case Mode.BRIDGED:
            bridge = Link(name=nic.link, kind="bridge", index=7, mtu=1500, vlan_filtering=bool(nic.vlans.tagged))
            found = replace(common, bridge=bridge)
        case Mode.ROUTED:
            uplink = Link(name="eth1", index=3, mac="52:54:00:00:00:01", mtu=1500)
            found = replace(common, public=PUBLIC, uplink=uplink, table=PUBLIC.table)
        case Mode.OPENVSWITCH:
            found = replace(common, switch=True)
    return replace(found, **changes)


def words(changes: Iterable[Change]) -> list[str]:
    """CHANGES as a dry run prints them, without the rules of filters: those are for other tests."""
    return [line for change in changes for line in commands(_without_rules(change))]


def _without_rules(change: Change) -> Change:
    match change:
        case Make(Chain() as chain):
            return Make(replace(chain, rules=()))
        case Alter(actual, Chain() as chain):
            return Alter(actual, replace(chain, rules=()))
    return change


def assert_golden(name: str, lines: Iterable[str]) -> None:
    """LINES are those of golden/NAME.txt."""
    path, text = HERE / "golden" / f"{name}.txt", "".join(f"{line}\n" for line in lines)
    if os.environ.get("GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
