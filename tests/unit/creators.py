# SPDX-License-Identifier: BSD-2-Clause
"""Creators, a repairer and Ganeti as a model: every state that they can get into, in any order of their moves.

A creator that dies between two of its moves is one that makes no further move, and the others go on. So the states that can be
reached with deaths are the same ones.

Each of them has a view of Ganeti's configuration, which may be as old as it was when it last looked: the remote API's answers
are old, and time passes between an answer and what is done about it. Looking is a move of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from ganeti_vif.cluster import leftovers
from ganeti_vif.cluster.creation import (
    UNFINISHED,
    Add,
    Commit,
    Connect,
    Creation,
    Disconnect,
    End,
    Look,
    Reason,
    Remove,
    Step,
    Taken,
    Wait,
    Wish,
    Yield,
    after,
    seen,
    step,
    unfinished,
)
from ganeti_vif.cluster.model import Cluster, Connection, Network

Networks = tuple[Network, ...]


def changed(networks: Networks, uuid: str, **fields: object) -> Networks:
    return tuple(replace(one, **fields) if one.uuid == uuid else one for one in networks)  # type: ignore[arg-type]


def added(networks: Networks, network: Network) -> Networks:
    return tuple(sorted((*networks, network), key=lambda one: one.uuid))


def untagged(networks: Networks, uuid: str, tags: set[str]) -> Networks | None:
    """All TAGS removed, or None: Ganeti removes all or none."""
    one = next((one for one in networks if one.uuid == uuid), None)
    return changed(networks, uuid, tags=one.tags - tags) if one and tags <= one.tags else None


def connected(networks: Networks, uuid: str, group: str, link: str) -> Networks:
    """Connected, unless it is connected there: then nothing happens, and that is a success."""
    one = next((one for one in networks if one.uuid == uuid), None)
    if one is None or group in one.groups:
        return networks
    there = Connection(group=group, mode="bridged", link=link)
    return changed(networks, uuid, connections=(*one.connections, there))


def disconnected(networks: Networks, uuid: str, group: str) -> Networks:
    left = [[c for c in one.connections if c.group != group] for one in networks if one.uuid == uuid]
    return changed(networks, uuid, connections=tuple(left[0])) if left else networks


@dataclass(frozen=True)
class Actor:
    """A creator: its ATTEMPT, what it did, and its VIEW. OVER: it ended, without a network if there is a REASON."""

    creation: Creation
    view: Networks | None = None
    attempt: int = 0
    over: bool = False
    reason: Reason | None = None


@dataclass(frozen=True)
class Repairer:
    """`network repair`, again and again, with its VIEW. It takes what it sees, whoever lives; it may stop after any move."""

    view: Networks | None = None


Move = tuple[Actor | Repairer, Networks]


@dataclass(frozen=True, kw_only=True)
class World:
    """What is explored: a WISH for each creator, the ATTEMPTS of each, and whether later attempts get HIGHER or lower UUIDs.

    OLD: a look may show less than what the creator itself did. Without it, a look shows the present, and what is done about it
    is done at any time later. That is as good, if a creator whose view lacks its own deeds only looks again; and smaller.
    """

    wishes: tuple[Wish, ...]
    attempts: int = 1
    higher: bool = True
    old: bool = False
    repairs: bool = False
    before: Networks = ()

    def actors(self) -> tuple[Actor | Repairer, ...]:
        creators = tuple(Actor(self._creation(at, 0)) for at in range(len(self.wishes)))
        return (*creators, Repairer()) if self.repairs else creators

    def _creation(self, at: int, attempt: int) -> Creation:
        return Creation(wish=self.wishes[at], nonce=f"{at}{attempt}")

    def _uuid(self, at: int, attempt: int) -> str:
        return f"{attempt if self.higher else 9 - attempt}-{at}"

    def moves(self, at: int, actor: Actor | Repairer, networks: Networks) -> list[Move]:
        """What the actor AT may do next: how it and NETWORKS are then."""
        if isinstance(actor, Repairer):
            return [*self._repairs(actor, networks)]
        return [] if actor.over else [*self._creates(at, actor, networks)]

    def _creates(self, at: int, actor: Actor, networks: Networks) -> Iterator[Move]:
        looks = replace(actor, view=networks), networks
        if actor.view is None:
            yield looks
            return
        view = Cluster(networks=actor.view)
        creation = seen(actor.creation, view)
        todo = step(creation, view)
        if self.old or isinstance(todo, Look | Wait):
            yield looks
        if isinstance(todo, Look):
            return
        if isinstance(todo, Wait):
            todo = Yield(Reason.STUCK)  # it may lose its patience at any time
        if isinstance(todo, Yield):  # only a thought: the next step belongs to it
            creation = after(creation, todo)
            todo = step(creation, view)
        if isinstance(todo, End | Taken):
            yield self._ended(at, replace(actor, creation=creation), todo), networks
            return
        then = self._done(networks, at, actor, creation, todo)
        new = after(creation, todo) if then is not None else replace(creation, taken=True)
        yield replace(actor, creation=new, view=actor.view if self.old else None), networks if then is None else then

    def _ended(self, at: int, actor: Actor, todo: Step) -> Actor:
        leaving = actor.creation.leaving
        again = leaving in (Reason.CLAIMED, Reason.STUCK) and actor.attempt + 1 < self.attempts
        if isinstance(todo, End) and again:
            return Actor(self._creation(at, actor.attempt + 1), None, actor.attempt + 1)
        return Actor(self._creation(at, 0), None, 0, True, leaving)

    def _done(self, networks: Networks, at: int, actor: Actor, creation: Creation, todo: Step) -> Networks | None:
        """NETWORKS after the step TODO; None if a tag was missing."""
        uuid = creation.uuid
        match todo:
            case Add(prefix):
                tags = creation.wish.tags | set(creation.tags)
                new = self._uuid(at, actor.attempt)
                return added(networks, Network(uuid=new, name=creation.wish.name, tags=tags, mac_prefix=prefix))
            case Connect(group, link):
                return connected(networks, uuid, group, link)
            case Disconnect(group):
                return disconnected(networks, uuid, group)
            case Remove():
                return tuple(one for one in networks if one.uuid != uuid)
            case Commit():
                return untagged(networks, uuid, set(creation.tags))
        return networks

    def _repairs(self, repairer: Repairer, networks: Networks) -> Iterator[Move]:
        if self.old or repairer.view is None:
            yield replace(repairer, view=networks), networks
        view = Cluster(networks=repairer.view or ())
        for network in view.networks:
            if todo := leftovers.mend(network, view):
                yield repairer if self.old else Repairer(), mended(networks, todo)


def alone(world: World, at: int, actor: Actor, networks: Networks) -> tuple[Actor, Networks]:
    """How it ends if from now on nobody else makes a move. Raises AssertionError if it does not end."""
    for _ in range(100):
        if actor.over:
            return actor, networks
        moves = world.moves(at, replace(actor, view=None), networks)
        moves = world.moves(at, moves[0][0], networks)
        if moves == [(replace(actor, view=networks), networks)]:
            # It looks and looks for a network that repair took before it was seen. It gives up, and says so.
            return replace(actor, over=True, reason=Reason.STUCK), networks
        actor, networks = moves[-1]  # type: ignore[assignment]  # a creator stays one
    raise AssertionError(f"no end: {actor}")


def mended(networks: Networks, todo: leftovers.Mend) -> Networks:
    """NETWORKS after the step TODO of repair."""
    match todo:
        case leftovers.Take(one, tag):
            return untagged(networks, one.uuid, {tag}) or networks
        case leftovers.Release(one):
            return untagged(networks, one.uuid, {UNFINISHED}) or networks
        case leftovers.Disconnect(one, group):
            return disconnected(networks, one.uuid, group)
        case leftovers.Remove(one):
            return tuple(other for other in networks if other.uuid != one.uuid)


T = TypeVar("T")


class Numbers(Generic[T]):
    """A number for each thing: numbers are compared faster than networks."""

    def __init__(self) -> None:
        self._numbers: dict[T, int] = {}
        self.things: list[T] = []

    def number(self, thing: T) -> int:
        if thing not in self._numbers:
            self._numbers[thing] = len(self.things)
            self.things.append(thing)
        return self._numbers[thing]


def reached(world: World) -> Iterator[tuple[tuple[Actor | Repairer, ...], Networks]]:
    """Every state that can be reached: the actors, and the networks that Ganeti has."""
    actors, configurations = Numbers[Actor | Repairer](), Numbers[Networks]()
    moves: dict[tuple[int, int, int], list[tuple[int, int]]] = {}

    def next_of(at: int, actor: int, now: int) -> list[tuple[int, int]]:
        key = at, actor, now
        if key not in moves:
            found = world.moves(at, actors.things[actor], configurations.things[now])
            moves[key] = [(actors.number(one), configurations.number(networks)) for one, networks in found]
        return moves[key]

    start = (configurations.number(world.before), *map(actors.number, world.actors()))
    known, todo = {start}, [start]
    while todo:
        state = todo.pop()
        now = state[0]
        for at in range(1, len(state)):
            for actor, networks in next_of(at - 1, state[at], now):
                move = (networks, *state[1:at], actor, *state[at + 1 :])
                if move not in known:
                    known.add(move)
                    todo.append(move)
    for now, *rest in known:
        yield tuple(actors.things[one] for one in rest), configurations.things[now]


def committed(networks: Networks) -> Networks:
    return tuple(one for one in networks if not unfinished(one))


def repaired(networks: Networks) -> Networks:
    """What is left after a repair that nothing disturbs."""
    for _ in range(100):
        cluster = Cluster(networks=networks)
        mends = [mend for one in networks if (mend := leftovers.mend(one, cluster))]
        if not mends:
            return networks
        networks = mended(networks, mends[0])
    raise AssertionError("repair has no end")
