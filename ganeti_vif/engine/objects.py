"""Everything that can exist on a node and matters to a NIC, as plain data; what is in nftables: engine/chains.py.

The same types say what should be (desired) and what is (actual, as read). `key` is the identity in the outside
world: two objects with one key cannot exist side by side. A wish for a device is partial: a field of a Link that is
None is not our concern. All others are wished for whole: None means none.

No I/O here, and no strings that still need parsing, apart from names and the text of files and filter rules.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from ganeti_vif.engine.marks import PROTOCOL

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
class Origin:
    """What a tap was before its NIC was attached: written before the record and removed after it, and read by detach.
    It is no part of the record, which an older version would then take for damaged."""

    tap: str
    text: str

    @property
    def key(self) -> Key:
        return ("origin", self.tap)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A network device: that it exists, and the properties that it was made with or that can be set while down.

    TUN is what a device of kind tun carries: "tap" (Ethernet frames) or "tun" (IP packets).
    """

    name: str
    kind: str | None = None
    index: int | None = None
    group: int | None = None
    mac: str | None = None
    mtu: int | None = None
    stp: bool | None = None
    forward_delay: int | None = None
    mcast_snooping: bool | None = None
    vlan_filtering: bool | None = None
    lower: str | None = None
    vlan: int | None = None
    vni: int | None = None
    vxlan_group: Address | None = None
    vxlan_port: int | None = None
    tun: str | None = None

    @property
    def key(self) -> Key:
        return ("link", self.name)

    @property
    def is_tap(self) -> bool:
        """Whether it may be the node's end of a guest's NIC. Only what a program holds by /dev/net/tun with IFF_TAP is:
        Ganeti opens nothing else (lib/hypervisor/hv_kvm/netdev.py:132-201 at 3.0.2)."""
        return self.kind == "tun" and self.tun == "tap"


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """A module of the kernel, loaded or built in. What it changes for everybody when it is loaded is put back."""

    name: str

    @property
    def key(self) -> Key:
        return ("module", self.name)


ZEROED = {
    "br_netfilter": tuple(f"net/bridge/bridge-nf-call-{name}" for name in ("iptables", "ip6tables", "arptables")),
}
"""Sysctls by module: those that are 1 when it is loaded, which concerns others, and that who loads it puts to 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeNetfilter:
    """Whether what BRIDGE forwards passes the rules for routed IPv4 and IPv6 packets. It takes effect with the module
    br_netfilter; net.bridge.bridge-nf-call-* says the same of all bridges."""

    bridge: str
    iptables: bool
    ip6tables: bool

    @property
    def key(self) -> Key:
        return ("bridge netfilter", self.bridge)


@dataclass(frozen=True, slots=True, kw_only=True)
class OffloadCheck:
    """What comes in by DEVICE passes a PROGRAM (BPF instructions) that marks frames whose checksum the kernel would
    finish in a wrong place. Of another version's program as it was found, nothing is known but that it is another."""

    device: str
    program: bytes

    @property
    def key(self) -> Key:
        return ("offload check", self.device)


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
