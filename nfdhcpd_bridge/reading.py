# SPDX-License-Identifier: BSD-2-Clause
"""A binding as the responder reads it: typed and checked, or refused with the line and the reason.

It accepts what the writers of NFDHCPD's files produce: an empty value (`MTU=`), `None`, quotes, a MAC in upper case or
with dashes, a subnet with host bits, unknown keys. It never looks up names. If one value cannot be served as it stands,
the whole binding is refused: half of an identity is another identity.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TypeVar

from ganeti_vif.config.told import from_tag
from nfdhcpd_bridge.binding import ALONE, DELEGATED, NETWORK, SHARED, SOURCES6, TELL

T = TypeVar("T")

_MAC = re.compile(r"[0-9a-f]{2}([:-][0-9a-f]{2}){5}", re.IGNORECASE)
_HOSTNAME = re.compile(
    r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*"
)
_DEVICE = re.compile(r"[^\s/:\x00-\x1f\x7f-\uffff]{1,15}")
MTUS = range(68, 65536)
"""From the smallest IPv4 MTU (RFC 791) to the largest that option 26 and Linux can carry, in bytes."""


class Invalid(Exception):
    """A binding that is not served. LINE counts from 1. 0 means the whole file."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line, self.reason = line, reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The guest on a tap. ROUTER is the device of the router's side (INDEV): the tap itself, its bridge, or None.

    PRIVATE: the guest is told of no router. ALONE: nobody else has an address in SUBNET6. NETWORK is the name of its
    network in Ganeti. TOLD has typed values of what tags have it told, by key (config/told.py). SHARED are addresses
    that other NICs have, too. DELEGATED are prefixes for the networks behind it.
    SOURCES6 are the IPv6 prefixes that the guard lets the guest send from; None if it may send from any, or if that is
    not known.
    """

    mac: bytes
    router: str | None = None
    hostname: str | None = None
    address: IPv4Address | None = None
    subnet: IPv4Network | None = None
    gateway: IPv4Address | None = None
    address6: IPv6Address | None = None
    subnet6: IPv6Network | None = None
    gateway6: IPv6Address | None = None
    mtu: int | None = None
    private: bool = False
    alone: bool = False
    network: str | None = None
    told: tuple[tuple[str, object], ...] = ()
    shared: tuple[IPv4Address | IPv6Address, ...] = ()
    delegated: tuple[IPv6Network, ...] = ()
    sources6: tuple[IPv6Network, ...] | None = None


def reading(text: str) -> Reading:
    """The binding in TEXT. Raises Invalid if it cannot be served."""
    given = _Given(text)
    mac = given.value("MAC", _mac)
    if mac is None:
        raise Invalid(0, "it has no MAC")
    found = Reading(
        mac=mac,
        router=given.value("INDEV", _device),
        hostname=given.value("HOSTNAME", _hostname),
        address=given.value("IP", _address),
        subnet=given.value("SUBNET", _subnet),
        gateway=given.value("GATEWAY", _address),
        address6=given.value("IP6", _address6),
        subnet6=given.value("SUBNET6", _subnet6),
        gateway6=given.value("GATEWAY6", _gateway6),
        mtu=given.value("MTU", _mtu),
        private=given.value("PRIVATE", str) is not None,
        alone=given.value(ALONE, str) is not None,
        network=given.value(NETWORK, str),
        told=tuple(given.told()),
        shared=given.value(SHARED, _addresses) or (),
        delegated=given.value(DELEGATED, _prefixes) or (),
        sources6=given.value(SOURCES6, _prefixes),
    )
    _agrees(found, given.lines)
    return found


class _Given:
    """The keys of a file. Of two equal keys the last wins, as in NFDHCPD. Raises Invalid if the file is no text."""

    def __init__(self, text: str) -> None:
        if "\0" in text:
            raise Invalid(text[: text.index("\0")].count("\n") + 1, "it is no text")
        self.lines: dict[str, int] = {}
        self._values: dict[str, str] = {}
        for number, line in enumerate(text.splitlines(), 1):
            key, separator, value = line.partition("=")
            if separator:
                key, value = key.strip(), value.strip()
                if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
                    value = value[1:-1].strip()
                self._values[key], self.lines[key] = value, number

    def told(self) -> Iterator[tuple[str, object]]:
        """What tags have the guest told, by key. Raises Invalid if there is no such key, or its value is wrong."""
        for key, text in self._values.items():
            if key.startswith(TELL):
                told = key.removeprefix(TELL).lower().replace("_", "-")
                try:
                    yield told, from_tag(told, text)
                except ValueError as error:
                    raise Invalid(self.lines[key], f"{key}: {error}") from error

    def value(self, key: str, parser: Callable[[str], T]) -> T | None:
        """The value of KEY, or None if there is none. Raises Invalid if PARSER refuses it."""
        text = self._values.get(key, "")
        if text in ("", "None"):
            return None
        try:
            return parser(text)
        except ValueError as error:
            raise Invalid(self.lines[key], f"{key}: {error}") from error


def _agrees(found: Reading, lines: Mapping[str, int]) -> None:
    """Raises Invalid if the values do not fit each other."""

    def refuse(key: str, reason: str) -> None:
        raise Invalid(lines[key], reason)

    if found.address:
        if not found.subnet:
            refuse("IP", "IP without SUBNET")
        elif found.address not in found.subnet:
            refuse("IP", f"IP: {found.address} is not in SUBNET {found.subnet}")
        elif found.subnet.prefixlen < 31 and found.address in (
            found.subnet.network_address,
            found.subnet.broadcast_address,
        ):
            refuse("IP", f"IP: {found.address} is no host's address in {found.subnet}")
        elif found.address == found.gateway:
            refuse("GATEWAY", f"GATEWAY: {found.gateway} is the guest's own IP")
    if found.address6 and not (found.subnet6 and found.address6 in found.subnet6):
        refuse("IP6", f"IP6: {found.address6} is not in SUBNET6 {found.subnet6}")
    if found.address6 and found.address6 == found.gateway6:
        refuse("GATEWAY6", f"GATEWAY6: {found.gateway6} is the guest's own IP6")


def _mac(text: str) -> bytes:
    if not _MAC.fullmatch(text):
        raise ValueError(f"'{text}' is no MAC address")
    octets = bytes.fromhex(text.replace("-", ":").replace(":", ""))
    if octets[0] & 1 or not any(octets):
        raise ValueError(f"'{text}' is no MAC address of a single card")
    return octets


def _device(text: str) -> str:
    if not _DEVICE.fullmatch(text):
        raise ValueError(f"'{text}' is no name of a network device")
    return text


def _hostname(text: str) -> str:
    name = text.rstrip(".")
    if len(name) > 253 or not _HOSTNAME.fullmatch(name):
        raise ValueError(f"'{text}' is no host name")
    return name


def _address(text: str) -> IPv4Address:
    found = IPv4Address(text)
    if found.is_multicast or found.is_unspecified or found.is_loopback or found == IPv4Address("255.255.255.255"):
        raise ValueError(f"'{text}' is no address that a host can have")
    return found


def _addresses(text: str) -> tuple[IPv4Address | IPv6Address, ...]:
    return tuple(map(ip_address, text.split()))


def _subnet(text: str) -> IPv4Network:
    if "/" not in text:
        raise ValueError(f"'{text}' lacks its prefix length, as in 192.0.2.0/24")
    return IPv4Network(text, strict=False)


def _address6(text: str) -> IPv6Address:
    found = _gateway6(text)
    if found.is_link_local:
        raise ValueError(f"'{text}' is a link-local address")
    return found


def _subnet6(text: str) -> IPv6Network:
    if "/" not in text or "%" in text:
        raise ValueError(f"'{text}' is no prefix with its length, as in 2001:db8::/64")
    return IPv6Network(text, strict=False)


def _prefixes(text: str) -> tuple[IPv6Network, ...]:
    return tuple(map(IPv6Network, text.split()))


def _gateway6(text: str) -> IPv6Address:
    found = IPv6Address(text)
    if found.is_multicast or found.is_unspecified or found.is_loopback or found.scope_id is not None:
        raise ValueError(f"'{text}' is no address that a router can have")
    return found


def _mtu(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) not in MTUS:
        raise ValueError(f"'{text}' is no number from {MTUS[0]} to {MTUS[-1]}")
    return int(text)
