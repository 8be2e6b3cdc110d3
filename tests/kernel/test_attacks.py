# SPDX-License-Identifier: BSD-2-Clause
"""The matrix: every attack from every kind of tap is dropped for its reason and reaches nobody; what is legitimate passes.

docs/attacks.md lists both; tools/attacks makes it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from ganeti_vif.kernel.netlink.query import Query
from ganeti_vif.kernel.nftables import filters
from tests.lab import Node, PacketSocket, Tap, no_offload, wire
from tests.lab.tap import VNET_HEADER

from .actions import attach, ip, manage, udp
from .attacks import ATTACKS, LEGITIMATE, VIRTUAL_ROUTER, Cast
from .conftest import installed, quick
from .environment import BEYOND, CONFIG, GATEWAY, GATEWAY6, NODE_ADDRESS, bridged, private, public, public6, routed
from .forging import BROADCAST, ether

TAP_MAC = "fe:00:56:49:46:01"
STRICT = "link-local = eui64\n"
JUMBO = CONFIG.replace("bridges = 1-3", "bridges = 1-3\nmtu = 9000").replace("arp-source", f"{STRICT}arp-source")
WITNESS = """
add table inet witness
add chain inet witness seen {{ type filter hook prerouting priority -450; }}
add rule inet witness seen iifname "{tap}" counter
add table arp witness
add chain arp witness seen {{ type filter hook input priority -450; }}
add rule arp witness seen iifname "{tap}" counter
"""


@dataclass
class Lab:
    """A node with an attacker on a tap, and everybody who could be reached from there."""

    mode: str
    node: Node
    attacker: Tap
    cast: Cast
    ears: list[Tap | PacketSocket]
    query: Query
    said: int = 0

    def counted(self) -> Counter[str]:
        """What the attacker's rules have counted, by their reasons."""
        found = filters.counted(self.query, "netdev", f"{self.attacker.name}-in")
        return sum((Counter({one.comment.rpartition(" ")[0]: one.packets or 0}) for one in found), Counter[str]())

    def witnessed(self) -> int:
        """How many frames of the attacker's came into the node's IP and ARP; 0 on a bridge, where nobody looks."""
        if self.mode != "routed":
            return 0
        listed = self.node.run(["nft", "list", "ruleset"]).stdout
        tables = re.findall(r"table (?:inet|arp) witness \{.*?\n\}", listed, re.S)
        assert len(tables) == 2
        return sum(int(count) for table in tables for count in re.findall(r"packets (\d+)", table))

    def send(self, frame: bytes, beside: bytes = VNET_HEADER) -> list[list[bytes]]:
        """Send FRAME from the attacker, and then a word that everybody hears; what each of EARS heard before that.
        BESIDE is what its card says of the frame."""
        self.said += 1
        word = f"the last word {self.said}."
        self.attacker.send(frame, beside)
        for target, to in self._everybody():
            self.attacker.send(udp(self.cast.mac, to, self.cast.ip, target, word))
        return [_until(one, word.encode()) for one in self.ears]

    def _everybody(self) -> list[tuple[str, str]]:
        if self.mode == "routed":
            return [(self.cast.other, TAP_MAC), (BEYOND, TAP_MAC)]
        return [("255.255.255.255", BROADCAST)]

    @property
    def words(self) -> int:
        return len(self._everybody())


def _until(ears: Tap | PacketSocket, last: bytes) -> list[bytes]:
    return ears.before(lambda frame: last in frame, f"the frame with {last!r}")


def essence(frame: bytes) -> bytes:
    """What of FRAME is the same wherever it comes out: not its MACs, its TTL and its padding."""
    start = {0x0800: 26, 0x86DD: 22}.get(int.from_bytes(frame[12:14], "big"), 14)
    return frame[start:].rstrip(b"\0")[:64]


def cast(prefix: str, address: Any, address6: Any, gateway: str, gateway6: str, to: str | None) -> Cast:
    mine, other = (f"{prefix}:00:00:{number:02x}" for number in (5, 6))
    link_local, other_link_local = (eui64("fe80::/64", mac) for mac in (mine, other))
    return Cast(
        mac=mine,
        ip=address(5),
        ip6=address6(mine),
        link_local=link_local,
        other_mac=other,
        other=address(6),
        other6=address6(other),
        other_link_local=other_link_local,
        gateway=gateway,
        gateway6=gateway6,
        node=NODE_ADDRESS,
        to=to or other,
    )


def eui64(subnet: str, mac: str) -> str:
    """What SLAAC makes of SUBNET and MAC (RFC 4291, appendix A)."""
    from netaddr import EUI, IPNetwork

    return str(EUI(mac).ipv6(IPNetwork(subnet).first))


Ears = Tap | PacketSocket


def prepared(stack: ExitStack) -> tuple[Node, Node]:
    outside = quick(stack.enter_context(Node("outside")))
    node = installed(quick(stack.enter_context(Node("node1"))), JUMBO)
    wire(node, "eth1", outside, "eth0")
    ip(outside, "link set eth0 mtu 9000", f"addr add {GATEWAY}/24 dev eth0", f"addr add {BEYOND}/32 dev lo")
    no_offload(node, "eth1")
    ip(node, "link set eth1 mtu 9000", f"addr add {NODE_ADDRESS}/32 dev lo")
    manage(node, "setup")
    return node, outside


def routed_lab(stack: ExitStack) -> Lab:
    node, outside = prepared(stack)
    taps = [stack.enter_context(Tap(node)) for _ in range(2)]
    for number, tap in enumerate(taps, 5):
        attach(node, routed(tap.name, number))
    # Nobody answers for the neighbour and the gateway: they are known.
    ip(node, f"neigh replace {public(6)} lladdr aa:00:00:00:00:06 dev {taps[1].name}")
    ip(node, f"neigh replace {GATEWAY} lladdr {_mac(outside)} dev eth1")
    ears: list[Ears] = [taps[1], stack.enter_context(PacketSocket(outside, "eth0"))]
    who = cast("aa:00:00", public, lambda mac: public6(int(mac[-2:], 16)), GATEWAY, GATEWAY6, TAP_MAC)
    return _lab(stack, "routed", node, taps[0], who, ears)


def bridged_lab(stack: ExitStack, prefix: str = "aa:00:00", tags: str = "") -> Lab:
    node, _ = prepared(stack)
    beside = quick(stack.enter_context(Node("beside")))
    ip(node, f"link add eth7 mtu 9000 type veth peer name eth0 netns {beside.pid}", "link set eth7 master pvn1 up")
    ip(beside, "link set eth0 mtu 9000 up")
    taps = [stack.enter_context(Tap(node)) for _ in range(2)]
    for number, tap in enumerate(taps, 5):
        given = {
            "MAC": f"{prefix}:00:00:{number:02x}",
            "NETWORK_SUBNET6": "2001:db8:1::/64",
            "NETWORK_TAGS": tags,
        }
        attach(node, bridged(tap.name, number, **given))
    ears: list[Ears] = [
        taps[1],
        *(stack.enter_context(PacketSocket(*one)) for one in ((beside, "eth0"), (node, "pvn1"))),
    ]
    who = cast(prefix, private, lambda mac: eui64("2001:db8:1::/64", mac), "10.0.0.1", "2001:db8:1::1", None)
    return _lab(stack, "private-filtered" if tags else "bridged", node, taps[0], who, ears)


def _lab(stack: ExitStack, mode: str, node: Node, tap: Tap, who: Cast, ears: list[Ears]) -> Lab:
    node.run(["nft", "-f", "-"], input=WITNESS.format(tap=tap.name))
    query = node.inside(filters.netfilter)
    stack.callback(query.close)
    return Lab(mode, node, tap, who, ears, query)


def _mac(node: Node) -> str:
    return node.path("/sys/class/net/eth0/address").read_text().strip()


LABS: dict[str, Callable[[ExitStack], Lab]] = {
    "routed": routed_lab,
    "bridged": bridged_lab,
    "private-filtered": lambda stack: bridged_lab(stack, "aa:00:01", "private-filtered"),
}


@pytest.fixture(scope="module", params=LABS)
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    with ExitStack() as stack:
        yield LABS[request.param](stack)


def test_there_are_attacks_enough() -> None:
    assert len(ATTACKS) >= 60


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_dropped_for_its_reason_and_reaches_nobody(lab: Lab, name: str) -> None:
    build, reason = ATTACKS[name]
    frame = build(lab.cast)
    counted, witnessed = lab.counted(), lab.witnessed()
    heard = lab.send(frame)
    after = lab.counted() - counted
    words = after.pop("IPv4")
    assert (after, words) == ({reason: 1}, lab.words)
    assert not [one.hex() for ear in heard for one in ear if essence(frame) in one]
    if lab.mode == "routed":
        assert lab.witnessed() - witnessed == lab.words


@pytest.mark.parametrize("name", LEGITIMATE)
def test_what_is_legitimate_passes(lab: Lab, name: str) -> None:
    frame = LEGITIMATE[name](lab.cast)
    counted, witnessed = lab.counted(), lab.witnessed()
    heard = lab.send(frame)
    after = lab.counted() - counted
    assert after.total() == 1 + lab.words, after
    if lab.mode == "routed":
        seen = lab.witnessed() - witnessed - lab.words
        # Nobody but bridges takes notice of RARP, and the node is not the router of that MAC.
        assert seen == (0 if name.startswith("QEMU") or name == VIRTUAL_ROUTER else 1)
    else:
        everybody = heard if frame[0] & 1 else heard[:1]
        # With br_netfilter a bridge cuts off the padding.
        assert all(any(frame[:14] == one[:14] and essence(frame) in one for one in ear) for ear in everybody)


def test_an_ipv6_privacy_address_passes_where_a_tag_allows_it(lab: Lab) -> None:
    """And the bridge's neighbours may not be claimed all the same; the tag's NIC is put back afterwards."""
    own = lab.cast.ip6
    privacy = own.rpartition(":")[0] + ":1234"
    frame = lab.cast.v6(privacy)
    before = lab.counted()
    lab.send(frame)
    assert (lab.counted() - before)["foreign IPv6 address"] == 1
    try:
        attach(lab.node, _environment(lab, TAGS=f"vif:0:address:{privacy}"))
        before = lab.counted()
        lab.send(frame)
        assert (lab.counted() - before)["IPv6"] == 1
    finally:
        attach(lab.node, _environment(lab))


def _environment(lab: Lab, **changes: str) -> dict[str, str]:
    if lab.mode == "routed":
        return routed(lab.attacker.name, 5, **changes)
    tags = "private-filtered" if lab.mode == "private-filtered" else ""
    given = {"MAC": lab.cast.mac, "NETWORK_SUBNET6": "2001:db8:1::/64", "NETWORK_TAGS": tags}
    return bridged(lab.attacker.name, 5, **(given | changes))


@pytest.mark.parametrize("lab", ["private-filtered"], indirect=True)
def test_another_networks_multicast_does_not_reach_a_private_filtered_tap(lab: Lab) -> None:
    with Tap(lab.node) as stranger:
        given = {"MAC": "aa:00:02:00:00:07", "NETWORK_TAGS": "private-filtered"}
        attach(lab.node, bridged(stranger.name, 7, **given))
        for to in (BROADCAST, "01:00:5e:00:00:fb", "33:33:00:00:00:01", lab.cast.other_mac, "00:00:00:00:00:01"):
            stranger.send(udp("aa:00:02:00:00:07", to, private(7), "224.0.0.251", "from next door"))
        heard = lab.send(ether(lab.cast.mac, BROADCAST, 0x0806, bytes(46)))
        assert not any(b"from next door" in one for one in heard[0])
        stranger.send(udp("aa:00:02:00:00:07", BROADCAST, private(7), "224.0.0.251", "a word"))
        lab.ears[1].expect(lambda frame: b"a word" in frame, "it passes where nothing is filtered")
