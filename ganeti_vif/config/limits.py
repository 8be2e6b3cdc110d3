# SPDX-License-Identifier: BSD-2-Clause
"""Limits of one NIC as data: bits and packets a second in each direction, and frames that all others must look at.

The same words say them in the configuration, in tags and in records.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, TypeVar

T = TypeVar("T")
NONE = "none"
LOWEST, HIGHEST = 64_000, 100_000_000_000
"""Bits a second. With a lower rate a guest cannot be reached in any useful time. With a higher one the kernel's
arithmetic overflows (nft_limit_init() in net/netfilter/nft_limit.c)."""
MOST_PACKETS = 100_000_000
MOST_FRAMES = 1_000_000
LONGEST_BURST = 60
"""Seconds. The kernel holds the length of a burst in 32 bits, in units of 64 ns."""
_UNITS = {"": 1, "k": 1000, "M": 1000**2, "G": 1000**3}
_NUMBER = re.compile(r"([0-9]{1,12})([kMG]?)")


class Rate(NamedTuple):
    """BITS a second, and BURST more bytes at once (0: as few as possible)."""

    bits: int
    burst: int = 0

    @property
    def bytes(self) -> int:
        """Bytes a second."""
        return self.bits // 8


class PacketRate(NamedTuple):
    """PACKETS a second, and BURST of them at once."""

    packets: int
    burst: int


Rates = tuple[Rate | None, Rate | None]
PacketRates = tuple[PacketRate | None, PacketRate | None]
"""Towards the guest, and from it. None: no limit."""


class Flood(Enum):
    """Kinds of frames that others must look at, whoever they are for. One guest sends only so many a second."""

    ARP = "arp"
    DISCOVERY = "nd"
    DHCP = "dhcp"
    BROADCAST = "broadcast"
    MULTICAST = "multicast"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of a NIC, or what one place says of them: None, or a kind that is not in FLOODS, if it says nothing.

    FLOODS are frames a second, and twice as many at once; 0 for no limit.
    """

    rate: Rates | None = None
    packets: PacketRates | None = None
    floods: tuple[tuple[Flood, int], ...] = ()

    def flood(self, kind: Flood) -> int:
        """How many frames of KIND the guest may send a second; 0 for no limit."""
        return dict(self.floods).get(kind, 0)


USUAL = Limits(
    floods=(
        (Flood.ARP, 500),
        (Flood.DISCOVERY, 500),
        (Flood.DHCP, 100),
        (Flood.BROADCAST, 1000),
        (Flood.MULTICAST, 2000),
    )
)
"""What holds where nobody says anything else. docs/guard.md gives the reason for each number."""


def merged(first: Limits, second: Limits) -> Limits:
    """FIRST, and SECOND where FIRST says nothing."""
    floods = dict(second.floods) | dict(first.floods)
    return Limits(
        rate=second.rate if first.rate is None else first.rate,
        packets=second.packets if first.packets is None else first.packets,
        floods=tuple((kind, floods[kind]) for kind in Flood if kind in floods),
    )


def rates(text: str) -> Rates:
    """`IN/OUT`, or one value for both. Each is `none` or BITS[+BURST]: `100M`, `1G+4M` (the burst in bytes).

    Raises ValueError.
    """
    return _both(text, _rate)


def packet_rates(text: str) -> PacketRates:
    """`IN/OUT`, or one value for both. Each is `none` or PACKETS[+BURST]: `20k`, `20k+5k`. Raises ValueError."""
    return _both(text, _packet_rate)


def floods(text: str) -> tuple[tuple[Flood, int], ...]:
    """Kinds and frames a second, separated by blanks: `arp 500 multicast 0`. Raises ValueError."""
    words = text.replace(",", " ").split()
    if not words or len(words) % 2:
        raise ValueError(f"'{text}' is not of the form KIND NUMBER, as in: arp 500")
    found = [flood(kind, number) for kind, number in zip(words[::2], words[1::2], strict=True)]
    if len({kind for kind, _ in found}) < len(found):
        raise ValueError(f"'{text}' names a kind twice")
    return tuple(found)


def flood(kind: str, number: str) -> tuple[Flood, int]:
    """A kind of frames, and how many of them a second. Raises ValueError."""
    if kind not in {one.value for one in Flood}:
        raise ValueError(f"'{kind}' is none of {', '.join(one.value for one in Flood)}")
    return Flood(kind), _counted(number, 0, MOST_FRAMES)


def rates_text(both: Rates) -> str:
    """BOTH as rates() reads it."""
    return "/".join(_with_burst(one.bits, one.burst) if one else NONE for one in both)


def packet_rates_text(both: PacketRates) -> str:
    """BOTH as packet_rates() reads it."""
    return "/".join(_with_burst(one.packets, one.burst) if one else NONE for one in both)


def floods_text(kinds: tuple[tuple[Flood, int], ...]) -> str:
    """KINDS as floods() reads it."""
    return " ".join(f"{kind.value} {number}" for kind, number in kinds)


def _both(text: str, parse: Callable[[str], T | None]) -> tuple[T | None, T | None]:
    words = text.split("/")
    if len(words) > 2:
        raise ValueError(f"'{text}' is not of the form IN/OUT")
    return parse(words[0]), parse(words[-1])


def _rate(text: str) -> Rate | None:
    if text == NONE:
        return None
    number, plus, burst = text.partition("+")
    bits = _number(number)
    if bits is None or not LOWEST <= bits <= HIGHEST:
        raise ValueError(f"'{number}' is neither {NONE} nor a rate from 64k to 100G bits a second, as 100M")
    rate = Rate(bits, _counted(burst, 1, HIGHEST // 8) if plus else 0)
    if rate.burst > rate.bytes * LONGEST_BURST:
        raise ValueError(f"a burst of {burst} bytes takes more than {LONGEST_BURST} seconds at {number} bits a second")
    return rate


def _packet_rate(text: str) -> PacketRate | None:
    if text == NONE:
        return None
    number, plus, burst = text.partition("+")
    packets = _number(number)
    if packets is None or not 1 <= packets <= MOST_PACKETS:
        raise ValueError(f"'{number}' is neither {NONE} nor a number of packets a second from 1 to 100M, as 20k")
    return PacketRate(packets, _counted(burst, 1, MOST_PACKETS) if plus else max(1, packets // 10))


def _counted(text: str, low: int, high: int) -> int:
    number = _number(text)
    if number is None or not low <= number <= high:
        raise ValueError(f"'{text}' is no number from {low} to {high}")
    return number


def _number(text: str) -> int | None:
    match = _NUMBER.fullmatch(text)
    return int(match[1]) * _UNITS[match[2]] if match else None


def _with_burst(number: int, burst: int) -> str:
    return f"{_short(number)}+{_short(burst)}" if burst else _short(number)


def _short(number: int) -> str:
    unit, size = next((unit, size) for unit, size in reversed(_UNITS.items()) if number % size == 0)
    return f"{number // size}{unit}" if number else "0"
