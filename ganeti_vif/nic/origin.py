# SPDX-License-Identifier: BSD-2-Clause
"""What a tap was before its NIC was attached, as text and back; and what of it a detach gives back. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace

from ganeti_vif.engine.objects import BridgePort, Link, Origin, Sysctl, Up
from ganeti_vif.engine.state import Object, State


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """The device of that INDEX before the first change of ours. BRIDGE is the one that it was a port of."""

    index: int
    mac: str | None
    mtu: int | None
    group: int | None
    up: bool = False
    bridge: str | None = None
    switches: dict[str, str] = field(default_factory=dict)


def places(tap: str) -> tuple[Object, ...]:
    """What has to be read besides a NIC's needs to know what TAP was."""
    return (Origin(tap=tap, text=""), Up(device=tap), BridgePort(device=tap, bridge=""))


def origin_of(tap: str, wanted: State, actual: State, *, closed: bool) -> Origin | None:
    """What TAP is now, by what was read as ACTUAL, in all that is WANTED of it. None if it is not there.

    CLOSED if it is a guest's that somebody else had attached: what we took over is taken away by a detach, and a guest
    without its filter is connected to nothing.
    """
    device = actual.get(("link", tap))
    if not isinstance(device, Link) or device.index is None:
        return None
    port = actual.get(("port", tap))
    wishes = (thing.key for thing in wanted.values() if isinstance(thing, Sysctl) and tap in thing.path.split("/"))
    found = (actual[key] for key in wishes if key in actual)
    before = Before(
        index=device.index,
        mac=device.mac,
        mtu=device.mtu,
        group=device.group,
        up=not closed and ("up", tap) in actual,
        bridge=port.bridge if isinstance(port, BridgePort) and not closed else None,
        switches={thing.path: thing.value for thing in found if isinstance(thing, Sysctl)},
    )
    return _written(tap, before)


def kept(known: Origin, now: Origin) -> Origin:
    """KNOWN, with what only NOW tells: switches that were not wanted before."""
    before, later = before_of(known), before_of(now)
    if before is None or later is None:
        return now
    switches = later.switches | before.switches
    return known if switches == before.switches else _written(known.tap, replace(before, switches=switches))


def before_of(origin: Object | None) -> Before | None:
    """What ORIGIN says; None if there is none or it is damaged, for then nothing is known."""
    if not isinstance(origin, Origin):
        return None
    try:
        return Before(**json.loads(origin.text))
    except (ValueError, TypeError):
        return None


def given_back(tap: str, before: Before, bridges: frozenset[str]) -> Iterator[Object]:
    """What TAP is again after a detach. A bridge that is not among BRIDGES is gone, and the tap stays without."""
    yield Link(name=tap, mac=before.mac, mtu=before.mtu, group=before.group)
    yield from (Sysctl(path=path, value=value) for path, value in sorted(before.switches.items()))
    if before.bridge in bridges:
        yield BridgePort(device=tap, bridge=str(before.bridge))
    if before.up and (before.bridge is None or before.bridge in bridges):
        yield Up(device=tap)


def _written(tap: str, before: Before) -> Origin:
    return Origin(tap=tap, text=json.dumps(asdict(before), indent=1, sort_keys=True) + "\n")
