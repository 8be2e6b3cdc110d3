# SPDX-License-Identifier: BSD-2-Clause
"""Taking over guests that run: each NIC gets the tap that is its own, and what is not certain is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack

import pytest

from tests.lab import Node, Tap, needs

from .actions import answer, attach, differences, ip, link, manage, run, shot
from .conftest import MakeTap
from .environment import PUBLIC_NETWORK, bridged, public, public6, routed, uuid
from .instance import DIRECTORY, Instance, Qmp, attach_as_ganeti_does
from .test_hooks import hook, instance, quiet

pytestmark = pytest.mark.skipif(bool(needs.guest()), reason=needs.guest())

NICS = "/run/ganeti-vif/nics"


def states(node: Node) -> dict[str, str]:
    """The state of each tap, as `adopt --dry-run` tells it."""
    return {nic["tap"] or nic["uuid"]: nic["state"] for nic in answer(node, "adopt", "--dry-run")["nics"]}


def trouble(node: Node) -> list[str]:
    done = run(node, "adopt", "--dry-run")
    found = re.findall(r"^error: (.*)\n  (?:fix|see|note): \S", done.stderr, re.MULTILINE)
    assert done.returncode == (1 if found else 0), done
    return found


@pytest.fixture
def start(ready: Node, stack: ExitStack) -> Callable[..., Instance]:
    """Starts an instance without a guest in it, whose NICs somebody else attached; its taps are the next ones."""

    def begin(*environments: Mapping[str, str], name: str = "vm5.example.com") -> Instance:
        taps = [stack.enter_context(Tap(ready)) for _ in environments]
        for tap, environment in zip(taps, environments, strict=True):
            assert tap.name == environment["INTERFACE"]
            attach_as_ganeti_does(ready, environment)
        return Instance(ready, name, list(zip(taps, environments, strict=True)))

    return begin


def test_a_dry_run_tells_everything_and_changes_nothing(ready: Node, start: Callable[..., Instance]) -> None:
    start(bridged("tap0", 5), routed("tap1", 6))
    before = shot(ready)
    text = manage(ready, "adopt", "--dry-run")
    assert shot(ready) == before
    assert re.search(r"^vm5.example.com +00000005 +tap0 +bridged +pvn1 +10.0.0.5 +to adopt$", text, re.MULTILINE)
    for line in (
        "write /run/ganeti-vif/nics/tap0.json",
        "# vm5.example.com NIC 00000006 (tap1)",
    ):
        assert line in text.splitlines()
    assert re.search(r"^ip rule del pref [0-9]+ iif tap1 lookup 222 protocol 0$", text, re.MULTILINE)
    assert "master pvn1" not in text, "it is there already"
    assert "set tap1 address" not in text, "its guest knows its MAC"


def test_a_second_adopt_does_nothing(ready: Node, start: Callable[..., Instance]) -> None:
    start(bridged("tap0", 5), routed("tap1", 6))
    assert " adopted\n" in manage(ready, "adopt")
    assert differences(ready) == []
    before = shot(ready)
    assert "adopted" not in manage(ready, "adopt")
    assert shot(ready) == before
    assert states(ready) == {"tap0": "recorded", "tap1": "recorded"}


def test_an_adopted_nic_is_cleared_like_any_other(ready: Node, start: Callable[..., Instance]) -> None:
    before = shot(ready)
    vm = start(bridged("tap0", 5), routed("tap1", 6))
    manage(ready, "adopt")
    vm.crash()
    manage(ready, "reconcile")
    assert shot(ready) == before


@pytest.mark.parametrize("harm", [f"rm -r {NICS}", f"for f in {NICS}/*; do echo rubbish > $f; done"])
def test_lost_records_are_found_again(ready: Node, start: Callable[..., Instance], harm: str) -> None:
    start(routed("tap0", 5), bridged("tap1", 6, NETWORK_TAGS="private-filtered"))
    manage(ready, "adopt")
    ready.run(["sh", "-c", f"rm {NICS}/*.origin"])  # what the taps were before is lost with the records, for good
    before = shot(ready)
    ready.run(["sh", "-c", harm])
    assert differences(ready) != []
    manage(ready, "adopt")
    assert shot(ready) == before
    assert differences(ready) == []


def test_records_of_nics_that_ganetis_call_attached_are_found_again_as_they_were(ready: Node, tap: MakeTap) -> None:
    """All but the index, which the runtime file does not tell."""
    one = tap(ready)
    attach(ready, routed(one.name))
    before = shot(ready)
    Instance(ready, "vm5.example.com", [(one, routed(one.name))])
    ready.run(["rm", "-r", NICS])
    manage(ready, "adopt")
    assert {name for name, lines in shot(ready).items() if lines != before[name]} == {"files"}
    assert link(ready, one.name)["address"] == "fe:00:56:49:46:01"
    assert differences(ready) == []


def test_after_hot_changes_each_nic_has_its_own_tap(ready: Node, start: Callable[..., Instance], tap: MakeTap) -> None:
    """Two NICs leave and come back the other way round: the command line, the runtime file and the kernel's names of
    taps all have another order by then."""
    a, b = bridged("tap0", 5), bridged("tap1", 6)
    vm = start(a, b)
    vm.hot_remove(a)
    vm.hot_remove(b)
    first, second = tap(ready), tap(ready)
    b, a = bridged(first.name, 6), bridged(second.name, 5)
    assert (first.name, second.name) == ("tap0", "tap1")
    for one, environment in ((first, b), (second, a)):
        attach_as_ganeti_does(ready, environment)
        vm.hot_add(one, environment)
    third = tap(ready)
    c = bridged(third.name, 7)
    attach_as_ganeti_does(ready, c)
    vm.hot_add(third, c)
    vm.write([a, b, c])
    manage(ready, "adopt")
    found = {nic["tap"]: nic["uuid"] for nic in answer(ready, "status")["nics"]}
    assert found == {"tap0": uuid(6), "tap1": uuid(5), "tap2": uuid(7)}
    assert differences(ready) == []


def test_a_nic_that_is_only_in_the_file_or_only_in_qemu_is_told(
    ready: Node, start: Callable[..., Instance], tap: MakeTap
) -> None:
    vm = start(bridged("tap0", 5))
    ghost = tap(ready)
    vm.hot_add(ghost, bridged(ghost.name, 8))
    vm.write([bridged("tap0", 5), bridged("none", 6)])
    assert states(ready) == {"tap0": "to adopt", uuid(6): "not in QEMU"}
    (line,) = trouble(ready)
    assert "nic-00000008-498b-449c on tap1" in line
    assert run(ready, "adopt").returncode == 1
    assert states(ready)["tap0"] == "recorded"


def test_one_bad_nic_keeps_none_of_the_others(ready: Node, start: Callable[..., Instance]) -> None:
    start(bridged("tap0", 5), bridged("tap1", 6))
    start(routed("tap2", 7), name="vm7.example.com")
    ip(ready, "link set tap0 nomaster", "link add elsewhere type bridge", "link set tap0 master elsewhere")
    before = link(ready, "tap0")
    done = run(ready, "adopt")
    assert done.returncode == 1
    assert "tap0 is a port of elsewhere" in done.stderr
    assert {nic["tap"] for nic in answer(ready, "status")["nics"]} == {"tap1", "tap2"}
    assert link(ready, "tap0") == before
    assert "tap0" not in ready.run(["nft", "list", "ruleset"]).stdout


def test_a_pid_file_of_another_process_is_refused(ready: Node, start: Callable[..., Instance]) -> None:
    """The instance crashed, its files stay, and its number is another's: here, another instance's QEMU."""
    start(bridged("tap0", 5))
    other = start(bridged("tap1", 6), name="vm6.example.com")
    number = ready.path(f"{DIRECTORY}/pid/vm6.example.com").read_text()
    ready.path(f"{DIRECTORY}/pid/vm5.example.com").write_text(number)
    (line,) = trouble(ready)
    assert line.startswith("vm5.example.com: its pid file names a process that is not its QEMU")
    assert states(ready) == {"tap1": "to adopt"}
    other.crash()
    assert (trouble(ready), states(ready)) == ([], {})


def test_a_runtime_file_of_an_instance_that_does_not_run_is_nothing(ready: Node) -> None:
    ready.path(f"{DIRECTORY}/conf").mkdir(parents=True)
    ready.path(f"{DIRECTORY}/conf/old.example.com.runtime").write_text("rubbish")
    assert manage(ready, "adopt") == "no instance of Ganeti runs here\n"


def test_a_damaged_runtime_file_is_told(ready: Node, start: Callable[..., Instance]) -> None:
    start(bridged("tap0", 5))
    ready.path(f"{DIRECTORY}/conf/vm5.example.com.runtime").write_text("[[")
    (line,) = trouble(ready)
    assert "runtime file is damaged" in line


def test_a_monitor_that_somebody_else_holds_is_told_and_ends_the_wait(
    ready: Node, start: Callable[..., Instance]
) -> None:
    vm = start(bridged("tap0", 5))
    with Qmp(str(ready.path(vm.control))):
        (line,) = trouble(ready)
    assert "does not answer" in line
    assert states(ready) == {"tap0": "to adopt"}


def test_a_guest_that_is_still_on_its_way_here_is_left_alone(ready: Node, tap: MakeTap) -> None:
    """Its runtime file is an old one: announced now, its address would be taken from the node where it runs."""
    one = tap(ready)
    Instance(ready, "vm5.example.com", [(one, routed(one.name))], None, "-incoming", "defer")
    (line,) = trouble(ready)
    assert "is being migrated" in line
    assert run(ready, "adopt").returncode == 1
    assert "UP" not in link(ready, one.name)["flags"]


def test_an_adopt_that_died_before_it_was_through_is_finished_by_the_next(
    ready: Node, start: Callable[..., Instance]
) -> None:
    start(routed("tap0", 5))
    manage(ready, "adopt")
    ip(ready, "rule add iif tap0 table 222")
    assert "iif tap0" in manage(ready, "adopt", "--dry-run")
    manage(ready, "adopt")
    assert "iif tap0" not in ready.run(["ip", "rule"]).stdout


def test_the_next_hook_brings_the_instances_tags_and_the_tap_keeps_its_mac(
    ready: Node, start: Callable[..., Instance]
) -> None:
    start(routed("tap0", 5))
    before = link(ready, "tap0")["address"]
    manage(ready, "adopt")
    assert public6(5) in answer(ready, "status")["nics"][0]["addresses"]
    told = instance(network=PUBLIC_NETWORK) | {"INSTANCE_TAGS": "disable_ipv6"}
    quiet(hook(ready, "instance-modify", **told))
    assert answer(ready, "status")["nics"][0]["addresses"] == [public(5)]
    assert link(ready, "tap0")["address"] == before
    assert differences(ready) == []


def test_each_adopted_nic_is_a_line_in_the_log(ready: Node, start: Callable[..., Instance]) -> None:
    start(bridged("tap0", 5), routed("tap1", 6))
    manage(ready, "adopt")
    lines = ready.path("/var/log/ganeti/vif.log").read_text().splitlines()
    for number, name in ((5, "tap0"), (6, "tap1")):
        assert any(f"({name}): adopted as" in line and uuid(number) in line for line in lines), lines


def test_a_rule_that_says_more_than_ours_stays(ready: Node, start: Callable[..., Instance]) -> None:
    start(routed("tap0", 5))
    ip(ready, "rule add iif tap0 to 198.51.100.0/24 table 333", "rule add iif tap0 table 444")
    manage(ready, "adopt")
    rules = ready.run(["ip", "rule"]).stdout
    assert "lookup 333" in rules
    assert "lookup 444" in rules
    assert "iif tap0 lookup 222" not in rules


INTERRUPTED = """
import os, signal, sys
sys.path.insert(0, "/usr/share/ganeti-vif")
import ganeti_vif.cli.command_line, ganeti_vif.system.node
perform, left = ganeti_vif.system.node.Node.perform, [int(sys.argv[1])]
def counted(node, change):
    perform(node, change)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGINT)
ganeti_vif.system.node.Node.perform = counted
sys.exit(ganeti_vif.cli.command_line.main(["adopt"], {}))
"""
"""Somebody presses Ctrl-C while the change of that number is made."""


@pytest.mark.parametrize("number", [1, 4, 7, 9, 15])
def test_an_adopt_that_is_interrupted_leaves_each_nic_whole_or_as_it_was(
    ready: Node, start: Callable[..., Instance], number: int
) -> None:
    start(bridged("tap0", 5), routed("tap1", 6))
    before = shot(ready)
    done = ready.run(["/usr/bin/python3", "-c", INTERRUPTED, str(number)], check=False)
    assert done.returncode == 130, done
    what, fix = done.stderr.splitlines()
    assert what.startswith("error: interrupted by SIGINT: ") and fix == "  fix: ganeti-vif adopt"
    state = states(ready)
    assert set(state.values()) <= {"to adopt", "recorded"}
    if state["tap0"] == state["tap1"] == "to adopt":
        assert "nothing was changed" in what
        assert shot(ready) == before
    else:
        assert "stay" in what
    assert link(ready, "tap0")["master"] == "pvn1" and "UP" in link(ready, "tap1")["flags"]
    manage(ready, "adopt")
    assert differences(ready) == []
    assert states(ready) == {"tap0": "recorded", "tap1": "recorded"}
