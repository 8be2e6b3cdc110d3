# SPDX-License-Identifier: BSD-2-Clause
"""A public link on a node: a routing table, a packet mark that selects it, and an uplink that answers for VMs. Pure.

The node has no address in the public subnets. Packets of the link carry its mark. A NIC's filter sets it on the tap,
and a chain on the uplink by destination. One rule for each IP version sends marked packets to the table, for any
number of NICs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from ipaddress import ip_network

from ganeti_vif.config.model import Public
from ganeti_vif.engine.chains import Chain, FilterRule
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.marks import ROUTED_GROUP
from ganeti_vif.engine.naming import dotted
from ganeti_vif.engine.objects import Link, Route, Rule, Sysctl, Up
from ganeti_vif.engine.state import Object

PRIORITY = 20000
"""The priority of our policy rules: after `local` (0), before `main` (32766)."""

LAST = 0xFFFFFFFF
"""The metric of the route that the kernel uses if there is no other."""


NO_IPV6 = "the kernel of this node has no IPv6"
WITH_IPV6 = "take ipv6.disable=1 out of /etc/default/grub, then: update-grub && reboot"


def obstacle(
    public: Public, links: Mapping[str, Link], advertised: Collection[str], *, ipv6: bool = True
) -> Failure | None:
    """Why PUBLIC cannot be set up on a node with these LINKS. None if it can. IPV6: whether its kernel has IPv6.

    ADVERTISED are the devices that have their IPv6 default route from router advertisements. They would lose it if the
    whole node forwarded IPv6, unless accept_ra is 2: a forwarding node ignores them (kernel doc ip-sysctl, accept_ra).
    """
    if public.uplink not in links:
        return Failure(
            f"public link {public.name}: the uplink {public.uplink} does not exist",
            f"note: make it first, or mend the uplink of [public {public.name}]: ip link shows what there is",
        )
    if 6 in public.versions and not ipv6:
        subnet = next(subnet for subnet in public.subnets if subnet.version == 6)
        return Failure(
            f"public link {public.name}: it has the IPv6 subnet {subnet}, and {NO_IPV6}",
            f"note: {WITH_IPV6}; or take IPv6 out of [public {public.name}], then: ganeti-vif setup",
        )
    if 6 in public.versions and (others := sorted(set(advertised) - {public.uplink})):
        switch = dotted(f"net/ipv6/conf/{others[0]}/accept_ra")
        return Failure(
            f"public link {public.name}: {others[0]} has its IPv6 default route from router advertisements, "
            "which a node that forwards IPv6 ignores",
            f"sysctl -w {switch}=2 && echo '{switch} = 2' > /etc/sysctl.d/ganeti-vif-{others[0]}.conf",
        )
    return None


def desired(public: Public, force_forwarding: bool) -> Iterator[Object]:
    """The objects that PUBLIC needs before any NIC. FORCE_FORWARDING: the kernel has it, see switches6()."""
    yield from _switches(public, force_forwarding)
    yield Up(device=public.uplink)
    yield from _routes(public)
    for version in public.versions:
        yield Rule(family=version, priority=PRIORITY, table=public.table, mark=public.mark)
    yield _marks(public)
    yield _way_to_the_node(public)
    yield from _requests(public)


def _switches(public: Public, force_forwarding: bool) -> Iterator[Object]:
    uplink = public.uplink
    if 4 in public.versions:
        yield from switches4(uplink)
        # The node's own answers (too big, unreachable) take the table of the packet that they answer.
        yield Sysctl(path="net/ipv4/fwmark_reflect", value="1")
    if 6 in public.versions:
        yield from switches6(uplink, force_forwarding)
        yield Sysctl(path="net/ipv6/fwmark_reflect", value="1")
        if not force_forwarding:
            yield Sysctl(path="net/ipv6/conf/all/forwarding", value="1")


def switches4(device: str) -> Iterator[Sysctl]:
    """What a device of a public link needs for IPv4: forwarding, and ARP answers for addresses behind the node."""
    ipv4 = f"net/ipv4/conf/{device}"
    yield Sysctl(path=f"{ipv4}/forwarding", value="1")
    yield Sysctl(path=f"{ipv4}/proxy_arp", value="1")
    # The mark counts for the reverse path too: so rp_filter, at any value, finds the right path and drops nothing.
    yield Sysctl(path=f"{ipv4}/src_valid_mark", value="1")
    # Without this the first ping waits up to 0.8 s for the proxy's answer.
    yield Sysctl(path=f"net/ipv4/neigh/{device}/proxy_delay", value="0")


def switches6(device: str, force_forwarding: bool) -> Iterator[Sysctl]:
    """What a device of a public link needs for IPv6.

    A device's own `forwarding` makes it a router's device but forwards nothing. That takes `force_forwarding` (since
    Linux 6.17), or conf/all/forwarding, a switch of the whole node (kernel doc ip-sysctl).
    """
    ipv6 = f"net/ipv6/conf/{device}"
    yield Sysctl(path=f"{ipv6}/disable_ipv6", value="0")
    yield Sysctl(path=f"{ipv6}/forwarding", value="1")
    if force_forwarding:
        yield Sysctl(path=f"{ipv6}/force_forwarding", value="1")
    yield Sysctl(path=f"{ipv6}/proxy_ndp", value="1")
    yield Sysctl(path=f"{ipv6}/accept_ra", value="0")
    yield Sysctl(path=f"net/ipv6/neigh/{device}/proxy_delay", value="0")


def _routes(public: Public) -> Iterator[Object]:
    for subnet in public.subnets:
        yield Route(table=public.table, destination=subnet, device=public.uplink, shared=True)
    for version in public.versions:
        everything = ip_network("0.0.0.0/0" if version == 4 else "::/0")
        if gateway := public.gateway(version):
            yield Route(table=public.table, destination=everything, device=public.uplink, gateway=gateway, shared=True)
        # While the uplink is down its routes are gone: VMs' packets must not leave by the node's own default route.
        yield Route(table=public.table, destination=everything, kind="unreachable", metric=LAST, shared=True)


def _marks(public: Public) -> Chain:
    """Packets from the uplink to the public subnets use the link's table. The node's own traffic does not."""
    words = {4: ("ip daddr", "arp daddr ip"), 6: ("ip6 daddr",)}
    rules = [
        FilterRule(f"{word} {subnet} meta mark set {public.mark:#010x}", f"to {subnet}")
        for subnet in public.subnets
        for word in words[subnet.version]
    ]
    return Chain(
        family="netdev",
        name=f"{public.uplink}-in",
        hook="ingress",
        device=public.uplink,
        priority=0,
        policy="accept",
        rules=tuple(rules),
    )


def _way_to_the_node(public: Public) -> Chain:
    """Guests talk through this node and not to it. The rules match their mark, so they serve any number of guests.

    Packets from the uplink carry the mark too, and may be for an address of the node: the first rules accept them and
    all unmarked packets. As a router the node needs neighbour discovery and membership reports, and of ICMP the errors
    that its own packets cause. It needs no path MTU: to a guest there is no other hop, and the kernel would believe a
    guest's word about the path to any address, for all who use the link's table. DHCP requests may go to whoever serves
    this link, but not to the node's addresses: a server there belongs to another network. With `node-access` the chain
    is empty.
    """
    rules = [
        FilterRule(f"meta mark != {public.mark:#010x} accept", "not from a guest"),
        FilterRule(f"iifname {public.uplink} accept", "not from a guest"),
        FilterRule("icmpv6 type 130-136 accept", "neighbour discovery"),
        FilterRule("icmpv6 type 143 accept", "multicast listeners"),
        FilterRule("ip daddr 255.255.255.255 udp dport 67 accept", "DHCP"),
        FilterRule("ip6 daddr ff02::1:2 udp dport 547 accept", "DHCPv6"),
        FilterRule("icmp type 3 icmp code 4 counter drop", "path MTU from a guest"),
        FilterRule("icmpv6 type 2 counter drop", "path MTU from a guest"),
        FilterRule("icmp type 3 accept", "ICMP errors"),
        FilterRule("icmp type 11-12 accept", "ICMP errors"),
        FilterRule("icmpv6 type 1-4 accept", "ICMP errors"),
        FilterRule("counter drop", "from a guest to this node"),
    ]
    return Chain(
        family="inet",
        name=f"{public.uplink}-node",
        hook="input",
        device=None,
        priority=-300,
        policy="accept",
        rules=() if public.node_access else tuple(rules),
    )


def _requests(public: Public) -> Iterator[Chain]:
    """The source of the node's ARP requests for the public subnets. The node has no address there, and would use one of
    another network. Routers need not answer that, and guests know only one neighbour.

    On the uplink the source is `arp-source`, but a node that has an address there may use it. On a tap it is the
    subnet's gateway. Announcements come from packet sockets and do not pass here.
    """
    ask, uplink = "arp operation request arp daddr ip", f"oifname {public.uplink}"
    rules = []
    for subnet in (subnet for subnet in public.subnets if subnet.version == 4):
        if source := public.arp_source:
            other = f"arp saddr ip != {subnet}"
            rules.append(FilterRule(f"{uplink} {ask} {subnet} {other} arp saddr ip set {source}", "from arp-source"))
        if gateway := public.gateway_in(subnet):
            taps = f"oifgroup {ROUTED_GROUP}"
            rules.append(FilterRule(f"{taps} {ask} {subnet} arp saddr ip set {gateway}", "from the gateway"))
    if rules:
        yield Chain(
            family="arp",
            name=f"{public.uplink}-requests",
            hook="output",
            device=None,
            priority=0,
            policy="accept",
            rules=tuple(rules),
        )
