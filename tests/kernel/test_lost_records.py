# SPDX-License-Identifier: BSD-2-Clause
"""Records that were lost or damaged: a guest that was closed in stays so, and is told of, until its tap goes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.lab import Node

from .actions import attach, differences, run
from .conftest import CONFIG, MakeTap, apply
from .environment import bridged, routed

NICS = "/run/ganeti-vif/nics"


def lose(node: Node, tap: str) -> None:
    node.path(f"{NICS}/{tap}.json").unlink()


def damage(node: Node, tap: str) -> None:
    node.path(f"{NICS}/{tap}.json").write_text("{")


def network(node: Node) -> str:
    """What a guest lives on: filters, ports, devices that are up, routes, rules. No operstate: that settles late."""
    commands = (
        "nft -s list ruleset; cd /sys/class/net; for name in *; do echo $name $(cat $name/flags) "
        "$(readlink $name/master); done; ip route show table all; ip -6 route show table all; ip rule"
    )
    return node.run(["sh", "-c", commands]).stdout


@pytest.mark.parametrize("harm", [lose, damage])
def test_a_guest_without_its_record_stays_closed_and_connected(
    ready: Node, tap: MakeTap, harm: Callable[[Node, str], None]
) -> None:
    one, other, well = tap(ready), tap(ready), tap(ready)
    attach(ready, bridged(one.name))
    attach(ready, routed(other.name, 6))
    attach(ready, bridged(well.name, 7))
    before = network(ready)
    for name in (one.name, other.name):
        harm(ready, name)
    told = differences(ready)
    for name in (one.name, other.name):
        assert any(name in line and "no readable record" in line for line in told)
    assert run(ready, "reconcile").returncode == 1
    assert network(ready) == before
    one.close()
    other.close()
    run(ready, "reconcile")
    assert differences(ready) == []
    assert run(ready, "detach", well.name).returncode == 0


def test_attaching_it_again_makes_it_right(ready: Node, tap: MakeTap) -> None:
    one = tap(ready)
    attach(ready, bridged(one.name))
    lose(ready, one.name)
    attach(ready, bridged(one.name))
    assert differences(ready) == []


def test_after_a_reboot_no_tap_serves_its_names_former_owner(ready: Node, tap: MakeTap) -> None:
    """Bindings are on the disk, records are not; and a new kernel keeps a filter for the next tap of that name."""
    apply(ready, CONFIG.replace("for = all", "for = tagged"))
    one = tap(ready)
    attach(ready, bridged(one.name, NETWORK_TAGS="nfdhcpd private-filtered"))
    binding = ready.path(f"/var/lib/nfdhcpd/{one.name}")
    assert binding.exists()
    one.close()
    lose(ready, one.name)
    again = tap(ready)
    assert again.name == one.name
    attach(ready, bridged(again.name, 6, NETWORK_TAGS=""))
    assert not binding.exists(), "the new NIC wants none, and gets its name's former owner's"
    assert f"{again.name}-out" not in ready.run(["nft", "list", "ruleset"]).stdout
    assert differences(ready) == []


def test_a_binding_of_somebody_else_stays(ready: Node, tap: MakeTap) -> None:
    apply(ready, CONFIG.replace("for = all", "for = tagged"))
    one = tap(ready)
    ready.run(["mkdir", "-p", "/var/lib/nfdhcpd"])
    ready.path(f"/var/lib/nfdhcpd/{one.name}").write_text("MAC=aa:00:00:00:00:01\nHOSTNAME=by-hand\n")
    attach(ready, bridged(one.name, NETWORK_TAGS=""))
    assert "by-hand" in ready.path(f"/var/lib/nfdhcpd/{one.name}").read_text()


UNSEEN = """
_all = read_all
def read_all():
    return (record for record in _all() if record.tap != os.environ.get("UNSEEN"))
"""


@pytest.mark.parametrize("verb", ["check", "reconcile"])
def test_a_nic_that_is_attached_while_somebody_looks_is_no_lost_one(ready: Node, tap: MakeTap, verb: str) -> None:
    """Its record came after the records were read, and its filter before the filters were."""
    with open(ready.path("/usr/share/ganeti-vif/ganeti_vif/system/records.py"), "a") as module:
        module.write(UNSEEN)
    one, well = tap(ready), tap(ready)
    attach(ready, bridged(one.name))
    attach(ready, bridged(well.name, 7))
    before = network(ready)
    done = ready.run(["env", f"UNSEEN={one.name}", "ganeti-vif", verb], check=False)
    assert (done.returncode, done.stderr) == (0, "") and one.name not in done.stdout
    assert network(ready) == before
    assert differences(ready) == []
