# SPDX-License-Identifier: BSD-2-Clause
"""The life of taps: their names are reused, many come at once, and a binding file appears as its readers need it."""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from select import select

import pytest

from tests.lab import PATIENCE, Node, Tap

from .actions import answer, attach, complaint, differences, link, manage, shot, vif_script
from .conftest import MakeTap
from .environment import bridged, mac, public, routed, uuid
from .snapshot import without

BINDINGS, RECORDS = "/var/lib/nfdhcpd", "/run/ganeti-vif/nics"
IN_CLOSE_WRITE, IN_MOVED_TO, IN_CREATE, IN_DELETE = 0x8, 0x80, 0x100, 0x200
EVENT = struct.Struct("iIII")


def gone(tap: Tap) -> None:
    tap.close()
    tap.wait_gone()


@pytest.mark.parametrize(
    ("former", "later"), [(routed, bridged), (bridged, routed), (routed, routed), (bridged, bridged)]
)
def test_a_tap_name_that_is_reused_has_nothing_of_its_former_owner(
    ready: Node, tap: MakeTap, former: Callable[..., dict[str, str]], later: Callable[..., dict[str, str]]
) -> None:
    first = tap(ready)
    attach(ready, former(first.name, 6))
    gone(first)
    second = tap(ready)
    assert second.name == first.name
    attach(ready, later(second.name, 5))
    assert differences(ready) == []
    left = shot(ready)
    for section in ("rules", "routes", "proxies", "filters", "files"):
        for trace in (mac(6), public(6) + "/", public(6) + " ", uuid(6), "vm6.", "2001:db8::a800:ff:fe00:6"):
            assert not any(trace in line for line in left[section]), (section, trace)
    assert [nic["instance"] for nic in answer(ready, "status")["nics"]] == ["vm5.example.com"]


@pytest.mark.parametrize("environment", [routed, bridged])
def test_after_a_detach_nothing_is_left(ready: Node, tap: MakeTap, environment: Callable[..., dict[str, str]]) -> None:
    one = tap(ready)
    before = shot(ready)
    attach(ready, environment(one.name))
    manage(ready, "detach", one.name)
    assert without(shot(ready), one.name) == without(before, one.name)
    assert differences(ready) == []


@pytest.mark.parametrize("environment", [routed, bridged])
def test_a_tap_that_is_detached_alive_is_closed(
    ready: Node, tap: MakeTap, environment: Callable[..., dict[str, str]]
) -> None:
    one = tap(ready)
    attach(ready, environment(one.name))
    manage(ready, "detach", one.name)
    found = link(ready, one.name)
    assert "UP" not in found["flags"]
    assert "master" not in found
    with pytest.raises(OSError):
        one.send(bytes(60))


def test_attaching_the_same_nic_twice_changes_nothing_the_second_time(ready: Node, tap: MakeTap) -> None:
    one = tap(ready)
    attach(ready, routed(one.name))
    before = shot(ready)
    attach(ready, routed(one.name))
    assert shot(ready) == before


def test_twenty_attaches_at_once_of_which_half_are_bad(ready: Node, tap: MakeTap) -> None:
    taps = [tap(ready) for _ in range(20)]
    good = [bridged(one.name, n, "pvn1") if n % 2 else routed(one.name, n) for n, one in enumerate(taps[:10], 10)]
    bad = [
        bridged(one.name, n, LINK="absent") if n % 2 else routed(one.name, n, MAC="rubbish")
        for n, one in enumerate(taps[10:], 30)
    ]
    calls = [environment for pair in zip(good, bad, strict=True) for environment in pair]
    with ThreadPoolExecutor(len(calls)) as threads:
        done = list(threads.map(lambda environment: vif_script(ready, environment), calls))
    for environment, result in zip(calls, done, strict=True):
        if environment in good:
            assert (result.returncode, result.stdout, result.stderr) == (0, "", ""), environment
        else:
            assert environment["INSTANCE"] in complaint(result)
    states = {nic["tap"]: nic["state"] for nic in answer(ready, "status")["nics"]}
    noted = {one["INTERFACE"]: "not attached" for one in bad if one["MAC"] != "rubbish"}
    assert states == {one["INTERFACE"]: "ok" for one in good} | noted
    for one in taps[10:]:
        gone(one)
    manage(ready, "reconcile")
    assert differences(ready) == []


def test_a_binding_appears_whole_and_is_closed_under_its_own_name(ready: Node, tap: MakeTap) -> None:
    """NFDHCPD reads a file when it is told of a close-after-write under that name, and any other name as well."""
    one = tap(ready)
    ready.run(["install", "-d", "-m", "755", BINDINGS])
    watch = _watch(str(ready.path(BINDINGS)))
    try:
        attach(ready, routed(one.name))
        seen = _events(watch)
    finally:
        os.close(watch)
    assert {name for name, _ in seen} == {one.name}
    masks = [mask for _, mask in seen]
    assert not any(mask & IN_CREATE for mask in masks), "it appeared under its name before it was whole"
    assert [mask for mask in masks if mask & IN_CLOSE_WRITE], seen
    assert masks.index(IN_MOVED_TO) < masks.index(IN_CLOSE_WRITE)


def test_a_binding_of_another_identity_is_deleted_before_it_is_written(ready: Node, tap: MakeTap) -> None:
    first = tap(ready)
    attach(ready, routed(first.name, 6))
    gone(first)
    second = tap(ready)
    watch = _watch(str(ready.path(BINDINGS)))
    try:
        attach(ready, routed(second.name, 5))
        masks = [mask for _, mask in _events(watch)]
    finally:
        os.close(watch)
    assert masks.index(IN_DELETE) < masks.index(IN_CLOSE_WRITE)


def _watch(directory: str) -> int:
    """An inotify descriptor that sees what happens to names in DIRECTORY."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = int(libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
    mask = IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_DELETE
    if descriptor < 0 or libc.inotify_add_watch(descriptor, os.fsencode(directory), mask) < 0:
        raise OSError(ctypes.get_errno(), f"inotify of {directory}")
    return descriptor


def _events(watch: int) -> list[tuple[str, int]]:
    """(name, event) of all that happened so far; inotify queues an event before the system call returns."""
    found = []
    while select([watch], [], [], 0)[0]:
        data, at = os.read(watch, 65536), 0
        while at < len(data):
            _, mask, _, length = EVENT.unpack_from(data, at)
            at += EVENT.size
            found.append((data[at : at + length].rstrip(b"\0").decode(), mask))
            at += length
    return found


def test_everybody_may_read_a_binding_though_ganeti_runs_with_umask_077(ready: Node, tap: MakeTap) -> None:
    one = tap(ready)
    attach(ready, routed(one.name))
    status = ready.path(f"{BINDINGS}/{one.name}").stat()
    assert stat.S_IMODE(status.st_mode) == 0o644
    assert stat.S_IMODE(ready.path(BINDINGS).stat().st_mode) == 0o755


def test_an_attach_does_not_wait_for_a_setup(ready: Node, tap: MakeTap) -> None:
    """Somebody holds the lock of setup for as long as the test takes."""
    one = tap(ready)
    with ready.popen(["flock", "/run/ganeti-vif/node.lock", "sh", "-c", "echo held; read _"], stdin=-1) as holder:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        attach(ready, bridged(one.name))
        assert holder.poll() is None
        holder.communicate("\n", timeout=PATIENCE)
    assert differences(ready) == []


def test_two_attaches_wait_for_each_other(ready: Node, tap: MakeTap) -> None:
    one = tap(ready)
    with ready.popen(["flock", "/run/ganeti-vif/nics.lock", "sh", "-c", "echo held; read _"], stdin=-1) as holder:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        with ready.popen(["/etc/ganeti/kvm-vif-bridge"], env=bridged(one.name)) as waiting:
            holder.communicate("\n", timeout=PATIENCE)
            out, err = waiting.communicate(timeout=PATIENCE)
    assert (waiting.returncode, out, err) == (0, "", "")
    assert differences(ready) == []


def test_a_tap_that_vanishes_takes_nothing_down_and_reconcile_clears_it(ready: Node, tap: MakeTap) -> None:
    before = shot(ready)
    for environment in (routed, bridged):
        one = tap(ready)
        attach(ready, environment(one.name))
        gone(one)
        assert differences(ready) != []
        manage(ready, "reconcile")
        assert differences(ready) == []
    assert shot(ready) == before
