# SPDX-License-Identifier: BSD-2-Clause
"""Creating a network while others do the same: the next step of a creator, by what it did and what Ganeti shows. Pure.

Ganeti has no lock for a link or for the name of a network: several networks may get one link, or one name. So a creator
claims first and looks then. It adds its network with two tags, connects it, looks, and either commits or undoes all.

* CREATING with a nonce: a creator works at this network. The nonce tells the creator which network is its own.
* UNFINISHED: nobody may use this network yet.

Commit removes both tags in one job. `network repair` takes over what a dead creator left: it removes CREATING alone.
Removing tags is atomic, and it fails if one of them is missing (ganeti lib/cmdlib/tags.py, LUTagsDel at 3.0.2). So only
one of the two succeeds, and the tags say afterwards which one.

Why two committed networks never have the same link: of two creators, one connected later. It looks after it connected,
so it sees the other one (a look counts only if it shows the creator's own claims: Ganeti answers from a copy of its
configuration that may be old, but never without an earlier change and with a later one). It yields to a committed
network and to a creator with a lower UUID. It waits for a creator with a higher UUID, until that one has committed
or is gone. So the one that connected later never commits while the other keeps the link. The same holds for names.

Why it ends: a creator waits for higher UUIDs only, so two never wait for each other; whoever waits too long yields.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum, auto

from ganeti_vif.cluster.links import free, free_prefixes, uses
from ganeti_vif.cluster.model import Cluster, Network

CREATING = "ganeti-vif:creating:"
"""The beginning of a tag; the creator's nonce follows."""
UNFINISHED = "ganeti-vif:unfinished"
FILTERED = "private-filtered"
"""The tag of networks that share a link, each with a MAC prefix of its own (docs/guard.md)."""
AUTO = "auto"


def creating(network: Network) -> str | None:
    """The tag by which a creator works at NETWORK, or None."""
    return next((tag for tag in sorted(network.tags) if tag.startswith(CREATING)), None)


def unfinished(network: Network) -> bool:
    """Whether NETWORK is being created or destroyed, or was left so."""
    return UNFINISHED in network.tags or creating(network) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """The network that somebody wants. It gets one of LINKS, in each of GROUPS.

    MAC_PREFIX is empty, a prefix such as aa:00:01, or AUTO: one that no other network has. TAGS are the network's own;
    with FILTERED it may share its link with other networks that have that tag.
    """

    name: str
    links: tuple[str, ...]
    groups: tuple[str, ...]
    subnet: str = ""
    gateway: str = ""
    subnet6: str = ""
    gateway6: str = ""
    mac_prefix: str = ""
    tags: frozenset[str] = frozenset()

    @property
    def shares(self) -> bool:
        return FILTERED in self.tags


class Reason(Enum):
    """Why a creator undoes what it did."""

    NAME = auto()
    """Another network has the name, or a creator has it that was first."""
    CLAIMED = auto()
    """Another network has the link or the MAC prefix: the creator tries again with another one."""
    EXHAUSTED = auto()
    """No link is free."""
    STUCK = auto()
    """The creator waited too long for another one: it tries again."""
    FAILED = auto()
    """A job failed, or somebody interrupted the creator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Creation:
    """What a creator did until now. UUID: its network's, once seen. ASKED: the connections that it made, as (group,
    link). LEAVING: why it undoes all. REMOVED, COMMITTED: how it ended."""

    wish: Wish
    nonce: str
    added: bool = False
    uuid: str = ""
    asked: tuple[tuple[str, str], ...] = ()
    leaving: Reason | None = None
    removed: bool = False
    committed: bool = False
    taken: bool = False

    @property
    def tags(self) -> tuple[str, str]:
        """The tags that only an unfinished network has."""
        return (f"{CREATING}{self.nonce}", UNFINISHED)


@dataclass(frozen=True, slots=True)
class Look:
    """Ask Ganeti again: its answer is older than what this creator did."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask Ganeti again later: the network WHOM was not first and must yield, or has committed without our seeing it."""

    whom: str


@dataclass(frozen=True, slots=True)
class Add:
    """Add the network, with MAC_PREFIX."""

    mac_prefix: str


@dataclass(frozen=True, slots=True)
class Connect:
    """Connect the network to LINK in GROUP."""

    group: str
    link: str


@dataclass(frozen=True, slots=True)
class Commit:
    """Remove both tags at once: the network may be used from now on."""


@dataclass(frozen=True, slots=True)
class Yield:
    """Undo all, for that REASON."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Disconnect the network from GROUP."""

    group: str


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove the network."""


@dataclass(frozen=True, slots=True)
class End:
    """Nothing is left to do."""


@dataclass(frozen=True, slots=True)
class Taken:
    """`network repair` took the network away, because its creator seemed dead. It removes the network, too."""


Step = Look | Wait | Add | Connect | Commit | Yield | Disconnect | Remove | End | Taken


def seen(creation: Creation, cluster: Cluster) -> Creation:
    """CREATION with the UUID of its network, if CLUSTER shows it."""
    if creation.uuid or not creation.added:
        return creation
    mine = (network.uuid for network in cluster.networks if creation.tags[0] in network.tags)
    return replace(creation, uuid=next(mine, ""))


def step(creation: Creation, cluster: Cluster) -> Step:
    """The next step of a creator that sees CLUSTER."""
    if creation.committed or creation.removed:
        return End()
    if creation.taken:
        return Taken()
    if creation.leaving:
        return _undoing(creation)
    if not creation.added:
        return _first(creation, cluster)
    mine = next((network for network in cluster.networks if network.uuid == creation.uuid), None)
    if not creation.uuid or mine is None:
        # A removed network is no old answer: the answers never go back in time. repair removes only what it took.
        return Taken() if creation.uuid else Look()
    if creation.tags[0] not in mine.tags:
        return Taken()
    return _next(creation, mine, cluster)


def _undoing(creation: Creation) -> Step:
    if not creation.added:
        return End()
    if not creation.uuid:
        return Look()
    return Disconnect(creation.asked[-1][0]) if creation.asked else Remove()


def _first(creation: Creation, cluster: Cluster) -> Step:
    wish = creation.wish
    if any(network.name == wish.name for network in cluster.networks):
        return Yield(Reason.NAME)
    if not _choices(wish, cluster):
        return Yield(Reason.EXHAUSTED)
    if wish.mac_prefix != AUTO:
        return Add(wish.mac_prefix)
    # Two creators at one moment rarely have nonces that lead to the same prefix.
    found = [prefix for _, prefix in zip(range(256), free_prefixes(cluster), strict=False)]
    return Add(found[int(creation.nonce, 16) % len(found)]) if found else Yield(Reason.EXHAUSTED)


def _next(creation: Creation, mine: Network, cluster: Cluster) -> Step:
    """The next step of a creator whose network exists as MINE."""
    shown = {(connection.group, connection.link) for connection in mine.connections}
    if not shown.issuperset(creation.asked):
        return Look()
    waiting = None
    for rival, reason in _rivals(creation.wish, mine, cluster):
        if creating(rival) is None or rival.uuid < mine.uuid:
            return Yield(reason)
        waiting = rival.uuid
    if any(use.nics for link, use in uses(cluster).items() if link in mine.links):
        return Yield(Reason.CLAIMED)
    for group in creation.wish.groups:
        if group not in dict(creation.asked):
            link = creation.asked[0][1] if creation.asked else _choice(creation.wish, mine, cluster)
            return Connect(group, link) if link else Yield(Reason.EXHAUSTED)
    return Wait(waiting) if waiting else Commit()


def _rivals(wish: Wish, mine: Network, cluster: Cluster) -> Iterator[tuple[Network, Reason]]:
    """The other networks of CLUSTER that claim what MINE claims."""
    for other in cluster.networks:
        if other.uuid == mine.uuid:
            continue
        if other.name == mine.name:
            yield other, Reason.NAME
        elif _same_prefix(wish, mine, other) or mine.links & other.links and not _share(mine, other):
            yield other, Reason.CLAIMED


def _same_prefix(wish: Wish, mine: Network, other: Network) -> bool:
    return wish.mac_prefix == AUTO and other.mac_prefix == mine.mac_prefix


def _share(one: Network, other: Network) -> bool:
    """Whether two networks may have the same link, because the guard separates them by their MAC prefixes."""
    prefixes = {one.mac_prefix, other.mac_prefix} - {""}
    return len(prefixes) == 2 and FILTERED in one.tags and FILTERED in other.tags


def _choices(wish: Wish, cluster: Cluster) -> tuple[str, ...]:
    """The links that WISH may have."""
    if not wish.shares:
        return free(wish.links, cluster)
    shared = [
        link
        for link, use in uses(cluster).items()
        if link in wish.links and not use.nics and all(FILTERED in network.tags for network in use.networks)
    ]
    return (*(link for link in wish.links if link in shared), *free(wish.links, cluster))


def _choice(wish: Wish, mine: Network, cluster: Cluster) -> str | None:
    """The link that WISH takes: the lowest free one, and the next ones if others choose at the same time."""
    choices = _choices(wish, cluster)
    if not choices or wish.shares:
        return choices[0] if choices else None
    before = [one for one in cluster.networks if creating(one) and not one.connections and one.uuid < mine.uuid]
    return choices[len(before) % len(choices)]


def after(creation: Creation, done: Step) -> Creation:
    """CREATION after the step DONE was done."""
    match done:
        case Add():
            return replace(creation, added=True)
        case Connect(group, link):
            return replace(creation, asked=(*creation.asked, (group, link)))
        case Disconnect(group):
            return replace(creation, asked=tuple(one for one in creation.asked if one[0] != group))
        case Yield(reason):
            return replace(creation, leaving=reason)
        case Remove():
            return replace(creation, removed=True)
        case Commit():
            return replace(creation, committed=True)
        case Taken():
            return replace(creation, taken=True)
    return creation
