# SPDX-License-Identifier: BSD-2-Clause
"""Many taps at once: a process that dies with fifty of them, and two hundred that come in the same moment."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.lab import Node, TapHolder

from .actions import answer, attach, differences, run, shot, vif_script
from .environment import bridged, public, routed, uuid
from .vifd import clean, launched, stopped, until, without_records

MANY, CALLERS, ALL = 50, 50, 200
FEWER = 60
"""Without a daemon each of these processes loads all libraries, and one works at a time."""
FIRST = 1000


def numbered(given: Callable[..., dict[str, str]], tap: str, number: int, **changes: str) -> dict[str, str]:
    """A NIC of a number that needs two octets. The routed ones have the addresses from 192.0.2.10 on."""
    address = public(10 + (number - FIRST) % 240) if given is routed else f"10.0.{number >> 8}.{number & 255}"
    own = {
        "MAC": f"aa:00:00:00:{number >> 8:02x}:{number & 255:02x}",
        "IP": address,
        "INSTANCE": f"vm{number}.example.com",
    }
    return given(tap, 5, **(own | {"INTERFACE_UUID": uuid(number)} | changes))


def attach_all(node: Node, calls: list[dict[str, str]], at_once: int) -> list[tuple[int, str, str]]:
    """How each of CALLS ended, so many AT_ONCE."""
    with ThreadPoolExecutor(at_once) as threads:
        done = threads.map(lambda environment: vif_script(node, environment), calls)
        return [(one.returncode, one.stdout, one.stderr) for one in done]


@pytest.mark.parametrize("daemon", ["runs", "is started later"])
def test_nothing_is_left_of_fifty_taps_whose_process_is_killed(ready: Node, daemon: str) -> None:
    process = launched(ready)
    before = shot(ready)
    with TapHolder(ready, MANY) as holder:
        calls = [
            numbered(routed if number % 2 else bridged, tap, number) for number, tap in enumerate(holder.names, FIRST)
        ]
        assert attach_all(ready, calls, 8) == [(0, "", "")] * MANY
        assert differences(ready) == []
        if daemon != "runs":
            stopped(process)
        holder.kill()
    if daemon != "runs":
        assert differences(ready) != []
        process = launched(ready)
    until(lambda: without_records(ready), "fifty records to go")
    until(lambda: clean(ready), "a clean node")
    assert shot(ready) == before
    stopped(process)


def bad(kind: str, tap: str, number: int) -> dict[str, str]:
    """A call that has to be refused."""
    match kind:
        case "malformed MAC":
            return numbered(bridged, tap, number, MAC="aa:00:00:00:00:0g")
        case "missing bridge":
            return numbered(bridged, tap, number, LINK="absent")
        case "somebody else's address":
            return numbered(routed, tap, number, IP=public(5))
        case "foreign subnet":
            return numbered(routed, tap, number, IP="198.18.0.1")
        case _:
            return numbered(bridged, f"gone{number}", number)


KINDS = ("malformed MAC", "missing bridge", "somebody else's address", "foreign subnet", "no such tap")
REMEMBERED = {"missing bridge", "somebody else's address", "foreign subnet"}
"""What may be right one day: these are tried again as long as their taps live."""


@pytest.mark.parametrize(("daemon", "count"), [("runs", ALL), ("is not there", FEWER)])
def test_two_hundred_at_once_of_which_half_are_bad(ready: Node, daemon: str, count: int) -> None:
    process = launched(ready) if daemon == "runs" else None
    with TapHolder(ready, count // 2) as goods, TapHolder(ready, count // 2) as bads, TapHolder(ready, 1) as first:
        attach(ready, routed(first.names[0], 5))
        kinds = [KINDS[place % len(KINDS)] for place in range(count // 2)]
        good = [numbered(routed if n % 2 else bridged, tap, n) for n, tap in enumerate(goods.names, FIRST)]
        wrong = [bad(kind, tap, n) for n, (tap, kind) in enumerate(zip(bads.names, kinds, strict=True), FIRST + 100)]
        calls = [one for pair in zip(good, wrong, strict=True) for one in pair]
        for environment, done in zip(calls, attach_all(ready, calls, CALLERS), strict=True):
            status, output, errors = done
            if environment in good:
                assert done == (0, "", ""), environment
            else:
                assert (status, output) == (1, ""), environment
                assert len(errors.splitlines()) == 2 and environment["INSTANCE"] in errors, errors
        remembered = {tap for tap, kind in zip(bads.names, kinds, strict=True) if kind in REMEMBERED}
        wanted = dict.fromkeys(remembered, "not attached") | dict.fromkeys((*goods.names, *first.names), "ok")

        def shown() -> bool:
            """While one is tried again, its state is that of the attempt."""
            return {nic["tap"]: nic["state"] for nic in answer(ready, "status")["nics"]} == wanted

        until(shown, "each in its state")
        names = [f"({tap})" for tap in remembered]

        def told() -> bool:
            lines = differences(ready)
            each = all(any(name in line for line in lines) for name in names)
            return each and all(any(name in line for name in names) for line in lines)

        until(told, "a line for each of them, and no other")
        bads.kill()
        if not process:
            assert run(ready, "reconcile").returncode == 0
        until(lambda: clean(ready), "a clean node")
        assert {nic["tap"] for nic in answer(ready, "status")["nics"]} == {*goods.names, *first.names}
    if process:
        stopped(process)
