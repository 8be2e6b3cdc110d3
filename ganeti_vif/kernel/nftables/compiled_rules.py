# SPDX-License-Identifier: BSD-2-Clause
"""Compiled filter rules, made from libnftables' translation of another rule of the same shape.

The rules of two NICs differ in a MAC and a few addresses. So libnftables translates an example of each shape once. The
example has numbers in these places that occur nowhere else. The rule of a NIC is the translation with the NIC's values
in these places. A translation is not used if a place cannot be found for certain.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from ipaddress import ip_address, ip_network

from ganeti_vif.engine.chains import FilterRule

PREFIXED_HEXADECIMAL = "0x"
_MAC = re.compile("[0-9a-f]{2}(:[0-9a-f]{2}){5}")


@dataclass(frozen=True, slots=True)
class Shape:
    """The common part of rules that differ only in their own values. SIZES are the bytes of each open place in TEXT."""

    family: str
    text: str
    sizes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Translation:
    """The kernel's expressions for a shape. OPEN has the open places: (offset in bytes, number of the value)."""

    expressions: bytes
    open: tuple[tuple[int, int], ...]

    def rule(self, values: Sequence[bytes]) -> bytes:
        """The expressions of the rule with these VALUES."""
        if not values:
            return self.expressions
        result = bytearray(self.expressions)
        for offset, number in self.open:
            result[offset : offset + len(values[number])] = values[number]
        return bytes(result)


def shape(family: str, rule: FilterRule) -> Shape:
    """The shape of RULE."""
    if not rule.own:
        return Shape(family, rule.text, ())
    values = {word: f"{{{number}}}" for number, word in enumerate(rule.own)}
    text = " ".join(values.get(word, word) for word in rule.text.split(" "))
    return Shape(family, text, tuple(len(value) for value in own_values(rule)))


def own_values(rule: FilterRule) -> tuple[bytes, ...]:
    """The values that only RULE has, in network byte order."""
    return tuple(_packed(word) for word in rule.own)


def example(one: Shape, rule: FilterRule) -> str:
    """The text of a rule of this shape, with numbers that occur nowhere else, written as RULE's values are."""
    words = {f"{{{number}}}": _written(number, word) for number, word in enumerate(rule.own)}
    return " ".join(words.get(word, word) for word in one.text.split(" "))


def translation(one: Shape, expressions: bytes) -> Translation | None:
    """The translation of a shape. EXPRESSIONS are the kernel's for its example. None if a value is not found there."""
    places: list[tuple[int, int]] = []
    words = one.text.split(" ")
    for number, size in enumerate(one.sizes):
        found = list(_occurrences(_example(number, size), expressions))
        if len(found) != words.count(f"{{{number}}}"):
            return None
        places += ((offset, number) for offset in found)
    return Translation(expressions, tuple(places))


def _occurrences(what: bytes, where: bytes) -> Iterable[int]:
    at = where.find(what)
    while at >= 0:
        yield at
        at = where.find(what, at + len(what))


def _example(number: int, size: int) -> bytes:
    return blake2b(bytes([number]), digest_size=size).digest()


def _packed(word: str) -> bytes:
    if word.startswith(PREFIXED_HEXADECIMAL):
        return bytes.fromhex(word.removeprefix(PREFIXED_HEXADECIMAL))
    if _MAC.fullmatch(word):
        return bytes.fromhex(word.replace(":", ""))
    if "/" in word:
        network = ip_network(word)
        return network.network_address.packed[: network.prefixlen // 8]
    return ip_address(word).packed


def _written(number: int, word: str) -> str:
    """The example for a value, written as WORD is."""
    value = _example(number, len(_packed(word)))
    if word.startswith(PREFIXED_HEXADECIMAL):
        return PREFIXED_HEXADECIMAL + value.hex()
    if len(value) == 6:
        return value.hex(":")
    if "/" in word:  # libnftables compares whole bytes of a prefix only
        length = ip_network(word).max_prefixlen // 8
        return f"{ip_address(value.ljust(length, bytes(1)))}/{8 * len(value)}"
    return str(ip_address(value))
