"""What a public link is on a node: a routing table, the rules that lead to it, and an uplink that answers for VMs.

The node has no address in the public subnets. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

from config.model import Public
from engine.objects import Chain, FilterRule, Object, Route, Rule, Sysctl, Up

PRIORITY = 20000
"""Of our policy rules: after `local` (0), before `main` (32766)."""

LAST = 0xFFFFFFFF
"""The metric of the route that is tried when there is no other."""


def desired(public: Public) -> Iterator[Object]:
    """What PUBLIC needs before any NIC."""
    yield from _switches(public)
    yield Up(device=public.uplink)
    yield from _routes(public)
    for version in public.versions:
        # What its NICs send carries its mark; what the outside sends to its NICs comes in by the uplink.
        yield Rule(family=version, priority=PRIORITY, table=public.table, mark=public.mark)
        yield Rule(family=version, priority=PRIORITY, table=public.table, device=public.uplink)
    if public.arp_source:
        yield _requests_with_our_source(public)


def _switches(public: Public) -> Iterator[Object]:
    uplink = public.uplink
    if 4 in public.versions:
        ipv4 = f"net/ipv4/conf/{uplink}"
        yield Sysctl(path=f"{ipv4}/forwarding", value="1")
        yield Sysctl(path=f"{ipv4}/proxy_arp", value="1")
        # Loose: the main table knows no way back to the VMs. The kernel takes the larger of this and conf/all.
        yield Sysctl(path=f"{ipv4}/rp_filter", value="2")
        # Without this the first ping waits up to 0.8 s for the proxy's answer.
        yield Sysctl(path=f"net/ipv4/neigh/{uplink}/proxy_delay", value="0")
    if 6 in public.versions:
        ipv6 = f"net/ipv6/conf/{uplink}"
        # Unlike IPv4's, IPv6 forwarding is a matter of the whole node (kernel doc ip-sysctl, conf/all/forwarding).
        yield Sysctl(path="net/ipv6/conf/all/forwarding", value="1")
        yield Sysctl(path=f"{ipv6}/forwarding", value="1")
        yield Sysctl(path=f"{ipv6}/proxy_ndp", value="1")
        yield Sysctl(path=f"{ipv6}/accept_ra", value="0")
        yield Sysctl(path=f"net/ipv6/neigh/{uplink}/proxy_delay", value="0")


def _routes(public: Public) -> Iterator[Object]:
    for subnet in public.subnets:
        yield Route(table=public.table, destination=subnet, device=public.uplink)
    for version in public.versions:
        everything = ip_network("0.0.0.0/0" if version == 4 else "::/0")
        if gateway := public.gateway(version):
            yield Route(table=public.table, destination=everything, device=public.uplink, gateway=gateway)
        # While the uplink is down its routes are gone: VMs' packets must not leave by the node's own way out.
        yield Route(table=public.table, destination=everything, kind="unreachable", metric=LAST)


def _requests_with_our_source(public: Public) -> Chain:
    """ARP requests for the public subnets leave with `arp-source` as sender: the node has no address there, and
    would ask with one of another network, which routers need not answer."""
    subnets = ", ".join(str(subnet) for subnet in public.subnets if subnet.version == 4)
    return Chain(
        family="netdev",
        name=f"{public.uplink}-out",
        hook="egress",
        device=public.uplink,
        priority=0,
        policy="accept",
        rules=(
            FilterRule(
                f"arp operation request arp daddr ip {{ {subnets} }} arp saddr ip set {public.arp_source}",
                "ARP requests carry arp-source",
            ),
        ),
    )
