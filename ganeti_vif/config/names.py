# SPDX-License-Identifier: BSD-2-Clause
"""Parse [names]: where the names of instances are written."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address

from ganeti_vif.config import values
from ganeti_vif.config.model import Names
from ganeti_vif.config.section import Parser, Section

HIDDEN = ("/boot", "/dev", "/efi", "/etc", "/home", "/proc", "/root", "/run/user", "/sys", "/tmp", "/usr", "/var/tmp")
"""Where the daemon's unit lets it write no file that others see (systemd.exec(5): ProtectSystem=full, ProtectHome,
PrivateTmp, PrivateDevices)."""


def _file(text: str) -> str:
    """An absolute path of a file."""
    path = values.directory(text)
    if ".." in path.split("/") or text.endswith("/"):
        raise ValueError(f"'{text}' is no absolute path of a file")
    return path


def _writable(text: str) -> str:
    """The path of a file that the daemon can write and a DNS server can read."""
    path = _file(text)
    for place in HIDDEN:
        if path.startswith(f"{place}/"):
            raise ValueError(f"the daemon's unit forbids it to write below {place}")
    if path.rpartition("/")[2].startswith("."):
        raise ValueError(f"'{text}' begins with a dot, and servers overlook such a file")
    return path


def _server(text: str) -> IPv4Address | IPv6Address:
    """The address of a server, which may run on this node."""
    found = ip_address(text)
    return found if found.is_loopback and "%" not in text else values.address(text)


def _links(text: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(text.replace(",", " ").split()))
    if not found:
        raise ValueError("no link")
    return found


def _zone(text: str) -> str:
    return values.domain(text).lower()


def _reverse_zones(text: str) -> tuple[str, ...]:
    found = tuple(zone.lower() for zone in values.domains(text))
    for zone in found:
        if not zone.endswith((".in-addr.arpa", ".ip6.arpa")):
            raise ValueError(f"'{zone}' is no reverse zone such as 2.0.192.in-addr.arpa")
    return found


PARSERS: Mapping[str, Parser] = {
    "hosts-file": _writable,
    "server": _server,
    "zone": _zone,
    "reverse-zones": _reverse_zones,
    "key-file": _file,
    "ttl": values.integer(1, 604800),
    "links": _links,
    "ipv6": values.truth,
}
EXAMPLES: Mapping[str, str] = {
    "hosts-file": "/var/lib/ganeti-vif/names/hosts",
    "server": "192.0.2.53",
    "zone": "example.com",
    "reverse-zones": "2.0.192.in-addr.arpa 8.b.d.0.1.0.0.2.ip6.arpa",
    "key-file": "/etc/ganeti-vif/dns.key",
    "ttl": "300",
    "links": "public pvn1",
}


def names_of(section: Section) -> Names:
    """What SECTION says. Raises Failure if a value is wrong, or if one lacks another."""
    given = section.values(PARSERS, EXAMPLES)
    names = Names(**{key.replace("-", "_"): value for key, value in given.items()})
    if names.server is None:
        for key in ("zone", "reverse-zones", "key-file"):
            if key in given:
                raise section.failure(key, f"{key} without 'server'", "add a line, as: server = 192.0.2.53")
        return names
    if names.key_file is None:
        do = f"add a line, as: key-file = {EXAMPLES['key-file']}"
        raise section.failure("server", "server without 'key-file': an update needs a key (TSIG)", do)
    if names.zone is None and not names.reverse_zones:
        do = f"add a line, as: zone = {EXAMPLES['zone']}"
        raise section.failure("server", "server without 'zone' and without 'reverse-zones'", do)
    return names
