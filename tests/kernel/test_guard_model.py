# SPDX-License-Identifier: BSD-2-Clause
"""Random NICs and random frames: an independent model, the filter's own description and the kernel are of one opinion.

The model reads the bytes of a frame and knows nothing of rules. `explain` reads a description of the same packet.
"""

from __future__ import annotations

import os
import random
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_network

import pytest
from netaddr import EUI, IPNetwork

from ganeti_vif.engine.chains import Chain
from ganeti_vif.engine.difference import Make, Remove
from ganeti_vif.guard import guard, tap_filter
from ganeti_vif.guard.packet import described
from ganeti_vif.guard.rules import Verdict, decision
from ganeti_vif.guard.usual import usual
from ganeti_vif.kernel.nftables import filters
from ganeti_vif.kernel.nftables.changes import Nftables
from ganeti_vif.nic.nic import Mode, Network, Nic
from ganeti_vif.nic.tags import Control, Grants
from tests.lab import Node, Tap

from .actions import ip
from .forging import (
    DESTINATION,
    HOP_BY_HOP,
    OPTIONS,
    advertisement,
    arp_packet,
    ether,
    fragment,
    icmp6,
    ip4,
    ip6,
    solicitation,
    source_mac,
    udp,
)

NICS, FRAMES = 100, 220
SUBNET6 = IPv6Network("2001:db8:1::/64")
MACS = ["aa:00:00:00:00:05", "aa:00:00:00:00:06", "02:00:00:00:00:01", "aa:00:00:00:00:07"]
FOUR = ["10.0.0.5", "10.0.0.6", "10.0.0.9", "10.0.0.14", "10.0.0.16", "0.0.0.0", "192.0.2.1", "255.255.255.255"]
FOUR += ["224.0.0.251", "127.0.0.1"]


def eui64(subnet: IPv6Network | str, mac: str) -> str:
    return str(EUI(mac).ipv6(IPNetwork(str(subnet)).first))


SIX = [eui64(net, mac) for net in (SUBNET6, "fe80::/64") for mac in MACS]
SIX += ["::", "fe80::99", "2001:db8:1::7:1", "2001:db8:2::1", "ff02::1", "ff02::16", "::1", "2001:db8:1::5"]


def random_nic(chance: random.Random, tap: str) -> Nic:
    mode = chance.choice([Mode.ROUTED, Mode.BRIDGED])
    granted = chance.sample(
        ["10.0.0.8/29", "10.0.0.6/32", "2001:db8:1::7:0/112", "2001:db8:1::5/128"], chance.choice([0, 0, 1, 2])
    )
    grants = Grants(
        addresses=tuple(map(ip_network, granted)),
        macs=tuple(chance.sample(MACS[1:3], chance.choice([0, 0, 0, 1, 2]))),
        any_link_local=chance.random() < 0.2,
        control=frozenset(one for one in Control if chance.random() < 0.1),
    )
    network = Network(name="net", uuid="u", subnet6=chance.choice([SUBNET6, SUBNET6, None]))
    given = chance.choice([IPv4Address("10.0.0.5"), IPv4Address("10.0.0.5"), None, IPv6Address("2001:db8:1::5")])
    nic = Nic(instance="vm", uuid="u", tap=tap, index=1, mac=MACS[0], mode=mode, link="l", ip=given, network=network)
    return replace(nic, grants=grants)


# What a guest may send, as the model has it


def may(nic: Nic, frame: bytes) -> bool:
    """Whether NIC's guest may send FRAME."""
    macs = {nic.mac, *nic.grants.macs}
    to = frame[:6].hex()
    if frame[6:12].hex(":") not in macs or (frame[0] & 1 and not to.startswith(("01005e", "3333", "f" * 12))):
        return False
    kind, packet = int.from_bytes(frame[12:14], "big"), frame[14:]
    if kind == 0x0806:
        return _arp(nic, macs, packet)
    if kind == 0x8035:
        return packet[6:8] == b"\0\3" and packet[8:14].hex(":") in macs
    if kind == 0x0800:
        return _ipv4(nic, packet)
    return kind == 0x86DD and _ipv6(nic, macs, packet)


def owns(nic: Nic, address: IPv4Address | IPv6Address) -> bool:
    """Whether ADDRESS was given to NIC, or its network's /64 and its MAC make it, or a tag grants it."""
    subnet6 = nic.network.subnet6 if nic.network else None
    made = {eui64(subnet6, nic.mac)} if subnet6 and not isinstance(nic.ip, IPv6Address) else set()
    return address == nic.ip or str(address) in made or any(address in one for one in nic.grants.addresses)


def free(nic: Nic, version: int) -> bool:
    """Whether nobody gave a NIC on a bridge an address of this VERSION: then it may have any."""
    subnet6 = nic.network.subnet6 if nic.network else None
    has = [*nic.grants.addresses, *([nic.ip] if nic.ip else []), *([subnet6] if subnet6 else [])]
    return nic.mode is Mode.BRIDGED and not any(one.version == version for one in has)


def barred(nic: Nic, version: int) -> bool:
    """Whether a routed NIC has no address of this VERSION at all."""
    subnet6 = nic.network.subnet6 if nic.network else None
    has = [*nic.grants.addresses, *([nic.ip] if nic.ip else []), *([subnet6] if subnet6 else [])]
    return nic.mode is Mode.ROUTED and not any(one.version == version for one in has)


def _arp(nic: Nic, macs: set[str], packet: bytes) -> bool:
    sender, target = IPv4Address(packet[14:18]), IPv4Address(packet[24:28])
    operation = int.from_bytes(packet[6:8], "big")
    if packet[8:14].hex(":") not in macs:
        return False
    if free(nic, 4):
        return True
    if operation == 1 and sender == IPv4Address("0.0.0.0"):
        return owns(nic, target)
    return operation in (1, 2) and owns(nic, sender)


def _ipv4(nic: Nic, packet: bytes) -> bool:
    source, destination = IPv4Address(packet[12:16]), IPv4Address(packet[16:20])
    first = int.from_bytes(packet[6:8], "big") & 0x1FFF == 0
    ports = packet[20:22], packet[22:24]
    is_udp = packet[9] == 17 and first
    if is_udp and ports[1] == (68).to_bytes(2, "big"):
        return False
    if is_udp and ports[1] == (67).to_bytes(2, "big") and packet[6] & 0x20:
        return False
    if not _may_say(nic, 4, packet[9], packet[20:] if first else None, IPv4Address(packet[16:20]).is_multicast):
        return False
    if free(nic, 4) or owns(nic, source):
        return True
    asks = is_udp and [int.from_bytes(port, "big") for port in ports] == [68, 67]
    return not barred(nic, 4) and asks and str(source) == "0.0.0.0" and str(destination) == "255.255.255.255"


def _may_say(nic: Nic, version: int, protocol: int, message: bytes | None, to_group: bool) -> bool:
    """Whether it is no control protocol, or one that NIC's guest may speak. Of a later fragment there is no MESSAGE."""
    said = nic.grants.control
    if protocol == 103 or (protocol == 2 and message and message[0] not in (0x12, 0x16, 0x17, 0x22)):
        return Control.MULTICAST_ROUTER in said
    none = all(free(nic, version) or barred(nic, version) for version in (4, 6))
    given = none or bool(nic.grants.addresses)
    port = int.from_bytes(message[2:4], "big") if protocol == 17 and message and to_group else 0
    if protocol == 112 or port in ((1985, 3222) if version == 4 else (2029,)):
        return given or Control.REDUNDANCY in said
    if protocol in (88, 89) or port == (520 if version == 4 else 521):
        return given or Control.ROUTING in said
    return port not in (319, 320) or given or Control.TIME in said


def _headers(packet: bytes) -> tuple[int, bytes, bool, bool]:
    """The upper protocol of an IPv6 PACKET, its payload, and whether it is a fragment, and a later one."""
    kind, at, piece, later = packet[6], 40, False, False
    while kind in (0, 43, 44, 60) and not later:
        if kind == 44:
            piece, later = True, int.from_bytes(packet[at + 2 : at + 4], "big") >> 3 > 0
        kind, at = packet[at], at + (8 if kind == 44 else 8 + 8 * packet[at + 1])
    return kind, packet[at:], piece, later


def _ipv6(nic: Nic, macs: set[str], packet: bytes) -> bool:
    source, destination = IPv6Address(packet[8:24]), IPv6Address(packet[24:40])
    kind, upper, piece, later = _headers(packet)
    if barred(nic, 6) or (kind == 17 and not later and upper[2:4] == (546).to_bytes(2, "big")):
        return False
    if piece and (source.is_link_local or destination.is_link_local or destination.is_multicast):
        return False
    if packet[4:6] == bytes(2) or not _may_say(nic, 6, kind, None if later else upper, destination.is_multicast):
        return False
    message = upper[0] if kind == 58 and not later else None
    if message in (134, 137) or (
        message in (130, 151, 152, 153) and Control.MULTICAST_ROUTER not in nic.grants.control
    ):
        return False
    nobody = source == IPv6Address("::")
    if _made_by_another(nic, source):
        return False
    if message in (133, 135, 136) and not _discovery(nic, macs, packet, upper, nobody):
        return False
    if free(nic, 6):
        return True
    if nobody:
        to_all = destination.is_multicast and destination.packed[1] == 2
        return message == 135 or (to_all and message in (131, 132, 133, 143))
    if source.is_link_local:
        return nic.grants.any_link_local or str(source) == eui64("fe80::/64", nic.mac)
    return owns(nic, source)


def _made_by_another(nic: Nic, address: IPv6Address) -> bool:
    """Whether ADDRESS is link-local and made of a MAC that is not NIC's. Where it has another reason to be free, its
    granted MACs make addresses too."""
    made = address in IPv6Network("fe80::/64") and address.packed[11:13] == b"\xff\xfe"
    return made and str(address) not in {eui64("fe80::/64", mac) for mac in (nic.mac, *nic.grants.macs)}


def _discovery(nic: Nic, macs: set[str], packet: bytes, message: bytes, nobody: bool) -> bool:
    head = 8 if message[0] == 133 else 24
    if int.from_bytes(packet[4:6], "big") > head + 8:
        return False
    target = IPv6Address(message[8:24]) if head == 24 else None
    about_itself = target is not None and (
        free(nic, 6)
        or owns(nic, target)
        or (target.is_link_local and (nic.grants.any_link_local or str(target) == eui64("fe80::/64", nic.mac)))
    )
    if nobody and message[0] == 135:
        return about_itself and not (target and _made_by_another(nic, target))
    if message[0] == 136 and target and _made_by_another(nic, target):
        return False
    option = message[head:]
    if len(option) >= 8 and option[2:8].hex(":") not in macs:
        return False
    return message[0] != 136 or about_itself


# Frames, and the same in words


def random_packet(chance: random.Random) -> tuple[bytes, str]:
    mac = chance.choice([*[MACS[0]] * 6, *MACS])
    groups = ["01:80:c2:00:00:00", "01:00:0c:cc:cc:cc", "01:1b:19:00:00:00", "33:33:00:00:00:01", "01:00:5e:00:00:05"]
    to = chance.choice([*["02:00:00:00:00:09"] * 16, *groups, "ff:ff:ff:ff:ff:ff"])
    kind = chance.choices(["arp", "rarp", "ip4", "ip6", "other"], [3, 1, 5, 8, 0.5])[0]
    ethertype, payload, words = _RANDOM[kind](chance)
    return ether(mac, to, ethertype, payload), f"mac={mac} to-mac={to} {words}"


def _random_arp(chance: random.Random) -> tuple[int, bytes, str]:
    operation, mac = chance.choice([1, 1, 2, 2, 3, 8]), chance.choice([*[MACS[0]] * 3, *MACS])
    sender, target = chance.choice(FOUR), chance.choice(FOUR)
    words = f"arp={operation} sender-mac={mac} sender={sender} target={target}"
    return 0x0806, arp_packet(operation, mac, sender, target), words


def _random_rarp(chance: random.Random) -> tuple[int, bytes, str]:
    operation, mac = chance.choice([3, 3, 4]), chance.choice(MACS)
    return 0x8035, arp_packet(operation, mac, "0.0.0.0", "0.0.0.0"), f"rarp={operation} sender-mac={mac}"


def _random_other(chance: random.Random) -> tuple[int, bytes, str]:
    kind = chance.choice([0x8863, 0x88CC, 0x8847, 0x0842])
    return kind, bytes(46), f"ether={kind:#06x}"


def _random_ip4(chance: random.Random) -> tuple[int, bytes, str]:
    source, target = chance.choice(FOUR), chance.choice(FOUR)
    sport, dport = chance.choice([67, 68, 4000]), chance.choice([67, 68, 4000, 4000, 320, 520, 1985, 3222])
    part = chance.choice(["no", "no", "no", "first", "later"])
    protocol, body, words = chance.choice(
        [
            (17, udp(source, target, sport, dport, bytes(24)), f"proto=udp sport={sport} dport={dport}"),
            (2, bytes([0x11, *bytes(31)]), "proto=igmp type=17"),
            (2, bytes([0x16, *bytes(31)]), "proto=igmp type=22"),
            (6, bytes(32), "proto=tcp"),
            *((kind, bytes(32), f"proto={kind}") for kind in (1, 89, 103, 112)),
        ]
    )
    packet = ip4(source, target, protocol, body, offset=64 if part == "later" else 0, more=part == "first")
    return 0x0800, packet, f"from={source} to={target} fragment={part} {words}"


def _random_ip6(chance: random.Random) -> tuple[int, bytes, str]:
    source, target = chance.choice(SIX), chance.choice(SIX)
    part = chance.choice(["no"] * 6 + ["first", "later"])
    extensions = [(kind, OPTIONS) for kind in (HOP_BY_HOP, DESTINATION) if chance.random() < 0.15]
    if part != "no":
        extensions.append(fragment(64 if part == "later" else 0, more=True))
    protocol, body, words = _random_upper(chance, source, target)
    packet = ip6(source, target, protocol, body, *extensions)
    words = f"from={source} to={target} fragment={part} length={len(packet) - 40} {words}"
    return 0x86DD, packet, words


def _random_upper(chance: random.Random, source: str, target: str) -> tuple[int, bytes, str]:
    if chance.random() < 0.3:
        sport, dport = chance.choice([546, 547, 4000]), chance.choice([546, 547, 4000])
        return 17, udp(source, target, sport, dport, bytes(24)), f"proto=udp sport={sport} dport={dport}"
    if chance.random() < 0.1:
        other = chance.choice([89, 103, 112])
        return other, bytes(32), f"proto={other}"
    kind = chance.choice([151, 153, 128, 129, 130, 131, 132, 133, 134, 135, 135, 135, 136, 136, 136, 137, 143])
    about, mac = chance.choice(SIX), chance.choice([None, None, MACS[0], *MACS])
    options = [source_mac(mac)] if mac else []
    words = f"proto=icmp6 type={kind}" + (f" nd-mac={mac}" if mac else "")
    if kind in (135, 136):
        rest = (solicitation if kind == 135 else advertisement)(about, *options)
        return 58, icmp6(source, target, kind, rest), f"{words} nd-target={about}"
    if kind == 133:
        return 58, icmp6(source, target, kind, bytes(4) + b"".join(options)), words
    return 58, icmp6(source, target, kind, bytes(20)), f"proto=icmp6 type={kind}"


_RANDOM = {
    "arp": _random_arp,
    "rarp": _random_rarp,
    "ip4": _random_ip4,
    "ip6": _random_ip6,
    "other": _random_other,
}


@pytest.fixture
def tap(stack: ExitStack) -> Tap:
    node = stack.enter_context(Node("node1"))
    tap = stack.enter_context(Tap(node))
    ip(node, f"link set {tap.name} up")
    return tap


def test_the_kernel_the_description_and_the_model_agree(tap: Tap, stack: ExitStack) -> None:
    seed = int(os.environ.get("SEED") or random.SystemRandom().getrandbits(32))
    chance = random.Random(seed)
    reasons: set[str] = set()
    for number in range(NICS):
        nic = random_nic(chance, tap.name)
        mark = 0x564900DE if nic.mode is Mode.ROUTED else None
        chain, rules = tap_filter.ingress(nic, mark), guard.rules(nic, mark)
        frames = [random_packet(chance) for _ in range(FRAMES)]
        found = tap.node.inside(partial(kernel, chain, tap, [frame for frame, _ in frames]))
        for (frame, words), decided in zip(frames, found, strict=True):
            context = f"SEED={seed}, NIC {number}: {nic}\n{words}\n{frame.hex()}"
            expected = decision(rules, described(words, nic))
            assert rules[decided].reason == expected.reason, context
            assert (expected.verdict is Verdict.ACCEPT) == may(nic, frame), context
            reasons.add(expected.reason)
    assert NICS * FRAMES >= 20_000
    assert len(reasons) > 20, "the frames are of too few kinds"


# The rules that most packets meet


def test_the_rules_for_usual_packets_decide_on_nothing(tap: Tap) -> None:
    """Without them, every frame has the same fate for the same reason."""
    seed = int(os.environ.get("SEED") or random.SystemRandom().getrandbits(32))
    chance = random.Random(seed)
    to = tap.node.path(f"/sys/class/net/{tap.name}/address").read_text().strip()
    shortened = 0
    for number in range(USUAL_NICS):
        nic = random_nic(chance, tap.name)
        nic = replace(nic, claims=tuple(map(IPv6Address, chance.sample(CLAIMS, chance.choice([0, 1, 2])))))
        mark = 0x564900DE if nic.mode is Mode.ROUTED else None
        whole, rules, quick = tap_filter.ingress(nic, mark), guard.rules(nic, mark), set(usual(nic))
        place = [at for at, rule in enumerate(rules) if rule not in quick]
        less = replace(whole, rules=tuple(whole.rules[at] for at in place))
        frames = [mutated(chance, nic, to) for _ in range(FRAMES)]
        found, expected = (tap.node.inside(partial(kernel, chain, tap, frames)) for chain in (whole, less))
        for frame, one, other in zip(frames, found, expected, strict=True):
            shown = f"SEED={seed}, NIC {number}: {nic}\n{frame.hex()}\n{whole.rules[one].text}"
            decided = rules[place[other]]
            assert (rules[one].verdict, rules[one].reason) == (decided.verdict, decided.reason), shown
        shortened += sum(rules[one] in quick for one in found)
    assert USUAL_NICS * FRAMES // 10 < shortened < USUAL_NICS * FRAMES // 2, "too few, or too few others"


USUAL_NICS = 60
CLAIMS = ["2001:db8:1::99", "2001:db8:1::7:1", "fe80::99"]
PORTS = [*range(63, 73), 319, 320, 520, 521, 545, 546, 547, 1985, 2029, 3222, 4000]
HEADERS = [0, 2, 43, 44, 50, 51, 58, 60, 88, 89, 103, 112, 135, 139, 140]
"""Protocols that rules know, and IPv6's headers before others."""


def mutated(chance: random.Random, nic: Nic, to: str) -> bytes:
    """A frame of NIC's guest, of whose fields some are not as usual. TO is the tap's MAC."""

    def odd() -> bool:
        return chance.random() < 0.12

    version = chance.choice([4, 6])
    own = [str(one.network_address) for one in nic.networks(version)] or [["10.0.0.16", SIX[0]][version == 6]]
    source = chance.choice([FOUR, [*SIX, *CLAIMS]][version == 6]) if odd() else chance.choice(own)
    target = chance.choice([FOUR, SIX][version == 6]) if odd() else ["192.0.2.9", "2001:db8:2::9"][version == 6]
    protocol = chance.choice([*range(256), *HEADERS * 9]) if odd() else chance.choice([6, 17])
    sport, dport = (chance.choice(PORTS) if odd() else 4000 for _ in range(2))
    upper = bytearray(udp(source, target, sport, dport, chance.randbytes(40)))
    if odd():
        upper[0] = chance.choice([0x11, 0x12, 0x16, 130, 133, 134, 135, 136, 137, 143, 151])
    if version == 4:
        offset, more = (chance.choice([(0, True), (8, False), (64, True)])) if odd() else (0, False)
        packet = bytearray(ip4(source, target, protocol, bytes(upper), offset=offset, more=more))
        if odd():
            packet[0] = chance.choice([0x44, 0x46, 0x4F, 0x55, 0x65, chance.randrange(256)])
    else:
        extensions = [(kind, OPTIONS) for kind in (HOP_BY_HOP, DESTINATION) if odd()]
        extensions += [fragment(chance.choice([0, 64]), more=True)] if odd() else []
        packet = bytearray(ip6(source, target, protocol, bytes(upper), *extensions))
    if odd():
        at = 2 if version == 4 else 4
        packet[at : at + 2] = chance.choice([0, 20, 28, len(packet), 0xFFFF]).to_bytes(2, "big")
    other = "02:00:00:00:00:09"
    groups = ["33:33:00:00:00:01", "01:00:5e:00:00:05", "01:80:c2:00:00:00", "ff:ff:ff:ff:ff:ff"]
    station = to if nic.mode is Mode.ROUTED else other
    if odd():
        station = chance.choice([to, other, *groups])
    kind = chance.choice([0x0800, 0x86DD, 0x0806, 0x88CC]) if odd() else [0x0800, 0x86DD][version == 6]
    tags = b"".join(chance.choice([b"\x81\0\0\x05", b"\x88\xa8\0\x05"]) for _ in range(3) if odd())
    frame = ether(chance.choice(MACS) if odd() else nic.mac, station, kind, bytes(packet))
    frame = frame[:12] + tags + frame[12:]
    return frame[: chance.randrange(20, len(frame))] if odd() else frame


def kernel(chain: Chain, tap: Tap, frames: list[bytes]) -> list[int]:
    """The number of the rule of CHAIN that decides on each of FRAMES, sent from TAP."""
    with closing(Nftables()) as nftables, closing(filters.netfilter()) as query:
        nftables.perform(Make(chain))
        before = _counts(query, chain)
        found = []
        for frame in frames:
            tap.send(frame)
            after = _counts(query, chain)
            changed = [number for number, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
            assert len(changed) == 1, frame.hex()
            found += changed
            before = after
        nftables.perform(Remove(chain))
    return found


def _counts(query: filters.Query, chain: Chain) -> list[int]:
    return [one.packets or 0 for one in filters.counted(query, chain.family, chain.name)]
