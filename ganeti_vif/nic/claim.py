# SPDX-License-Identifier: BSD-2-Clause
"""Claims: IPv6 addresses that guests choose themselves. First come, first served (RFC 6620, RFC 7039). Pure.

Most guests do not use the address that their MAC makes: they choose others (RFC 7217), and change them every day (RFC
8981). A guest may have such an address if it lies in its own network's prefix, if it is of no form that belongs to
somebody else, and if nobody has it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv6Address, IPv6Network

from ganeti_vif.nic.nic import LINK_LOCAL_SUBNET, Mode, Nic, Vlans, eui64

_MADE_OF_A_MAC = 0xFFFE
_RESERVED = range(0xFDFFFFFFFFFFFF80, 1 << 64)
"""Interface identifiers of anycast groups (RFC 2526; RFC 5453, 3): the last 128 of each subnet."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """The guest with this MAC, behind the tap with this INDEX, says that it has ADDRESS. FIRST: it asks whether anybody
    else has it (duplicate address detection), so it does not use it yet."""

    index: int
    mac: str
    address: IPv6Address
    first: bool = False


def prefix_of(nic: Nic) -> IPv6Network | None:
    """The prefix in which NIC's guest may claim addresses. None if it may claim none."""
    if nic.mode is Mode.OPENVSWITCH or nic.vlans != Vlans() or nic.grants.unguarded or not nic.networks(6):
        return None  # on a VLAN of a switch the node cannot ask the neighbours
    if nic.prefix6:
        return nic.prefix6  # it has all of that, and claims link-local addresses only
    return nic.network.subnet6 if nic.network else None


def refusal(nic: Nic, address: IPv6Address, gateways: Iterable[IPv6Address] = ()) -> str | None:
    """Why NIC's guest may never claim ADDRESS, or None. GATEWAYS are the routers of its link."""
    prefix = prefix_of(nic)
    if prefix is None:
        return _closed(nic)
    subnet = LINK_LOCAL_SUBNET if address.is_link_local else prefix
    if address not in subnet:
        return f"it is not in {subnet}"
    network = nic.network
    if address in {*gateways, network.gateway6 if network else None}:
        return "it is the gateway's"
    identifier = int(address) & (1 << 64) - 1
    if not identifier or identifier in _RESERVED:
        return "it is an anycast address"
    made_of_a_mac = subnet.prefixlen == 64 and identifier >> 24 & 0xFFFF == _MADE_OF_A_MAC
    if made_of_a_mac and address not in {eui64(subnet, mac) for mac in nic.macs}:
        return "it is made of another MAC"
    return None


def _closed(nic: Nic) -> str:
    """Why NIC's guest may claim no address at all."""
    if nic.mode is Mode.OPENVSWITCH:
        return "on Open vSwitch guests choose no addresses"
    if nic.vlans != Vlans():
        return "in a VLAN of a bridge guests choose no addresses"
    return "it may claim no address"


def owner(address: IPv6Address, nic: Nic, others: Iterable[Nic]) -> Nic | None:
    """The NIC of OTHERS that has ADDRESS on the link of NIC, or None."""
    return next((one for one in others if one.uuid != nic.uuid and shares(one, nic) and has(one, address)), None)


def has(nic: Nic, address: IPv6Address) -> bool:
    """Whether NIC's guest may use ADDRESS."""
    if address.is_link_local:
        return address in nic.link_locals
    return any(address in network for network in nic.networks(6))


def shares(nic: Nic, other: Nic) -> bool:
    """Whether the two NICs hear each other's neighbour discovery, or their routes stand in one table."""
    if nic.mode is not other.mode or nic.link != other.link:
        return False
    return nic.mode is Mode.ROUTED or nic.vlans == other.vlans


def with_claims_of(former: Nic | None, nic: Nic) -> Nic:
    """NIC with the claims of FORMER, the same NIC as it was before, as far as they are still allowed."""
    if former is None or former.mac != nic.mac or not former.claims:
        return nic
    return replace(nic, claims=tuple(one for one in former.claims if refusal(replace(nic, claims=()), one) is None))


def without(nic: Nic, addresses: Iterable[IPv6Address]) -> Nic:
    """NIC without its claims to ADDRESSES."""
    gone = set(addresses)
    return replace(nic, claims=tuple(one for one in nic.claims if one not in gone))
