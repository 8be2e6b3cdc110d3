# SPDX-License-Identifier: BSD-2-Clause
"""Lies on the uplink while a guest may move: they take no packet from it, whether it talks or only listens, and they do
not hide the truth."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from ganeti_vif.daemon.second_look import FRAMES
from ganeti_vif.nic.announcement import arrival as arrival_frame
from ganeti_vif.nic.word import signed
from tests.lab import Tap, ensure

from .actions import arp, attach, differences, ip, link, udp
from .conftest import ROOT
from .environment import mac, public, routed, uuid
from .instance import Instance, Qmp
from .migration_site import (
    BEYOND,
    LIES,
    RARP,
    ROUTER,
    Site,
    connected,
    hook,
    moving,
    state,
    still,
    urgent,
    with_key,
)
from .vifd import said, until


@pytest.fixture
def site(stack: ExitStack) -> Iterator[Site]:
    with connected(stack) as site:
        yield site


@pytest.fixture
def guest(site: Site, stack: ExitStack) -> Tap:
    """A guest that Ganeti is about to migrate. It does not move."""
    tap = stack.enter_context(Tap(site.source))
    attach(site.source, routed(tap.name))
    ip(site.source, f"neigh replace {public(5)} lladdr {mac(5)} dev {tap.name} nud permanent")
    hook(site.source)
    return tap


@contextmanager
def reading(tap: Tap) -> Iterator[list[bytes]]:
    """Meanwhile somebody reads what comes to TAP, as QEMU does while its guest runs. It yields what was read."""
    stop = threading.Event()
    found: list[bytes] = []

    def reads() -> None:
        # A guest that the whole machine starves for a fifth of a second is one that takes no frames.
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        while not stop.is_set():
            found.extend(tap.frames(time.monotonic() + 0.02))

    thread = threading.Thread(target=reads)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def looks(found: list[bytes]) -> int:
    """How often the daemon looked at the guest that read FOUND."""
    return sum(frame[12:14] == b"\x88\xb5" for frame in found) // FRAMES


@pytest.mark.parametrize("lie", LIES, ids=["ARP", "RARP"])
@pytest.mark.parametrize("talks", [True, False], ids=["talks", "only listens"])
def test_a_hundred_lies_a_second_take_no_packet_from_a_guest(site: Site, guest: Tap, lie: bytes, talks: bool) -> None:
    """For three seconds: more than one look each second would cost."""
    uplink = link(site.source, "eth1")["address"]
    out = udp(mac(5), "fe:00:56:49:46:01", public(5), BEYOND, "out")
    with reading(guest) as found:
        for number in range(300):
            site.router.send(lie)
            site.router.send(udp(ROUTER, uplink, BEYOND, public(5), f"to the guest {number};"))
            if talks and number % 2:
                guest.send(out)
            time.sleep(0.01)  # the rate is the attack
        until(lambda: any(b"to the guest 299;" in frame for frame in found), "the last packet")
        got = [number for number in range(300) if any(f"to the guest {number};".encode() in frame for frame in found)]
        assert got == list(range(300))
        assert state(site.source) == "ok"
        assert "its guest is on another node" not in said(site.source)
        assert not urgent(site.source), "lies do not make the daemon run before all others"


@pytest.mark.parametrize("lie", ["another key", "another NIC", "too old", "too new", "a word of an earlier move"])
def test_a_signature_that_does_not_count_takes_a_guest_from_nobody(site: Site, guest: Tap, lie: str) -> None:
    now = time.time_ns()
    key = b"4a1cc2e0f2e5d8ad0b7a"
    word = arrival_frame(mac(5), ROUTER)
    frame = {
        "another key": signed(word, b"0" * 20, uuid(5), now),
        "another NIC": signed(word, key, uuid(6), now),
        "too old": signed(word, key, uuid(5), now - 200 * 10**9),
        "too new": signed(word, key, uuid(5), now + 200 * 10**9),
        "a word of an earlier move": signed(word, key, uuid(5), now),
    }[lie]
    if lie == "a word of an earlier move":
        site.router.send(frame)
        until(lambda: state(site.source) == "elsewhere", "the source's leave")
        guest.send(udp(mac(5), "fe:00:56:49:46:01", public(5), BEYOND, "back"))
        until(lambda: state(site.source) == "ok", "its return")
        hook(site.source)
    before = said(site.source).count("its guest is on another node")
    guest.clear()
    with reading(guest) as found:
        site.router.send(frame)
        until(lambda: looks(found) >= 1, "a look")
        site.router.send(frame)
        until(lambda: looks(found) >= 2, "another look, which comes after what the first one decided")
    assert state(site.source) == "ok"
    assert said(site.source).count("its guest is on another node") == before


def test_a_signed_word_is_believed_even_of_a_guest_that_takes_frames(site: Site, guest: Tap) -> None:
    with reading(guest):
        site.router.send(signed(arrival_frame(mac(5), ROUTER), b"4a1cc2e0f2e5d8ad0b7a", uuid(5), time.time_ns()))
        until(lambda: "its guest is on another node" in said(site.source), "the source's leave")


def test_the_target_signs_what_it_says(site: Site, stack: ExitStack) -> None:
    """Or the source would see that somebody still reads its tap, which no guest does that has left."""
    before, arrival = moving(site, stack)
    with reading(before):
        arrival.speak()
        until(lambda: "its guest is on another node" in said(site.source), "the source's leave")
    arrival.die()


def test_a_guest_that_was_let_go_and_only_listens_is_answered_for_again(
    site: Site, guest: Tap, stack: ExitStack
) -> None:
    """Its node was too busy to run it when somebody lied."""
    still(site.target, stack)
    site.router.send(RARP)
    until(lambda: state(site.source) == "elsewhere", "the source's leave")
    with reading(guest):
        until(lambda: state(site.source) == "ok", "the answers for it")
        assert site.asked() == {"node1"}
    assert differences(site.source) == []


def test_a_guest_that_was_lied_about_before_moves_all_the_same(site: Site, stack: ExitStack) -> None:
    before, arrival = moving(site, stack)
    site.router.send(RARP)
    until(lambda: state(site.source) == "elsewhere", "the lie's success")
    before.send(arp(mac(5), public(5), public(77)))
    until(lambda: state(site.source) == "ok", "the guest's return")
    arrival.speak()
    until(lambda: state(site.target) == "ok", "the answers for it")
    until(lambda: state(site.source) == "elsewhere", "the source's leave")
    assert site.asked() == {"node2"}
    arrival.die()


@pytest.mark.parametrize("keys", ["none", "another one", "only here"])
def test_without_a_common_key_a_guest_is_answered_for_where_it_runs(keys: str, site: Site, stack: ExitStack) -> None:
    path = "/var/lib/ganeti/hmac.key"
    if keys == "another one":
        with_key(site.target, "another")
    else:
        for node in (site.target,) if keys == "only here" else (site.source, site.target):
            node.path(path).unlink()
    before, arrival = moving(site, stack)
    site.router.clear()
    arrival.speak()
    site.told(site.target)
    until(lambda: state(site.source) == "elsewhere", "the source's leave")
    assert site.asked() == {"node2"}
    before.close()
    until(lambda: state(site.source) is None, "the end of it on the source")
    # The source says that it has the address until it knows better, which is told for a while.
    found = [line for line in differences(site.target) if " is also used by " not in line]
    assert differences(site.source) == found == []
    arrival.die()


def test_a_qemu_whose_guest_is_stopped_reads_too_little_to_be_taken_for_one_that_runs(
    site: Site, stack: ExitStack
) -> None:
    """A real guest, which says nothing by itself."""
    tap = stack.enter_context(Tap(site.source))
    attach(site.source, routed(tap.name))
    instance = Instance(site.source, "vm5.example.com", [(tap, routed(tap.name))], ensure(ROOT / "build"))
    assert instance.guest
    stack.callback(instance.guest.stop)
    instance.guest.run("ip link set eth0 up")
    hook(site.source)
    frames = site.source.path(f"/sys/class/net/{tap.name}/statistics/tx_packets")
    before = int(frames.read_text())
    site.router.send(RARP)
    until(lambda: int(frames.read_text()) >= before + 12, "a look")
    monitor = stack.enter_context(Qmp(str(site.source.path(instance.control))))
    monitor.do("stop", {})
    assert state(site.source) == "ok", "it ran"
    site.router.send(RARP)
    until(lambda: state(site.source) == "elsewhere", "the source's leave")
    monitor.do("cont", {})
    until(lambda: state(site.source) == "ok", "its return")
