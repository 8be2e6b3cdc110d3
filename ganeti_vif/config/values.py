# SPDX-License-Identifier: BSD-2-Clause
"""Parsers of single values: each returns a typed value, or raises ValueError that says what is wrong with the text."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeVar

from ganeti_vif.config.model import NAME_LENGTH, Uplink, VlanUplink, VxlanUplink

T = TypeVar("T")
MOST_BRIDGES = 16384
"""More bridges in one family are a typing error: every bridge costs memory and a place in each dump."""

_DEVICE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_LINK = re.compile(r"[A-Za-z_][A-Za-z0-9_.+-]{0,31}")
_DOMAIN = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*", re.IGNORECASE)
_NETWORK = re.compile(r"[A-Za-z0-9_.+*/:@-]{1,128}")
_PATH = re.compile(r"(/[A-Za-z0-9_.+-]+)+/*")


def device(text: str) -> str:
    """The name of a network device: one that the kernel (dev_valid_name), nft and sysctl all accept."""
    if not _DEVICE.fullmatch(text):
        raise ValueError(f"'{text}' is no name for a network device")
    if len(text) > NAME_LENGTH:
        raise ValueError(f"'{text}' is too long for a network device: {len(text)} of at most {NAME_LENGTH} characters")
    return text


def numbers(text: str) -> tuple[int, ...]:
    """The numbers in ranges such as `1-100,200`, sorted and without repetition.

    >>> numbers("1-3,7")
    (1, 2, 3, 7)
    """
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,8})(?:\s*-\s*([0-9]{1,8}))?\s*", part)
        if not match:
            raise ValueError(f"'{part.strip()}' is no number and no range such as 1-100")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError(f"the range {first}-{last} runs backwards")
        if last - first + len(found) >= MOST_BRIDGES:
            raise ValueError(f"more than {MOST_BRIDGES} bridges")
        found.update(range(first, last + 1))
    return tuple(sorted(found))


def uplink(text: str) -> Uplink:
    """`none`, `vlan DEV +OFFSET` or `vxlan DEV +OFFSET [group ADDRESS] [peers cluster]`."""
    words = text.split()
    match words:
        case ["none"]:
            return None
        case ["vlan", name, offset]:
            return VlanUplink(device(name), _offset(offset))
        case ["vxlan", name, offset]:
            return VxlanUplink(device(name), _offset(offset))
        case ["vxlan", name, offset, "peers", "cluster"]:
            return VxlanUplink(device(name), _offset(offset), group=None, cluster=True)
        case ["vxlan", name, offset, "group", group]:
            return VxlanUplink(device(name), _offset(offset), _group(group))
        case ["vxlan", name, offset, "group", group, "peers", "cluster"]:
            return VxlanUplink(device(name), _offset(offset), _group(group), cluster=True)
    choices = "none, vlan DEVICE +OFFSET, vxlan DEVICE +OFFSET [group ADDRESS] [peers cluster]"
    raise ValueError(f"'{text}' is none of: {choices}")


def _group(text: str) -> IPv4Address | IPv6Address:
    found = ip_address(text)
    if not found.is_multicast:
        raise ValueError(f"'{text}' is no multicast address")
    return found


def _offset(text: str) -> int:
    if not re.fullmatch(r"\+[0-9]{1,8}", text):
        raise ValueError(f"'{text}' is no offset such as +2990")
    return int(text)


def integer(low: int, high: int) -> Callable[[str], int]:
    """A parser of whole numbers from LOW to HIGH."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,10}", text) or not low <= int(text) <= high:
            raise ValueError(f"'{text}' is no number from {low} to {high}")
        return int(text)

    return parse


def subnets(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """At least one prefix, separated by blanks or commas, without host bits."""
    if not (words := _words(text)):
        raise ValueError("no subnet")
    return tuple(network(word) for word in words)


def network(text: str) -> IPv4Network | IPv6Network:
    """A prefix with its length, without host bits and without a zone."""
    if "%" in text:
        raise ValueError(f"'{text}' has a zone")
    if "/" not in text:
        raise ValueError(f"'{text}' lacks its prefix length, as in 192.0.2.0/24")
    found = ip_network(text)
    if found.prefixlen == 0:
        raise ValueError(f"'{text}' is everything, not the subnet of a link")
    return found


def addresses(text: str) -> tuple[IPv4Address | IPv6Address, ...]:
    """Addresses, separated by blanks or commas."""
    return tuple(address(word) for word in _words(text))


def gateways(text: str) -> tuple[IPv4Address | IPv6Address, ...]:
    """Addresses of routers, separated by blanks or commas."""
    return tuple(on_link(word) for word in _words(text))


def on_link(text: str) -> IPv4Address | IPv6Address:
    """An address that a host or a router can have on its link, without a zone (fe80::1%eth0): a zone may hold any text.
    It may be link-local."""
    found = ip_address(text)
    if isinstance(found, IPv6Address) and found.scope_id is not None:
        raise ValueError(f"'{text}' has a zone")
    if found.is_multicast or found.is_unspecified or found.is_loopback or found == IPv4Address("255.255.255.255"):
        raise ValueError(f"'{text}' is no address that a host can have")
    return found


def address(text: str) -> IPv4Address | IPv6Address:
    """An address that a host can have beyond its link, without a zone."""
    found = on_link(text)
    if isinstance(found, IPv6Address) and found.is_link_local:
        raise ValueError(f"'{text}' is a link-local address")
    return found


def link(text: str) -> str:
    """The name of a public link, as a NIC can have it. It must not be a number: that would mean a routing table."""
    if not _LINK.fullmatch(text):
        raise ValueError(f"'{text}' cannot be the link of a NIC")
    return text


def ganeti_network(text: str) -> str:
    """The name of a network in Ganeti, as far as a binding can carry it: letters, digits and _ . + * / : @ -."""
    if not _NETWORK.fullmatch(text):
        raise ValueError(f"'{text}' is no network's name of letters, digits and _ . + * / : @ -")
    return text


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()


def ipv4(text: str) -> IPv4Address:
    """An IPv4 address that a host can have."""
    found = address(text)
    if not isinstance(found, IPv4Address):
        raise ValueError(f"'{text}' is no IPv4 address")
    return found


def directory(text: str) -> str:
    """An absolute path, without a closing slash."""
    if not _PATH.fullmatch(text):
        raise ValueError(f"'{text}' is no absolute path")
    return text.rstrip("/")


def domain(text: str) -> str:
    """A domain name, without a closing dot."""
    name = text.rstrip(".")
    if len(name) > 253 or not _DOMAIN.fullmatch(name):
        raise ValueError(f"'{text}' is no domain name")
    return name


def domains(text: str) -> tuple[str, ...]:
    """Domain names, separated by blanks or commas."""
    return tuple(domain(word) for word in _words(text))


def truth(text: str) -> bool:
    """`yes` or `no`."""
    if text not in ("yes", "no"):
        raise ValueError(f"'{text}' is neither yes nor no")
    return text == "yes"


def one_of(choices: type[Enum]) -> Callable[[str], Enum]:
    """A parser of the values of an enumeration."""

    def parse(text: str) -> Enum:
        try:
            return choices(text)
        except ValueError:
            raise ValueError(f"'{text}' is none of: {', '.join(str(c.value) for c in choices)}") from None

    return parse
