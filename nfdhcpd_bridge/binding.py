# SPDX-License-Identifier: BSD-2-Clause
"""A binding: which address belongs behind which tap, in the words of NFDHCPD's file format."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from ganeti_vif.engine.objects import Address

MARK = "GANETI_VIF"
"""A key that NFDHCPD ignores: it marks a file as ours and carries the NIC's UUID."""


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
) -> str:
    """The file's text. DEVICE is where the router's side is: the tap of a routed NIC, the bridge of a bridged one.
    ADDRESS6 is for our responder alone: an IPv6 address that SLAAC would not make.

    A key without value is left out: NFDHCPD rejects an empty MTU, takes any text for PRIVATE and MACSPOOF as yes,
    and looks up anything that is no address in the DNS.
    """
    values = {
        MARK: uuid,
        "INDEV": device,
        "MAC": mac,
        "HOSTNAME": hostname,
        "IP": address if subnet else None,
        "SUBNET": subnet if address else None,
        "GATEWAY": gateway if address and subnet else None,
        "SUBNET6": subnet6,
        "IP6": address6 if subnet6 else None,
        "GATEWAY6": gateway6 if subnet6 else None,
        "MTU": mtu,
    }
    return "".join(f"{key}={value}\n" for key, value in values.items() if value is not None)


def parse(text: str) -> dict[str, str]:
    """The keys and values of a binding, as NFDHCPD reads them: the last of a key wins."""
    pairs = (line.strip().partition("=") for line in text.splitlines())
    return {key: value for key, separator, value in pairs if separator}


def is_ours(text: str) -> bool:
    """Whether we wrote this binding."""
    return MARK in parse(text)


def identity(text: str) -> tuple[str | None, ...]:
    """Whom a binding serves. If that changes, the old file goes first: a rewrite that NFDHCPD cannot read would
    leave the old address being served."""
    values = parse(text)
    return tuple(values.get(key) for key in (MARK, "MAC", "IP", "SUBNET6", "IP6"))
