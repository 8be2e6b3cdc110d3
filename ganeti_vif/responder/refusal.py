# SPDX-License-Identifier: BSD-2-Clause
"""The answer to a guest's packet from an IPv6 address that the guest may not have: ICMPv6 type 1, code 5. Pure.

The tap's filter drops such a packet without a word: nftables cannot answer there on Debian's kernels (they lack
CONFIG_NFT_REJECT_NETDEV). Without an answer a program waits for minutes before it tries IPv4.
"""

from __future__ import annotations

import struct
from ipaddress import IPv6Address

from ganeti_vif.nic.announcement import ETH_P_IPV6, IPPROTO_ICMPV6
from ganeti_vif.responder.packet import ANY6, IPPROTO_UDP, LINK_LOCAL, icmp6
from ganeti_vif.responder.service import Service

_UNREACHABLE, _POLICY = 1, 5
"""Destination unreachable: source address failed ingress/egress policy (RFC 4443, 3.1). Linux makes EACCES of it."""
_IPPROTO_TCP, _ECHO_REQUEST, _DHCPV6 = 6, 128, 547
_ETHERNET, _HEADER = 14, 40
_MOST = 1280 - _HEADER - 8
"""Bytes of the packet that an error contains (RFC 4443, 2.4 c)."""


def is_own(frame: bytes) -> bool:
    """Whether FRAME is a packet of the guest's own IPv6 traffic: nothing that we would answer as its router."""
    if len(frame) < _ETHERNET + _HEADER + 8 or frame[12] << 8 | frame[13] != ETH_P_IPV6:
        return False
    protocol = frame[20]
    if protocol == IPPROTO_UDP:
        return frame[56] << 8 | frame[57] != _DHCPV6
    return protocol == _IPPROTO_TCP or (protocol == IPPROTO_ICMPV6 and frame[54] == _ECHO_REQUEST)


def refused(frame: bytes, service: Service) -> bytes | None:
    """The source of FRAME, if the guest of SERVICE sent it and may not send from there; and if the guest may be told
    so (RFC 4443, 2.4 e: no answer to a group, and none to who has no address)."""
    source, destination = frame[22:38], frame[38:54]
    if service.sources6 is None or service.router6 is None or frame[6:12] != service.guest:
        return None
    if frame[0] & 1 or destination[0] == 0xFF or source[0] == 0xFF or source == ANY6 or source[:8] == LINK_LOCAL:
        return None
    address = IPv6Address(source)
    return None if any(address in prefix for prefix in service.sources6) else source


def error(frame: bytes, service: Service) -> bytes:
    """The frame that tells the guest of SERVICE that FRAME is refused for its source. It comes from the address that
    its router advertisements come from. SERVICE has a router."""
    assert service.router6
    length = frame[18] << 8 | frame[19]
    packet = frame[_ETHERNET : _ETHERNET + min(_HEADER + length, _MOST)]
    message = struct.pack("!BBHI", _UNREACHABLE, _POLICY, 0, 0) + packet
    return icmp6((service.router, service.guest), (service.router6.address, frame[22:38]), message)
