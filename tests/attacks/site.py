# SPDX-License-Identifier: BSD-2-Clause
"""An attacker and a victim behind taps of one node, and a gateway on its uplink.

The victim is a whole IP stack that believes what it hears: gratuitous ARP, advertisements that nobody asked for, router
advertisements, redirects, source routes. What it knows then, and what the node's bridge has learned, is the oracle.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import ip_address

from ganeti_vif.kernel.netlink.query import Query
from ganeti_vif.kernel.nftables import filters
from tests.kernel.actions import attach, ip, link, manage, ping
from tests.kernel.attacks import Cast
from tests.kernel.conftest import installed, quick
from tests.kernel.environment import CONFIG, GATEWAY, GATEWAY6, NODE_ADDRESS, bridged, private, public, routed
from tests.kernel.forging import ether
from tests.kernel.test_attacks import TAP_MAC, eui64
from tests.lab import Node, PacketSocket, Tap, VirtualCable, no_offload, wire

MODES = ("routed", "bridged", "private-filtered")
SUBNET6 = "2001:db8:1::/64"
BELIEVES = (
    "ipv4/conf/eth0/arp_accept=1",
    "ipv4/conf/eth0/accept_redirects=1",
    "ipv4/conf/eth0/secure_redirects=0",
    "ipv4/conf/eth0/accept_source_route=1",
    "ipv4/conf/eth0/rp_filter=0",
    "ipv4/conf/all/rp_filter=0",
    "ipv6/conf/eth0/accept_ra=2",
    "ipv6/conf/eth0/accept_ra_pinfo=1",
    "ipv6/conf/eth0/accept_ra_rt_info_max_plen=128",
    "ipv6/conf/eth0/accept_redirects=1",
    "ipv6/conf/eth0/accept_source_route=1",
    "ipv6/conf/eth0/accept_untracked_na=1",
)
"""Settings with which a victim takes what others say. The last one exists since Linux 6.0."""
KNOWN = """\
ip -j neigh show dev eth0; ip -j -6 neigh show dev eth0; ip -j addr show dev eth0
ip -j route show table all; ip -j -6 route show table all; ip -j -6 route show cache"""
MADE_OF_A_MAC = b"\xff\xfe"
"""The middle of an interface identifier that is made of a MAC (RFC 4291, appendix A)."""
MARKER = 0x88B5
"""An EtherType for experiments (IEEE 802), which no attack uses."""


@dataclass
class Site:
    """A node, an attacker on one of its taps, and everybody who can be reached from there. CARD is the attacker's tap
    where the test itself sends, and ATTACKER is its machine where a program does."""

    mode: str
    node: Node
    victim: Node
    gateway: Node
    cast: Cast
    query: Query
    doors: tuple[PacketSocket, PacketSocket]
    attacker: Node | None = None
    card: Tap | None = None

    @property
    def tap(self) -> str:
        return self.card.name if self.card else "tap5"

    def counted(self) -> Counter[str]:
        """What the attacker's filter has counted, by its reasons."""
        found = filters.counted(self.query, "netdev", f"{self.tap}-in")
        return sum((Counter({one.comment.rpartition(" ")[0]: one.packets or 0}) for one in found), Counter[str]())

    def sent(self) -> int:
        """How many frames the attacker has sent."""
        return int(self.node.path(f"/sys/class/net/{self.tap}/statistics/rx_packets").read_text())

    def settle(self) -> None:
        """Return when the victim has taken everything that was sent before. A frame that is lost is sent again."""
        into, ears = self.doors
        ears.clear()
        marker = ether(self.cast.other_mac[:-2] + "99", self.cast.other_mac, MARKER, b"the last one")
        for _ in range(1000):
            into.send(marker)
            for frame in iter(lambda: ears.receive(0.1), None):
                if frame[12:14] == MARKER.to_bytes(2, "big"):
                    return
        raise TimeoutError("the victim hears nothing at all")

    def knows(self) -> frozenset[str]:
        """What the victim and the node's bridge have come to know and could not know by the attacker's honest frames:
        neighbours, addresses, routes, and places of MACs."""
        self.settle()
        answers = self.victim.run(["sh", "-c", KNOWN]).stdout
        lists = [json.loads(line) for line in answers.splitlines() if line.strip()]
        four, six, addresses, *routes = [*lists, *[[]] * 6][:6]
        found = {f"the victim has {one['dst']} at {one['lladdr']}" for one in (*four, *six) if self._is_news(one)}
        found |= {f"the victim has the address {a['local']}" for d in addresses for a in d.get("addr_info", ())}
        found |= {
            f"the victim has a route to {one['dst']} via {one.get('gateway', 'nobody')}, {one.get('protocol')}"
            for many in routes
            for one in many
            if one.get("dev") == "eth0"
        }
        return frozenset(found | self._learned())

    def _is_news(self, neighbour: dict[str, str]) -> bool:
        cast, mac = self.cast, neighbour.get("lladdr")
        own = (cast.ip, cast.ip6, cast.link_local)
        return mac is not None and not (neighbour["dst"] in own and mac == cast.mac) and mac != TAP_MAC

    def _learned(self) -> set[str]:
        if self.mode == "routed":
            found = json.loads(self.node.run(["ip", "-j", "neigh", "show", "dev", self.tap]).stdout or "[]")
            return {
                f"the node has {one['dst']} at {one['lladdr']} on the attacker's tap"
                for one in found
                if self._is_news(one) and not self._may_choose(one)
            }
        shown = json.loads(self.node.run(["bridge", "-j", "fdb", "show", "br", "pvn1"]).stdout)
        return {
            f"the bridge has {one['mac']} at {one['ifname']}"
            for one in shown
            if one["ifname"] == self.tap and one["mac"] != self.cast.mac and "permanent" not in one.get("state", "")
        }

    def _may_choose(self, neighbour: dict[str, str]) -> bool:
        """On a routed tap a guest has any link-local address that is made of no other MAC: only the node hears of it."""
        address = ip_address(neighbour["dst"])
        return address.is_link_local and address.packed[11:13] != MADE_OF_A_MAC and neighbour["lladdr"] == self.cast.mac

    def forget(self) -> None:
        """The victim knows what it knew at first: its gateway and its neighbour."""
        cast = self.cast
        ip(self.victim, "neigh flush dev eth0", "-6 neigh flush dev eth0")
        self.victim.run(
            ["sh", "-c", "ip -6 route flush proto ra; ip -6 route flush cache; ip -6 addr flush dynamic; true"]
        )
        gateway = TAP_MAC if self.mode == "routed" else NEIGHBOUR_MACS[self.mode]
        for address, mac in ((NEIGHBOURS[self.mode], NEIGHBOUR_MACS[self.mode]), (cast.gateway, gateway)):
            ip(self.victim, f"neigh replace {address} lladdr {mac} nud stale dev eth0")
        if self.mode != "routed":
            self.node.run(["sh", "-c", f"bridge fdb flush dev {self.tap} dynamic 2>/dev/null; true"])


NEIGHBOURS = {"routed": public(7), "bridged": private(7), "private-filtered": private(7)}
NEIGHBOUR_MACS = {"routed": TAP_MAC, "bridged": "aa:00:00:00:00:07", "private-filtered": "aa:00:02:00:00:07"}


def made(
    stack: ExitStack, mode: str, *, program: bool, unguarded: bool = False, emulated: bool = False, config: str = CONFIG
) -> Site:
    """A site whose NICs have this MODE, which lives as long as STACK. The attacker is a machine if it is to run a
    PROGRAM. If UNGUARDED, nothing is dropped that it sends. The victim's card leaves checksums to the node, or if
    EMULATED it takes only what is finished: what the node's kernel makes of a frame, it gets."""
    gateway = quick(stack.enter_context(Node("gateway")))
    node = installed(quick(stack.enter_context(Node("node1"))), config)
    ip(node, f"addr add {NODE_ADDRESS}/32 dev lo")
    wire(node, "eth1", gateway, "eth0")
    ip(gateway, f"addr add {GATEWAY}/24 dev eth0", f"addr add {GATEWAY6}/64 dev eth0")
    no_offload(node, "eth1")
    manage(node, "setup")
    cast = _cast(mode)
    tags = "vif:0:unguarded" if unguarded else ""
    victim = _guest(
        stack, node, "victim", "tap6", cast.other_mac, (cast.other, cast.other6), cast, offloads=not emulated
    )
    attach(node, _environment(mode, "tap6", 6, cast.other_mac))
    attacker, card = None, None
    if program:
        attacker = _guest(stack, node, "attacker", "tap5", cast.mac, (cast.ip, cast.ip6), cast)
    else:
        card = stack.enter_context(Tap(node))
    attach(node, _environment(mode, card.name if card else "tap5", 5, cast.mac, TAGS=tags))
    for word in BELIEVES:
        name, _, value = word.partition("=")
        victim.run(["sh", "-c", f"! [ -e /proc/sys/net/{name} ] || echo {value} > /proc/sys/net/{name}"])
    query = node.inside(filters.netfilter)
    stack.callback(query.close)
    doors = (
        stack.enter_context(PacketSocket(node, "tap6")),
        stack.enter_context(PacketSocket(victim, "eth0")),
    )
    site = Site(mode, node, victim, gateway, cast, query, doors, attacker, card)
    if attacker and mode == "routed":
        ping(attacker, cast.gateway)
    site.forget()
    return site


def _cast(mode: str) -> Cast:
    prefixes = {"routed": ("aa:00:00", "aa:00:00"), "bridged": ("aa:00:00", "aa:00:00")}
    mine, other = (
        f"{one}:00:00:0{number}"
        for one, number in zip(prefixes.get(mode, ("aa:00:01", "aa:00:02")), (5, 6), strict=True)
    )
    is_routed = mode == "routed"
    address = public if is_routed else private
    subnet6 = "2001:db8::/64" if is_routed else SUBNET6
    return Cast(
        mac=mine,
        ip=address(5),
        ip6=eui64(subnet6, mine),
        link_local=eui64("fe80::/64", mine),
        other_mac=other,
        other=address(6),
        other6=eui64(subnet6, other),
        other_link_local=eui64("fe80::/64", other),
        gateway=GATEWAY if is_routed else "10.0.0.1",
        gateway6=GATEWAY6 if is_routed else "2001:db8:1::1",
        node=NODE_ADDRESS,
        to=TAP_MAC if is_routed else other,
    )


def _environment(mode: str, tap: str, number: int, mac: str, **changes: str) -> dict[str, str]:
    if mode == "routed":
        return routed(tap, number, MAC=mac, **changes)
    tags = "private-filtered" if mode == "private-filtered" else ""
    return bridged(tap, number, MAC=mac, NETWORK_SUBNET6=SUBNET6, NETWORK_TAGS=tags, **changes)


def _guest(
    stack: ExitStack,
    node: Node,
    name: str,
    tap: str,
    mac: str,
    addresses: tuple[str, str],
    cast: Cast,
    *,
    offloads: bool = True,
) -> Node:
    """A machine behind TAP, with a virtio card's OFFLOADS, or with an emulated card."""
    guest = quick(stack.enter_context(Node(name)))
    stack.enter_context(VirtualCable(node, tap, guest, "eth0", offloads=offloads))
    four, six = addresses
    ip(guest, f"link set eth0 address {mac} up", f"addr add {four}/24 dev eth0", f"addr add {six}/64 dev eth0")
    ip(guest, f"route add default via {cast.gateway} dev eth0", f"-6 route add default via {cast.gateway6} dev eth0")
    assert link(guest, "eth0")["address"] == mac
    return guest


def essential(reasons: Counter[str]) -> str:
    """REASONS in one line, the most frequent first."""
    return ", ".join(f"{count} {re.sub(r' +', ' ', reason)}" for reason, count in reasons.most_common(4))
