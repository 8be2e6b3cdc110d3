# SPDX-License-Identifier: BSD-2-Clause
"""What guests can be told besides their addresses: the parser of each key, and how one place overrides another.

The keys are the same in the sections of the configuration, in tags and in bindings. A tag cannot carry all characters:
in tags and bindings `+` stands for a blank, and `*XX` for the character with the hexadecimal number XX.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network
from typing import Any

from ganeti_vif.config import values
from ganeti_vif.config.model import Dhcpv6, Told

BOOT_CLIENTS: Mapping[str, frozenset[int]] = {
    "ipxe": frozenset(),
    "bios": frozenset({0}),
    "efi-ia32": frozenset({6}),
    "efi-x64": frozenset({7, 9}),
    "efi-arm64": frozenset({11}),
    "http-ia32": frozenset({15}),
    "http-x64": frozenset({16}),
    "http-arm64": frozenset({19}),
}
"""Firmware that can have a boot file of its own, and the numbers by which it names itself (RFC 4578, 2.1; the registry
"Processor Architecture Types" of RFC 5970). iPXE names itself by its user class."""
OWN_KEYS: Mapping[tuple[int, int], str] = {
    (4, 6): "nameservers",
    (4, 15): "domain",
    (4, 26): "mtu",
    (4, 42): "ntp",
    (4, 51): "lease-time",
    (4, 58): "renewal-time",
    (4, 59): "rebinding-time",
    (4, 66): "next-server",
    (4, 67): "boot-file",
    (4, 108): "ipv6-only",
    (4, 119): "search",
    (4, 121): "routes",
    (4, 150): "next-server",
    (4, 249): "routes",
    (6, 23): "nameservers",
    (6, 24): "search",
    (6, 31): "ntp",
    (6, 56): "ntp",
    (6, 59): "boot-file",
    (6, 60): "boot-parameters",
}
"""Options that have a key."""
PROTOCOL: Mapping[int, frozenset[int]] = {
    4: frozenset({0, 1, 3, 28, 50, 52, 53, 54, 55, 56, 57, 60, 61, 80, 82, 255}),
    6: frozenset({*range(1, 10), *range(11, 17), 18, 19, 20, 25, 26, 32, 61}),
}
"""Options of the protocol itself, or with what only Ganeti knows (RFC 2132, RFC 8415, 21)."""
LONGEST = 512
"""Bytes of an option by number. Every client accepts messages of 576 bytes (RFC 2131, 2)."""

_OPTION = re.compile(r"option(6?)-([1-9][0-9]{0,4})")
_TAG = re.compile(r"[A-Za-z0-9_.+*/:@-]*")
"""What Ganeti accepts in a tag (lib/objects.py:313 at 3.0.2), without letters of other languages."""
_ESCAPE = re.compile(r"\*([0-9A-Fa-f]{2})")
_WORD = re.compile(r"[!-~]{0,255}")


def _routes(text: str) -> tuple[tuple[IPv4Network, IPv4Address], ...]:
    """`PREFIX via ADDRESS`, any number of them, separated by blanks or commas. 0.0.0.0: the prefix is on the link."""
    words = text.replace(",", " ").split()
    if len(words) % 3 or any(via != "via" for via in words[1::3]):
        raise ValueError(f"'{text}' is not of the form PREFIX via ADDRESS")
    found = []
    for prefix, address in zip(words[::3], words[2::3], strict=True):
        network = ip_network(prefix)
        if not isinstance(network, IPv4Network):
            raise ValueError(f"'{prefix}' is no IPv4 prefix: IPv6 has routers, and no routes in DHCP")
        found.append((network, IPv4Address(0) if address == "0.0.0.0" else values.ipv4(address)))
    return tuple(found)


def _next_server(text: str) -> tuple[IPv4Address | IPv6Address, ...]:
    found = values.addresses(text)
    if len({one.version for one in found}) < len(found):
        raise ValueError(f"'{text}' is more than one address of an IP version")
    return found


def _boot_file(text: str) -> str:
    """A path or a URL. Nothing: there is no boot file, even if a place that this one overrides names one."""
    if not _WORD.fullmatch(text):
        raise ValueError(f"'{text}' is no path and no URL without blanks, of at most 255 characters")
    return text


def _boot_parameters(text: str) -> tuple[str, ...]:
    return tuple(_boot_file(word) for word in text.split())


FIXED: Mapping[str, Callable[[str], Any]] = {
    "lease-time": values.integer(60, 0xFFFFFFFE),
    "renewal-time": values.integer(1, 0xFFFFFFFE),
    "rebinding-time": values.integer(1, 0xFFFFFFFE),
    "nameservers": values.addresses,
    "domain": values.domain,
    "search": values.domains,
    "ra-period": values.integer(4, 1800),
    "dhcpv6": values.one_of(Dhcpv6),
    "ipv6-only": values.integer(300, 0xFFFFFFFF),
    "ntp": values.addresses,
    "routes": _routes,
    "next-server": _next_server,
    "boot-file": _boot_file,
    **{f"boot-file-{client}": _boot_file for client in BOOT_CLIENTS},
    "boot-parameters": _boot_parameters,
}
"""The keys in each section for guests, with their parsers. Besides them there are option-N and option6-N."""
MTU: Mapping[str, Callable[[str], Any]] = {"mtu": values.integer(68, 65535)}
"""A key for guests of a Ganeti network or of one NIC. In [private ...] the same word means the MTU of devices."""


def parser_of(key: str) -> Callable[[str], Any] | None:
    """The parser of KEY, or None if there is no such key. The parser raises ValueError."""
    if match := _OPTION.fullmatch(key):
        return _option(int(match[1] or 4), int(match[2]))
    return FIXED.get(key) or MTU.get(key)


def is_option(key: str) -> bool:
    """Whether KEY means an option by its number."""
    return bool(_OPTION.fullmatch(key))


def _option(version: int, number: int) -> Callable[[str], bytes]:
    def parse(text: str) -> bytes:
        if key := OWN_KEYS.get((version, number)):
            raise ValueError(f"that option has a key of its own: {key}")
        if number in PROTOCOL[version] or number > (254 if version == 4 else 65535):
            raise ValueError(f"{number} is no option that can be given here")
        kind, _, value = text.strip().partition(" ")
        found = _content(version, kind, value.strip())
        if len(found) > LONGEST:
            raise ValueError(f"more than {LONGEST} bytes")
        return found

    return parse


def _content(version: int, kind: str, value: str) -> bytes:
    """VALUE as bytes. Raises ValueError if it is not of this KIND."""
    match kind:
        case "text" if value and value.isascii() and value.isprintable():
            return value.encode("ascii")
        case "hex" if re.fullmatch(r"([0-9A-Fa-f]{2}[: ]?)+", value):
            return bytes.fromhex(value.replace(":", " "))
        case "addresses" if value:
            found = values.addresses(value)
            if any(one.version != version for one in found):
                raise ValueError(f"'{value}' are not IPv{version} addresses only")
            return b"".join(one.packed for one in found)
    raise ValueError(f"'{kind} {value}' is none of: text TEXT, hex 0A0B, addresses ADDRESS ...")


def from_tag(key: str, text: str) -> Any:
    """The value of KEY in the TEXT of a tag or a binding. Raises ValueError if there is no such key or it is wrong."""
    parser = parser_of(key)
    if parser is None:
        raise ValueError(f"there is no option '{key}'; there are {', '.join((*FIXED, *MTU))}, option-N, option6-N")
    return parser(plain(text))


def plain(text: str) -> str:
    """TEXT of a tag as the configuration would have it. Raises ValueError if a character or an escape is wrong.

    >>> plain("10.0.0.0/8+via+192.0.2.1"), plain("boot.php*3Fa*3D1")
    ('10.0.0.0/8 via 192.0.2.1', 'boot.php?a=1')
    """
    if not _TAG.fullmatch(text):
        raise ValueError("it has other characters than letters, digits and _ . + * / : @ -")
    if "*" in _ESCAPE.sub("", text):
        raise ValueError("after * come two hexadecimal digits, as in *2b for a plus")
    found = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text.replace("+", " "))
    if not (found.isascii() and found.isprintable()):
        raise ValueError("it has a character that cannot be printed")
    return found


def overlaid(general: Told, said: Mapping[str, Any], source: str) -> Told:
    """GENERAL, and over it what SOURCE says: SAID, typed values by key.

    A lease time also gives renewal and rebinding times. If times from different sources do not fit each other, these
    two follow from the lease time.
    """
    found = merged(general, said, source)
    if not found.renewal_time < found.rebinding_time < found.lease_time:
        return replace(found, **_times(found.lease_time))
    return found


def merged(general: Told, said: Mapping[str, Any], source: str) -> Told:
    """As overlaid(), but with the times as they were given."""
    fields = {key.replace("-", "_"): value for key, value in said.items() if key in FIXED or key in MTU}
    for key in [key for key in fields if key.startswith("boot_file")]:
        del fields[key]
    if "lease_time" in fields:
        fields = _times(fields["lease_time"]) | fields
    files, options, sources = dict(general.boot_files), dict(general.options), dict(general.sources)
    for key, value in said.items():
        sources[key] = source
        if match := _OPTION.fullmatch(key):
            options[int(match[1] or 4), int(match[2])] = value
        elif key.startswith("boot-file"):
            files[key.removeprefix("boot-file").removeprefix("-")] = value
    return replace(
        general,
        **fields,
        boot_files=tuple(sorted(files.items())),
        options=tuple(sorted(options.items())),
        sources=tuple(sources.items()),
    )


def _times(lease: int) -> dict[str, Any]:
    return {"renewal_time": min(3600, lease // 2), "rebinding_time": lease * 7 // 8}


def shown(told: Told) -> Iterator[tuple[str, str, str]]:
    """Each key that has a value, the value as a text, and its source; `default` if nobody said it."""
    sources = dict(told.sources)
    for key in (*FIXED, *MTU):
        if not key.startswith("boot-file") and (text := _text(getattr(told, key.replace("-", "_")))):
            yield key, text, sources.get(key, "default")
    for client, file in told.boot_files:
        key = f"boot-file-{client}" if client else "boot-file"
        if file:
            yield key, file, sources.get(key, "default")
    for (version, number), value in told.options:
        key = f"option{'6' if version == 6 else ''}-{number}"
        yield key, f"hex {value.hex()}", sources.get(key, "default")


def _text(value: object) -> str:
    match value:
        case None:
            return ""
        case Dhcpv6():
            return value.value
        case tuple():
            return " ".join(" via ".join(map(str, one)) if isinstance(one, tuple) else str(one) for one in value)
    return str(value)
