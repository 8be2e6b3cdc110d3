# SPDX-License-Identifier: BSD-2-Clause
"""The public links and private networks in a node's /etc/network/interfaces.

It reads three forms: the options of vmrouter.ifup (such as ip-routing-table), the `up` lines of snf-network's
documentation for the same purpose, and prv-net-helper for bridges with a VLAN each.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ganeti_vif.predecessors.interfaces import Option, Stanza
from ganeti_vif.predecessors.report import Fate, Note


@dataclass(slots=True)
class LegacyLink:
    """The public link of one uplink, as far as it is known yet."""

    uplink: str
    place: str
    table: str = ""
    subnets: list[str] = field(default_factory=list)
    gateways: list[str] = field(default_factory=list)
    arp_source: str = ""


@dataclass(slots=True)
class Pool:
    """Bridges PREFIXn from FIRST to LAST, each with the VLAN OFFSET + n of UPLINK."""

    prefix: str
    uplink: str
    first: str
    last: str
    offset: str
    place: str


@dataclass(slots=True)
class Found:
    """All links and bridges that were found, and a note on each line."""

    links: dict[str, LegacyLink] = field(default_factory=dict)
    pools: list[Pool] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)


def read(stanzas: Iterable[Stanza]) -> Found:
    """The links and bridges in STANZAS. Stanzas that have nothing to do with VMs get no note."""
    found = Found()
    for stanza in stanzas:
        if not _concerns(stanza):
            continue
        for option in stanza.options:
            if option.key.startswith(("ip-", "arp-")):
                _vmrouter(stanza, option, found)
            elif option.key in ("up", "post-up", "pre-up"):
                _command(stanza, option, found)
            elif option.key in ("down", "post-down", "pre-down"):
                _note(found, option, Fate.NEEDLESS, "what setup makes stays until ganeti-vif teardown")
            elif option.key.replace("_", "-") == "bridge-ports":
                what = f"{stanza.device} stays ifupdown's; Ganeti can give it as a link, and VMs are attached to it"
                _note(found, option, Fate.NEEDLESS, what)
    return found


def _concerns(stanza: Stanza) -> bool:
    return any(
        option.key in ("ip-routing-table", "arp-ip")
        or "prv-net-helper" in option.value
        or (option.key.endswith("up") and (" table " in option.value or " lookup " in option.value))
        for option in stanza.options
    )


def _note(found: Found, option: Option, fate: Fate, what: str) -> None:
    found.notes.append(Note(place=option.place, fate=fate, what=f"{option.key} {option.value}: {what}"))


def _link(stanza: Stanza, found: Found) -> LegacyLink:
    return found.links.setdefault(stanza.device, LegacyLink(uplink=stanza.device, place=stanza.place))


def _vmrouter(stanza: Stanza, option: Option, found: Found) -> None:
    """The options of grnet-vnode-tools' and gnt-networking's vmrouter.ifup."""
    link = _link(stanza, found)
    match option.key:
        case "ip-routing-table":
            _table(link, option.value, option, found)
            return
        case "ip-routes":
            link.subnets += [word for word in option.value.split() if word not in link.subnets]
        case "ip-gateway":
            link.gateways += [option.value]
        case "arp-ip":
            link.arp_source = option.value
        case "ip-forwarding" | "ip-proxy-arp" | "ip-proxy-ndp":
            _note(found, option, Fate.NEEDLESS, "setup sees to it")
            return
        case _:
            _note(found, option, Fate.UNREAD, "no option of vmrouter.ifup")
            return
    _note(found, option, Fate.TAKEN, f"[public] of {link.uplink}")


def _table(link: LegacyLink, table: str, option: Option, found: Found) -> None:
    if link.table and link.table != table:
        _note(found, option, Fate.LOST, f"{link.uplink} leads to the table {link.table} already")
        return
    link.table = table
    _note(found, option, Fate.TAKEN, f"[public] of {link.uplink}")


def _command(stanza: Stanza, option: Option, found: Found) -> None:
    """Read the command of an `up` line."""
    try:
        words = shlex.split(option.value)
    except ValueError:
        _note(found, option, Fate.UNREAD, "its quotes do not match")
        return
    words = [word.rpartition("/")[2] if at == 0 else word for at, word in enumerate(words)]
    if words[:1] == ["ip"]:
        _ip(stanza, [word for word in words[1:] if word not in ("-4", "-6")], option, found)
    elif words[:1] == ["arptables"] and "--mangle-ip-s" in words[:-1]:
        _link(stanza, found).arp_source = words[words.index("--mangle-ip-s") + 1]
        _note(found, option, Fate.TAKEN, f"[public] of {stanza.device}: arp-source")
    elif words[:1] == ["echo"] and words[-1].split("/")[2:4] == ["sys", "net"]:
        _note(found, option, Fate.NEEDLESS, "setup sees to it")
    elif words[:2] == ["prv-net-helper", "up"] and len(words) == 6:
        _, _, uplink, first, last, offset = words
        found.pools.append(Pool(prefix="prv", uplink=uplink, first=first, last=last, offset=offset, place=option.place))
        _note(found, option, Fate.TAKEN, "[private prv]")
    else:
        _note(found, option, Fate.LOST, "this command has no counterpart: leave it in a stanza of its own")


def _ip(stanza: Stanza, words: list[str], option: Option, found: Found) -> None:
    said = _said(words)
    table = said.get("table") or said.get("lookup")
    match words[:3]:
        case ["rule", "add", *_] if said.get("iif", said.get("dev")) == stanza.device and table:
            _table(_link(stanza, found), table, option, found)
        case ["rule", "add", "to"] if table:
            _note(found, option, Fate.LOST, "the node has no way of its own to the VMs: it is no router for them")
        case ["route", "add" | "replace", target] if said.get("dev", stanza.device) == stanza.device:
            _route(stanza, target, said, table, option, found)
        case ["link", "set", *_]:
            _note(found, option, Fate.NEEDLESS, "leave it where it is: the uplink is yours")
        case ["addr" | "address", "add", *_]:
            _note(found, option, Fate.LOST, "a node that is itself the gateway is not supported")
        case _:
            _note(found, option, Fate.UNREAD, "not a line of snf-network's documentation")


def _route(
    stanza: Stanza, target: str, said: Mapping[str, str], table: str | None, option: Option, found: Found
) -> None:
    link = _link(stanza, found)
    if table is None or table == "main":
        _note(found, option, Fate.NEEDLESS, "the mark of the link leads to its table")
        return
    if target == "default":
        if "via" in said and said["via"] not in link.gateways:
            link.gateways.append(said["via"])
    elif target not in link.subnets:
        link.subnets.append(target)
    _table(link, table, option, found)


def _said(words: list[str]) -> dict[str, str]:
    """The word after each word."""
    return dict(zip(words, words[1:], strict=False))
