# SPDX-License-Identifier: BSD-2-Clause
"""The daemon is stopped, hangs, is restarted: guests do not notice, and NICs are attached all the same."""

from __future__ import annotations

import re
import signal
import subprocess

import pytest

from tests.lab import PATIENCE, Node

from .actions import answer, attach, differences, ping
from .conftest import MakeTap, Plug
from .environment import BEYOND, bridged, private, public, routed
from .vifd import answers, clean, hanging, impatient, launched, started, stopped, until

COUNT = 10**6


def ended(pinging: subprocess.Popen[str]) -> tuple[int, int]:
    """How many packets PINGING sent, and how many came back. One may be under way at any moment, and then it is asked
    again: a packet that is lost is missing each time."""
    assert pinging.stderr
    sent, received = 1, 0
    for _ in range(100):
        pinging.send_signal(signal.SIGQUIT)  # ping(8): it tells how far it is
        while not (said := re.search(r"(\d+)/(\d+) packets", pinging.stderr.readline())):
            assert pinging.poll() is None
        sent, received = int(said[1]), int(said[2])
        if sent == received:
            break
    pinging.send_signal(signal.SIGINT)
    pinging.communicate(timeout=PATIENCE)
    return max(sent, received), min(sent, received)


@pytest.mark.parametrize("how", ["stopped", "killed", "hangs", "restarted"])
def test_no_packet_is_lost_and_an_attach_works(ready: Node, plug: Plug, tap: MakeTap, how: str) -> None:
    impatient(ready)
    daemon = launched(ready)
    one = plug(ready, "tap5", 5, f"{private(5)}/24")
    plug(ready, "tap6", 6, f"{private(6)}/24")
    outside = plug(ready, "tap7", 7, f"{public(7)}/24")
    attach(ready, bridged("tap5", 5))
    attach(ready, bridged("tap6", 6))
    attach(ready, routed("tap7", 7))
    outside.run(["ip", "route", "add", "default", "via", "192.0.2.1"])
    ping(one, private(6))
    ping(outside, BEYOND)
    command = ["ping", "-n", "-q", "-i", "0.01", "-c", str(COUNT)]
    pings = [one.popen([*command, private(6)]), outside.popen([*command, BEYOND])]
    new = bridged(tap(ready).name, 8), routed(tap(ready).name, 9)

    def attach_new() -> None:
        for environment in new:
            attach(ready, environment)
        assert differences(ready) == []

    match how:
        case "hangs":
            with hanging(daemon, ready):
                attach_new()
            assert answers(ready)
        case "stopped" | "killed":
            stopped(daemon, signal.SIGTERM if how == "stopped" else signal.SIGKILL)
            attach_new()
            daemon = started(ready)
        case "restarted":
            for _ in range(3):
                stopped(daemon)
                daemon = started(ready)
            attach_new()
    until(lambda: clean(ready), "a clean node")
    for each in pings:
        sent, received = ended(each)
        assert received == sent > 10
    assert len(answer(ready, "status")["nics"]) == 5
    stopped(daemon)


def test_a_nic_that_was_attached_without_it_is_its_own_when_it_is_back(ready: Node, tap: MakeTap) -> None:
    one = tap(ready)
    attach(ready, routed(one.name))
    daemon = launched(ready)
    one.close()
    until(lambda: answer(ready, "status")["nics"] == [], "the NIC to go")
    until(lambda: clean(ready), "a clean node")
    stopped(daemon)
