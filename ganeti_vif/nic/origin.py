# SPDX-License-Identifier: BSD-2-Clause
"""The state of a tap before its NIC was attached, as text and back, and what a detach restores of it. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace

from ganeti_vif.engine.objects import BridgePort, Link, Origin, Sysctl, Up
from ganeti_vif.engine.state import Object, State


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """The device with that INDEX before our first change. BRIDGE is the bridge that it was a port of."""

    index: int
    mac: str | None
    mtu: int | None
    group: int | None
    up: bool = False
    bridge: str | None = None
    switches: dict[str, str] = field(default_factory=dict)


def places(tap: str) -> tuple[Object, ...]:
    """What to read, besides a NIC's needs, to know the state of TAP."""
    return (Origin(tap=tap, text=""), Up(device=tap), BridgePort(device=tap, bridge=""))


def origin_of(tap: str, wanted: State, actual: State, *, closed: bool) -> Origin | None:
    """The present state of TAP, as far as WANTED would change it. None if TAP does not exist. ACTUAL was read before.

    CLOSED: somebody else had attached the guest's tap. The origin then has it down and on no bridge, because a detach
    removes the filter, and a guest without its filter must be connected to nothing.
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
    """KNOWN, with the sysctls that only NOW has, because nothing wanted them before."""
    before, later = before_of(known), before_of(now)
    if before is None or later is None:
        return now
    switches = later.switches | before.switches
    return known if switches == before.switches else _written(known.tap, replace(before, switches=switches))


def before_of(origin: Object | None) -> Before | None:
    """The state that ORIGIN describes. None if there is no origin or it is damaged."""
    if not isinstance(origin, Origin):
        return None
    try:
        return Before(**json.loads(origin.text))
    except (ValueError, TypeError):
        return None


def given_back(tap: str, before: Before, bridges: frozenset[str]) -> Iterator[Object]:
    """What a detach restores of TAP. If its bridge is not in BRIDGES, the bridge is gone and TAP stays without."""
    yield Link(name=tap, mac=before.mac, mtu=before.mtu, group=before.group)
    yield from (Sysctl(path=path, value=value) for path, value in sorted(before.switches.items()))
    if before.bridge in bridges:
        yield BridgePort(device=tap, bridge=str(before.bridge))
    if before.up and (before.bridge is None or before.bridge in bridges):
        yield Up(device=tap)


def _written(tap: str, before: Before) -> Origin:
    return Origin(tap=tap, text=json.dumps(asdict(before), indent=1, sort_keys=True) + "\n")
