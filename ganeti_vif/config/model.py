# SPDX-License-Identifier: BSD-2-Clause
"""The configuration as data. config/parse.py makes and checks it; all other code reads it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NamedTuple

from ganeti_vif.config.limits import Limits
from ganeti_vif.engine.failure import Failure

NAME_LENGTH = 15
"""The longest name of a network device (IFNAMSIZ - 1, linux/if.h)."""

CLAIMS = 16
"""How many IPv6 addresses of its own choice a guest may have (RFC 4941 and RFC 8981 give it one or two a day)."""
VXLAN_PORT = 4789
VXLAN_GROUP = IPv4Address("239.192.86.73")
"""One group of the organization-local scope (RFC 2365) for all VNIs: a socket may join 20 groups at most
(net.ipv4.igmp_max_memberships), and a node has one VXLAN socket for all its networks."""

_MARK = 0x56490000


@dataclass(frozen=True, slots=True)
class VlanUplink:
    """Network N leaves by DEVICE in VLAN OFFSET + N."""

    device: str
    offset: int

    def port(self, number: int) -> str:
        return f"{self.device}.{self.offset + number}"


@dataclass(frozen=True, slots=True)
class VxlanUplink:
    """Network N leaves by DEVICE in a VXLAN with VNI OFFSET + N.

    Frames without a known peer go to the multicast address GROUP, if there is one. If CLUSTER, they go to each other
    node of the cluster, and only their frames are taken.
    """

    device: str
    offset: int
    group: IPv4Address | IPv6Address | None = VXLAN_GROUP
    cluster: bool = False

    def port(self, number: int) -> str:
        return f"vx{self.offset + number}"


def vxlan_overhead(end: IPv4Address | IPv6Address) -> int:
    """Bytes that a tunnel to END puts around a packet (RFC 7348): 14 Ethernet, 20 or 40 IP, 8 UDP, 8 VXLAN."""
    return 50 if isinstance(end, IPv4Address) else 70


class LinkLocal(Enum):
    """Which IPv6 link-local addresses a guest may have: only the one made from its MAC, or any."""

    EUI64 = "eui64"
    ANY = "any"


Uplink = VlanUplink | VxlanUplink | None


class Dhcpv6(Enum):
    """What DHCPv6 does for guests."""

    OFF = "off"
    STATELESS = "stateless"
    STATEFUL = "stateful"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the responder tells guests besides their addresses. Times in seconds, MTU in bytes.

    ROUTES are (destination, next hop). BOOT_FILES are by the name of the boot client, "" for any (config/told.py).
    OPTIONS are values by (IP version of the protocol, number). SOURCES has for each key its place in the configuration,
    or its tag; a key without one has its default.
    """

    lease_time: int = 7 * 86400
    renewal_time: int = 3600
    rebinding_time: int = 7 * 86400 * 7 // 8
    nameservers: tuple[IPv4Address | IPv6Address, ...] = ()
    domain: str | None = None
    search: tuple[str, ...] = ()
    ra_period: int = 300
    dhcpv6: Dhcpv6 = Dhcpv6.STATELESS
    ipv6_only: int | None = None
    ntp: tuple[IPv4Address | IPv6Address, ...] = ()
    routes: tuple[tuple[IPv4Network, IPv4Address], ...] = ()
    mtu: int | None = None
    next_server: tuple[IPv4Address | IPv6Address, ...] = ()
    boot_files: tuple[tuple[str, str], ...] = ()
    boot_parameters: tuple[str, ...] = ()
    options: tuple[tuple[tuple[int, int], bytes], ...] = ()
    sources: tuple[tuple[str, str], ...] = field(default=(), compare=False)


class Part(NamedTuple):
    """The networks of a family with these NUMBERS, whose guests are told something of their own."""

    numbers: frozenset[int]
    told: Told


class OfNetwork(NamedTuple):
    """What the guests of the Ganeti network NAME are told: the values that its section gives, by key."""

    name: str
    said: tuple[tuple[str, object], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Private:
    """A family of private networks: bridges PREFIX1, PREFIX2, …, each with its own uplink or none."""

    prefix: str
    numbers: tuple[int, ...]
    uplink: Uplink = None
    mtu: int | None = None
    told: Told = Told()
    link_local: LinkLocal = LinkLocal.EUI64
    claims: int = CLAIMS
    parts: tuple[Part, ...] = ()
    limits: Limits = Limits()

    def told_on(self, bridge: str) -> Told:
        """What guests on BRIDGE, one of these bridges, are told."""
        number = int(bridge.removeprefix(self.prefix))
        return next((part.told for part in self.parts if number in part.numbers), self.told)

    @property
    def follows_cluster(self) -> bool:
        """Whether the uplinks lead to the other nodes of the cluster, as Ganeti knows them."""
        return isinstance(self.uplink, VxlanUplink) and self.uplink.cluster

    @property
    def bridges(self) -> Iterator[str]:
        return (f"{self.prefix}{number}" for number in self.numbers)

    def has(self, bridge: str) -> bool:
        """Whether BRIDGE is one of these bridges. Does not go through all their names."""
        number = bridge.removeprefix(self.prefix)
        return (
            bridge.startswith(self.prefix)
            and number.isdecimal()
            and str(int(number)) == number
            and (int(number) in self.numbers)
        )

    @property
    def devices(self) -> Iterator[str]:
        """The names of all devices of these networks: bridges, and the ports of their uplinks."""
        yield from self.bridges
        if self.uplink:
            yield from (self.uplink.port(number) for number in self.numbers)


MOST_CONNECTIONS = 4096
"""How many connections of one NIC the kernel follows, if nothing else is configured."""


class Conntrack(Enum):
    """Whose connections the kernel follows (conntrack): those of NICs whose profile needs it, or of all guests. AUTO:
    of all guests if rules of other programs need it."""

    AUTO = "auto"
    PROFILES = "profiles"
    ALL = "all"


class PerNic(Enum):
    """How long the IPv6 prefix is that each NIC has alone. SLAAC needs a /64 (RFC 4862, 5.5.3; RFC 4291, 2.5.1)."""

    SLASH_64 = "/64"


class Duplicates(Enum):
    """What follows if another machine on the uplink has an address of a NIC that is attached: only that it is told, or
    that nothing leads to that address here as long as the other machine has it."""

    WARN = "warn"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Public:
    """A public link: a routing table and the uplink that leads to its gateways. NICs name it as their LINK.

    CONNECTIONS: how many connections of one NIC the kernel follows at once; 0 for no limit. IPV6_PER_NIC: each NIC
    has an IPv6 prefix of its own (desired/own_prefix.py).
    """

    name: str
    table: int
    uplink: str
    subnets: tuple[IPv4Network | IPv6Network, ...]
    gateways: tuple[IPv4Address | IPv6Address, ...]
    arp_source: IPv4Address | None = None
    told: Told = Told()
    link_local: LinkLocal = LinkLocal.ANY
    claims: int = CLAIMS
    node_access: bool = False
    conntrack: Conntrack = Conntrack.AUTO
    connections: int = MOST_CONNECTIONS
    ipv6_per_nic: PerNic | None = None
    duplicates: Duplicates = Duplicates.WARN
    limits: Limits = Limits()

    @property
    def mark(self) -> int:
        """The packet mark of packets from its NICs. Half of it is fixed, so that no other program uses it."""
        return _MARK | (self.table & 0xFFFF)

    @property
    def versions(self) -> tuple[int, ...]:
        """The IP versions that it carries."""
        return tuple(sorted({subnet.version for subnet in self.subnets}))

    @property
    def pool6(self) -> IPv6Network | None:
        """The prefix that the NICs' own prefixes are parts of. None if they have none. config/own_prefixes.py sees to
        it that there is one only."""
        return next(iter(self.shorter6), None) if self.ipv6_per_nic is PerNic.SLASH_64 else None

    @property
    def shorter6(self) -> list[IPv6Network]:
        """Its IPv6 subnets that are shorter than a /64."""
        return [one for one in self.subnets if isinstance(one, IPv6Network) and one.prefixlen < 64]

    def gateway(self, version: int) -> IPv4Address | IPv6Address | None:
        return next((gateway for gateway in self.gateways if gateway.version == version), None)

    def holds(self, network: IPv4Network | IPv6Network) -> bool:
        """Whether one of its subnets contains all of NETWORK."""
        mine = (subnet for subnet in self.subnets if subnet.version == network.version)
        return any(network.subnet_of(subnet) for subnet in mine)  # type: ignore[arg-type]

    def subnet_of(self, address: IPv4Address | IPv6Address) -> IPv4Network | IPv6Network | None:
        return next((subnet for subnet in self.subnets if address in subnet), None)

    def gateway_in(self, subnet: IPv4Network | IPv6Network | None) -> IPv4Address | IPv6Address | None:
        """The gateway with its address in SUBNET, or None."""
        return next((gateway for gateway in self.gateways if subnet and gateway in subnet), None)


class For(Enum):
    """The NICs that get a binding."""

    TAGGED = "tagged"
    ROUTED = "routed"
    ALL = "all"


class Consumer(Enum):
    """Who reads the bindings."""

    RESPONDER = "responder"
    NFDHCPD = "nfdhcpd"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bindings:
    """Where bindings are written, for whom, and who reads them."""

    directory: str = "/var/lib/nfdhcpd"
    wanted_for: For = For.TAGGED
    consumer: Consumer = Consumer.RESPONDER


@dataclass(frozen=True, slots=True, kw_only=True)
class Responder:
    """The embedded responder. RATE: how many requests per second of one guest it answers. TOLD: for guests of networks
    without values of their own."""

    enabled: bool = True
    rate: int = 50
    told: Told = Told()


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Where the names of this node's instances are written: into HOSTS_FILE (hosts(5)), and by updates (RFC 2136),
    signed with the key in KEY_FILE (TSIG), into ZONE and REVERSE_ZONES of SERVER. TTL: of those records, in seconds.

    LINKS: of NICs with these links; None for those of all public links. IPV6: their IPv6 addresses, too.
    """

    hosts_file: str | None = None
    server: IPv4Address | IPv6Address | None = None
    zone: str | None = None
    reverse_zones: tuple[str, ...] = ()
    key_file: str | None = None
    ttl: int = 300
    links: tuple[str, ...] | None = None
    ipv6: bool = True

    @property
    def wanted(self) -> bool:
        """Whether names are written anywhere."""
        return self.hosts_file is not None or self.server is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A firewall profile: its rules in nft's words, each with its place (file:line). STATEFUL is the place of the first
    rule that follows connections. TROUBLE says why the profile cannot be used."""

    name: str
    rules: tuple[tuple[str, str], ...] = ()
    stateful: str | None = None
    trouble: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole configuration of a node. VERBOSE: the daemon logs each step in the life of a NIC."""

    private: tuple[Private, ...] = ()
    public: tuple[Public, ...] = ()
    bindings: Bindings = Bindings()
    responder: Responder = Responder()
    profiles: tuple[Profile, ...] = ()
    networks: tuple[OfNetwork, ...] = ()
    names: Names = Names()
    verbose: bool = False

    @property
    def responds(self) -> bool:
        """Whether our responder answers guests on this node."""
        return self.responder.enabled and self.bindings.consumer is Consumer.RESPONDER

    @property
    def follows_cluster(self) -> bool:
        """Whether the tunnels of private networks depend on which nodes the cluster has."""
        return any(private.follows_cluster for private in self.private)

    def profile(self, name: str | None) -> Profile | None:
        """The profile with NAME, or None."""
        return next((profile for profile in self.profiles if profile.name == name), None)

    def public_link(self, link: str) -> Public | None:
        """The public link that a NIC's LINK means, by its name or by the number of its table. None if there is none."""
        return next((public for public in self.public if link in (public.name, str(public.table))), None)

    def private_network(self, bridge: str) -> Private | None:
        """The family of private networks that BRIDGE belongs to, or None."""
        return next((private for private in self.private if private.has(bridge)), None)

    def family(self, bridge: str) -> Private | None:
        """The family of private networks with BRIDGE's prefix, even if BRIDGE is not in its ranges. Else None."""
        prefix = bridge.rstrip("0123456789")
        return next((private for private in self.private if private.prefix == prefix and prefix != bridge), None)
