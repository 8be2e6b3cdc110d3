# SPDX-License-Identifier: BSD-2-Clause
"""One NIC on two taps: Ganeti leaves a tap behind when QEMU took the tap and refused the card, and opens another.

QEMU keeps the first one open without a guest behind it. So the newer tap is the NIC's.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.lab import Node

from .actions import answer, attach, complaint, differences, link, manage, ping, refusal, vif_script
from .conftest import MakeTap, Plug
from .environment import bridged, mac, public, routed
from .vifd import clean, launched, said, stopped, until

Environment = Callable[..., dict[str, str]]
KINDS = pytest.mark.parametrize("kind", [routed, bridged])


@pytest.fixture(params=["with a daemon", "without"])
def served(ready: Node, request: pytest.FixtureRequest) -> Iterator[Node]:
    """A node that is set up, on which a daemon runs or none."""
    daemon: subprocess.Popen[str] | None = launched(ready) if request.param == "with a daemon" else None
    yield ready
    if daemon:
        stopped(daemon)


def rows(node: Node) -> list[tuple[str, str]]:
    """The taps that `status` shows, and their states."""
    return [(nic["tap"], nic["state"]) for nic in answer(node, "status")["nics"]]


def left_alone(node: Node, tap: str) -> None:
    """TAP is as Ganeti made it: down, in no bridge, and nothing leads to it."""
    found = link(node, tap)
    assert "UP" not in found["flags"] and "master" not in found
    assert tap not in node.run(["ip", "route", "show", "table", "222"]).stdout
    assert tap not in node.run(["nft", "list", "ruleset"]).stdout


@KINDS
def test_the_newer_tap_wins(served: Node, tap: MakeTap, kind: Environment) -> None:
    older, newer = tap(served), tap(served)
    attach(served, kind(older.name))
    attach(served, kind(newer.name))
    assert rows(served) == [(newer.name, "ok")]
    left_alone(served, older.name)
    until(lambda: clean(served), "nothing to repair")
    assert f"({older.name}): let go" in said(served)
    newer.close()
    older.close()


def test_its_guest_has_its_network(ready: Node, tap: MakeTap, gateway: Node, plug: Plug) -> None:
    older = tap(ready)
    attach(ready, routed(older.name))
    guest = plug(ready, "tap9", 5, f"{public(5)}/24")
    attach(ready, routed("tap9"))
    ping(gateway, public(5))
    ping(guest, "192.0.2.1")


@KINDS
def test_an_older_tap_does_not_take_it_back(ready: Node, tap: MakeTap, kind: Environment) -> None:
    older, newer = tap(ready), tap(ready)
    attach(ready, kind(newer.name))
    assert newer.name in refusal(ready, kind(older.name))
    assert rows(ready) == [(newer.name, "ok")]


def test_what_refuses_the_newer_tap_leaves_the_older_one(ready: Node, tap: MakeTap) -> None:
    older, newer = tap(ready), tap(ready)
    attach(ready, bridged(older.name))
    complaint(vif_script(ready, bridged(newer.name, LINK="br9", BRIDGE="br9")))
    assert (older.name, "ok") in rows(ready)
    assert link(ready, older.name)["master"] == "pvn1"


def test_another_nic_with_the_same_address_is_refused_as_before(ready: Node, tap: MakeTap) -> None:
    first, second = tap(ready), tap(ready)
    attach(ready, routed(first.name))
    assert public(5) in refusal(ready, routed(second.name, 6, IP=public(5)))
    assert rows(ready) == [(first.name, "ok")]


def test_check_tells_of_two_that_are_attached(ready: Node, tap: MakeTap) -> None:
    """As an earlier version left them."""
    older, newer = tap(ready), tap(ready)
    attach(ready, bridged(older.name))
    attach(ready, bridged(newer.name, 6))
    record = ready.path(f"/run/ganeti-vif/nics/{newer.name}.json")
    text = record.read_text().replace("00000006-", "00000005-").replace("vm6", "vm5").replace(mac(6), mac(5))
    record.write_text(text.replace("10.0.0.6", "10.0.0.5"))
    (line,) = (line for line in differences(ready) if "newer tap" in line)
    assert older.name in line and newer.name in line
    manage(ready, "detach", older.name)
    assert not any("newer tap" in line for line in differences(ready))
