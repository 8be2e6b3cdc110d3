# SPDX-License-Identifier: BSD-2-Clause
"""Random frames from an attacker's tap change nothing that its victim's kernel knows.

FRAMES is how many (200,000), SEED which ones. A failure prints both, and the fewest frames that do it.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from contextlib import ExitStack

import pytest

from tests.lab.tap import VNET_HEADER

from .conftest import ROWS
from .grammar import Sent, frame
from .site import MODES, Site, essential, made

FRAMES = int(os.environ.get("FRAMES", "200000"))
SEED = int(os.environ.get("SEED", random.randrange(2**32)))
AT_ONCE = 500
"""Frames between two looks at what the victim knows."""


def send(site: Site, frames: Sequence[Sent]) -> int:
    """Send FRAMES. Returns how many the kernel took: it refuses what cannot be said beside a frame."""
    assert site.card
    taken = 0
    for one, beside in frames:
        try:
            site.card.send(one, beside)
            taken += 1
        except OSError:
            pass
    return taken


def effects(site: Site, frames: Sequence[Sent], known: frozenset[str]) -> frozenset[str]:
    """What the victim knows after FRAMES that it did not know before, when it was as at first."""
    site.forget()
    send(site, frames)
    return site.knows() - known


def fewest(site: Site, frames: Sequence[Sent], known: frozenset[str]) -> list[Sent]:
    """The fewest of FRAMES that have an effect, the simplest form of each."""
    left = list(frames)
    size = len(left) // 2
    while size:
        for at in range(0, len(left), size):
            rest = left[:at] + left[at + size :]
            if rest and effects(site, rest, known):
                left = rest
                break
        else:
            size //= 2
            continue
        size = min(size, len(left) // 2)
    for number, (one, _) in enumerate(left):
        for simpler in ((one, VNET_HEADER), (one[:60], left[number][1]), (one[:60], VNET_HEADER)):
            tried = [*left[:number], simpler, *left[number + 1 :]]
            if effects(site, tried, known):
                left = tried
    return left


def told(left: Sequence[Sent], news: frozenset[str]) -> str:
    shown = "\n".join(f"  {beside.hex()} {one.hex()}" for one, beside in left)
    return f"SEED={SEED} FRAMES={FRAMES}: {'; '.join(sorted(news))}\nby {len(left)} frames, each after what the card says:\n{shown}"


@pytest.mark.short
@pytest.mark.parametrize("mode", MODES)
def test_nothing_that_a_victim_knows_is_changed(mode: str, stack: ExitStack) -> None:
    site = made(stack, mode, program=False, emulated=True)
    known = site.knows()
    taken = 0
    for first in range(0, FRAMES // len(MODES), AT_ONCE):
        frames = [frame(SEED, number, site.cast) for number in range(first, first + AT_ONCE)]
        taken += send(site, frames)
        if news := site.knows() - known:
            if not effects(site, frames, known):
                pytest.fail(f"not by these frames alone: {told(frames, news)}")
            left = fewest(site, frames, known)
            pytest.fail(told(left, effects(site, left, known)))
    assert taken == site.sent() > 0
    ROWS.append(f"{mode}: {taken} frames of the grammar, SEED={SEED}; {essential(site.counted())}")


@pytest.mark.short
@pytest.mark.parametrize("mode", ["bridged"])
def test_the_oracle_sees_what_an_unguarded_attacker_does(mode: str, stack: ExitStack) -> None:
    """Or the test above could not fail. The same frames, and what is left of them is one frame or two."""
    site = made(stack, mode, program=False, unguarded=True, emulated=True)
    known = site.knows()
    frames = [frame(SEED, number, site.cast) for number in range(AT_ONCE)]
    news = effects(site, frames, known)
    for what in ("the victim has", "the bridge has"):
        assert [one for one in news if one.startswith(what)], news
    left = fewest(site, frames, known)
    assert len(left) <= 2
    ROWS.append(
        f"{mode}, unguarded: {len(news)} effects of {len(frames)} frames, {len(left)} is enough: {left[0][0].hex()}"
    )
