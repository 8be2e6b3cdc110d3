# SPDX-License-Identifier: BSD-2-Clause
"""What `ganeti-vif status` and `check` say is what there is."""

from __future__ import annotations

from tests.lab import PATIENCE, Node

from .actions import answer, attach, differences, ip, manage, run
from .conftest import MakeTap
from .environment import bridged, mac, private, public, public6, routed, uuid


def test_a_node_without_guests(ready: Node) -> None:
    shown = answer(ready, "status")
    (family,), (link,) = shown["private"], shown["public"]
    assert (family["prefix"], family["bridges"], family["up"], family["missing"], family["ports"]) == (
        "pvn",
        "1-3",
        3,
        [],
        0,
    )
    assert (link["name"], link["table"], link["uplink"], link["uplink_state"], link["nics"]) == (
        "public",
        222,
        "eth1",
        "up",
        0,
    )
    assert (shown["nics"], shown["left_over"], shown["trouble"], shown["differences"]) == ([], [], [], 0)
    assert answer(ready, "check") == {"differences": [], "trouble": [], "notes": []}


def test_a_routed_and_a_bridged_nic(ready: Node, tap: MakeTap) -> None:
    taps = [tap(ready), tap(ready)]
    attach(ready, routed(taps[0].name, 5))
    attach(ready, bridged(taps[1].name, 6, INTERFACE_INDEX="1", INTERFACE_NAME="inner"))
    shown = answer(ready, "status")
    one, other = sorted(shown["nics"], key=lambda nic: str(nic["mode"]), reverse=True)
    assert one["instance"] == "vm5.example.com" and one["tap"] == taps[0].name
    assert (one["mode"], one["link"], one["mac"], one["uuid"]) == ("routed", "public", mac(5), uuid(5))
    assert one["addresses"] == [public(5), public6(5)]
    assert one["binding"] == f"/var/lib/nfdhcpd/{taps[0].name}"
    assert ready.path(one["binding"]).read_text()
    assert (other["mode"], other["link"], other["nic"], other["name"]) == ("bridged", "pvn1", 1, "inner")
    assert other["addresses"] == [private(6)]
    assert one["state"] == other["state"] == "ok"
    assert (shown["public"][0]["nics"], shown["private"][0]["ports"]) == (1, 1)
    table = manage(ready, "status")
    for word in (
        "vm5.example.com",
        "vm6.example.com",
        *(one.name for one in taps),
        "inner",
        public(5),
        private(6),
        "ok",
    ):
        assert word in table


def test_a_dead_nic_is_left_over_until_it_is_cleared(ready: Node, tap: MakeTap) -> None:
    one = tap(ready)
    attach(ready, routed(one.name))
    one.close()
    one.wait_gone()
    shown = answer(ready, "status")
    assert shown["nics"] == [] and shown["differences"] > 0
    assert shown["left_over"] == [{"instance": "vm5.example.com", "tap": one.name, "uuid": uuid(5)}]
    table = manage(ready, "status")
    assert "left over" in table and "vm5.example.com" in table and one.name in table
    assert any(line.startswith("left over") and one.name in line for line in differences(ready))
    manage(ready, "reconcile")
    assert answer(ready, "status")["left_over"] == []


def test_a_nic_that_lost_something_differs(ready: Node, tap: MakeTap) -> None:
    one = tap(ready)
    attach(ready, routed(one.name))
    ip(ready, f"route del {public(5)}/32 table 222")
    (nic,) = answer(ready, "status")["nics"]
    assert nic["state"] == "1 difference"
    (missing,) = answer(ready, "check")["differences"]
    assert missing.startswith("missing: ") and public(5) in missing
    assert differences(ready) == [missing]
    manage(ready, "reconcile")
    assert answer(ready, "status")["nics"][0]["state"] == "ok"


def test_a_nic_whose_bridge_is_gone_is_in_trouble_and_nothing_of_the_others_is_touched(
    ready: Node, tap: MakeTap
) -> None:
    ip(ready, "link add br0 type bridge", "link set br0 up")
    one, other = tap(ready), tap(ready)
    attach(ready, bridged(one.name, 5, "br0"))
    attach(ready, routed(other.name, 6))
    ip(ready, "link del br0")
    shown = answer(ready, "status")
    states = {nic["tap"]: nic["state"] for nic in shown["nics"]}
    assert states == {one.name: "in trouble", other.name: "ok"}
    (trouble,) = shown["trouble"]
    assert "br0" in trouble["what"] and "vm5.example.com" in trouble["what"] and trouble["do"]
    assert any("br0" in line for line in differences(ready))
    done = run(ready, "reconcile")
    assert done.returncode == 1 and "br0" in done.stderr
    assert {nic["tap"]: nic["state"] for nic in answer(ready, "status")["nics"]} == states


def test_a_link_whose_uplink_is_missing_or_down(ready: Node) -> None:
    ip(ready, "link set eth1 down")
    assert answer(ready, "status")["public"][0]["uplink_state"] == "down"
    ip(ready, "link set eth1 name eth9")
    shown = answer(ready, "status")
    assert shown["public"][0]["uplink_state"] == "missing"
    assert any("eth1" in trouble["what"] for trouble in shown["trouble"])


def test_a_bridge_that_is_missing(ready: Node) -> None:
    ip(ready, "link del pvn2")
    (family,) = answer(ready, "status")["private"]
    assert (family["missing"], family["up"], family["configured"]) == (["pvn2"], 2, 3)
    assert "2 of 3" in manage(ready, "status")


def test_status_and_check_need_no_lock(ready: Node) -> None:
    """Somebody sets up and attaches at this very moment."""
    holding = "flock /run/ganeti-vif/node.lock flock /run/ganeti-vif/nics.lock sh -c 'echo held; read _'"
    ready.run(["touch", "/run/ganeti-vif/nics.lock"])
    with ready.popen(["sh", "-c", holding], stdin=-1) as holder:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        assert differences(ready) == []
        assert answer(ready, "status")["differences"] == 0
        holder.communicate("\n", timeout=PATIENCE)
