# SPDX-License-Identifier: BSD-2-Clause
"""Numbers in frames: ether types, protocols, ports, types of messages, and the prefixes of special addresses."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

ARP, IPV4, IPV6, RARP, VLAN, SERVICE_VLAN = 0x0806, 0x0800, 0x86DD, 0x8035, 0x8100, 0x88A8
EXPERIMENTAL = 0x88B5
"""The ether type that IEEE leaves to everybody for experiments. The daemon's frames have it with which it looks whether
a guest runs. A guest ignores it."""
BRIDGE_GROUPS = 0x0180C2
"""The first half of the group addresses that bridges keep for themselves (IEEE 802.1Q, table 8-1)."""
IPV4_GROUPS, IPV6_GROUPS, EVERYBODY = 0x01005E, 0x3333, 0xFFFFFFFFFFFF
ARP_OF_IPV4_OVER_ETHERNET = 0x000108000604
"""Hardware type 1 with 6 bytes, protocol type 0x0800 with 4."""
REVERSE_REQUEST = 3
IGMP, UDP = 2, 17
USUAL = 0xE8
"""The bits that neither TCP's number has nor UDP's, but 4 and 2, which are common to TCP and IGMP."""
DHCP = 67, 68
"""The ports of server and client."""
PORTS_OF_DHCP = 0xFFF8, 0x0040
"""A mask, and what it makes of both ports: of 64 to 71."""
DHCPV6_CLIENT = 546
PORTS_OF_DHCPV6 = 0xFFFE, 0x0222
"""A mask, and what it makes of 546 and 547."""
MORE_FRAGMENTS = 0x2000
MLD_REPORT, MLD_DONE, MLD2_REPORT = 131, 132, 143
ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT, SOLICITATION, ADVERTISEMENT, REDIRECT = 133, 134, 135, 136, 137
AUTHENTICATION, HIP, SHIM6 = 51, 139, 140
LINK_LOCAL = IPv6Network("fe80::/10")
MADE_OF_A_MAC = 0xFFFE
MULTICAST_IPV4, MULTICAST = IPv4Network("224.0.0.0/4"), IPv6Network("ff00::/8")
LINK_MULTICAST = IPv6Network("ff02::/16")
LONGEST_ND, LONGEST_RS = 32, 16
"""Bytes of a neighbour or router solicitation with one option, a link-layer address (RFC 4861, 4.6.1)."""
MOST = 0xFFFF
ANY_IPV4, ANY_IPV6 = "IPv4 of any address", "IPv6 of any address"
