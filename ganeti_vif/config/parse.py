# SPDX-License-Identifier: BSD-2-Clause
"""Parse the configuration file. Every error names file and line, what is wrong and what would be right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ganeti_vif.config import profiles, values
from ganeti_vif.config.clashes import clashes
from ganeti_vif.config.model import (
    CLAIMS,
    MOST_CONNECTIONS,
    Bindings,
    Config,
    Conntrack,
    Consumer,
    Dhcpv6,
    For,
    LinkLocal,
    Private,
    Public,
    Responder,
    Told,
    VlanUplink,
)
from ganeti_vif.config.section import Parser, Section, sections_of
from ganeti_vif.config.source import PATH, Source, read

VLANS, VNIS = range(1, 4095), range(1, 1 << 24)

_TOLD: Mapping[str, Parser] = {
    "lease-time": values.integer(60, 0xFFFFFFFE),
    "renewal-time": values.integer(1, 0xFFFFFFFE),
    "rebinding-time": values.integer(1, 0xFFFFFFFE),
    "nameservers": values.addresses,
    "domain": values.domain,
    "search": values.domains,
    "ra-period": values.integer(4, 1800),
    "dhcpv6": values.one_of(Dhcpv6),
    "ipv6-only": values.integer(300, 0xFFFFFFFF),
}
_PRIVATE: Mapping[str, Parser] = {
    "bridges": values.numbers,
    "uplink": values.uplink,
    "mtu": values.integer(68, 65535),
    **_TOLD,
    "link-local": values.one_of(LinkLocal),
    "claims": values.integer(0, 64),
}
_PUBLIC: Mapping[str, Parser] = {
    "table": values.integer(1, 0xFFFFFFFF),
    "uplink": values.device,
    "subnets": values.subnets,
    "gateways": values.gateways,
    "arp-source": values.ipv4,
    **_TOLD,
    "link-local": values.one_of(LinkLocal),
    "claims": values.integer(0, 64),
    "node-access": values.truth,
    "conntrack": values.one_of(Conntrack),
    "connections": values.integer(0, 1000000),
}
_BINDINGS: Mapping[str, Parser] = {
    "directory": values.directory,
    "for": values.one_of(For),
    "consumer": values.one_of(Consumer),
}
_RESPONDER: Mapping[str, Parser] = {"enabled": values.truth, "rate": values.integer(1, 100000), **_TOLD}
_DAEMON: Mapping[str, Parser] = {"verbose": values.truth}
EXAMPLES: Mapping[str, str] = {
    "bridges": "1-100,200",
    "mtu": "1500",
    "claims": "16",
    "table": "222",
    "subnets": "192.0.2.0/24 2001:db8::/64",
    "gateways": "192.0.2.1 2001:db8::1",
    "arp-source": "192.0.2.254",
    "directory": "/var/lib/nfdhcpd",
    "rate": "50",
    "connections": "4096",
    "lease-time": "604800",
    "renewal-time": "3600",
    "rebinding-time": "529200",
    "nameservers": "192.0.2.53 2001:db8::53",
    "domain": "example.com",
    "search": "a.example.com b.example.com",
    "ra-period": "300",
    "ipv6-only": "1800",
}
"""A correct value for each key whose parser does not list the possible values in its error."""
RESERVED_TABLES = {0: "unspec", 253: "default", 254: "main", 255: "local"}


def load(path: str = PATH) -> Config:
    """The configuration in the file at PATH, with the profiles beside it. Raises Failure if unreadable or wrong."""
    return config_of(read(path))


def config_of(source: Source) -> Config:
    """The configuration that SOURCE describes. Raises Failure if it is wrong."""
    return replace(parse(source.text, source.path), profiles=profiles.profiles_of(source.profiles))


def parse(text: str, path: str = PATH) -> Config:
    """The configuration in TEXT. Errors name it PATH. Raises Failure if it is wrong."""
    sections = sections_of(text, path)
    responder = next((_responder(s) for s in sections if s.kind == "responder"), Responder())
    config = Config(
        private=tuple(private_of(s.word, s, responder.told) for s in sections if s.kind == "private"),
        public=tuple(_public(s, responder.told) for s in sections if s.kind == "public"),
        bindings=next((_bindings(s) for s in sections if s.kind == "bindings"), Bindings()),
        responder=responder,
        verbose=any(s.values(_DAEMON, EXAMPLES).get("verbose", False) for s in sections if s.kind == "daemon"),
    )
    for clash in clashes(config):
        section = [s for s in sections if (s.kind, s.word) == (clash.kind, clash.word)][-1]
        raise section.failure(clash.key, clash.what, clash.do)
    return config


def restricted(family: Private | None, prefix: str, ranges: str, uplink: str | None, mtu: str | None) -> Private:
    """The private networks PREFIX in RANGES, by FAMILY if the configuration has one. The flags UPLINK and MTU override
    it. Raises Failure if a value is wrong."""
    given = {"bridges": ranges, "uplink": uplink or "none"} | ({"mtu": mtu} if mtu else {})
    section = Section(f"private {prefix}", given, f"--private {prefix}={ranges}", {})
    private = private_of(prefix, section)
    if family is None:
        return private
    kept = replace(family, numbers=private.numbers)
    kept = replace(kept, uplink=private.uplink) if uplink else kept
    kept = replace(kept, mtu=private.mtu) if mtu else kept
    _verify_devices(kept, section)
    return kept


def private_of(prefix: str, section: Section, told: Told | None = None) -> Private:
    """The private networks PREFIX by SECTION. TOLD has the values for guests that SECTION does not give.

    Raises Failure if a value is missing or wrong.
    """
    given = section.values(_PRIVATE, EXAMPLES, ["bridges"])
    private = Private(
        prefix=prefix,
        numbers=given["bridges"],
        uplink=given.get("uplink"),
        mtu=given.get("mtu"),
        told=_told(section, given, told or Told()),
        link_local=given.get("link-local", LinkLocal.EUI64),
        claims=given.get("claims", CLAIMS),
    )
    _verify_devices(private, section)
    return private


def _verify_devices(private: Private, section: Section) -> None:
    """Raises Failure if the kernel would refuse the name or number of a device of PRIVATE."""
    try:
        for name in private.devices:
            values.device(name)
    except ValueError as error:
        raise section.failure("bridges", str(error), "choose a shorter prefix or smaller numbers") from error
    for number in private.numbers if private.uplink else ():
        kind, allowed = ("VLAN", VLANS) if isinstance(private.uplink, VlanUplink) else ("VNI", VNIS)
        if private.uplink and private.uplink.offset + number not in allowed:
            what = f"{private.prefix}{number} would have {kind} {private.uplink.offset + number}"
            raise section.failure("uplink", f"{what}, which is not in {allowed[0]}-{allowed[-1]}", "mend the offset")


def _public(section: Section, told: Told) -> Public:
    given = section.values(_PUBLIC, EXAMPLES, ["table", "uplink", "subnets"])
    try:
        values.link(section.word)
    except ValueError as error:
        raise section.failure("", str(error), "choose a name of letters, digits and _ . + -") from error
    public = Public(
        name=section.word,
        table=given["table"],
        uplink=given["uplink"],
        subnets=given["subnets"],
        gateways=given.get("gateways", ()),
        arp_source=given.get("arp-source"),
        told=_told(section, given, told),
        link_local=given.get("link-local", LinkLocal.ANY),
        claims=given.get("claims", CLAIMS),
        node_access=given.get("node-access", False),
        conntrack=given.get("conntrack", Conntrack.AUTO),
        connections=given.get("connections", MOST_CONNECTIONS),
    )
    if public.table in RESERVED_TABLES:
        what = f"table {public.table} is the kernel's own ({RESERVED_TABLES[public.table]})"
        raise section.failure("table", what, "choose a number that `ip route show table all` does not use")
    if public.arp_source and 4 not in public.versions:
        raise section.failure("arp-source", "arp-source without an IPv4 subnet", "add the subnet, or leave it out")
    for version in (4, 6):
        if len([gateway for gateway in public.gateways if gateway.version == version]) > 1:
            raise section.failure("gateways", f"more than one IPv{version} gateway", "leave one of them")
        if public.gateway(version) and version not in public.versions:
            raise section.failure("gateways", f"an IPv{version} gateway without an IPv{version} subnet", "add it")
    return public


def _bindings(section: Section) -> Bindings:
    given = section.values(_BINDINGS, EXAMPLES)
    renamed = {"for": "wanted_for"}
    return Bindings(**{renamed.get(key, key): value for key, value in given.items()})


def _responder(section: Section) -> Responder:
    given = section.values(_RESPONDER, EXAMPLES)
    own = {key: given[key] for key in ("enabled", "rate") if key in given}
    return Responder(told=_told(section, given, Told()), **own)


def _told(section: Section, given: Mapping[str, Any], general: Told) -> Told:
    """GIVEN's values, and GENERAL's for the rest. A lease time in GIVEN also gives renewal and rebinding times."""
    said = {key.replace("-", "_"): value for key, value in given.items() if key in _TOLD}
    if "lease_time" in said:
        lease = said["lease_time"]
        said = {"renewal_time": min(3600, lease // 2), "rebinding_time": lease * 7 // 8} | said
    told = replace(general, **said)
    for key, more in (("renewal-time", told.rebinding_time), ("rebinding-time", told.lease_time)):
        if getattr(told, key.replace("-", "_")) >= more:
            what = f"{key} is not before {'rebinding-time' if key == 'renewal-time' else 'lease-time'}, {more}"
            raise section.failure(key, what, "renewal-time < rebinding-time < lease-time, or leave out the first two")
    return told
