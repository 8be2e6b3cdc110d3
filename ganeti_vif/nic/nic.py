# SPDX-License-Identifier: BSD-2-Clause
"""A NIC as Ganeti describes it: typed and checked values. The entries make it; nothing deeper parses strings."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from ganeti_vif.engine.objects import Address, Prefix
from ganeti_vif.nic.tags import Grants

LINK_LOCAL_SUBNET = IPv6Network("fe80::/64")


class Mode(Enum):
    """How a NIC is connected (ganeti src/Ganeti/Constants.hs, nicMode)."""

    BRIDGED = "bridged"
    ROUTED = "routed"
    OPENVSWITCH = "openvswitch"


@dataclass(frozen=True, slots=True)
class Vlans:
    """A NIC's VLANs: UNTAGGED is the access VLAN, TAGGED the trunks."""

    untagged: int | None = None
    tagged: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The Ganeti network that a NIC is connected to (gnt-network)."""

    name: str
    uuid: str
    tags: frozenset[str] = frozenset()
    subnet: IPv4Network | None = None
    gateway: IPv4Address | None = None
    subnet6: IPv6Network | None = None
    gateway6: IPv6Address | None = None
    mac_prefix: str | None = None


@dataclass(frozen=True, kw_only=True)
class Nic:
    """A NIC and its present tap. (TAP, INDEX, UUID) is its identity: tap names are reused.

    TAP_MAC is the MAC that its tap keeps, if the NIC was adopted with another MAC than attach gives. STANDBY: its guest
    runs on another node, because it is on its way to this node or has left it. CLAIMS are IPv6 addresses that its guest
    chose, and that nobody else had (nic/claim.py). WITHHELD are addresses of its own that another machine on the uplink
    had when it was attached: nothing leads to them here ([public] duplicates = refuse). LEADS are the shared addresses
    that its guest announced last (nic/shared.py). PREFIX6 is the IPv6 prefix that it has alone (desired/own_prefix.py).
    """

    instance: str
    uuid: str
    tap: str
    index: int
    mac: str
    mode: Mode
    link: str
    number: int | None = None
    name: str | None = None
    vlans: Vlans = Vlans()
    ip: IPv4Address | IPv6Address | None = None
    tags: frozenset[str] = frozenset()
    network: Network | None = field(default=None)
    tap_mac: str | None = None
    standby: bool = False
    grants: Grants = Grants()
    claims: tuple[IPv6Address, ...] = ()
    prefix6: IPv6Network | None = None
    withheld: tuple[Address, ...] = ()
    leads: tuple[Address, ...] = ()

    @property
    def whom(self) -> str:
        """The name of this NIC in messages."""
        number = self.uuid[:8] if self.number is None else str(self.number)
        return f"{self.instance} NIC {self.name or number} ({self.tap})"

    @property
    def netdev(self) -> str:
        """Ganeti's name for it in QEMU (ganeti lib/hypervisor/hv_kvm/__init__.py:213-228 at 3.0.2)."""
        return "-".join(["nic", *self.uuid.split("-")[:3]])

    @property
    def network_tags(self) -> frozenset[str]:
        return self.network.tags if self.network else frozenset()

    @cached_property
    def address(self) -> IPv4Address | None:
        """Its IPv4 address. None if it has none, or if the instance's tag disable_ipv4 disables it."""
        return self.ip if isinstance(self.ip, IPv4Address) and not self.disables(4) else None

    @cached_property
    def address6(self) -> IPv6Address | None:
        """Its IPv6 address: the given one, or what SLAAC makes of its /64 and its MAC (RFC 4291 app. A). The /64 is its
        own, or that of its network."""
        if self.disables(6):
            return None
        if self.prefix6:
            return eui64(self.prefix6, self.mac)
        if isinstance(self.ip, IPv6Address):
            return self.ip
        subnet = self.network.subnet6 if self.network else None
        return eui64(subnet, self.mac) if subnet is not None and subnet.prefixlen == 64 else None

    @property
    def unserved6(self) -> IPv6Network | None:
        """The IPv6 prefix of its network, if its guest has no address there: SLAAC needs a /64 (RFC 4862, 5.5.3)."""
        subnet = self.network.subnet6 if self.network else None
        return subnet if subnet and not self.networks(6) and not self.disables(6) else None

    @cached_property
    def macs(self) -> tuple[str, ...]:
        """Its own MAC, and the MACs that its tags grant."""
        return tuple(dict.fromkeys([self.mac, *self.grants.macs]))

    def networks(self, version: int) -> tuple[Prefix, ...]:
        """The addresses and prefixes of IP VERSION that its guest may use: its own, those that its tags grant, and
        those that it claimed. Link-local addresses are not among them."""
        return self._networks[version]

    def led(self, version: int) -> tuple[Prefix, ...]:
        """Those of networks(VERSION) that lead to its tap, as far as it is routed and its guest runs here."""
        away = {ip_network(one) for one in (*self.withheld, *(one for one in self.shared if one not in self.leads))}
        return tuple(one for one in self.networks(version) if one not in away) if away else self.networks(version)

    @property
    def shared(self) -> tuple[Address, ...]:
        """The addresses that it shares with other NICs. What is its own besides is not shared."""
        own = (*self.grants.addresses, *(ip_network(one) for one in (self.address, self.address6) if one))
        allowed = (one for one in self.grants.shared if not self.disables(one.version))
        return tuple(one for one in allowed if ip_network(one) not in own)

    @cached_property
    def _networks(self) -> dict[int, tuple[Prefix, ...]]:
        """Cached: nearly every rule needs it, and so does each search for another NIC with an address."""
        found = {}
        own: Address | IPv6Network | None
        for version, own in ((4, self.address), (6, self.address6)):
            tags = (*self.grants.addresses, *map(ip_network, self.grants.shared), *self.grants.delegated)
            granted = () if self.disables(version) else tags
            claims = [ip_network(one) for one in self.claims if one.version == version and not one.is_link_local]
            own = self.prefix6 if version == 6 and own and self.prefix6 else own
            wanted = [*([ip_network(own)] if own else []), *(one for one in granted if one.version == version), *claims]
            found[version] = tuple(dict.fromkeys(wanted))
        return found

    @property
    def delegated(self) -> tuple[IPv6Network, ...]:
        """The prefixes for the networks behind its guest. They are among its networks()."""
        return () if self.disables(6) else self.grants.delegated

    @cached_property
    def link_local(self) -> IPv6Address:
        """The link-local address that its guest makes from its MAC."""
        return eui64(LINK_LOCAL_SUBNET, self.mac)

    @property
    def link_locals(self) -> tuple[IPv6Address, ...]:
        """The link-local addresses that its guest may use: that one, and those that it claimed."""
        return (self.link_local, *(address for address in self.claims if address.is_link_local))

    def disables(self, version: int) -> bool:
        """Whether a tag of its instance takes IP VERSION from it."""
        # Only for routed NICs, as in gnt-networking (kvm-ifup-custom).
        return self.mode is Mode.ROUTED and f"disable_ipv{version}" in self.tags


def eui64(subnet: IPv6Network, mac: str) -> IPv6Address:
    """The address in SUBNET, a /64, whose interface identifier is the modified EUI-64 of MAC.

    >>> str(eui64(IPv6Network("2001:db8:77::/64"), "aa:00:77:aa:41:95"))
    '2001:db8:77:0:a800:77ff:feaa:4195'
    """
    octets = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return IPv6Address(subnet.network_address.packed[:8] + identifier)
