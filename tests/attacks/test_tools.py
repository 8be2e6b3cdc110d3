# SPDX-License-Identifier: BSD-2-Clause
"""Public tools, run in a guest: nobody hears their attack, and the victim's kernel knows what it knew before.

A row in which a tool sent nothing of its attack is a failure.
"""

from __future__ import annotations

import select
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.kernel.actions import ip
from tests.kernel.attacks import Cast
from tests.lab import PacketSocket

from .conftest import ROWS
from .site import MODES, NEIGHBOURS, Site, essential, made
from .tools import KEEPALIVED, TOOLS, Is, Tool


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with ExitStack() as stack:
        yield made(stack, request.param, program=True)


def attacked(site: Site, tool: Tool, ears: dict[str, PacketSocket]) -> Counter[str]:
    """Let TOOL attack. How many frames of its attack each of EARS heard."""
    assert site.attacker
    heard: Counter[str] = Counter()
    cast = site.cast
    command = ["timeout", "-k", "1", str(tool.seconds), *tool.words(cast, site.mode)]
    process = site.attacker.popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"TERM": "xterm", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )
    stirred = site.victim.popen(tool.stirring(cast, site.mode)) if tool.stirred else None
    quiet = 0
    while process.poll() is None or quiet < 5:
        ready = select.select(list(ears.values()), [], [], 0.05)[0]
        quiet = 0 if ready else quiet + 1
        for who, ear in ears.items():
            if ear in ready:
                heard[who] += _count(ear, tool.answer if who == "answers" else tool.attack, cast)
    assert process.stdin
    process.stdin.close()  # until now it was open: yersinia ends when a key is pressed, or could not be any more
    if stirred:
        stirred.communicate(timeout=60)
    return heard


def _count(ear: PacketSocket, is_attack: Is, cast: Cast) -> int:
    """How many of the frames that wait at EAR are of the attack; of a flood it is not all at once."""
    end = time.monotonic() + 0.2
    found = 0
    for frame in ear.frames(time.monotonic()):
        found += is_attack(frame, cast)
        if time.monotonic() > end:
            break
    return found


def prepared(site: Site) -> None:
    """The attacker knows where its victim is: some tools do not ask, and some networks do not answer."""
    assert site.attacker
    cast = site.cast
    for address in (cast.other, cast.gateway, NEIGHBOURS[site.mode]):
        ip(site.attacker, f"neigh replace {address} lladdr {cast.to} nud permanent dev eth0")
    path = site.attacker.path("/run/keepalived.conf")
    path.write_text(KEEPALIVED.format(neighbour=NEIGHBOURS[site.mode]))


def ears_of(site: Site, stack: ExitStack) -> dict[str, PacketSocket]:
    """Ears where the attack leaves and where it must not come."""
    assert site.attacker
    return {
        "attacker": stack.enter_context(PacketSocket(site.attacker, "eth0", outgoing=True)),
        "victim": stack.enter_context(PacketSocket(site.victim, "eth0")),
        "gateway": stack.enter_context(PacketSocket(site.gateway, "eth0")),
        "answers": stack.enter_context(PacketSocket(site.attacker, "eth0")),
    }


@pytest.mark.parametrize(
    ("site", "tool"),
    [
        pytest.param(mode, tool, marks=[pytest.mark.short] if tool.short else [], id=f"{mode}-{tool.name}")
        for mode in MODES
        for tool in TOOLS
        if mode in tool.modes
    ],
    indirect=["site"],
)
def test_a_tool_reaches_nobody(site: Site, tool: Tool, stack: ExitStack) -> None:
    prepared(site)
    site.forget()
    known, counted, sent = site.knows(), site.counted(), site.sent()
    heard = attacked(site, tool, ears_of(site, stack))
    news = site.knows() - known
    dropped = site.counted() - counted
    row = f"{site.mode:16} {tool.name:26} sent {site.sent() - sent} frames, {heard['attacker']} of its attack; the victim heard {heard['victim']}, the gateway {heard['gateway']}; the filter: {essential(dropped)}"
    ROWS.append(row)
    assert heard["attacker"] > 0, f"it sent nothing of its attack: {row}"
    assert (heard["victim"], heard["gateway"]) == (0, 0), row
    assert heard["answers"] == 0, f"the node answered: {row}"
    assert news == frozenset(), row


@pytest.mark.short
@pytest.mark.parametrize(
    "tool", [tool for tool in TOOLS if tool.name in ("arpspoof", "fake_router26")], ids=lambda tool: tool.name
)
def test_a_victim_hears_and_believes_an_unguarded_attacker(tool: Tool, stack: ExitStack) -> None:
    """Or the test above could not fail."""
    site = made(stack, "bridged", program=True, unguarded=True)
    prepared(site)
    known = site.knows()
    assert attacked(site, tool, ears_of(site, stack))["victim"] > 0
    news = site.knows() - known
    assert news
    ROWS.append(f"bridged, unguarded {tool.name}: {'; '.join(sorted(news))}")
