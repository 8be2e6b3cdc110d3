# SPDX-License-Identifier: BSD-2-Clause
"""The binding directory is full, or cannot be written: an attach fails and says so, nothing is half there, and the
daemon attaches the NIC as soon as there is room."""

from __future__ import annotations

import pytest

from tests.lab import Node

from .actions import answer, complaint, differences, manage, shot, vif_script
from .conftest import MakeTap
from .environment import bridged, mac, routed
from .snapshot import Snapshot
from .vifd import clean, launched, stopped, until

DIRECTORY = "/var/lib/nfdhcpd"
LITTLE = "mkdir -p /var/lib && mount -t tmpfs -o size=64k,mode=755 tmpfs /var/lib && mkdir /var/lib/nfdhcpd"
FILL = f"dd if=/dev/zero of={DIRECTORY}.full bs=4096 2>/dev/null; true"
FILL_INODES = "mount -t tmpfs -o size=64k,nr_inodes=4,mode=755 tmpfs /var/lib && mkdir /var/lib/nfdhcpd && mkdir /var/lib/nfdhcpd.staging"
MAKE_ROOM = f"rm -f {DIRECTORY}.full; mount -o remount,rw,nr_inodes=1000 /var/lib"
HOW = {
    "full": f"{LITTLE}; {FILL}",
    "full of files": f"{FILL_INODES}; : > {DIRECTORY}.full",
    "read-only": f"{LITTLE}; mount -o remount,ro /var/lib",
}
FULL = pytest.mark.parametrize("how", HOW)


def sh(node: Node, command: str) -> None:
    node.run(["sh", "-c", command])


def of_ours(found: Snapshot) -> Snapshot:
    """What no one but us makes. Without the record of a NIC that is to be tried again."""
    return {name: lines for name, lines in found.items() if name not in ("files", "sysctls")}


@FULL
def test_an_attach_fails_and_nothing_of_it_is_there(ready: Node, tap: MakeTap, how: str) -> None:
    one = tap(ready)
    sh(ready, HOW[how])
    before = shot(ready)
    said = complaint(vif_script(ready, routed(one.name)))
    assert f"{DIRECTORY}/{one.name}" in said and "vm5.example.com" in said
    assert of_ours(shot(ready)) == of_ours(before)
    assert not ready.path(f"{DIRECTORY}/{one.name}").exists()
    assert [nic["state"] for nic in answer(ready, "status")["nics"]] == ["not attached"]
    assert any(one.name in line for line in differences(ready))
    sh(ready, MAKE_ROOM)
    manage(ready, "reconcile")
    assert differences(ready) == []
    assert [nic["state"] for nic in answer(ready, "status")["nics"]] != ["not attached"]


@FULL
def test_the_daemon_serves_it_when_there_is_room(ready: Node, tap: MakeTap, how: str) -> None:
    daemon, one, other = launched(ready), tap(ready), tap(ready)
    sh(ready, HOW[how])
    for environment in (routed(one.name, 5), bridged(other.name, 6)):
        assert f"{DIRECTORY}/" in complaint(vif_script(ready, environment))
    sh(ready, MAKE_ROOM)
    until(lambda: clean(ready), "the daemon's next try")
    for tap_name, number in ((one.name, 5), (other.name, 6)):
        assert f"MAC={mac(number)}" in ready.path(f"{DIRECTORY}/{tap_name}").read_text()
    assert {nic["tap"]: nic["state"] for nic in answer(ready, "status")["nics"]} == {one.name: "ok", other.name: "ok"}
    stopped(daemon)


def test_a_binding_is_whole_or_not_there(ready: Node, tap: MakeTap) -> None:
    """There is room for a part of it only: the disk is full in the middle of the file."""
    one = tap(ready)
    sh(ready, HOW["full"])
    complaint(vif_script(ready, bridged(one.name)))
    for directory in (DIRECTORY, f"{DIRECTORY}.staging"):
        place = ready.path(directory)
        assert not place.exists() or not list(place.iterdir())
