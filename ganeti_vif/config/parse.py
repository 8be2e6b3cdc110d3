# SPDX-License-Identifier: BSD-2-Clause
"""Parse the configuration file. Every error names file and line, what is wrong and what would be right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ganeti_vif.config import profiles, told, values
from ganeti_vif.config.clashes import clashes
from ganeti_vif.config.model import (
    CLAIMS,
    MOST_CONNECTIONS,
    Bindings,
    Config,
    Conntrack,
    Consumer,
    For,
    LinkLocal,
    OfNetwork,
    Part,
    Private,
    Public,
    Responder,
    Told,
    VlanUplink,
)
from ganeti_vif.config.section import Parser, Section, sections_of
from ganeti_vif.config.source import PATH, Source, read

VLANS, VNIS = range(1, 4095), range(1, 1 << 24)

_TOLD: Mapping[str, Parser] = told.FIXED
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
_PART: Mapping[str, Parser] = _TOLD
_NETWORK: Mapping[str, Parser] = {**_TOLD, **told.MTU}
_BINDINGS: Mapping[str, Parser] = {
    "directory": values.directory,
    "for": values.one_of(For),
    "consumer": values.one_of(Consumer),
}
_RESPONDER: Mapping[str, Parser] = {"enabled": values.truth, "rate": values.integer(1, 100000), **_TOLD}
_DAEMON: Mapping[str, Parser] = {"verbose": values.truth}
SECTIONS: Mapping[str, Mapping[str, Parser]] = {
    "private": _PRIVATE,
    "public": _PUBLIC,
    "bindings": _BINDINGS,
    "responder": _RESPONDER,
    "daemon": _DAEMON,
}
"""The keys of each kind of section, without those of options by number."""
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
    "ntp": "192.0.2.123 2001:db8::123",
    "routes": "10.0.0.0/8 via 192.0.2.1",
    "next-server": "192.0.2.69",
    "boot-file": "pxelinux.0",
    "boot-parameters": "one two",
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
        private=_families([s for s in sections if s.kind == "private"], responder.told),
        public=tuple(_public(s, responder.told) for s in sections if s.kind == "public"),
        bindings=next((_bindings(s) for s in sections if s.kind == "bindings"), Bindings()),
        responder=responder,
        networks=_networks([s for s in sections if s.kind == "network"]),
        verbose=any(s.values(_DAEMON, EXAMPLES).get("verbose", False) for s in sections if s.kind == "daemon"),
    )
    for clash in clashes(config):
        section = [s for s in sections if (s.kind, s.word) == (clash.kind, clash.word)][-1]
        raise section.failure(clash.key, clash.what, clash.do)
    return config


def _families(sections: list[Section], general: Told) -> tuple[Private, ...]:
    """The families of private networks, each with those parts that have sections of their own."""
    families = [private_of(s.word, s, general) for s in sections if " " not in s.word]
    for section in sections:
        prefix, _, ranges = section.word.partition(" ")
        if not ranges:
            continue
        at = next((at for at, one in enumerate(families) if one.prefix == prefix), None)
        if at is None:
            raise section.failure("", f"there is no [private {prefix}] that has a part {ranges}", "add that section")
        families[at] = replace(families[at], parts=(*families[at].parts, _part(section, families[at], ranges)))
    return tuple(families)


def _part(section: Section, family: Private, ranges: str) -> Part:
    try:
        numbers = frozenset(values.numbers(ranges))
    except ValueError as error:
        do = f"write numbers of its bridges, as: [private {family.prefix} 7,9-12]"
        raise section.failure("", str(error), do) from error
    if outside := sorted(numbers - set(family.numbers)):
        what = f"{family.prefix}{outside[0]} is no bridge of [private {family.prefix}]"
        raise section.failure("", what, "leave it out, or add it to 'bridges' there")
    if twice := sorted(number for part in family.parts for number in part.numbers & numbers):
        what = f"{family.prefix}{twice[0]} is in two sections for parts of [private {family.prefix}]"
        raise section.failure("", what, "leave it in one of them")
    return Part(numbers, _told(section, section.values(_with_options(_PART, section), EXAMPLES), family.told))


def _networks(sections: list[Section]) -> tuple[OfNetwork, ...]:
    found: dict[str, OfNetwork] = {}
    for section in sections:
        try:
            name = values.ganeti_network(section.word)
        except ValueError as error:
            raise section.failure("", str(error), "see: gnt-network list") from error
        if name in found:
            raise section.failure("", f"[network {name}] comes twice", "leave one of them")
        given = section.values(_with_options(_NETWORK, section), EXAMPLES)
        if "lease-time" in given:  # without it, the times are measured by a section that this one overrides
            _told(section, given, Told())
        found[name] = OfNetwork(name, tuple(given.items()))
    return tuple(found.values())


def _with_options(parsers: Mapping[str, Parser], section: Section) -> Mapping[str, Parser]:
    """PARSERS, and those of the options that SECTION gives by number."""
    numbered = {key: parser for key in section.given if told.is_option(key) and (parser := told.parser_of(key))}
    return {**parsers, **numbered}


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


def private_of(prefix: str, section: Section, general: Told | None = None) -> Private:
    """The private networks PREFIX by SECTION. GENERAL has the values for guests that SECTION does not give.

    Raises Failure if a value is missing or wrong.
    """
    given = section.values(_with_options(_PRIVATE, section), EXAMPLES, ["bridges"])
    private = Private(
        prefix=prefix,
        numbers=given["bridges"],
        uplink=given.get("uplink"),
        mtu=given.get("mtu"),
        told=_told(section, given, general or Told()),
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


def _public(section: Section, general: Told) -> Public:
    given = section.values(_with_options(_PUBLIC, section), EXAMPLES, ["table", "uplink", "subnets"])
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
        told=_told(section, given, general),
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
    given = section.values(_with_options(_RESPONDER, section), EXAMPLES)
    own = {key: given[key] for key in ("enabled", "rate") if key in given}
    return Responder(told=_told(section, given, Told()), **own)


def _told(section: Section, given: Mapping[str, Any], general: Told) -> Told:
    """GIVEN's values, and GENERAL's for the rest. A lease time in GIVEN also gives renewal and rebinding times."""
    said = {key: value for key, value in given.items() if key in _TOLD or told.is_option(key)}
    found = told.merged(general, said, f"[{section.heading}]")
    for key, more in (("renewal-time", found.rebinding_time), ("rebinding-time", found.lease_time)):
        if getattr(found, key.replace("-", "_")) >= more:
            what = f"{key} is not before {'rebinding-time' if key == 'renewal-time' else 'lease-time'}, {more}"
            raise section.failure(key, what, "renewal-time < rebinding-time < lease-time, or leave out the first two")
    return found
