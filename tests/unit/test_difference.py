# SPDX-License-Identifier: BSD-2-Clause
"""The engine: whatever is there and whatever should be, the changes lead from one to the other, and back.

The model of a node is a dict. It behaves as the outside does: a device keeps the properties that nobody
speaks of, a route or a file is replaced whole, and nothing is made twice or removed when it is not there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import proper

from ganeti_vif.engine.apply import apply, clear
from ganeti_vif.engine.chains import Chain, FilterRule
from ganeti_vif.engine.difference import Alter, Change, Make, Remove, difference, inverse, subject
from ganeti_vif.engine.failure import Failure, Gone
from ganeti_vif.engine.objects import (
    Binding,
    BridgePort,
    BridgeVlan,
    Key,
    Link,
    Origin,
    OvsPort,
    ProxyNeighbour,
    Record,
    Route,
    Rule,
    Sysctl,
    TrunkVlan,
    Up,
)
from ganeti_vif.engine.state import ORDER, Object, state, unmet

DEVICE = st.sampled_from(["tap0", "tap1", "pvn1"])
NUMBER = st.integers(1, 3)
TEXT = st.sampled_from(["a", "b"])
VIDS = st.frozensets(NUMBER, max_size=2)
FULL_LINK = st.builds(
    Link,
    name=DEVICE,
    kind=st.just("bridge"),
    index=NUMBER,
    group=NUMBER,
    mac=TEXT,
    mtu=NUMBER,
    stp=st.booleans(),
    forward_delay=NUMBER,
    vlan_filtering=st.booleans(),
)
WISHED_LINK = st.builds(
    Link,
    name=DEVICE,
    group=st.none() | NUMBER,
    mac=st.none() | TEXT,
    mtu=st.none() | NUMBER,
    stp=st.none() | st.booleans(),
)
OTHERS = st.one_of(
    st.builds(Origin, tap=DEVICE, text=TEXT),
    st.builds(Record, tap=DEVICE, text=TEXT),
    st.builds(
        Chain,
        family=st.just("netdev"),
        name=DEVICE,
        hook=st.sampled_from(["ingress", "egress"]),
        device=DEVICE,
        priority=NUMBER,
        policy=TEXT,
        rules=st.builds(FilterRule, TEXT, TEXT).map(lambda rule: (rule,)),
    ),
    st.builds(Sysctl, path=DEVICE, value=TEXT),
    st.builds(BridgePort, device=DEVICE, bridge=TEXT),
    st.builds(BridgeVlan, device=DEVICE, untagged=NUMBER, tagged=VIDS),
    st.builds(TrunkVlan, device=DEVICE, vid=NUMBER),
    st.builds(OvsPort, device=DEVICE, bridge=TEXT, tag=NUMBER, trunks=VIDS),
    st.builds(Up, device=DEVICE),
    st.builds(Rule, family=st.sampled_from([4, 6]), priority=NUMBER, table=NUMBER, mark=NUMBER),
    st.builds(Route, table=NUMBER, destination=st.just(ip_network("192.0.2.1/32")), device=DEVICE, metric=NUMBER),
    st.builds(
        ProxyNeighbour,
        device=DEVICE,
        address=st.sampled_from([ip_address("192.0.2.1"), ip_address("2001:db8::1")]),
    ),
    st.builds(Binding, directory=st.just("/b"), tap=DEVICE, text=TEXT),
)


def states(link: st.SearchStrategy[Link]) -> st.SearchStrategy[dict[Key, Object]]:
    things = st.lists(st.one_of(link, OTHERS, OTHERS, OTHERS), unique_by=lambda thing: thing.key, max_size=25)
    return things.map(state)


DESIRED, ACTUAL = states(WISHED_LINK), states(FULL_LINK)


@st.composite
def stale_keys(draw: st.DrawFn, actual: dict[Key, Object]) -> list[Key]:
    """Keys of ours, of which some exist."""
    some = draw(st.lists(st.sampled_from(sorted(actual, key=str)), unique=True)) if actual else []
    return [*some, ("up", "tap9")]


class Model:
    """A node made of a dict. FAILS tells the calls (counted from 0) that fail, ALWAYS the keys that do."""

    def __init__(self, things: dict[Key, Object], fails: Iterable[int] = (), always: Iterable[Key] = ()) -> None:
        self.things, self.done = dict(things), list[Change]()
        self._fails, self._always, self._calls = set(fails), set(always), 0

    def perform(self, change: Change) -> None:
        call, self._calls = self._calls, self._calls + 1
        thing = subject(change)
        if call in self._fails or thing.key in self._always:
            raise Failure(f"{thing.key} is broken", "mend it")
        there = self.things.get(thing.key)
        match change:
            case Make(wanted):
                assert there is None, f"made twice: {thing.key}"
                self.things[thing.key] = wanted
            case Alter(_, Link() as wanted):
                assert there is not None
                spoken_of = {
                    f.name: getattr(wanted, f.name) for f in fields(wanted) if getattr(wanted, f.name) is not None
                }
                self.things[thing.key] = replace(there, **spoken_of)
            case Alter(_, wanted):
                assert there is not None
                self.things[thing.key] = wanted
            case Remove():
                if there is None:
                    raise Gone(f"no {thing.key}", "nothing")
                del self.things[thing.key]
        self.done.append(change)


@given(DESIRED, ACTUAL, st.data())
def test_the_changes_make_what_should_be_and_touch_nothing_else(
    desired: dict[Key, Object], actual: dict[Key, Object], data: st.DataObject
) -> None:
    stale = data.draw(stale_keys(actual))
    node = Model(actual)
    apply(difference(desired, actual, stale), node)
    for key, wanted in desired.items():
        assert unmet(wanted, node.things[key]) == ()
    for key in actual.keys() - desired.keys():
        assert node.things.get(key) == (None if key in stale else actual[key])
    assert node.things.keys() <= desired.keys() | actual.keys()
    assert difference(desired, node.things, stale) == ()


@given(DESIRED, ACTUAL, st.data())
def test_what_was_done_can_be_undone(
    desired: dict[Key, Object], actual: dict[Key, Object], data: st.DataObject
) -> None:
    changes = difference(desired, actual, data.draw(stale_keys(actual)))
    node = Model(actual)
    apply(changes, node)
    apply([inverse(change) for change in reversed(changes)], node)
    assert node.things == actual


@given(DESIRED, ACTUAL, st.data())
def test_removals_come_first_and_backwards(
    desired: dict[Key, Object], actual: dict[Key, Object], data: st.DataObject
) -> None:
    changes = difference(desired, actual, data.draw(stale_keys(actual)))
    ranks = [ORDER.index(type(subject(change))) for change in changes]
    removals = sum(isinstance(change, Remove) for change in changes)
    assert all(isinstance(change, Remove) for change in changes[:removals])
    assert ranks[:removals] == sorted(ranks[:removals], reverse=True)
    assert ranks[removals:] == sorted(ranks[removals:])


@given(DESIRED, ACTUAL)
def test_a_failure_at_any_step_leaves_everything_as_it_was(
    desired: dict[Key, Object], actual: dict[Key, Object]
) -> None:
    changes = difference(desired, actual, actual)
    for step in range(len(changes)):
        node = Model(actual, fails=[step])
        with pytest.raises(Failure, match="is broken") as caught:
            apply(changes, node)
        assert node.things == actual
        assert "taking it back" not in proper(caught.value).what


@given(DESIRED, ACTUAL)
def test_an_interrupt_at_any_step_leaves_everything_as_it_was_and_goes_on(
    desired: dict[Key, Object], actual: dict[Key, Object]
) -> None:
    changes = difference(desired, actual)
    for step, at in enumerate(changes):

        def interrupt(change: Change, at: Change = at) -> None:
            if change is at:
                raise KeyboardInterrupt

        node = Model(actual)
        with pytest.raises(KeyboardInterrupt):
            apply(changes, node, interrupt)
        assert node.things == actual
        assert node.done[:step] == list(changes[:step])


def test_what_cannot_be_taken_back_is_said_and_the_rest_is_taken_back() -> None:
    changes = [Make(Up(device=name)) for name in ("a", "b", "c", "d")]
    node = Model({}, fails=[3, 5])  # the fourth change, and the second step of the way back
    with pytest.raises(Failure) as caught:
        apply(changes, node)
    assert caught.value.what == "('up', 'd') is broken (and taking it back: ('up', 'b') is broken)"
    assert [*node.things] == [("up", "b")]


def test_the_last_step_is_taken_back_first() -> None:
    names = ("a", "b", "c")
    node = Model({}, fails=[3])
    with pytest.raises(Failure):
        apply([Make(Up(device=name)) for name in (*names, "d")], node)
    assert node.done[3:] == [Remove(Up(device=name)) for name in reversed(names)]


def test_what_is_gone_already_need_not_be_taken_back() -> None:
    class Vanishing(Model):
        def perform(self, change: Change) -> None:
            if isinstance(change, Make) and change.wanted == Up(device="c"):
                self.things.clear()  # the tap goes, and all that hung on it
                raise Gone("no device c", "nothing")
            super().perform(change)

    with pytest.raises(Gone, match="no device c") as caught:
        apply([Make(Up(device=name)) for name in ("a", "b", "c")], Vanishing({}))
    assert caught.value.what == "no device c"


@given(ACTUAL, st.data())
def test_clearing_does_all_it_can_and_names_all_it_could_not(actual: dict[Key, Object], data: st.DataObject) -> None:
    broken = data.draw(st.sets(st.sampled_from(sorted(actual, key=str)))) if actual else set()
    node = Model(actual, always=broken)
    changes = difference({}, actual, actual)
    if broken:
        with pytest.raises(Failure) as caught:
            clear(changes, node)
        assert caught.value.what.count("is broken") == len(broken)
        assert all(str(key) in caught.value.what for key in broken)
    else:
        clear(changes, node)
    assert node.things.keys() == broken


def test_clearing_what_is_gone_is_success() -> None:
    node = Model({})
    clear([Remove(Up(device="a")), Remove(BridgePort(device="a", bridge="b"))], node)
    assert node.things == {}
    assert node.done == []


@given(DESIRED)
def test_what_is_there_is_not_made_again_and_what_is_not_spoken_of_stays(desired: dict[Key, Object]) -> None:
    assert difference(desired, desired, desired) == ()
    assert difference({}, desired) == ()
    removed = [subject(change) for change in difference({}, desired, [*desired, *desired])]
    assert len(removed) == len(desired)
    assert state(removed) == desired


def test_two_wishes_for_one_thing_are_a_contradiction_and_the_same_wish_twice_is_none() -> None:
    port = BridgePort(device="tap0", bridge="pvn1")
    assert state([port, port]) == {port.key: port}
    with pytest.raises(ValueError, match="pvn2"):
        state([port, BridgePort(device="tap0", bridge="pvn2")])


NONE_MEANS_NONE: list[tuple[Object, Object]] = [
    (
        BridgeVlan(device="t", untagged=None, tagged=frozenset({20})),
        BridgeVlan(device="t", untagged=1, tagged=frozenset({20})),
    ),
    (
        OvsPort(device="t", bridge="b", tag=None, trunks=frozenset()),
        OvsPort(device="t", bridge="b", tag=5, trunks=frozenset()),
    ),
    (
        Route(table=9, destination=ip_network("192.0.2.0/24"), device="eth1"),
        Route(
            table=9,
            destination=ip_network("192.0.2.0/24"),
            device="eth1",
            gateway=ip_address("198.51.100.1"),
        ),
    ),
]


@pytest.mark.parametrize(("wanted", "actual"), NONE_MEANS_NONE, ids=["access VLAN", "OVS tag", "gateway"])
def test_what_should_not_have_something_is_different_from_what_has_it(wanted: Object, actual: Object) -> None:
    assert difference({wanted.key: wanted}, {actual.key: actual}) == (Alter(actual, wanted),)


TAKEN_BACK: list[tuple[Object, Object]] = [
    (
        BridgeVlan(device="t", untagged=None, tagged=frozenset({20})),
        BridgeVlan(device="t", untagged=1, tagged=frozenset()),
    ),
    (
        Route(table=9, destination=ip_network("::/0"), kind="unreachable"),
        Route(table=9, destination=ip_network("::/0"), device="eth1", gateway=ip_address("fe80::1")),
    ),
    (
        Route(table=9, destination=ip_network("192.0.2.0/24"), device="eth1"),
        Route(
            table=9,
            destination=ip_network("192.0.2.0/24"),
            device="eth0",
            gateway=ip_address("198.51.100.1"),
        ),
    ),
]


@pytest.mark.parametrize(("wanted", "actual"), TAKEN_BACK, ids=["access VLAN", "unreachable", "gateway"])
def test_what_is_replaced_whole_comes_back_whole(wanted: Object, actual: Object) -> None:
    node = Model({actual.key: actual})
    change = Alter(actual, wanted)
    apply([change, inverse(change)], node)
    assert node.things[actual.key] == actual


@given(DESIRED)
def test_the_order_of_removals_does_not_depend_on_the_order_of_reading(desired: dict[Key, Object]) -> None:
    backwards = dict(reversed(desired.items()))
    assert difference({}, desired, desired) == difference({}, backwards, backwards)


def test_an_altered_device_is_taken_back_in_what_was_altered_and_no_more() -> None:
    """What a device was in all else is nobody's business: it may be another's by the time of the way back."""
    was = Link(name="tap0", kind="tun", index=7, group=0, mac="aa:00:00:00:00:01", mtu=1500)
    wanted = Link(name="tap0", mac="fe:00:00:00:00:01", mtu=1500)
    assert inverse(Alter(was, wanted)) == Alter(wanted, replace(wanted, mac=was.mac))


def test_what_is_replaced_whole_is_taken_back_whole() -> None:
    old, new = Sysctl(path="tap0", value="0"), Sysctl(path="tap0", value="1")
    assert inverse(Alter(old, new)) == Alter(new, old)


def test_two_that_could_not_be_taken_back_are_told_one_after_the_other_and_a_bug_by_its_name() -> None:
    class Buggy(Model):
        def perform(self, change: Change) -> None:
            if change == Remove(Up(device="a")):
                raise RuntimeError("a bug")
            super().perform(change)

    node = Buggy({}, fails=[3, 4])
    with pytest.raises(Failure) as caught:
        apply([Make(Up(device=name)) for name in ("a", "b", "c", "d")], node)
    left = "('up', 'c') is broken; RuntimeError('a bug')"
    assert caught.value.what == f"('up', 'd') is broken (and taking it back: {left})"


def test_two_that_could_not_be_cleared_are_told_one_after_the_other() -> None:
    node = Model({}, fails=[0, 1])
    with pytest.raises(Failure) as caught:
        clear([Remove(Up(device="a")), Remove(Up(device="b"))], node)
    assert (caught.value.what, caught.value.do) == ("('up', 'a') is broken; ('up', 'b') is broken", "mend it")
