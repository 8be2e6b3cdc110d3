# SPDX-License-Identifier: BSD-2-Clause
"""A binding: which address belongs to the guest on which tap, in NFDHCPD's file format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from ganeti_vif.engine.objects import Address, Prefix

MARK = "GANETI_VIF"
"""A key that NFDHCPD ignores: it marks a file as ours and carries the NIC's UUID."""
NETWORK, TELL = "GANETI_VIF_NETWORK", "GANETI_VIF_TELL_"
ALONE, SHARED, DELEGATED = "GANETI_VIF_ALONE", "GANETI_VIF_SHARED", "GANETI_VIF_DELEGATED"
"""Keys for our responder alone: the name of the NIC's network in Ganeti, and the beginning of the keys for what tags
have the guest told; `yes` if the guest has SUBNET6 for itself, the addresses that the NIC shares, and the prefixes that
its guest gets by IA_PD, with blanks between them. What tags tell has no blank, no quote, no `=`."""
SOURCES6 = "GANETI_VIF_SOURCES6"
"""Another one: the IPv6 prefixes that the guard lets the guest send from. Without it, it is told of no refusal."""


def text(
    *,
    uuid: str,
    device: str,
    mac: str,
    hostname: str,
    address: IPv4Address | None,
    subnet: IPv4Network | None,
    gateway: Address | None,
    subnet6: IPv6Network | None,
    gateway6: Address | None,
    mtu: int | None,
    address6: IPv6Address | None = None,
    network: str | None = None,
    told: Mapping[str, str] | None = None,
    alone: bool = False,
    shared: Iterable[Address] = (),
    delegated: Iterable[IPv6Network] = (),
    sources6: Iterable[Prefix] | None = None,
) -> str:
    """The text of a binding file. DEVICE is the router's side: the tap of a routed NIC, the bridge of a bridged one.
    Only for our responder are ADDRESS6, an IPv6 address that SLAAC would not make, NETWORK, a name in Ganeti, TOLD,
    what tags have the guest told, ALONE: nobody else has an address in SUBNET6, SHARED, addresses that other NICs
    have, too, DELEGATED, the prefixes for the networks behind it, and SOURCES6, from where it may send.

    A key without value is left out. NFDHCPD rejects an empty MTU, takes any text for PRIVATE and MACSPOOF as yes, and
    looks up in the DNS whatever is not an address.
    """
    values = {
        MARK: uuid,
        "INDEV": device,
        "MAC": mac,
        "HOSTNAME": _hostname(hostname),
        "IP": address if subnet else None,
        "SUBNET": subnet if address else None,
        "GATEWAY": gateway if address and subnet else None,
        "SUBNET6": subnet6,
        "IP6": address6 if subnet6 else None,
        "GATEWAY6": gateway6 if subnet6 else None,
        "MTU": mtu,
        ALONE: "yes" if alone and subnet6 else None,
        NETWORK: network,
        SHARED: " ".join(map(str, shared)) or None,
        DELEGATED: " ".join(map(str, delegated)) or None,
        SOURCES6: " ".join(map(str, sources6)) if sources6 is not None and subnet6 else None,
        **{f"{TELL}{key.upper().replace('-', '_')}": value for key, value in (told or {}).items()},
    }
    return "".join(f"{key}={value}\n" for key, value in values.items() if value is not None)


def _hostname(instance: str) -> str:
    """The name of INSTANCE as that of a host (RFC 1123, 2.1): Ganeti accepts other names, too. NFDHCPD needs one."""
    labels = (label[:63].strip("-") for label in instance.split("."))
    return ".".join(label for label in labels if label)[:253].rstrip(".-") or "guest"


def parse(text: str) -> dict[str, str]:
    """The keys and values of a binding, as NFDHCPD reads them: of two equal keys the last wins."""
    pairs = (line.strip().partition("=") for line in text.splitlines())
    return {key: value for key, separator, value in pairs if separator}


def is_ours(text: str) -> bool:
    """Whether we wrote this binding."""
    return MARK in parse(text)


def identity(text: str) -> tuple[str | None, ...]:
    """The values that say whom a binding serves. If they change, the old file is removed first: after a rewrite that
    NFDHCPD cannot read, it would still serve the old address."""
    values = parse(text)
    return tuple(values.get(key) for key in (MARK, "MAC", "IP", "SUBNET6", "IP6"))
