# SPDX-License-Identifier: BSD-2-Clause
"""Creators of networks at the same moment: whatever the order of their moves, and whoever dies when, no two networks get one
link or one name, nothing is lost, and somebody gets through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import creators
import pytest
from creators import Actor, Networks, World, alone, committed, reached, repaired

from ganeti_vif.cluster.creation import (
    FILTERED,
    Commit,
    Creation,
    Look,
    Reason,
    Step,
    Taken,
    Wait,
    Wish,
    Yield,
    creating,
    step,
)
from ganeti_vif.cluster.links import free, free_prefixes, uses
from ganeti_vif.cluster.model import Cluster, Connection, Network, Nic


def wishes(count: int, *links: str, groups: tuple[str, ...] = ("default",), name: str = "") -> tuple[Wish, ...]:
    return tuple(Wish(name=name or f"net{at}", links=links, groups=groups) for at in range(count))


FILTERS = tuple(
    Wish(name=f"net{at}", links=("pvn1", "pvn2"), groups=("default",), mac_prefix=prefix, tags=frozenset({FILTERED}))
    for at, prefix in enumerate(("aa:00:01", "aa:00:02"))
)
THERE = Network(
    uuid="5-0", name="there", connections=(Connection(group="other", mode="bridged", link="pvn1"),)
)  # somebody made it by hand
WORLDS = {
    "three creators, one link": World(wishes=wishes(3, "pvn1")),
    "three creators, three links": World(wishes=wishes(3, "pvn1", "pvn2", "pvn3")),
    "three creators of one name": World(wishes=wishes(3, "pvn1", "pvn2", "pvn3", name="net")),
    "two creators, two groups": World(wishes=wishes(2, "pvn1", "pvn2", groups=("one", "two")), attempts=3),
    "later attempts get lower UUIDs": World(wishes=wishes(2, "pvn1", "pvn2"), attempts=3, higher=False),
    "old answers": World(wishes=wishes(2, "pvn1", "pvn2"), attempts=2, old=True),
    "a repairer who does not wait": World(wishes=wishes(2, "pvn1"), repairs=True),
    "a repairer with old answers": World(wishes=wishes(2, "pvn1"), repairs=True, old=True),
    "a network made by hand": World(wishes=wishes(2, "pvn1", "pvn2"), attempts=2, before=(THERE,)),
    "networks that share a link": World(wishes=FILTERS),
}
worlds = pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)


def apart(networks: Networks) -> bool:
    """Whether no two committed networks have one name, or one link that they do not share by MAC prefixes."""
    done = committed(networks)
    claims = [claim for one in done for claim in (one.name, *((link, one.mac_prefix) for link in one.links))]
    return len(claims) == len(set(claims))


def whole(networks: Networks, groups: tuple[str, ...]) -> bool:
    """Whether each committed network that was created is connected in each of GROUPS, to one link."""
    mine = [one for one in committed(networks) if one.name.startswith("net")]
    return all(one.groups == set(groups) and len(one.links) == 1 for one in mine)


@worlds
def test_in_every_state_networks_are_apart_and_whole_and_repair_finds_the_rest(world: World) -> None:
    checked = set[Networks]()
    for _, networks in reached(world):
        if networks in checked:
            continue
        checked.add(networks)
        assert apart(networks), networks
        assert whole(networks, world.wishes[0].groups), networks
        assert repaired(networks) == committed(networks)
    assert len(checked) > 10


@worlds
def test_from_every_state_a_creator_gets_to_its_end_though_all_others_are_dead(world: World) -> None:
    checked = set[tuple[int, object, Networks]]()
    for actors, networks in reached(world):
        for at, actor in enumerate(actors):
            if not isinstance(actor, Actor) or (at, actor.creation, networks) in checked:
                continue
            checked.add((at, actor.creation, networks))
            last, then = alone(world, at, actor, networks)
            assert apart(then)
            if last.reason is None and not actor.over:
                mine = [one for one in then if one.name == world.wishes[at].name and creating(one) is None]
                assert mine or world.repairs
            if last.reason is not None and not world.repairs:
                assert not [one for one in then if f":{at}" in (creating(one) or "")], "nothing of it is left"
    assert checked


@pytest.mark.parametrize(("count", "links"), [(2, 1), (3, 1), (2, 2), (3, 3)])
def test_while_all_live_somebody_gets_the_last_link_and_all_get_one_if_there_are_enough(count: int, links: int) -> None:
    names = [f"pvn{number}" for number in range(1, links + 1)]
    world = World(wishes=wishes(count, *names), attempts=1)
    ends = [
        (actors, networks)
        for actors, networks in reached(world)
        if all(isinstance(a, Actor) and a.over for a in actors)
    ]
    assert ends
    for _, networks in ends:
        assert networks == committed(networks)
    # Who waited and lost patience though nobody is dead may fail, so this is of the others.
    patient = [(a, n) for a, n in ends if not any(isinstance(one, Actor) and one.reason is Reason.STUCK for one in a)]
    assert patient and all(len(networks) >= 1 for _, networks in patient)
    assert any(len(networks) == min(count, links) for _, networks in patient)


def careless(wrong: Callable[[Step], Step]) -> Callable[[Creation, Cluster], Step]:
    return lambda creation, cluster: wrong(step(creation, cluster))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda todo: Commit() if isinstance(todo, Wait) else todo,
        lambda todo: Commit() if isinstance(todo, Yield) and todo.reason is Reason.CLAIMED else todo,
    ],
    ids=["the lowest UUID does not wait", "nobody yields"],
)
def test_the_model_finds_a_protocol_that_is_wrong(
    wrong: Callable[[Step], Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(creators, "step", careless(wrong))
    assert not all(apart(networks) for _, networks in reached(World(wishes=wishes(2, "pvn1"))))


def test_to_commit_on_an_old_answer_would_be_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def blind(creation: Creation, cluster: Cluster) -> Step:
        todo = step(creation, cluster)
        return Commit() if isinstance(todo, Look) and creation.asked and not creation.leaving else todo

    monkeypatch.setattr(creators, "step", blind)
    assert not all(apart(networks) for _, networks in reached(World(wishes=wishes(2, "pvn1"), old=True)))


NETWORKS = (
    Network(
        uuid="1", name="a", mac_prefix="aa:00:01", connections=(Connection(group="g", mode="bridged", link="pvn1"),)
    ),
)
NIC = Nic(uuid="n", instance="web.example.com", index=2, mode="bridged", link="pvn2")


def test_a_link_is_used_by_networks_and_by_nics_that_name_it() -> None:
    cluster = Cluster(networks=NETWORKS, nics=(NIC,))
    assert free(["pvn1", "pvn2", "pvn3"], cluster) == ("pvn3",)
    assert uses(cluster)["pvn2"].nics == (NIC,)


def test_a_prefix_is_free_that_no_network_has_and_that_is_not_ganetis_own() -> None:
    found = free_prefixes(Cluster(networks=NETWORKS))
    assert [next(found), next(found)] == ["aa:00:02", "aa:00:03"]


def added(uuid: str, *, link: str = "", nonce: str = "00", name: str = "net0", prefix: str = "") -> Network:
    there = (Connection(group="default", mode="bridged", link=link),) if link else ()
    tags = frozenset(Creation(wish=wishes(1)[0], nonce=nonce).tags)
    return Network(uuid=uuid, name=name, tags=tags, connections=there, mac_prefix=prefix)


ASKED = (("default", "pvn1"),)


def test_a_nic_that_names_the_link_was_first() -> None:
    creation = Creation(wish=wishes(1, "pvn1")[0], nonce="00", added=True, uuid="1", asked=ASKED)
    nic = Nic(uuid="n", instance="web", index=0, link="pvn1")
    assert step(creation, Cluster(networks=(added("1", link="pvn1"),), nics=(nic,))) == Yield(Reason.CLAIMED)


def test_two_networks_of_one_mac_prefix_do_not_share_a_link() -> None:
    creation = Creation(wish=FILTERS[0], nonce="00", added=True, uuid="1", asked=ASKED)
    mine = replace(added("1", link="pvn1", prefix="aa:00:01"), tags=frozenset({*creation.tags, FILTERED}))
    for prefix, expected in (("aa:00:02", Commit()), ("aa:00:01", Yield(Reason.CLAIMED)), ("", Yield(Reason.CLAIMED))):
        there = Connection(group="default", mode="bridged", link="pvn1")
        other = Network(uuid="2", name="b", tags=frozenset({FILTERED}), mac_prefix=prefix, connections=(there,))
        assert step(creation, Cluster(networks=(mine, other))) == expected


def test_a_network_that_somebody_removed_is_not_waited_for() -> None:
    creation = Creation(wish=wishes(1, "pvn1")[0], nonce="00", added=True, uuid="1")
    assert step(creation, Cluster()) == Taken()
