# SPDX-License-Identifier: BSD-2-Clause
"""A configuration as a whole file again, with every value that counts, also the defaults."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

from ganeti_vif.config import limits, parse, told
from ganeti_vif.config.limits import Limits
from ganeti_vif.config.model import Config, Names, OfNetwork, Told, VlanUplink, VxlanUplink

FIELDS: Mapping[str, str] = {"bridges": "numbers", "for": "wanted_for"}
"""The fields that have another name than their key."""

_LIMITS: Mapping[str, Callable[[Limits], str | None]] = {
    "guest-rate": lambda given: limits.rates_text(given.rate) if given.rate else None,
    "guest-packets": lambda given: limits.packet_rates_text(given.packets) if given.packets else None,
    "guest-limits": lambda given: limits.floods_text(given.floods) or None,
}
"""The keys whose values are together in one field, as texts."""


def lines(config: Config) -> Iterator[str]:
    """CONFIG as the lines of a file from which config.parse makes the same configuration.

    Profiles are not in it: they have files of their own.
    """
    general = config.responder.told
    yield from _section("daemon", _own("daemon", config))
    yield from _section("bindings", _own("bindings", config.bindings))
    yield from _section("responder", [*_own("responder", config.responder), *_told(general, Told())])
    for private in config.private:
        yield from _section(f"private {private.prefix}", [*_own("private", private), *_told(private.told, general)])
        for part in private.parts:
            heading = f"private {private.prefix} {ranges(sorted(part.numbers))}"
            yield from _section(heading, _told(part.told, private.told))
    for public in config.public:
        yield from _section(f"public {public.name}", [*_own("public", public), *_told(public.told, general)])
    if config.names != Names():
        yield from _section("names", _own("names", config.names))
    for network in config.networks:
        yield from _section(f"network {network.name}", _said(network))


def _section(heading: str, values: Iterable[tuple[str, str]]) -> Iterator[str]:
    yield f"[{heading}]"
    yield from (f"{key} = {value}".rstrip() for key, value in values)
    yield ""


def _own(kind: str, thing: object) -> Iterator[tuple[str, str]]:
    """The keys of a section of this KIND that are not for guests, with the values of THING. A key without a value has
    no line."""
    for key in parse.SECTIONS[kind]:
        if key in told.FIXED:
            continue
        field = "limits" if key in _LIMITS else FIELDS.get(key, key.replace("-", "_"))
        value: Any = getattr(thing, field)
        if field == "limits":
            value = _LIMITS[key](value)
        if value is not None and value != ():
            yield key, ranges(value) if key == "bridges" else text_of(value)


def _told(values: Told, general: Told) -> Iterator[tuple[str, str]]:
    """What guests are told by VALUES. A value of GENERAL that they do not have gets an empty line."""
    shown = {key: text for key, text, _ in told.shown(values) if key not in told.MTU}
    yield from shown.items()
    yield from ((key, "") for key, *_ in told.shown(general) if key not in shown and key not in told.MTU)


def _said(network: OfNetwork) -> Iterator[tuple[str, str]]:
    """What the section of NETWORK says, and no defaults: what it does not say comes from other places."""
    given = dict(network.said)
    shown = {key: text for key, text, _ in told.shown(told.merged(Told(), given, ""))}
    yield from ((key, shown.get(key, "")) for key in given)


def text_of(value: object) -> str:
    """VALUE as the file has it."""
    match value:
        case bool():
            return "yes" if value else "no"
        case Enum():
            return str(value.value)
        case VlanUplink():
            return f"vlan {value.device} +{value.offset}"
        case VxlanUplink():
            return f"vxlan {value.device} +{value.offset} group {value.group}"
        case tuple():
            return " ".join(map(str, value))
    return str(value)


def ranges(numbers: Sequence[int]) -> str:
    """The sorted NUMBERS as ranges.

    >>> ranges((1, 2, 3, 7))
    '1-3,7'
    """
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, part)) for part in parts)
