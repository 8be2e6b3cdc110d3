# SPDX-License-Identifier: BSD-2-Clause
"""The environment in which Ganeti runs its network scripts, as a NIC.

Variables and their formats: ganeti lib/hypervisor/hv_base.py:229-255 and lib/objects.py:2386-2400 at 3.0.2. The
script's arguments are useless: at start they are the literal text `b'tap0'`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import TypeVar

from ganeti_vif.config.values import address, integer, network, on_link
from ganeti_vif.engine.failure import Failure, one_line
from ganeti_vif.nic.nic import Mode, Network, Nic, Vlans
from ganeti_vif.nic.tags import LEASES, grants_of

T = TypeVar("T")

_COMMUNICATION = re.compile(r"gnt\.com\.[0-9]+")
_INSTANCE = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,253}[A-Za-z0-9_-])?")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_TAP = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,14}")
_LINK = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,31}")
_SWITCHED = (Mode.BRIDGED.value, Mode.OPENVSWITCH.value)
_ZONE = re.compile(r"%[A-Za-z0-9_.-]{1,15}")


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
        vlans=(variables.optional("VLAN", vlans) if mode is not Mode.ROUTED else None) or Vlans(),
        ip=variables.optional("IP", address if mode is Mode.ROUTED else on_link),
        tags=tags(environment.get("TAGS", "")),
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
    network_tags = tags(environment.get("NETWORK_TAGS", ""))
    # A guest on a bridge has to do with subnet and gateways only if it gets a lease.
    untold = environment.get("MODE") in _SWITCHED and LEASES not in network_tags
    optional = variables.if_possible if untold else variables.optional
    return Network(
        name=variables.required("NETWORK_NAME", one_line),
        uuid=variables.required("NETWORK_UUID", _matching(_UUID, "a UUID")),
        tags=network_tags,
        subnet=optional("NETWORK_SUBNET", _of(IPv4Network, _subnet)),
        gateway=optional("NETWORK_GATEWAY", _of(IPv4Address, on_link)),
        subnet6=variables.optional("NETWORK_SUBNET6", _subnet6),
        gateway6=optional("NETWORK_GATEWAY6", _of(IPv6Address, _gateway6)),
        mac_prefix=variables.if_possible("NETWORK_MAC_PREFIX", mac_prefix),
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

    def if_possible(self, name: str, parser: Callable[[str], T]) -> T | None:
        """The value of a variable that plays no part for this NIC: None if it is malformed."""
        try:
            return self.optional(name, parser)
        except Failure:
            return None

    def whom(self) -> str:
        """The NIC's name in messages, before there is a NIC."""
        instance = self._environment.get("INSTANCE") or "(unknown instance)"
        return f"{instance} NIC {self._environment.get('INTERFACE_INDEX', '?')}"


def _remedy(name: str) -> str:
    if name.startswith("NETWORK_"):
        return "note: see and mend it with: gnt-network info, gnt-network modify"
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


def _subnet(text: str) -> IPv4Network | IPv6Network:
    """A prefix with its length. Ganeti's configuration may have one with host bits, of versions before 3.0."""
    if "%" in text or "/" not in text:
        return network(text)
    return network(str(ip_network(text, strict=False)))


def _subnet6(text: str) -> IPv6Network:
    """Any IPv6 prefix, as Ganeti accepts it (lib/network.py:97 at 3.0.2): without a length it is one address."""
    if "%" in text:
        raise ValueError(f"'{text}' has a zone")
    return IPv6Network(text, strict=False)


def _gateway6(text: str) -> IPv4Address | IPv6Address:
    """A gateway, without its zone if it is link-local: the guest's link is meant, whatever the zone says."""
    found, percent, zone = text.partition("%")
    link_local = percent and _ZONE.fullmatch(percent + zone) and IPv6Address(found).is_link_local
    return on_link(found if link_local else text)


def tags(text: str) -> frozenset[str]:
    """Tags, separated by blanks.

    Ganeti accepts letters of any language (lib/objects.py:313 at 3.0.2), and the environment may have bytes that are no
    UTF-8. Everything but ASCII is escaped, as in the names of NICs: a tag may contain one. grants_of() examines the
    tags that are ours.
    """
    return frozenset(one_line(word) for word in text.split(" ")) - {""}


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
