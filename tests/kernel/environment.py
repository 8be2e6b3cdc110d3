# SPDX-License-Identifier: BSD-2-Clause
"""Environments as Ganeti's noded gives them to its network script (ganeti lib/hypervisor/hv_base.py:229-255 at 3.0.2).

Every NIC here is told by a number, from which its addresses are made.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv6Network

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
SCRIPT = "/etc/ganeti/kvm-vif-bridge"

CONFIG = """\
[responder]
enabled = no

[private pvn]
bridges = 1-3

[public public]
table      = 222
uplink     = eth1
subnets    = 192.0.2.0/24 2001:db8::/64
gateways   = 192.0.2.1 2001:db8::1
arp-source = 192.0.2.254

[bindings]
for = all
"""
GATEWAY, GATEWAY6, ARP_SOURCE = "192.0.2.1", "2001:db8::1", "192.0.2.254"
BEYOND, BEYOND6 = "198.51.100.1", "2001:db8:ffff::1"
NODE_ADDRESS, NODE_ADDRESS6 = "203.0.113.7", "2001:db8:eeee::7"

PUBLIC_NETWORK: Mapping[str, str] = {
    "NETWORK_NAME": "pubnet",
    "NETWORK_UUID": "9696066a-7821-42d1-9e6d-aa3dcbb17b20",
    "NETWORK_SUBNET": "192.0.2.0/24",
    "NETWORK_GATEWAY": GATEWAY,
    "NETWORK_SUBNET6": "2001:db8::/64",
    "NETWORK_GATEWAY6": GATEWAY6,
    "NETWORK_TAGS": "nfdhcpd ip-less-routed",
}
PRIVATE_NETWORK: Mapping[str, str] = {
    "NETWORK_NAME": "prvnet",
    "NETWORK_UUID": "1658c0f7-cf1e-4094-b400-074be8751f55",
    "NETWORK_SUBNET": "10.0.0.0/24",
    "NETWORK_TAGS": "",
}


def mac(number: int) -> str:
    return f"aa:00:00:00:00:{number:02x}"


def public(number: int) -> str:
    return f"192.0.2.{number}"


def public6(number: int) -> str:
    """What SLAAC makes of the public subnet and the MAC (RFC 4291, appendix A)."""
    octets = bytes([0xA8, 0, 0, 0xFF, 0xFE, 0, 0, number])
    return str(IPv6Network("2001:db8::/64")[int.from_bytes(octets, "big")])


def private(number: int) -> str:
    return f"10.0.0.{number}"


def uuid(number: int) -> str:
    return f"{number:08x}-498b-449c-b73e-37c3b9ff8c03"


def routed(tap: str, number: int = 5, **changes: str | None) -> dict[str, str]:
    """The environment for a NIC of the public link; of the CHANGES None takes a variable away."""
    given = _nic(tap, number) | {"MODE": "routed", "LINK": "public", "IP": public(number)} | dict(PUBLIC_NETWORK)
    return _changed(given, changes)


def bridged(tap: str, number: int = 5, link: str = "pvn1", **changes: str | None) -> dict[str, str]:
    """The environment for a NIC on a bridge; of the CHANGES None takes a variable away."""
    given = (
        _nic(tap, number)
        | {"MODE": "bridged", "LINK": link, "BRIDGE": link, "IP": private(number)}
        | dict(PRIVATE_NETWORK)
    )
    return _changed(given, changes)


def openvswitch(tap: str, number: int = 5, link: str = "ovs1", **changes: str | None) -> dict[str, str]:
    """The environment for a NIC on an Open vSwitch bridge; of the CHANGES None takes a variable away."""
    return _changed(_nic(tap, number) | {"MODE": "openvswitch", "LINK": link}, changes)


def _nic(tap: str, number: int) -> dict[str, str]:
    return {
        "PATH": PATH,
        "LC_ALL": "C",
        "INSTANCE": f"vm{number}.example.com",
        "INTERFACE": tap,
        "INTERFACE_INDEX": "0",
        "INTERFACE_UUID": uuid(number),
        "MAC": mac(number),
        "VLAN": "",
        "TAGS": "",
    }


def _changed(given: dict[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    merged: dict[str, str | None] = {**given, **changes}
    return {name: value for name, value in merged.items() if value is not None}
