# SPDX-License-Identifier: BSD-2-Clause
"""The firewall profile of a NIC: what reaches its guest. Pure.

Routed NICs share one chain for each profile. One forward chain finds the profile of a tap in a map, so a packet costs
the same with any number of NICs, and rules can follow connections. Bridged NICs have the same rules on the tap's
egress, where each packet stands alone: a bridge follows no connections.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ganeti_vif.config.model import Profile
from ganeti_vif.engine.chains import BELOW, Chain, FilterRule, MapElement, Subchain, VerdictMap
from ganeti_vif.engine.failure import Failure
from ganeti_vif.engine.objects import Key
from ganeti_vif.engine.state import Object
from ganeti_vif.nic.nic import Mode, Nic

MAP = "profiles"
PASSES_FIRST = (
    ("icmpv6 type 133-136 accept", "neighbour discovery"),
    ("udp sport 67 udp dport 68 accept", "DHCP"),
    ("udp sport 547 udp dport 546 accept", "DHCPv6"),
)
"""What a guest on a bridge always needs, whatever its profile. ARP never reaches the profile."""


def shared(nic: Nic, profile: Profile | None) -> Iterator[Object]:
    """The objects that all NICs with PROFILE share."""
    if profile is None:
        return
    if nic.mode is not Mode.ROUTED:
        return
    yield VerdictMap(family="inet", name=MAP)
    yield subchain(profile)
    yield Chain(
        family="inet",
        name=MAP,
        hook="forward",
        device=None,
        priority=0,
        policy="accept",
        rules=(FilterRule(f"oifname vmap @{MAP}", "firewall profiles"),),
    )


def idle(profiles: Iterable[Profile]) -> frozenset[Key]:
    """The objects that may stay although no NIC needs them now: they are shared, and the next NIC can use them."""
    chains = [subchain(profile) for profile in profiles]
    return frozenset([*(chain.key for chain in chains), ("map", "inet", MAP), ("chain", "inet", MAP)])


def subchain(profile: Profile, nic: Nic | None = None) -> Subchain:
    """PROFILE's rules as a chain, for all routed NICs or for NIC alone. A rule's reason is its place in the file."""
    rules = tuple(FilterRule(rule, at) for at, rule in profile.rules)
    if nic:
        return Subchain(family="netdev", name=f"{nic.tap}-out{BELOW}", rules=rules)
    return Subchain(family="inet", name=name(profile), rules=rules)


def name(profile: Profile) -> str:
    return f"profile-{profile.name}"


def own(nic: Nic, profile: Profile | None) -> Iterator[Object]:
    """The NIC's own objects: a routed NIC's map entry that leads to PROFILE, or on a bridge the rules themselves."""
    if profile and nic.mode is Mode.ROUTED:
        yield MapElement(family="inet", map=MAP, device=nic.tap, chain=name(profile))
    elif profile:
        yield subchain(profile, nic)


def egress(nic: Nic, profile: Profile | None) -> list[FilterRule]:
    """The rules for the egress chain of a NIC on a bridge that lead to its profile."""
    if profile is None:
        return []
    below = subchain(profile, nic).name
    jumps = [FilterRule(f"meta protocol {kind} jump {below}", "its profile") for kind in ("ip", "ip6")]
    return [*(FilterRule(text, reason) for text, reason in PASSES_FIRST), *jumps]


def obstacle(nic: Nic, profile: Profile | None) -> Failure | None:
    """Why NIC cannot have the profile that its tags name. None if it can, or if no tag names one."""
    wanted = nic.grants.profile
    if wanted is None:
        return None
    tags = " or ".join(sorted(tag for tag in nic.tags if tag.endswith(f":{wanted}"))) or wanted
    if profile is None:
        return Failure(
            f"the instance tag {tags}: there is no profile {wanted}",
            f"note: make /etc/ganeti-vif/profiles.d/{wanted}.nft on all nodes, or: gnt-instance remove-tags",
        )
    if profile.trouble:
        return Failure(f"the instance tag {tags}: {profile.trouble.what}", profile.trouble.do)
    if profile.stateful and nic.mode is not Mode.ROUTED:
        return Failure(
            f"the instance tag {tags}: the profile follows connections (ct, {profile.stateful}), which the node cannot "
            f"do for a {nic.mode.value} NIC",
            "note: give it a profile without ct, or: gnt-instance remove-tags",
        )
    return None
