# SPDX-License-Identifier: BSD-2-Clause
"""What tags grant a NIC besides its own MAC and address: more of both, another profile, or no guard at all. And what
they have its guest told. Pure.

An instance's tags name the NIC by its index, name or UUID: `vif:0:address:192.0.2.8/29`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import Enum
from ipaddress import IPv6Network, ip_address, ip_network
from typing import NamedTuple

from ganeti_vif.config import limits
from ganeti_vif.config.limits import Limits
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.objects import Address, Prefix

PREFIX, SYNNEFO = "vif:", "synnefo:network:"
UNGUARDED, ANY_LINK_LOCAL, ISOLATED = "vif:unguarded", "vif:any-link-local", "vif:isolated"
TOLD = "dhcp"
"""The word in tags that say what guests are told: vif:dhcp:KEY:VALUE of a network, vif:NIC:dhcp:KEY:VALUE."""
LEASES = "nfdhcpd"
"""The tag of a network whose guests get a lease, unless the configuration gives leases to all."""
SYNNEFO_PROFILES = ("protected", "limited", "unprotected")
DELEGABLE = range(32, 65)
"""The lengths of prefixes for delegation: a network of hosts needs a /64, and nobody gives a guest more than a /32."""
MOST = 64
"""The largest number of addresses and MACs by tag: packets pass a rule or two for each, one after the other."""

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_PROFILE = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


class Control(Enum):
    """Kinds of control protocols that a guest may speak only with a tag (docs/guard.md)."""

    MULTICAST_ROUTER = "multicast-router"
    REDUNDANCY = "redundancy"
    ROUTING = "routing"
    TIME = "time"


class Saying(NamedTuple):
    """What a guest is told, by a tag of its instance or (OF_NETWORK) of its network: KEY and TEXT as in the tag, both
    checked (config/told.py)."""

    key: str
    text: str
    of_network: bool = False

    @property
    def source(self) -> str:
        """Where it comes from, in messages."""
        return f"tag of the {'network' if self.of_network else 'instance'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """What a NIC may use besides what Ganeti gave it. ADDRESSES are prefixes; a single address is a /32 or /128. SHARED
    addresses may be other NICs', too: each leads to the NIC whose guest announced it last. DELEGATED are prefixes for
    the networks behind its guest, which asks for them by DHCPv6 (IA_PD).

    TOLD has what its guest is told, one saying for each key: a tag of the instance overrides one of the network. LIMITS
    do the same. ISOLATED: its guest does not reach the others of its network on this node.
    """

    addresses: tuple[Prefix, ...] = ()
    macs: tuple[str, ...] = ()
    unguarded: bool = False
    any_link_local: bool = False
    profile: str | None = None
    control: frozenset[Control] = frozenset()
    told: tuple[Saying, ...] = ()
    shared: tuple[Address, ...] = ()
    delegated: tuple[IPv6Network, ...] = ()
    limits: Limits = Limits()
    isolated: bool = False


def grants_of(
    tags: Iterable[str], network_tags: Iterable[str], *, index: int | None, name: str | None, uuid: str
) -> Grants:
    """What TAGS (the instance's) and NETWORK_TAGS grant the NIC.

    Raises Failure if a tag is malformed, and names it, if the tags grant more than MOST addresses and MACs, or if a
    delegated prefix overlaps with another one.
    """
    found, of_network = Grants(), Limits()
    for tag in sorted(network_tags):
        if tag == UNGUARDED:
            found = replace(found, unguarded=True)
        elif tag == ANY_LINK_LOCAL:
            found = replace(found, any_link_local=True)
        elif tag == ISOLATED:
            found = replace(found, isolated=True)
        elif tag.removeprefix(PREFIX).partition(":")[0] in _LIMITS and tag.startswith(PREFIX):
            kind, _, value = tag.removeprefix(PREFIX).partition(":")
            try:
                of_network = _limited(of_network, kind, value)
            except ValueError as error:
                raise _malformed("network", tag, str(error), "gnt-network") from error
        elif tag.startswith(f"{PREFIX}{TOLD}:"):
            try:
                found = _with_told(found, tag.removeprefix(f"{PREFIX}{TOLD}:"), of_network=True)
            except ValueError as error:
                raise _malformed("network", tag, str(error), "gnt-network") from error
        elif tag.startswith(PREFIX):
            there = f"there are {UNGUARDED}, {ANY_LINK_LOCAL}, {ISOLATED}, {PREFIX}rate:IN/OUT, {PREFIX}packets:IN/OUT"
            there += f", {PREFIX}limit:KIND:NUMBER and {PREFIX}{TOLD}:OPTION:VALUE"
            raise _malformed("network", tag, there, "gnt-network")
    names = {str(word) for word in (index, name, uuid) if word is not None and word != ""}
    for tag in sorted(tags):
        try:
            found = _granted(found, tag, names)
        except ValueError as error:
            raise _malformed("instance", tag, str(error), "gnt-instance") from error
    granted = (*found.addresses, *found.delegated)
    for at, prefix in enumerate(found.delegated, len(found.addresses)):
        if other := next((one for one in granted[:at] if one.version == 6 and one.overlaps(prefix)), None):
            do = "note: leave one of them: gnt-instance list-tags, remove-tags"
            raise Failure(f"its tags delegate {prefix}, which overlaps with {other}", do)
    if len(granted) + len(found.macs) + len(found.shared) > MOST:
        raise Failure(
            f"its tags grant more than {MOST} addresses and MACs", "note: grant prefixes instead of addresses"
        )
    found = replace(found, limits=limits.merged(found.limits, of_network))
    own = {saying.key for saying in found.told if not saying.of_network}
    return replace(found, told=tuple(sorted(one for one in found.told if not (one.of_network and one.key in own))))


def _granted(found: Grants, tag: str, names: set[str]) -> Grants:
    """FOUND with what TAG adds, if TAG is about the NIC with one of NAMES. Raises ValueError if TAG is malformed."""
    if tag.startswith(SYNNEFO):
        whom, _, profile = tag.removeprefix(SYNNEFO).rpartition(":")
        if whom not in names:
            return found
        if profile not in SYNNEFO_PROFILES:
            raise ValueError(f"'{profile}' is none of {', '.join(SYNNEFO_PROFILES)}")
        return _with_profile(found, profile)
    if not tag.startswith(PREFIX):
        return found
    rest = tag.removeprefix(PREFIX)
    mine = next((rest.removeprefix(f"{name}:") for name in names if rest.startswith(f"{name}:")), None)
    if mine is None:
        if ":" not in rest or rest.startswith(f"{TOLD}:") and _is_told(rest.split(":")[1]) or _is_limit(rest):
            raise ValueError(f"it names no NIC, as in vif:0:{rest}")
        return found
    kind, _, value = mine.partition(":")
    if mine == "unguarded":
        return replace(found, unguarded=True)
    if kind in _LIMITS:
        return replace(found, limits=_limited(found.limits, kind, value))
    if kind not in _KINDS:
        prefixes = "address:PREFIX, shared-address:ADDRESS, delegate:PREFIX"
        others = (
            "mac:MAC, profile:NAME, control:NAME, dhcp:OPTION:VALUE, rate:IN/OUT, packets:IN/OUT, limit:KIND:NUMBER"
        )
        there = f"{prefixes}, {others} or unguarded"
        raise ValueError(f"after the NIC comes {there}")
    return _KINDS[kind](found, value)


def _with_address(found: Grants, value: str) -> Grants:
    network = ip_network(value)
    if "%" in value or network.prefixlen == 0:
        raise ValueError("it is no address and no prefix that a guest can have")
    _verify(ip_address(network.network_address))
    return replace(found, addresses=tuple(dict.fromkeys([*found.addresses, network])))


def _with_shared(found: Grants, value: str) -> Grants:
    if "%" in value:
        raise ValueError("it is no address that a guest can have")
    return replace(found, shared=tuple(dict.fromkeys([*found.shared, _verify(ip_address(value))])))


def _verify(address: Address) -> Address:
    if address.is_multicast or address.is_unspecified or address.is_loopback or address.is_link_local:
        raise ValueError(f"{address} is no address that a guest can have")
    return address


def _with_delegation(found: Grants, value: str) -> Grants:
    network = IPv6Network(value)
    if "%" in value or network.prefixlen not in DELEGABLE:
        raise ValueError(f"a prefix to delegate has a length from {DELEGABLE[0]} to {DELEGABLE[-1]}")
    _with_address(Grants(), value)
    return replace(found, delegated=tuple(dict.fromkeys([*found.delegated, network])))


def _with_mac(found: Grants, value: str) -> Grants:
    mac = value.lower()
    if not _MAC.fullmatch(mac):
        raise ValueError(f"'{value}' is not a MAC address")
    if int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
        raise ValueError(f"'{value}' is a group address and cannot be a NIC's own")
    return replace(found, macs=tuple(dict.fromkeys([*found.macs, mac])))


def _with_profile(found: Grants, value: str) -> Grants:
    if not _PROFILE.fullmatch(value):
        raise ValueError(f"'{value}' is not the name of a profile")
    if found.profile not in (None, value):
        raise ValueError(f"another tag gives the profile {found.profile}")
    return replace(found, profile=value)


def _with_control(found: Grants, value: str) -> Grants:
    if value not in {one.value for one in Control}:
        raise ValueError(f"'{value}' is none of {', '.join(one.value for one in Control)}")
    return replace(found, control=found.control | {Control(value)})


def _with_told(found: Grants, value: str, *, of_network: bool = False) -> Grants:
    from ganeti_vif.config.told import from_tag  # an attach that does not need it does not wait for it

    key, separator, text = value.partition(":")
    if not separator:
        raise ValueError(f"after {TOLD} comes OPTION:VALUE")
    from_tag(key, text)
    for other in found.told:
        if (other.key, other.of_network) == (key, of_network) and other.text != text:
            if key != "routes":
                raise ValueError(f"another tag says {key}:{other.text}")
            left = tuple(one for one in found.told if one != other)
            return replace(found, told=(*left, Saying(key, f"{other.text}+{text}", of_network)))
    return replace(found, told=tuple(dict.fromkeys([*found.told, Saying(key, text, of_network)])))


def _limited(found: Limits, kind: str, value: str) -> Limits:
    """FOUND with the limit that a tag of this KIND adds. Raises ValueError if it is wrong or another tag differs."""
    added = _LIMITS[kind](value)
    both = limits.merged(found, added)
    if limits.merged(added, found) != both:
        raise ValueError("another tag says something else")
    return both


def _flood_limit(value: str) -> Limits:
    kind, separator, number = value.partition(":")
    if not separator:
        raise ValueError("after limit comes KIND:NUMBER")
    return Limits(floods=(limits.flood(kind, number),))


def _is_limit(rest: str) -> bool:
    """Whether REST is a limit of no NIC: no NIC has a name of such a form."""
    kind, _, value = rest.partition(":")
    try:
        return kind in _LIMITS and _LIMITS[kind](value) is not None
    except ValueError:
        return False


_LIMITS: dict[str, Callable[[str], Limits]] = {
    "rate": lambda value: Limits(rate=limits.rates(value)),
    "packets": lambda value: Limits(packets=limits.packet_rates(value)),
    "limit": _flood_limit,
}


def _is_told(key: str) -> bool:
    from ganeti_vif.config.told import parser_of  # as above

    return parser_of(key) is not None


_KINDS: dict[str, Callable[[Grants, str], Grants]] = {
    "address": _with_address,
    "shared-address": _with_shared,
    "delegate": _with_delegation,
    "mac": _with_mac,
    "profile": _with_profile,
    "control": _with_control,
    TOLD: _with_told,
}


def _malformed(whose: str, tag: str, reason: str, command: str) -> Failure:
    return Failure(
        f"the {whose} tag '{tag}': {reason}", f"note: see and mend it with: {command} list-tags, remove-tags"
    )
