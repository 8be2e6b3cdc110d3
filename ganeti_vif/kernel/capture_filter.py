# SPDX-License-Identifier: BSD-2-Clause
"""Socket filters for captures, in classic BPF (kernel doc networking/filter): what is not captured wakes nobody."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

ETH_P_ALL, ETH_P_ARP, ETH_P_RARP, ETH_P_IPV6 = 3, 0x0806, 0x8035, 0x86DD
Instruction = tuple[int, int, int, int]
"""Code, jump if true, jump if false, value (struct sock_filter, linux/filter.h)."""
Filter = Sequence[Instruction]
_ACCEPT, _DROP = (0x06, 0, 0, 256), (0x06, 0, 0, 0)
_GRATUITOUS = (
    (0x20, 0, 0, 28),  # ld [28]: the sender's protocol address
    (0x07, 0, 0, 0),  # tax
    (0x20, 0, 0, 38),  # ld [38]: the target's
    (0x1D, 1, 0, 0),  # jeq x
    _DROP,
)
_ADVERTISEMENTS = (
    (0x28, 0, 0, 12),  # ldh [12]: the EtherType
    (0x15, 0, 10, ETH_P_IPV6),
    (0x30, 0, 0, 20),  # ldb [20]: the next header
    (0x15, 0, 8, 58),
    (0x30, 0, 0, 21),  # ldb [21]: the hop limit, which a router would have lowered (RFC 4861, 7.1.2)
    (0x15, 0, 6, 255),
    (0x20, 0, 0, 38),  # ld [38] and [50]: the destination, ff02::1, where nobody asked
    (0x15, 0, 4, 0xFF020000),
    (0x20, 0, 0, 50),
    (0x15, 0, 2, 1),
    (0x30, 0, 0, 54),  # ldb [54]: the type of ICMPv6
    (0x15, 1, 0, 136),
    _DROP,
)
_PROGRAMS: Mapping[int, tuple[Instruction, ...]] = {ETH_P_ARP: _GRATUITOUS, ETH_P_IPV6: _ADVERTISEMENTS}
"""What each protocol's frames have to be (kernel doc networking/filter): what is not dropped here comes to the end. An
uplink carries too many frames to capture all."""
_SUBJECTS = {ETH_P_ARP: 28, ETH_P_RARP: 22, ETH_P_IPV6: 62}
"""Where a frame of each protocol has the address or the MAC that it is about."""
_DEVICE = 0xFFFFF000 + 8
"""SKF_AD_OFF + SKF_AD_IFINDEX (linux/filter.h): the ifindex of the device that a frame came in by."""
_QUESTION = (
    (0x28, 0, 0, 20),  # ldh [20]: the operation
    (0x15, 1, 0, 1),  # jeq a question
    _DROP,
    (0x20, 0, 0, 28),  # ld [28]: the sender's protocol address
    (0x15, 1, 0, 0),  # jeq 0.0.0.0
    _DROP,
)


def of(protocol: int, subjects: Collection[bytes], index: int) -> Filter:
    """What the device INDEX itself gets of PROTOCOL, and is about one of SUBJECTS; about anything if there are none."""
    lines = [(0x20, 0, 0, _DEVICE), (0x15, 1, 0, index), _DROP, *_PROGRAMS.get(protocol, ())]
    for subject in subjects:
        lines += _about(subject, _SUBJECTS[protocol])
    return [*lines, _DROP if subjects else _ACCEPT]


def _about(subject: bytes, at: int) -> list[Instruction]:
    """Accept a frame that has SUBJECT from the byte AT on, and go on if it has not."""
    parts = [subject[i : i + 4] for i in range(0, len(subject), 4)]
    lines: list[Instruction] = []
    for number, part in enumerate(parts):
        load = 0x20 if len(part) == 4 else 0x28  # ld or ldh
        lines += [(load, 0, 0, at + 4 * number), (0x15, 0, 2 * (len(parts) - number) - 1, int.from_bytes(part, "big"))]
    return [*lines, _ACCEPT]


def about(address: IPv6Address) -> Filter:
    """The filter for neighbour discovery about ADDRESS: solicitations and advertisements with it as their target."""
    words = struct.unpack("!4I", address.packed)
    checks = [
        (0x28, 12, ETH_P_IPV6),
        (0x30, 20, 58),
        (0x30, 21, 255),
        *((0x20, 62 + 4 * number, word) for number, word in enumerate(words)),
    ]
    lines: list[Instruction] = []
    for number, (load, at, value) in enumerate(checks):
        to_the_end = 2 * (len(checks) - number) + 2
        lines += [(load, 0, 0, at), (0x15, 0, to_the_end, value)]
    return (*lines, (0x30, 0, 0, 54), (0x15, 1, 0, 135), (0x15, 0, 1, 136), _ACCEPT, _DROP)


def solicitations(prefix: IPv6Network) -> Filter:
    """The filter for neighbour solicitations of addresses in PREFIX."""
    lines = [(0x28, 12, None, ETH_P_IPV6), (0x30, 20, None, 58), (0x30, 21, None, 255), (0x30, 54, None, 135)]
    words, masks = (struct.unpack("!4I", one.packed) for one in (prefix.network_address, prefix.netmask))
    checks = [*lines, *((0x20, 62 + 4 * at, masks[at], words[at]) for at in range(4) if masks[at])]
    found: list[Instruction] = []
    for load, at, mask, value in checks:
        found.append((load, 0, 0, at))
        found += [(0x54, 0, 0, mask)] if mask is not None else []  # and
        found += [(0x15, 1, 0, value), _DROP]  # jeq
    return (*found, _ACCEPT)


def probes(subnets: Iterable[IPv4Network]) -> Filter:
    """The filter for ARP probes of addresses in SUBNETS: questions whose sender has no address yet (RFC 5227)."""
    lines = list(_QUESTION)
    for subnet in subnets:
        lines += [
            (0x20, 0, 0, 38),  # ld [38]: the target's protocol address
            (0x54, 0, 0, int(subnet.netmask)),  # and
            (0x15, 0, 1, int(subnet.network_address)),  # jeq
            _ACCEPT,
        ]
    return (*lines, _DROP)


def senders(subnets: Iterable[IPv4Network], but: Iterable[IPv4Address] = ()) -> Filter:
    """The filter for ARP whose sender says that it has an address in SUBNETS, and none of those in BUT."""
    lines: list[Instruction] = [(0x20, 0, 0, 28)]  # ld [28]: the sender's protocol address
    for address in but:
        lines += [(0x15, 0, 1, int(address)), _DROP]
    for subnet in subnets:
        lines += _within(28, subnet)
    return (*lines, _DROP)


def advertised(subnets: Iterable[IPv6Network]) -> Filter:
    """The filter for neighbour advertisements of addresses in SUBNETS, asked for or not."""
    lines: list[Instruction] = []
    for load, at, value in ((0x30, 20, 58), (0x30, 21, 255), (0x30, 54, 136)):
        lines += [(load, 0, 0, at), (0x15, 1, 0, value), _DROP]
    for subnet in subnets:
        lines += _within(62, subnet)
    return (*lines, _DROP)


def _within(at: int, subnet: IPv4Network | IPv6Network) -> list[Instruction]:
    """Accept a frame that has an address of SUBNET from the byte AT on, and go on if it has not."""
    words = struct.iter_unpack("!I", subnet.network_address.packed)
    masks = struct.iter_unpack("!I", subnet.netmask.packed)
    parts = [(word, mask) for (word,), (mask,) in zip(words, masks, strict=True) if mask]
    lines: list[Instruction] = []
    for number, (word, mask) in enumerate(parts):
        to_the_end = 3 * (len(parts) - number - 1) + 1
        lines += [(0x20, 0, 0, at + 4 * number), (0x54, 0, 0, mask), (0x15, 0, to_the_end, word)]
    return [*lines, _ACCEPT]
