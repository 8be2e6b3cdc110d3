# SPDX-License-Identifier: BSD-2-Clause
"""Whose connections the kernel follows (conntrack), and how many of one NIC. Pure.

The node has one table of connections for all guests and for itself. As soon as one rule on the node needs it, the
kernel follows every packet. So the packets of NICs that need no connections are taken out, before the kernel looks at
them, and each NIC that needs them has a limit.

Two maps find a NIC. An incoming device is of type ifname in nft, and the device that a route leads to is of type
string. A map has one type, so each of the two has its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_never

from ganeti_vif.config.model import Conntrack, Profile, Public
from ganeti_vif.engine.chains import Chain, FilterRule, MapElement, Subchain, VerdictMap
from ganeti_vif.engine.objects import Key
from ganeti_vif.engine.state import Object
from ganeti_vif.nic.nic import Mode, Nic

BY_DEVICE, BY_ROUTE = "connections", "connections-routed"
MAPS = (
    VerdictMap(family="inet", name=BY_DEVICE),
    VerdictMap(family="inet", name=BY_ROUTE, of="typeof fib daddr oifname"),
)
BEFORE_CONNECTIONS, AFTER_FILTERS = -300, 300
"""Priorities (linux/netfilter_ipv4.h): `raw`, before connections are looked up; after the filters of all programs."""
ENDS = {"from": "iifname", "to": "oifname"}
_FIRST_PACKET = "ct state new ct status & confirmed == 0"
"""The packet that opens a connection. A stream without answers stays `new`, but is confirmed after one packet."""


@dataclass(frozen=True, slots=True)
class Following:
    """What makes the kernel follow connections. OTHERS are the chains of other programs that need those of forwarded
    packets, for instance to translate addresses. USED: a rule on this node reads connections, whoever made it."""

    others: tuple[str, ...] = ()
    used: bool = False


def needed(nic: Nic, profile: Profile | None) -> bool:
    """Whether the kernel must follow the connections of NIC, because PROFILE has rules with ct."""
    return nic.mode is Mode.ROUTED and profile is not None and profile.stateful is not None


def shared(nic: Nic, profile: Profile | None, public: Public | None, following: Following) -> Iterator[Object]:
    """What all NICs share whose connections are followed. From the first of them on, the kernel follows connections."""
    if needed(nic, profile):
        yield from MAPS
        yield from _limits()
        if public and are_unfollowed(public, following):
            yield unfollowed(public)


def own(nic: Nic, profile: Profile | None, most: int) -> Iterator[Object]:
    """The limit of NIC: MOST connections at once, both that it opens and that others open to it. 0: no limit.

    Only what passed all filters is counted, when it opens a connection. So nobody uses up the limit with packets that
    the profile drops.
    """
    if not needed(nic, profile):
        return
    limit = [FilterRule(f"ct state new ct count over {most} counter drop", "too many connections")] if most else []
    chain = Subchain(
        family="inet", name=f"{nic.tap}-{BY_DEVICE}", rules=(*limit, FilterRule("accept", "its connections"))
    )
    yield chain
    for one in MAPS:
        yield MapElement(family="inet", map=one.name, device=nic.tap, chain=chain.name)


def _limits() -> Iterator[Chain]:
    """Two chains, because an accept ends one: between two guests, the limits of both count."""
    for number, (name, device) in enumerate(ENDS.items()):
        yield _base(
            f"{BY_DEVICE}-{name}",
            "forward",
            AFTER_FILTERS + number,
            FilterRule(f"{_FIRST_PACKET} {device} vmap @{BY_DEVICE}", f"connections {name} guests"),
        )


def are_unfollowed(public: Public, following: Following) -> bool:
    """Whether the chain unfollowed() may be there. Without connections, the rules of others could cut guests off."""
    match public.conntrack:
        case Conntrack.PROFILES:
            return True
        case Conntrack.AUTO:
            return not following.others
        case Conntrack.ALL:
            return False
        case _:
            assert_never(public.conntrack)


def unfollowed(public: Public) -> Chain:
    """Packets of guests of PUBLIC are not followed, unless the NIC at one end of them needs it.

    It costs each packet a microsecond, so it is made only if the kernel follows connections at all. What the node
    itself sends or gets is followed as before. Before the kernel knows which tap a packet from the uplink goes to, a
    look at the routes tells it.
    """
    return _base(
        f"{public.uplink}-unfollowed",
        "prerouting",
        BEFORE_CONNECTIONS,
        FilterRule(f"meta mark != {public.mark:#010x} accept", "not of a guest"),
        FilterRule("fib daddr type local accept", "to the node"),
        FilterRule(f"iifname vmap @{BY_DEVICE}", "from a NIC that needs connections"),
        FilterRule(f"fib daddr . mark oifname vmap @{BY_ROUTE}", "to a NIC that needs connections"),
        FilterRule("notrack", "of a guest that needs no connections"),
    )


def uses_maps(chain: Chain) -> bool:
    """Whether CHAIN, as it was read from the kernel, has rules that look into our maps."""
    return chain.family == "inet" and chain.name.endswith(("-unfollowed", *(f"{BY_DEVICE}-{end}" for end in ENDS)))


def _base(name: str, hook: str, priority: int, *rules: FilterRule) -> Chain:
    return Chain(family="inet", name=name, hook=hook, device=None, priority=priority, policy="accept", rules=rules)


def idle() -> frozenset[Key]:
    """The shared objects, which may stay although no NIC needs them now."""
    return frozenset([*(one.key for one in MAPS), *(chain.key for chain in _limits())])
