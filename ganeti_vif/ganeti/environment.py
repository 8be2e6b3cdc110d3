# SPDX-License-Identifier: BSD-2-Clause
"""The environment in which Ganeti runs its network scripts, as a NIC.

Variables and their formats: ganeti lib/hypervisor/hv_base.py:229-255 and lib/objects.py:2386-2400 at 3.0.2. The
script's arguments are useless: at start they are the literal text `b'tap0'`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeVar

from ganeti_vif.config.values import address, integer, network
from ganeti_vif.engine.failure import Failure, one_line
from ganeti_vif.nic.nic import Mode, Network, Nic, Vlans
from ganeti_vif.nic.tags import grants_of

T = TypeVar("T")

_COMMUNICATION = re.compile(r"gnt\.com\.[0-9]+")
_INSTANCE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,253}[A-Za-z0-9])?")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_TAP = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,14}")
_LINK = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,31}")
_TAGS = re.compile(r"[\w.+*/:@-]+", re.ASCII)


def is_communication_tap(environment: Mapping[str, str]) -> bool:
    """Whether this is a tap of Ganeti's instance communication, so not ours (ganeti tools/net-common.in:46-55)."""
    return bool(_COMMUNICATION.fullmatch(environment.get("INTERFACE", "")))


def tap_of(environment: Mapping[str, str]) -> str:
    """The tap that ENVIRONMENT names. Raises Failure if it is missing or malformed."""
    return _Variables(environment).required("INTERFACE", _matching(_TAP, "the name of a tap"))


def uuid_of(environment: Mapping[str, str]) -> str:
    """The UUID of the NIC that ENVIRONMENT names. Raises Failure if it is missing or malformed."""
    return _Variables(environment).required("INTERFACE_UUID", _matching(_UUID, "a UUID"))


def parse_nic(environment: Mapping[str, str], index_of: Callable[[str], int]) -> Nic:
    """The NIC in ENVIRONMENT. INDEX_OF gives the ifindex of its tap. Raises Failure if a variable or tag is missing or
    malformed, or if INDEX_OF does."""
    variables = _Variables(environment)
    tap = variables.required("INTERFACE", _matching(_TAP, "the name of a tap"))
    mode = variables.required("MODE", _mode)
    nic = Nic(
        instance=variables.required("INSTANCE", _matching(_INSTANCE, "the name of an instance")),
        uuid=variables.required("INTERFACE_UUID", _matching(_UUID, "a UUID")),
        mac=variables.required("MAC", mac),
        mode=mode,
        link=variables.required("LINK", _matching(_LINK, "a bridge or a routing table")),
        number=variables.optional("INTERFACE_INDEX", integer(0, 0xFFFF)),
        name=variables.optional("INTERFACE_NAME", one_line),
        vlans=variables.optional("VLAN", vlans) or Vlans(),
        ip=variables.optional("IP", address),
        tags=variables.optional("TAGS", tags) or frozenset(),
        network=network_of(environment),
        tap=tap,
        index=_index(tap, index_of, variables),
    )
    try:
        granted = grants_of(nic.tags, nic.network_tags, index=nic.number, name=nic.name, uuid=nic.uuid)
    except Failure as failure:
        raise failure.about(nic.whom) from failure
    return replace(nic, grants=granted)


def _index(tap: str, index_of: Callable[[str], int], variables: _Variables) -> int:
    try:
        return index_of(tap)
    except Failure as failure:
        raise failure.about(variables.whom()) from failure


def network_of(environment: Mapping[str, str]) -> Network | None:
    """The Ganeti network in ENVIRONMENT, or None. Raises Failure if a variable is missing or malformed."""
    if not environment.get("NETWORK_UUID"):
        return None
    variables = _Variables(environment)
    return Network(
        name=variables.required("NETWORK_NAME", one_line),
        uuid=variables.required("NETWORK_UUID", _matching(_UUID, "a UUID")),
        tags=variables.optional("NETWORK_TAGS", tags) or frozenset(),
        subnet=variables.optional("NETWORK_SUBNET", _of(IPv4Network, network)),
        gateway=variables.optional("NETWORK_GATEWAY", _of(IPv4Address, address)),
        subnet6=variables.optional("NETWORK_SUBNET6", _of(IPv6Network, network)),
        gateway6=variables.optional("NETWORK_GATEWAY6", _of(IPv6Address, address)),
        mac_prefix=variables.optional("NETWORK_MAC_PREFIX", mac_prefix),
    )


class _Variables:
    """The environment, with errors that name the instance, the NIC, the variable and its value."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def required(self, name: str, parser: Callable[[str], T]) -> T:
        value = self.optional(name, parser)
        if value is None:
            raise Failure(
                f"{self.whom()}: the variable {name} is missing or empty (by hand: --{name.lower().replace('_', '-')})",
                "see: ganeti-vif attach --help",
            )
        return value

    def optional(self, name: str, parser: Callable[[str], T]) -> T | None:
        text = self._environment.get(name)
        if not text:
            return None
        try:
            return parser(text)
        except ValueError as error:
            reason = str(error) if text in str(error) else f"'{text}': {error}"
            raise Failure(f"{self.whom()}: {name}: {reason}", _remedy(name)) from error

    def whom(self) -> str:
        """The NIC's name in messages, before there is a NIC."""
        instance = self._environment.get("INSTANCE") or "(unknown instance)"
        return f"{instance} NIC {self._environment.get('INTERFACE_INDEX', '?')}"


def _remedy(name: str) -> str:
    if name.startswith("NETWORK_"):
        return "note: see and mend it with: gnt-network info, gnt-network modify"
    if name == "TAGS":
        return "note: see and mend it with: gnt-instance list-tags, gnt-instance remove-tags"
    return "see and mend it with: gnt-instance info, gnt-instance modify --net"


def _mode(text: str) -> Mode:
    try:
        return Mode(text)
    except ValueError:
        raise ValueError(f"'{text}' is none of: {', '.join(mode.value for mode in Mode)}") from None


def _matching(pattern: re.Pattern[str], meaning: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(f"'{text}' is not {meaning}")
        return text

    return parse


def _of(kind: type[T], parser: Callable[[str], object]) -> Callable[[str], T]:
    """PARSER, for one IP version only."""

    def parse(text: str) -> T:
        found = parser(text)
        if not isinstance(found, kind):
            raise ValueError(f"'{text}' is of the other IP version")
        return found

    return parse


def mac(text: str) -> str:
    """A unicast MAC address, in lower case with colons."""
    lower = text.lower()
    if not _MAC.fullmatch(lower):
        raise ValueError(f"'{text}' is not a MAC address")
    if int(lower[:2], 16) & 1 or lower == "00:00:00:00:00:00":
        raise ValueError(f"'{text}' is a group address and cannot be a NIC's own")
    return lower


def mac_prefix(text: str) -> str:
    """The first three octets of a network's MAC addresses."""
    if not _MAC.fullmatch(f"{text.lower()}:00:00:00"):
        raise ValueError(f"'{text}' is not a MAC prefix such as aa:00:09")
    return text.lower()


def tags(text: str) -> frozenset[str]:
    """Tags, separated by blanks (ganeti lib/objects.py:313: letters, digits and .+*/:@-)."""
    words = text.split(" ")
    for word in words:
        if word and not _TAGS.fullmatch(word):
            raise ValueError(f"'{word}' is not a tag")
    return frozenset(words) - {""}


def vlans(text: str) -> Vlans:
    """`.N` or `N` untagged, `:N:M` tagged, `.N:M:…` both.

    Ganeti normalises this only at instance add (lib/cmdlib/instance_create.py:150-171); modify passes on any text.
    """
    match = re.fullmatch(r"(?:\.?([0-9]{1,4}))?((?::[0-9]{1,4})*)", text)
    if not match:
        raise ValueError(f"'{text}' is none of: 10, .10, :20:30, .10:20:30")
    untagged = int(match[1]) if match[1] else None
    tagged = frozenset(int(vid) for vid in match[2].split(":") if vid)
    for vid in tagged | ({untagged} if untagged is not None else set()):
        if not 1 <= vid <= 4094:
            raise ValueError(f"'{text}': {vid} is no VLAN ID from 1 to 4094")
    return Vlans(untagged, tagged - {untagged})


__all__ = ["is_communication_tap", "mac", "mac_prefix", "network_of", "parse_nic", "tags", "tap_of", "uuid_of", "vlans"]
