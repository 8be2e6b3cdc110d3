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


def desired(public: Public, rp_filter: str) -> Iterator[Object]:
    """What PUBLIC needs before any NIC. RP_FILTER is for its uplink: see tolerant()."""
    yield from _switches(public, rp_filter)
    yield Up(device=public.uplink)
    yield from _routes(public)
    for version in public.versions:
        # What its NICs send carries its mark; what the outside sends to its NICs comes in by the uplink.
        yield Rule(family=version, priority=PRIORITY, table=public.table, mark=public.mark)
        yield Rule(family=version, priority=PRIORITY, table=public.table, device=public.uplink)
    if public.arp_source:
        yield _requests_with_our_source(public)


def tolerant(of_all: str | None) -> str:
    """The rp_filter for a device of a public link on a node whose conf/all/rp_filter is OF_ALL.

    The kernel asks the main table for the way back, which knows none to the VMs: so the check must be off. It takes
    the larger of the two values, so where conf/all demands a check the best to be had is the loose one (2), for
    which any route will do, such as the node's default route (kernel doc ip-sysctl, rp_filter).
    """
    return "0" if of_all in (None, "0") else "2"


def _switches(public: Public, rp_filter: str) -> Iterator[Object]:
    uplink = public.uplink
    if 4 in public.versions:
        ipv4 = f"net/ipv4/conf/{uplink}"
        yield Sysctl(path=f"{ipv4}/forwarding", value="1")
        yield Sysctl(path=f"{ipv4}/proxy_arp", value="1")
        yield Sysctl(path=f"{ipv4}/rp_filter", value=rp_filter)
        # Without this the first ping waits up to 0.8 s for the proxy's answer.
        yield Sysctl(path=f"net/ipv4/neigh/{uplink}/proxy_delay", value="0")
    if 6 in public.versions:
        ipv6 = f"net/ipv6/conf/{uplink}"
        # Unlike IPv4's, IPv6 forwarding is a matter of the whole node (kernel doc ip-sysctl, conf/all/forwarding).
        yield Sysctl(path="net/ipv6/conf/all/forwarding", value="1")
        yield Sysctl(path=f"{ipv6}/disable_ipv6", value="0")
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
