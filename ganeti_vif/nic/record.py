# SPDX-License-Identifier: BSD-2-Clause
"""The record of a NIC as text, and back: what a later run needs to finish an attach or to clear up after it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from ganeti_vif.config import limits
from ganeti_vif.config.limits import Limits
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.objects import Record
from ganeti_vif.nic.nic import Mode, Network, Nic, Vlans
from ganeti_vif.nic.tags import Control, Grants, Saying

VERSION = 1
PENDING = "pending"
"""Marks the record of a pending NIC: Ganeti described it, but it could not be attached. It has no claim yet."""
STANDBY = "elsewhere"
"""The key for standby in a record. Earlier versions write and read it under this name."""


def record_of(nic: Nic, *, pending: bool = False) -> Record:
    """The record of NIC. PENDING if it could not be attached. Equal NICs have equal records: sets are sorted."""
    values = {"version": VERSION} | ({PENDING: True} if pending else {}) | _plain(nic)
    for name in ("tap_mac", STANDBY, "claims", "prefix6", "withheld", "leads"):
        if not values[name]:
            del values[name]  # an older version, installed again, does not know these keys
    return Record(tap=nic.tap, text=json.dumps(values, indent=1) + "\n")


@lru_cache(maxsize=4096)  # the daemon parses the records of the whole node again and again
def nic_of(record: Record) -> Nic:
    """The NIC that RECORD describes. Raises Failure if it is damaged or of another version."""
    try:
        values = json.loads(record.text)
        if values.pop("version") != VERSION:
            raise ValueError("it is of another version")
        values.pop(PENDING, None)
        values["standby"] = values.pop(STANDBY, False)
        network = values.pop("network")
        nic = Nic(
            **_typed(values, _NIC),
            network=Network(**_typed(network, _NETWORK)) if network is not None else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"the record of {record.tap} cannot be read: {type(error).__name__} {error}"
        raise Failure(what, "ganeti-vif reconcile") from error
    if nic.tap != record.tap:
        raise Failure(f"the record of {record.tap} describes {nic.tap}", "ganeti-vif reconcile")
    return nic


def is_pending(record: Record) -> bool:
    """Whether RECORD is of a NIC that could not be attached. RECORD must be readable by nic_of()."""
    return PENDING in json.loads(record.text)


_NIC: dict[str, Callable[[Any], Any]] = {
    "mode": Mode,
    "vlans": lambda value: Vlans(value["untagged"], frozenset(value["tagged"])),
    "ip": ip_address,
    "tags": frozenset,
    "claims": lambda value: tuple(map(IPv6Address, value)),
    "withheld": lambda value: tuple(map(ip_address, value)),
    "leads": lambda value: tuple(map(ip_address, value)),
    "grants": lambda value: Grants(**_typed(value, _GRANTS)),
    "prefix6": IPv6Network,
}
_GRANTS: dict[str, Callable[[Any], Any]] = {
    "addresses": lambda value: tuple(map(ip_network, value)),
    "macs": tuple,
    "shared": lambda value: tuple(map(ip_address, value)),
    "control": lambda value: frozenset(map(Control, value)),
    "told": lambda value: tuple(Saying(*one) for one in value),
    "delegated": lambda value: tuple(map(IPv6Network, value)),
    "limits": lambda value: Limits(**_typed(value, _LIMITS)),
}
_LIMITS: dict[str, Callable[[Any], Any]] = {
    "rate": limits.rates,
    "packets": limits.packet_rates,
    "floods": limits.floods,
}
_NETWORK: dict[str, Callable[[Any], Any]] = {
    "tags": frozenset,
    "subnet": IPv4Network,
    "gateway": IPv4Address,
    "subnet6": IPv6Network,
    "gateway6": IPv6Address,
}


def _typed(values: dict[str, Any], parsers: dict[str, Callable[[Any], Any]]) -> dict[str, Any]:
    return {
        key: parsers[key](value) if key in parsers and value is not None else value for key, value in values.items()
    }


def _plain(value: Any) -> Any:
    """VALUE in JSON's types."""
    match value:
        case None | bool() | int() | str():
            return value
        case Mode() | Control():
            return value.value
        case frozenset():
            return sorted(map(_plain, value))
        case tuple():
            return [_plain(item) for item in value]
        case Nic(grants=grants):
            # No key if there are no grants, as in versions without grants: so an upgrade changes no record.
            left_out = {"grants"} if grants == Grants() else set()
            names = [field.name for field in fields(value) if field.name not in left_out]
            return {STANDBY if name == "standby" else name: _plain(getattr(value, name)) for name in names}
        case Grants():
            later = ("control", "told", "shared", "delegated", "limits", "isolated")  # as above
            said = {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
            return {name: plain for name, plain in said.items() if plain or name not in later}
        case Limits(rate=rate, packets=packets, floods=floods):
            said = {
                "rate": limits.rates_text(rate) if rate else None,
                "packets": limits.packet_rates_text(packets) if packets else None,
                "floods": limits.floods_text(floods) or None,
            }
            return {key: text for key, text in said.items() if text}
        case Network() | Vlans():
            return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
        case _:
            return str(value)
