# SPDX-License-Identifier: BSD-2-Clause
"""What docs/troubleshooting.md quotes is what is said."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab import Node

from .actions import attach, complaint, differences, ip, run, vif_script
from .conftest import MakeTap, configure
from .environment import CONFIG, bridged, openvswitch, routed

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "troubleshooting.md").read_text(encoding="utf-8")


def quoted(section: str) -> Iterator[str]:
    """What the first column of the tables in SECTION quotes."""
    (part,) = re.findall(rf"^## {section}\n.*?(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    for row in re.findall(r"^\| (`.+?) \|", part, re.MULTILINE):
        yield from re.findall(r"`([^`]+)`", row)


def told(said: str, section: str) -> bool:
    """Whether SECTION quotes what was SAID; an ellipsis stands for anything."""
    parts = (phrase.split("\N{HORIZONTAL ELLIPSIS}") for phrase in quoted(section))
    return any(re.search(".*".join(map(re.escape, words)), said) for words in parts)


NOT_STARTED: dict[str, tuple[Callable[..., dict[str, str]], dict[str, str | None]]] = {
    "no table": (routed, {"LINK": "public2"}),
    "a bridge outside": (bridged, {"LINK": "pvn101"}),
    "no subnet": (routed, {"IP": "198.51.100.7"}),
    "a taken address": (routed, {"IP": "192.0.2.2"}),
    "the gateway's address": (routed, {"IP": "192.0.2.1"}),
    "no address": (routed, {"IP": None, "NETWORK_SUBNET6": None}),
    "VLANs": (bridged, {"VLAN": ".10"}),
    "no profile": (bridged, {"TAGS": "vif:0:profile:none"}),
    "no Open vSwitch": (openvswitch, {}),
}


@pytest.mark.parametrize("case", NOT_STARTED)
def test_why_a_vm_does_not_start(ready: Node, tap: MakeTap, case: str) -> None:
    other, one = tap(ready), tap(ready)
    attach(ready, routed(other.name, 6, IP="192.0.2.2"))
    make, changes = NOT_STARTED[case]
    said = complaint(vif_script(ready, make(one.name, 7, **changes)))
    assert told(said, "A VM does not start"), said


def test_what_is_wrong_with_the_file(ready: Node, tap: MakeTap) -> None:
    section = "The file says one thing, the node does another"
    configure(
        ready, "[private pvn]\nbridges = 1-3\n\n\n[public public]\ntable = x\n" + CONFIG[CONFIG.index("uplink") :]
    )
    assert told(complaint(run(ready, "setup")), section)
    ready.path("/etc/ganeti-vif/ganeti-vif.conf").unlink()
    assert told(complaint(run(ready, "setup")), section)
    attach(ready, routed(tap(ready).name, 7))


def test_what_check_names(ready: Node, tap: MakeTap) -> None:
    kinds = {phrase.partition(":")[0] for phrase in quoted("check names something")}

    def named() -> None:
        found = differences(ready)
        assert found
        assert {line.partition(":")[0] for line in found} <= kinds

    one, other = tap(ready), tap(ready)
    attach(ready, routed(one.name, 5))
    attach(ready, bridged(other.name, 6))
    ip(ready, "route del 192.0.2.5/32 table 222", "link set pvn1 mtu 1400")
    named()
    run(ready, "reconcile")
    one.close()
    one.wait_gone()
    named()
    run(ready, "reconcile")
    ready.path(f"/run/ganeti-vif/nics/{other.name}.json").unlink()
    assert other.name == "tap1"
    named()
