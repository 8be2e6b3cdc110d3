# SPDX-License-Identifier: BSD-2-Clause
"""A routed guest moves between two nodes of one uplink: at each moment one node answers for it, the right one."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from ganeti_vif.daemon.tasks import AGAIN
from tests.lab import Node, PacketSocket, Tap

from .actions import answer, arp, attach, complaint, differences, link, manage, udp, vif_script
from .environment import GATEWAY, mac, public, public6, routed
from .migration_site import BEYOND, LIES, ROUTER, Site, arriving, connected, hook, link_of, moving, state, still, urgent
from .vifd import said, until


@pytest.fixture
def site(stack: ExitStack) -> Iterator[Site]:
    with connected(stack) as site:
        yield site


def test_a_guest_is_answered_for_where_it_runs(site: Site, stack: ExitStack) -> None:
    before, arrival = moving(site, stack)
    assert site.asked() == {"node1"}, "nothing is said of it before it runs there"
    assert differences(site.target) == []
    site.router.clear()
    arrival.speak()
    site.told(site.target)
    until(lambda: state(site.source) == "elsewhere", "the source's leave")
    assert site.asked() == {"node2"}
    assert differences(site.source) == differences(site.target) == []
    late = udp(ROUTER, link(site.source, "eth1")["address"], BEYOND, public(5), "late")
    with PacketSocket(site.target, "eth1") as ears:
        site.router.send(late)
        ears.expect(lambda frame: b"late" in frame, "what still went to the source")
    attach(site.target, routed(link_of(site.target)))  # Ganeti's own call, a second later
    before.close()
    until(lambda: state(site.source) is None, "the end of it on the source")
    assert site.asked() == {"node2"}
    assert differences(site.source) == differences(site.target) == []
    arrival.die()


def test_a_guest_that_comes_back_is_answered_for_again(site: Site, stack: ExitStack) -> None:
    """The migration failed at the last moment: the target's QEMU is killed, and the source's goes on."""
    before, arrival = moving(site, stack)
    arrival.speak()
    until(lambda: state(site.source) == "elsewhere", "the source's leave")
    arrival.die()
    until(lambda: state(site.target) is None, "the end of it on the target")
    site.router.clear()
    before.send(arp(mac(5), public(5), GATEWAY))
    site.told(site.source)
    assert site.asked() == {"node1"}
    assert differences(site.source) == differences(site.target) == []


def others(found: list[str]) -> list[str]:
    """What check FOUND besides addresses that another machine has, too."""
    return [line for line in found if " is also used by " not in line]


def test_a_guest_that_cannot_be_answered_for_is_told_of_and_answered_for_as_soon_as_it_can(
    site: Site, stack: ExitStack
) -> None:
    """Whether it speaks again or not: Ganeti does not ask a second time."""
    _, arrival = moving(site, stack)
    with Tap(site.target) as other:
        attach(site.target, routed(other.name, 9, IP=public(5)))
        arrival.speak()
        until(lambda: state(site.target) == "not attached", "the refusal")
        until(lambda: state(site.source) == "elsewhere", "the source's leave")
        told, why = others(differences(site.target))
        assert told.startswith("not attached: vm5.example.com NIC 0")
        assert "vm5.example.com NIC 0" in why and "vm9.example.com NIC 0" in why and public(5) in why
        assert link_of(site.target) in answer(site.target, "status")["daemon"]["retrying"]
    until(lambda: state(site.target) == "ok", "the answers for it")
    assert site.asked() == {"node2"}
    assert differences(site.source) == differences(site.target) == []
    until(lambda: not answer(site.target, "status")["daemon"]["retrying"], "no more attempts")
    arrival.die()


def test_what_ganeti_is_refused_after_a_move_is_told_although_the_guest_is_silent(site: Site, stack: ExitStack) -> None:
    _, arrival = moving(site, stack)
    with Tap(site.target) as other:
        attach(site.target, routed(other.name, 9, IP=public(5)))
        complaint(vif_script(site.target, routed(link_of(site.target))))
        assert state(site.target) == "not attached"
        assert differences(site.target)[0].startswith("not attached: vm5.example.com NIC 0")
    until(lambda: state(site.target) == "ok", "the answers for it")
    until(lambda: state(site.source) == "elsewhere", "the source's leave")
    assert site.asked() == {"node2"}
    assert differences(site.source) == differences(site.target) == []
    arrival.die()


def test_a_guest_that_could_not_be_attached_is_not_attached_after_it_has_left(site: Site, stack: ExitStack) -> None:
    still(site.target, stack)
    with Tap(site.source) as other:
        attach(site.source, routed(other.name, 9, IP=public6(5)))
        before = stack.enter_context(Tap(site.source))
        complaint(vif_script(site.source, routed(before.name)))
        for node in (site.source, site.target):
            hook(node)
        arrival = arriving(site.target)
        until(lambda: state(site.target) == "elsewhere", "the target's readiness")
        arrival.speak()
        until(lambda: state(site.source) == "elsewhere", "the source's leave")
        assert others(differences(site.source)) == [], "what is the other's stays"
    until(lambda: len(answer(site.source, "status")["nics"]) == 1, "the end of the other")
    until(lambda: state(site.target) == "ok", "the answers for it")
    assert site.asked() == {"node2"}
    assert differences(site.source) == others(differences(site.target)) == []
    arrival.die()


def test_a_guest_that_floods_while_it_moves_is_answered_for(site: Site, stack: ExitStack) -> None:
    """Whatever it sends: it is answered for, by one node, and both daemons still answer questions."""
    _, arrival = moving(site, stack)
    stop = threading.Event()

    def floods() -> None:
        while not stop.is_set():
            arrival.speak()

    flood = threading.Thread(target=floods)
    flood.start()
    try:
        site.told(site.target)
        until(lambda: state(site.source) == "elsewhere", "the source's leave")
        until(lambda: state(site.target) == "ok", "the answers for it")
        assert site.asked() == {"node2"}
    finally:
        stop.set()
        flood.join()
    assert differences(site.source) == differences(site.target) == []
    arrival.die()


@pytest.mark.parametrize("how", ["detached", "record removed"])
def test_a_guest_that_nobody_waits_for_any_more_leaves_nothing(site: Site, how: str, stack: ExitStack) -> None:
    """Its record goes before its tap. Whoever listened to that tap would be deaf to the next one of its name."""
    _, arrival = moving(site, stack)
    tap = link_of(site.target)
    if how == "detached":
        manage(site.target, "detach", tap)
    else:
        site.target.path(f"/run/ganeti-vif/nics/{tap}.json").unlink()
    arrival.die()
    until(lambda: not urgent(site.target), "the end of it")
    hook(site.target)
    again = arriving(site.target)
    until(lambda: state(site.target) == "elsewhere", "the target's readiness")
    assert link_of(site.target) == tap
    again.speak()
    until(lambda: state(site.target) == "ok", "the answers for it")
    assert site.asked() == {"node2"}
    again.die()


def test_a_guest_that_nobody_announced_is_attached_when_ganeti_asks(site: Site, stack: ExitStack) -> None:
    still(site.target, stack)
    arrival = arriving(site.target)
    tap = "tap1"
    assert "UP" not in link(site.target, tap)["flags"]
    attach(site.target, routed(tap))
    assert site.asked() == {"node2"}
    arrival.die()


@pytest.mark.parametrize("changes", [{"GANETI_MIGRATE_CLEANUP": "True"}, {"GANETI_NEW_PRIMARY": "node3.example.com"}])
def test_what_is_no_move_to_this_node_prepares_nothing(site: Site, changes: dict[str, str], stack: ExitStack) -> None:
    still(site.target, stack)
    hook(site.target, **changes)
    arrival = arriving(site.target)
    assert site.asked() == set()
    assert state(site.target) is None
    arrival.die()


def test_a_guest_that_is_announced_elsewhere_is_let_go(site: Site, stack: ExitStack) -> None:
    """The target's first word was lost. What only asks for the address is none."""
    still(site.target, stack)
    one = stack.enter_context(Tap(site.source))
    attach(site.source, routed(one.name))
    hook(site.source)
    assert site.asked() == {"node1"}
    site.router.send(arp(ROUTER, public(5), public(5)))
    until(lambda: state(site.source) == "elsewhere", "the source's leave")
    assert differences(site.source) == []


@pytest.mark.parametrize("lie", LIES, ids=["ARP", "RARP"])
def test_a_guest_that_did_not_leave_is_answered_for_again_when_it_speaks(
    site: Site, lie: bytes, stack: ExitStack
) -> None:
    """Somebody on the uplink lied about it while Ganeti was about to migrate it."""
    still(site.target, stack)
    one = stack.enter_context(Tap(site.source))
    attach(site.source, routed(one.name))
    hook(site.source)
    site.router.send(lie)
    until(lambda: state(site.source) == "elsewhere", "the source's leave")
    site.router.clear()
    one.send(arp(mac(5), public(5), GATEWAY))
    site.told(site.source)
    assert site.asked() == {"node1"}
    assert differences(site.source) == []


def test_a_node_announces_no_guest_that_has_left(site: Site, stack: ExitStack) -> None:
    """It moves as soon as it was started: its node would still repeat the first announcement."""
    before = stack.enter_context(Tap(site.source))
    attach(site.source, routed(before.name))
    for node in (site.source, site.target):
        hook(node)
    arrival = arriving(site.target)
    until(lambda: state(site.target) == "elsewhere", "the target's readiness")
    here = link(site.target, "eth1")["address"]
    site.router.clear()
    arrival.speak()
    until(lambda: state(site.source) == "elsewhere", "the source's leave")
    site.told(site.target)  # until then the source may have spoken
    for _ in range(2 * len(AGAIN)):  # a request and a reply each time
        assert site.told(site.target) == {here}
    arrival.die()


def test_a_migration_that_failed_is_over_when_ganeti_clears_up_after_it(site: Site, stack: ExitStack) -> None:
    """What is announced then is not heard, and nobody is waited for."""
    _, arrival = moving(site, stack)
    arrival.die()
    until(lambda: state(site.target) is None, "the end of it on the target")
    for node in (site.source, site.target):
        hook(node, GANETI_MIGRATE_CLEANUP="True")
    until(lambda: not (urgent(site.source) or urgent(site.target)), "the end of it")
    site.router.send(arp(ROUTER, public(5), public(5)))
    assert site.asked() == {"node1"}
    assert state(site.source) == "ok"
    assert others(differences(site.source)) == differences(site.target) == []


def test_a_daemon_runs_before_all_others_while_a_guest_may_move(site: Site, stack: ExitStack) -> None:
    before = stack.enter_context(Tap(site.source))
    attach(site.source, routed(before.name))
    assert [urgent(site.source), urgent(site.target)] == [False, False]
    for node in (site.source, site.target):
        hook(node)
    assert [urgent(site.source), urgent(site.target)] == [False, False], "others say what they hear"
    arrival = arriving(site.target)
    until(lambda: state(site.target) == "elsewhere" and urgent(site.target), "the target's readiness")
    assert not urgent(site.source)
    arrival.speak()
    until(lambda: state(site.source) == "elsewhere", "the source's leave")
    before.close()
    until(lambda: not (urgent(site.source) or urgent(site.target)), "the end of it")
    arrival.die()


@pytest.mark.parametrize("lie", LIES, ids=["ARP", "RARP"])
def test_an_announcement_by_somebody_else_takes_no_address_from_a_guest_that_stays(
    site: Site, lie: bytes, stack: ExitStack
) -> None:
    still(site.target, stack)
    one = stack.enter_context(Tap(site.source))
    attach(site.source, routed(one.name))
    site.router.send(lie)
    assert site.asked() == {"node1"}
    assert state(site.source) == "ok"


def test_each_step_is_logged_with_one_id_on_both_nodes(site: Site, stack: ExitStack) -> None:
    for node in (site.source, site.target):
        with open(node.path("/etc/ganeti-vif/ganeti-vif.conf"), "a", encoding="utf-8") as file:
            file.write("\n[daemon]\nverbose = yes\n")
        manage(node, "setup")
        until(lambda: "configuration read again" in said(node), "the daemon's new configuration")  # noqa: B023
    before, arrival = moving(site, stack)
    arrival.speak()
    until(lambda: state(site.target) == "ok", "the answers for it")
    until(lambda: state(site.source) == "elsewhere", "the source's leave")
    before.close()
    until(lambda: state(site.source) is None, "the end of it on the source")
    gone, came = (steps(node) for node in (site.source, site.target))
    assert [step for step, _ in gone] == [
        "unknown -> attached: ordered",
        "attached -> leaving: departs",
        "leaving -> standby: claimed",
        "standby -> unknown: gone",
    ]
    assert [step for step, _ in came] == [
        "unknown -> expected: coming",
        "expected -> standby: came",
        "standby -> claiming: spoke",
        "claiming -> attached: released",
    ]
    ids = {one for _, one in (*gone, *came) if one}
    assert len(ids) == 1
    assert all(one for _, one in came), "each step on the target is of this migration"
    arrival.die()


def steps(node: Node) -> list[tuple[str, str | None]]:
    """The steps in the life of the guest's NIC that NODE's log tells, each with the id of its migration."""
    pattern = r"debug: vm5\.example\.com NIC 0 \(\w+\): (\w+ -> \w+: \w+)(?:; migration ([0-9a-f]{8}))?$"
    return [(found[1], found[2]) for found in re.finditer(pattern, said(node), re.MULTILINE)]
