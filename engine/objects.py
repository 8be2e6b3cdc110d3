"""Everything that can exist on a node and matters to a NIC, as plain data.

The same types say what should be (desired) and what is (actual, as read). `key` is the identity in the outside
world: two objects with one key cannot exist side by side. A wish for a device is partial: a field of a Link that is
None is not our concern. All others are wished for whole: None means none.

No I/O here, and no strings that still need parsing, apart from names and the text of files and filter rules.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from hashlib import blake2b
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from zlib import crc32

PROTOCOL = 156
"""Marks our routes, rules and proxy entries (rtm_protocol, FRA_PROTOCOL, NDA_PROTOCOL): unassigned in rt_protos."""

GROUP = 7686
"""Marks the network devices that we made (IFLA_GROUP, `ip link show group 7686`). Not an ifalias: one alias line
makes Ganeti's GenerateTapName fail (ganeti lib/hypervisor/hv_base.py:188-202 at 3.0.2)."""

ADOPTED_GROUP = 7687
"""Marks the bridges and their uplinks that were there before us and that we keep in shape: teardown leaves them."""

ROUTED_GROUP = 7689
"""Marks the taps of public links, for the one filter that looks at what this node sends by any of them."""

LEAVING_GROUP = 7688
"""Marks devices of ours in the moment in which they are removed together."""

TABLE = "ganeti_vif"
"""The name of our nftables tables, one in each family; in the family netdev it begins the names of TABLES."""

TABLES = 64
"""So many tables have the chains of devices: see table_of()."""

ETHERNET_MTU = 1500
"""The MTU of a device that was told no other."""

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Key = tuple[Hashable, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What we were told about a NIC: written first and removed last, so that a crash leaves a trace of it."""

    tap: str
    text: str

    @property
    def key(self) -> Key:
        return ("record", self.tap)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A network device: that it exists, and the properties that it was made with or that can be set while down."""

    name: str
    kind: str | None = None
    index: int | None = None
    group: int | None = None
    mac: str | None = None
    mtu: int | None = None
    stp: bool | None = None
    forward_delay: int | None = None
    mcast_snooping: bool | None = None
    call_iptables: bool | None = None
    call_ip6tables: bool | None = None
    vlan_filtering: bool | None = None
    lower: str | None = None
    vlan: int | None = None
    vni: int | None = None
    vxlan_group: Address | None = None
    vxlan_port: int | None = None

    @property
    def key(self) -> Key:
        return ("link", self.name)


BELOW = "-profile"
"""Ends the name of a device's subchain, which is in the table of the chain that jumps to it."""


def table_of(family: str, chain: str) -> str:
    """The table of our CHAIN of that name. A device's chains are in the same one of TABLES.

    With each transaction the kernel goes through all rules of the tables that change (nft_table_validate() in
    net/netfilter/nf_tables_api.c), and for each of its rules through the list of all tables (nft_table_lookup()). With
    a thousand NICs one table for all takes 6 ms, and so does one for each.
    """
    if family != "netdev":
        return TABLE
    device, _, _ = chain.removesuffix(BELOW).rpartition("-")
    return f"{TABLE}-{crc32(device.encode()) % TABLES}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A base chain of ours in nftables, its rules in nft's own words. DEVICE is None unless the family is netdev."""

    family: str
    name: str
    hook: str
    device: str | None
    priority: int
    policy: str
    rules: tuple[FilterRule, ...]

    @property
    def key(self) -> Key:
        return ("chain", self.family, self.name)

    @property
    def table(self) -> str:
        """The table that it is in."""
        return table_of(self.family, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subchain(Chain):
    """A chain of ours that hangs nowhere: others jump to it."""

    hook: str = ""
    device: str | None = None
    priority: int = 0
    policy: str = "accept"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictMap:
    """A map of nftables from the names of devices to verdicts: one rule for any number of devices."""

    family: str
    name: str

    @property
    def key(self) -> Key:
        return ("map", self.family, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class MapElement:
    """In a verdict map of ours DEVICE leads to the subchain CHAIN."""

    family: str
    map: str
    device: str
    chain: str

    @property
    def key(self) -> Key:
        return ("element", self.family, self.map, self.device)


@dataclass(frozen=True, slots=True)
class FilterRule:
    """One rule: what it matches and does, and why. The reason is its comment in the kernel and names its counter.

    OWN are the words of TEXT that tell a NIC's rule from another NIC's: a MAC, an address. They allow to translate
    the others once for all NICs (outside/compiled_rules.py) and mean nothing else.
    """

    text: str
    reason: str
    own: tuple[str, ...] = ()

    @property
    def comment(self) -> str:
        """What the kernel keeps with the rule: the reason, and what tells its text from any other.

        nft prints no rule the way it was written, and every version prints it its own way: texts cannot be compared.
        """
        return f"{self.reason} {blake2b(self.text.encode(), digest_size=4).hexdigest()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sysctl:
    """A file below /proc/sys: PATH as `net/ipv4/conf/tap0/proxy_arp`."""

    path: str
    value: str

    @property
    def key(self) -> Key:
        return ("sysctl", self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgePort:
    """A device is a port of a bridge."""

    device: str
    bridge: str

    @property
    def key(self) -> Key:
        return ("port", self.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeVlan:
    """The VLANs of a port of a VLAN-aware bridge: all of them, so that the kernel's default VID 1 is pruned."""

    device: str
    untagged: int | None
    tagged: frozenset[int]

    @property
    def key(self) -> Key:
        return ("vlan", self.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrunkVlan:
    """A port that leads out of a VLAN-aware bridge carries VID tagged, among others."""

    device: str
    vid: int

    @property
    def key(self) -> Key:
        return ("trunk", self.device, self.vid)


@dataclass(frozen=True, slots=True, kw_only=True)
class OvsPort:
    """A device is a port of an Open vSwitch bridge."""

    device: str
    bridge: str
    tag: int | None
    trunks: frozenset[int]

    @property
    def key(self) -> Key:
        return ("ovs", self.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class Up:
    """A device is administratively up."""

    device: str

    @property
    def key(self) -> Key:
        return ("up", self.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route of ours. KIND is unicast or unreachable; a unicast one without gateway has scope link.

    A SHARED one is the same whoever makes it; any other is a NIC's, and never takes another's place.
    """

    table: int
    destination: Network
    device: str | None = None
    gateway: Address | None = None
    kind: str = "unicast"
    metric: int = 0
    protocol: int = PROTOCOL
    shared: bool = field(default=False, compare=False)

    @property
    def key(self) -> Key:
        return ("route", self.table, self.destination, self.metric)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A routing policy rule, by packet mark or by input device; of another PROTOCOL than ours it is somebody else's."""

    family: int
    priority: int
    table: int
    mark: int | None = None
    device: str | None = None
    protocol: int = PROTOCOL

    @property
    def key(self) -> Key:
        return ("rule", self.family, self.priority, self.mark, self.device, self.table)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyNeighbour:
    """The node answers ARP or NS for ADDRESS on DEVICE. Permanent, so that it survives a loss of carrier."""

    device: str
    address: Address

    @property
    def key(self) -> Key:
        return ("proxy", self.device, self.address)


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """The NFDHCPD file of one tap."""

    directory: str
    tap: str
    text: str

    @property
    def key(self) -> Key:
        return ("binding", self.directory, self.tap)


Object = (
    Record
    | Link
    | VerdictMap
    | Subchain
    | Chain
    | MapElement
    | Sysctl
    | OvsPort
    | BridgePort
    | BridgeVlan
    | TrunkVlan
    | Up
    | Rule
    | Route
    | ProxyNeighbour
    | Binding
)

ORDER: tuple[type, ...] = (
    Record,
    Link,
    VerdictMap,
    Subchain,
    Chain,
    MapElement,
    Sysctl,
    OvsPort,
    BridgePort,
    BridgeVlan,
    TrunkVlan,
    Up,
    Rule,
    Route,
    ProxyNeighbour,
    Binding,
)
"""The order in which things are made: the record first (a crash leaves it), the filter before the port, the port
before the device comes up, and the binding last, when its tap can carry the answer. Removal runs backwards."""

State = Mapping[Key, Object]


def state(objects: Iterable[Object]) -> dict[Key, Object]:
    """OBJECTS by key. Two different objects with one key are a contradiction in a plan, so that is a bug."""
    result: dict[Key, Object] = {}
    for thing in objects:
        other = result.setdefault(thing.key, thing)
        if other != thing:
            raise ValueError(f"two different wishes for {thing.key}: {other} and {thing}")
    return result


def unmet(wanted: Object, actual: Object) -> tuple[tuple[str, object, object], ...]:
    """The fields in which ACTUAL is not as WANTED: (field, actual value, wanted value)."""
    if wanted == actual:
        return ()
    names = (one.name for one in fields(wanted) if one.compare)
    pairs = ((name, getattr(actual, name), getattr(wanted, name)) for name in names)
    some = isinstance(wanted, Link)
    return tuple(pair for pair in pairs if pair[1] != pair[2] and not (some and pair[2] is None))
