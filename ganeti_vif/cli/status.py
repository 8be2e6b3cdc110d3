# SPDX-License-Identifier: BSD-2-Clause
"""The state of the node, as data for --json and as tables of text."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ganeti_vif.cli import limits
from ganeti_vif.config.effective import ranges
from ganeti_vif.config.model import Config, Private, Public, VlanUplink, VxlanUplink
from ganeti_vif.desired import routed
from ganeti_vif.engine.difference import subject
from ganeti_vif.engine.failure import Failure, remedy
from ganeti_vif.guard.limits import limits_of
from ganeti_vif.nic.life import State, now
from ganeti_vif.nic.nic import Nic
from ganeti_vif.reconcile.survey import Survey

Row = dict[str, Any]


def status(
    config: Config, found: Survey, daemon: dict[str, Any] | None = None, responder: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The node as plain data: private networks, public links, NICs, the daemon, the responder, and trouble."""
    taps = (responder or {}).get("taps", {})
    return {
        "daemon": daemon,
        "private": [_private(private, found) for private in config.private],
        "public": [_public(public, found) for public in config.public],
        "nics": [
            _nic(nic, config, found, (daemon or {}).get("lives", {})) | {"guest": taps.get(nic.tap, {}).get("guest")}
            for nic in found.nics
        ],
        "left_over": [{"instance": nic.instance, "tap": nic.tap, "uuid": nic.uuid} for nic in found.dead],
        "differences": len(found.changes),
        "trouble": [{"what": failure.what, "do": failure.do} for failure in found.trouble],
        "responder": responder,
        "notes": [{"what": note.what, "do": note.do} for note in found.notes],
    }


def of_instance(shown: dict[str, Any], name: str) -> dict[str, Any]:
    """The part of SHOWN that is about the instance NAME. Raises Failure if it has no NIC on this node."""
    nics = [nic for nic in shown["nics"] if nic["instance"] == name]
    if not nics:
        raise Failure(f"the instance {name} has no NIC on this node", "see: ganeti-vif status")
    about = [one for one in shown["trouble"] if name in one["what"]]
    return {**shown, "private": [], "public": [], "nics": nics, "left_over": [], "trouble": about}


def _private(private: Private, found: Survey) -> Row:
    ports = found.devices.ports()
    bridges = list(private.bridges)
    own = set(private.devices)
    present = [name for name in bridges if name in found.devices.by_name]
    return {
        "prefix": private.prefix,
        "bridges": ranges(private.numbers),
        "uplink": _uplink(private),
        "mtu": private.mtu,
        "configured": len(bridges),
        "up": sum(found.devices.by_name[name].up for name in present),
        "missing": [name for name in bridges if name not in found.devices.by_name],
        "ports": sum(port.name not in own for name in present for port in ports.get(name, [])),
    }


def _uplink(private: Private) -> str:
    match private.uplink:
        case VlanUplink(device=device, offset=offset):
            return f"vlan {device} +{offset}"
        case VxlanUplink(device=device, offset=offset, cluster=cluster):
            return f"vxlan {device} +{offset}" + (" peers cluster" if cluster else "")
    return "none"


def _public(public: Public, found: Survey) -> Row:
    uplink = found.devices.by_name.get(public.uplink)
    return {
        "name": public.name,
        "table": public.table,
        "uplink": public.uplink,
        "uplink_state": "missing" if uplink is None else "up" if uplink.up else "down",
        "subnets": [str(subnet) for subnet in public.subnets],
        "gateways": [str(gateway) for gateway in public.gateways],
        "nics": sum(nic.link in (public.name, str(public.table)) for nic in found.nics),
    }


def _nic(nic: Nic, config: Config, found: Survey, lives: Mapping[str, str]) -> Row:
    wanted = found.wanted.get(nic.tap, frozenset())
    binding = next((key for key in wanted if key[0] == "binding"), None)
    differences = sum(subject(change).key in wanted for change in found.changes)
    return {
        "instance": nic.instance,
        "nic": nic.number,
        "name": nic.name,
        "uuid": nic.uuid,
        "tap": nic.tap,
        "mode": nic.mode.value,
        "link": nic.link,
        "mac": nic.mac,
        "addresses": [str(one) for one in routed.addresses(nic)]
        + [str(one) for version in (4, 6) for one in nic.networks(version) if one.num_addresses > 1],
        "network": nic.network.name if nic.network else None,
        "binding": f"{binding[1]}/{binding[2]}" if binding else None,
        "unguarded": nic.grants.unguarded,
        "limits": limits.limits(nic, limits_of(nic, config)),
        "state": _state(nic, found, differences),
        "life": _life(nic, found, lives).value,
    }


def _life(nic: Nic, found: Survey, lives: Mapping[str, str]) -> State:
    """The state of NIC in its life, from its record, or from the daemon if that knows more."""
    recorded = State.PENDING if nic.tap in found.pending else State.STANDBY if nic.standby else State.ATTACHED
    return now(State(lives[nic.tap]), recorded) if nic.tap in lives else recorded


def _state(nic: Nic, found: Survey, differences: int) -> str:
    if nic.tap in found.pending:
        return "not attached"
    if nic.tap not in found.wanted:
        return "in trouble"
    if nic.standby and not differences:
        return "elsewhere"
    guarded = "unguarded" if nic.grants.unguarded else "ok"
    return _count(differences) if differences else guarded


def table(shown: dict[str, Any]) -> Iterator[str]:
    """SHOWN as lines of text."""
    yield from section(
        ("PRIVATE", "BRIDGES", "UPLINK", "UP", "PORTS"),
        [
            (p["prefix"], p["bridges"], p["uplink"], f"{p['up']} of {p['configured']}", p["ports"])
            for p in shown["private"]
        ],
    )
    yield from section(
        ("PUBLIC", "TABLE", "UPLINK", "SUBNETS", "GATEWAYS", "NICS"),
        [
            (
                p["name"],
                p["table"],
                f"{p['uplink']} ({p['uplink_state']})",
                *_lists(p["subnets"], p["gateways"]),
                p["nics"],
            )
            for p in shown["public"]
        ],
    )
    yield from section(
        ("INSTANCE", "NIC", "TAP", "MODE", "LINK", "ADDRESSES", "BINDING", "STATE"),
        [
            (n["instance"], n["name"] or _shown(n["nic"]), n["tap"], n["mode"], n["link"], *_lists(n["addresses"]))
            + ("yes" if n["binding"] else "-", _shown_state(n["state"], n["life"]))
            for n in shown["nics"]
        ],
    )
    yield from section(("INSTANCE", "NIC", "RATE TO/FROM", "PACKETS TO/FROM", "ISOLATED"), [*_limited(shown["nics"])])
    yield from section(
        ("INSTANCE", "NIC", "IP", "ASKED", "LEASED", "CLIENT", "HOST NAME"),
        [row for n in shown["nics"] for row in _asked(n)],
    )
    daemon = shown["daemon"]
    yield f"daemon: process {daemon['pid']}" if daemon else "daemon: ganeti-vifd does not run, or does not answer"
    for tap, what in (daemon["retrying"] if daemon else {}).items():
        yield f"tried again: {what or tap}"
    if names := (daemon or {}).get("names"):
        yield f"names: {_names(names)}"
    for left in shown["left_over"]:
        yield f"left over: {left['instance']} on {left['tap']}, which is gone (ganeti-vif reconcile clears it)"
    for trouble in shown["trouble"]:
        yield f"trouble: {trouble['what']}"
        yield f"  {remedy(trouble['do'])}"
    for note in shown["notes"]:
        yield from noted(note["what"], note["do"])
    if shown["differences"]:
        yield f"{_count(shown['differences'])}: ganeti-vif check lists them, ganeti-vif reconcile mends them"


def _limited(nics: list[Row]) -> Iterator[tuple[str, ...]]:
    """A row for each of NICS with a rate, or isolated."""
    for nic in nics:
        found = nic["limits"]
        if found["rate"] or found["packets"] or found["isolated"]:
            said = (found["rate"] or "-", found["packets"] or "-", "yes" if found["isolated"] else "-")
            yield (nic["instance"], nic["name"] or _shown(nic["nic"]), *said)


def _asked(nic: Row) -> Iterator[tuple[str, ...]]:
    """A row for each IP version by which the guest of NIC asked the responder."""
    for version, past in (nic["guest"] or {}).items():
        leased = "declined" if past["declined"] else _time(past["leased"])
        client = [past["vendor_class"] or "-", past["hostname"] or "-"]
        yield (nic["instance"], nic["name"] or _shown(nic["nic"]), version, _time(past["asked"]), leased, *client)


def _names(names: Mapping[str, Any]) -> str:
    """Where how many names are written."""
    places = [f"{names['entries']} in {names['hosts_file']}"] if names["hosts_file"] else []
    places += [f"{names['there']} of {names['wanted']} record sets at {names['server']}"] if names["server"] else []
    return ", ".join(places)


def _time(when: int | None) -> str:
    """The time WHEN, in seconds since the epoch, by the clock of this node's time zone."""
    return "-" if when is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))


def noted(what: str, do: str) -> Iterator[str]:
    """A note as lines of text."""
    yield f"note: {what}"
    yield f"  {remedy(do).removeprefix('note: ')}"


def _shown_state(state: str, life: str) -> str:
    """The state for the table: the trouble, or the NIC's state in its life unless it is simply attached."""
    well = state in ("ok", "elsewhere", "not attached")
    return life if well and life != State.ATTACHED.value else state


def _shown(number: int | None) -> str:
    return "-" if number is None else str(number)


def _count(differences: int) -> str:
    return "1 difference" if differences == 1 else f"{differences} differences"


def _lists(*lists: Sequence[str]) -> tuple[str, ...]:
    return tuple(" ".join(one) or "-" for one in lists)


def section(head: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """A table with the header HEAD and an empty line after it. Nothing if there are no ROWS."""
    if not rows:
        return
    lines = [head, *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
    yield ""
