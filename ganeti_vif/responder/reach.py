# SPDX-License-Identifier: BSD-2-Clause
"""The name servers that a guest can reach by one of its networks. It is told of no other.

A client may make a route to each name server, on the link that it has the server from (systemd-networkd up to 252
does). In a network without a router that route leads nowhere, and the guest's other networks lose the name server.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

_LINK_LOCAL = (IPv4Network("169.254.0.0/16"), IPv6Network("fe80::/10"))


def reached(
    servers: Iterable[IPv4Address | IPv6Address],
    network: IPv4Network | IPv6Network,
    *,
    routed: bool,
    routes: Iterable[IPv4Network] = (),
) -> list[bytes]:
    """Those of SERVERS with NETWORK's IP version that a guest of NETWORK reaches: all if it is told of a router there
    (ROUTED), else those of NETWORK, of the networks to which it is told ROUTES, and the link-local ones."""
    near = (network, *_LINK_LOCAL, *routes)
    return [
        server.packed
        for server in servers
        if server.version == network.version and (routed or any(server in one for one in near))
    ]
