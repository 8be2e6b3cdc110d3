# SPDX-License-Identifier: BSD-2-Clause
"""A tap's name goes from one NIC to another: nothing of the new one is ever handled by what the former one had, be the
daemon there or not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

import pytest

from ganeti_vif.desired.routed import TAP_MAC
from ganeti_vif.kernel.capture import Capture
from tests.lab import PATIENCE, Node, PacketSocket, Tap
from tests.lab.frames import FramePort

from .actions import BROADCAST, answer, attach, differences, ip, udp
from .conftest import MakeTap
from .environment import BEYOND, bridged, mac, private, public, routed
from .vifd import answers, clean, hanging, impatient, launched, stopped, until

FORMER, LATER = 6, 5
Given = Callable[..., dict[str, str]]


def elsewhere(tap: str, number: int) -> dict[str, str]:
    """A NIC on another bridge."""
    return bridged(tap, number, "pvn2")


def frame(given: Given, number: int, text: str) -> bytes:
    """What the NIC of that number sends, if it is one of these."""
    if given is routed:
        return udp(mac(number), TAP_MAC, public(number), BEYOND, text)
    return udp(mac(number), BROADCAST, private(number), "255.255.255.255", text)


@contextmanager
def flood(tap: Tap, *frames: bytes) -> Iterator[None]:
    """The guest sends these all the time, from before its tap is up."""
    over = threading.Event()

    def send() -> None:
        while not over.is_set():
            for one in frames:
                with suppress(OSError):
                    tap.send(one)
            time.sleep(0.001)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        over.set()
        sender.join()


class Ears:
    """All that was heard at PORT."""

    def __init__(self, port: FramePort) -> None:
        self._port = port
        self._frames: list[bytes] = []

    def listen(self, text: bytes) -> None:
        """Until TEXT is heard."""
        for one in self._port.frames(time.monotonic() + PATIENCE):
            self._frames.append(one)
            if text in one:
                return
        raise TimeoutError(f"{text!r} was not heard, but {self._frames}")

    def heard(self, text: bytes) -> bool:
        """Whether TEXT was heard so far."""
        self._frames += self._port.frames(time.monotonic())
        return any(text in one for one in self._frames)


@pytest.mark.parametrize("daemon", ["runs", "hangs", "is not there"])
@pytest.mark.parametrize(("former", "later"), [(bridged, elsewhere), (bridged, routed), (routed, bridged)])
def test_nothing_of_the_new_owner_meets_the_former_ones_state(
    ready: Node, tap: MakeTap, gateway: Node, daemon: str, former: Given, later: Given
) -> None:
    impatient(ready)
    process = launched(ready) if daemon != "is not there" else None
    attach(ready, bridged((on_one := tap(ready)).name, 20, "pvn1"))
    attach(ready, bridged((on_two := tap(ready)).name, 21, "pvn2"))
    first = tap(ready)
    attach(ready, former(first.name, FORMER))
    with PacketSocket(gateway, "eth0") as outside:
        ears = {bridged: Ears(on_one), elsewhere: Ears(on_two), routed: Ears(outside)}

        def change_owner() -> Tap:
            first.close()
            second = tap(ready)
            assert second.name == first.name
            forged = frame(former, FORMER, "as its former owner"), frame(later, FORMER, "as its former owner")
            with flood(second, frame(later, LATER, "as itself"), frame(former, LATER, "as itself"), *forged):
                attach(ready, later(second.name, LATER))
                ears[later].listen(b"as itself")
            return second

        if daemon == "hangs":
            assert process
            with hanging(process, ready):
                second = change_owner()
        else:
            second = change_owner()
        if process:
            assert answers(ready)  # after all that it heard of the former owner
        second.send(frame(later, LATER, "the last word"))
        ears[later].listen(b"the last word")
        assert not ears[former].heard(b"as itself")
        assert not any(one.heard(b"as its former owner") for one in ears.values())
    if process:
        until(lambda: clean(ready), "a clean node")
        stopped(process)
    assert differences(ready) == []
    assert {nic["instance"] for nic in answer(ready, "status")["nics"] if nic["tap"] == second.name} == {
        "vm5.example.com"
    }


def test_a_capture_on_a_tap_that_went_says_that_it_is_deaf_to_the_next_one_of_its_name(
    ready: Node, tap: MakeTap
) -> None:
    """The daemon may not have been told yet that the former one went."""
    one = tap(ready)
    with closing(ready.inside(lambda: Capture(one.name))) as former:
        assert not former.deaf
        one.close()
        one.wait_gone()
        again = tap(ready)
        assert again.name == one.name
        assert former.deaf
        ip(ready, f"link set {again.name} up")
        with closing(ready.inside(lambda: Capture(again.name))) as later:
            again.send(frame(routed, LATER, "here"))
            until(lambda: any(b"here" in heard for heard in later.frames()), "its first frame")
        assert list(former.frames()) == []
