# SPDX-License-Identifier: BSD-2-Clause
"""Every kind of object that can exist on a node and matters to a NIC, as plain data.

The objects of nftables are in engine/chains.py.

The same types describe desired objects and actual ones. `key` is the identity of an object in the kernel or on the
disk. Two objects with one key cannot exist at the same time. A desired Link may be partial: a field that is None does
not matter. All other objects are complete: None means that there is none.

This module does no I/O. Its values are parsed, apart from names, the text of files and the text of filter rules.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from ganeti_vif.engine.marks import PROTOCOL
from ganeti_vif.engine.program import Program

ETHERNET_MTU = 1500
"""The MTU of a device if nobody sets another one."""

Address = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network
Key = tuple[Hashable, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What Ganeti said about a NIC. It is written first and removed last, so a crash leaves a trace of the NIC."""

    tap: str
    text: str

    @property
    def key(self) -> Key:
        return ("record", self.tap)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The state of a tap before its NIC was attached. Detach restores it.

    It is written before the record and removed after it. It is not a part of the record, because an older version would
    consider such a record damaged.
    """

    tap: str
    text: str

    @property
    def key(self) -> Key:
        return ("origin", self.tap)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A network device, with the properties that can be set while it is down.

    MTU is in bytes. FORWARD_DELAY is in hundredths of a second. TUN says what a device of kind tun carries: "tap"
    (Ethernet frames) or "tun" (IP packets).
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
    vxlan_local: Address | None = None
    vxlan_port: int | None = None
    tun: str | None = None

    @property
    def key(self) -> Key:
        return ("link", self.name)

    @property
    def is_tap(self) -> bool:
        """Whether this device can be the node's end of a NIC.

        Ganeti opens taps only through /dev/net/tun with IFF_TAP (lib/hypervisor/hv_kvm/netdev.py:132-201 at 3.0.2).
        """
        return self.kind == "tun" and self.tun == "tap"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peers:
    """To whom the VXLAN device DEVICE sends a frame if it does not know where the receiver is: a copy to each address.

    All of them: on a device of ours nobody else has such entries, and the kernel keeps no mark in them. LOWER is the
    device below, by which a copy to a multicast address leaves.
    """

    device: str
    addresses: frozenset[Address]
    lower: str | None = field(default=None, compare=False)

    @property
    def key(self) -> Key:
        return ("peers", self.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """A module of the kernel, loaded or built in. Loading it must change nothing for other users: see ZEROED."""

    name: str

    @property
    def key(self) -> Key:
        return ("module", self.name)


ZEROED = {
    "br_netfilter": tuple(f"net/bridge/bridge-nf-call-{name}" for name in ("iptables", "ip6tables", "arptables")),
}
"""By module, the sysctls that are 1 after it was loaded. They change others' traffic, so our loading sets them to 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeNetfilter:
    """Whether frames that BRIDGE forwards pass the filter rules for routed IPv4 and IPv6 packets.

    It takes effect if the module br_netfilter is loaded. net.bridge.bridge-nf-call-* is the same for all bridges.
    """

    bridge: str
    iptables: bool
    ip6tables: bool

    @property
    def key(self) -> Key:
        return ("bridge netfilter", self.bridge)


@dataclass(frozen=True, slots=True, kw_only=True)
class OffloadCheck:
    """A PROGRAM at the ingress of DEVICE.

    It marks frames whose checksum the kernel would write to a wrong place. The program of another version cannot be
    read back. Then PROGRAM is None in the actual object.
    """

    device: str
    program: Program | None

    @property
    def key(self) -> Key:
        return ("offload check", self.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shaper:
    """What leaves by DEVICE waits until it may go: RATE bytes a second, BURST bytes at once. Flows take turns."""

    device: str
    rate: int
    burst: int

    @property
    def key(self) -> Key:
        return ("shaper", self.device)

    @property
    def limit(self) -> int:
        """Bytes that wait at most where the kernel has no fq_codel: what may go in a tenth of a second."""
        return max(self.rate // 10, 2 * self.burst)

    @property
    def target(self) -> int:
        """Microseconds for which packets of a flow may wait before fq_codel drops some: 5 ms, or one and a half packets
        if these take longer (RFC 8290, 5.2.1)."""
        return max(5000, 3 * ETHERNET_MTU * 1_000_000 // (2 * self.rate))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sysctl:
    """A file below /proc/sys. PATH is for instance `net/ipv4/conf/tap0/proxy_arp`."""

    path: str
    value: str

    @property
    def key(self) -> Key:
        return ("sysctl", self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgePort:
    """A device is a port of a bridge. ISOLATED: it reaches no other isolated port of this node."""

    device: str
    bridge: str
    isolated: bool = False

    @property
    def key(self) -> Key:
        return ("port", self.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeVlan:
    """All VLANs of a port of a VLAN-aware bridge. All of them, so the kernel's default VID 1 is removed."""

    device: str
    untagged: int | None
    tagged: frozenset[int]

    @property
    def key(self) -> Key:
        return ("vlan", self.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrunkVlan:
    """A port that leads out of a VLAN-aware bridge carries VID tagged. It may carry more VIDs."""

    device: str
    vid: int

    @property
    def key(self) -> Key:
        return ("trunk", self.device, self.vid)


@dataclass(frozen=True, slots=True, kw_only=True)
class OvsPort:
    """A device is a port of an Open vSwitch bridge. ISOLATED: it reaches no other isolated port of this node."""

    device: str
    bridge: str
    tag: int | None
    trunks: frozenset[int]
    isolated: bool = False

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
    """A route. KIND is unicast or unreachable. A unicast route without a gateway has scope link.

    A SHARED route belongs to a public link: an attach and a setup make the same one. Any other route belongs to a NIC
    and never replaces the route of another NIC.
    """

    table: int
    destination: Prefix
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
    """A routing policy rule, by packet mark or by input device. A rule with another PROTOCOL than ours is not ours."""

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
    """A neighbour proxy: the node answers ARP or neighbour solicitations for ADDRESS on DEVICE.

    It is permanent, so it survives a loss of carrier.
    """

    device: str
    address: Address

    @property
    def key(self) -> Key:
        return ("proxy", self.device, self.address)


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """The permanent neighbours on DEVICE: the node sends packets for ADDRESSES to MAC, and asks nobody.

    The kernel limits only the number of entries that it learned itself. So these never lack room.
    """

    device: str
    mac: str
    addresses: frozenset[Address]

    @property
    def key(self) -> Key:
        return ("neighbours", self.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """The binding of one tap: a file in DIRECTORY."""

    directory: str
    tap: str
    text: str

    @property
    def key(self) -> Key:
        return ("binding", self.directory, self.tap)
