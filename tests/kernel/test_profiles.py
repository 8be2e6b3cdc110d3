# SPDX-License-Identifier: BSD-2-Clause
"""Firewall profiles: what reaches a guest, by the tags of its instance and the files of the administrator."""

from __future__ import annotations

import json
import socket
from contextlib import closing

import pytest

from tests.lab import Node, Tap

from .actions import BROADCAST, answer, attach, complaint, differences, ip, manage, ping, refusal, run, udp, vif_script
from .conftest import MakeTap, Plug
from .environment import GATEWAY, GATEWAY6, bridged, mac, private, public, public6, routed

PROFILES = "/etc/ganeti-vif/profiles.d"


def profile(node: Node, name: str, *lines: str) -> None:
    """Give NODE a profile, and put it in force. A bad one is complained of, and is in force all the same."""
    node.path(f"{PROFILES}/{name}.nft").write_text("".join(f"{line}\n" for line in lines))
    run(node, "setup")


def guest_of(node: Node, plug: Plug, number: int = 5) -> Node:
    guest = plug(node, f"tap{number}", number, f"{public(number)}/24", f"{public6(number)}/64")
    ip(guest, f"route add default via {GATEWAY}", f"route add default via {GATEWAY6} dev eth0")
    return guest


def connects(client: Node, server: Node, address: str, port: int, source: str | None = None) -> bool:
    """Whether CLIENT can open a TCP connection to PORT of SERVER at ADDRESS."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    def listening() -> socket.socket:
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen()
        return listener

    def connecting() -> bool:
        with closing(socket.socket(family)) as client:
            client.settimeout(2)
            try:
                client.connect((address, port))
            except TimeoutError:
                return False
        return True

    with closing(server.inside(listening)):
        return client.inside(connecting)


@pytest.mark.parametrize("tag", ["synnefo:network:0:protected", "vif:0:profile:protected"])
def test_protected_lets_in_answers_and_pings(ready: Node, gateway: Node, plug: Plug, tag: str) -> None:
    guest = guest_of(ready, plug)
    attach(ready, routed("tap5", TAGS=tag))
    for own, other in ((public(5), GATEWAY), (public6(5), GATEWAY6)):
        ping(gateway, own)
        assert connects(guest, gateway, other, 80)
        assert not connects(gateway, guest, own, 22)
    assert differences(ready) == []


def test_a_profile_changes_with_its_tag_and_is_nobody_elses(ready: Node, gateway: Node, plug: Plug) -> None:
    guest, other = guest_of(ready, plug), guest_of(ready, plug, 6)
    attach(ready, routed("tap6", 6))
    for tag, ssh, http in (("protected", False, False), ("limited", True, False), ("unprotected", True, True)):
        attach(ready, routed("tap5", TAGS=f"synnefo:network:0:{tag}"))
        assert differences(ready) == []
        assert (connects(gateway, guest, public(5), 22), connects(gateway, guest, public(5), 80)) == (ssh, http)
        assert connects(gateway, other, public(6), 80)
    attach(ready, routed("tap5"))
    assert connects(gateway, guest, public(5), 80)


def test_a_profile_goes_with_its_nics(ready: Node, tap: MakeTap) -> None:
    one, other = tap(ready), tap(ready)
    for number, which in enumerate((one, other), 5):
        attach(ready, routed(which.name, number, TAGS="vif:0:profile:limited"))
    one.close()
    one.wait_gone()
    manage(ready, "reconcile")
    assert differences(ready) == []
    listed = ready.run(["nft", "list", "table", "inet", "ganeti_vif"]).stdout
    assert one.name not in listed and other.name in listed
    manage(ready, "detach", other.name)
    assert differences(ready) == []
    ready.path(f"{PROFILES}/limited.nft").unlink()
    assert "delete chain inet ganeti_vif profile-limited" in manage(ready, "reconcile", "--dry-run")
    manage(ready, "reconcile")
    assert differences(ready) == []


def test_an_administrators_own_profile(ready: Node, gateway: Node, plug: Plug) -> None:
    profile(
        ready,
        "web",
        "# the web",
        "",
        "tcp dport { 80, 443 } accept  # both",
        "ct state established accept",
        "counter drop",
    )
    guest = guest_of(ready, plug)
    attach(ready, routed("tap5", TAGS="vif:0:profile:web"))
    assert connects(gateway, guest, public(5), 80)
    assert not connects(gateway, guest, public(5), 22)
    profile(ready, "web", "tcp dport { 22 } accept", "ct state established accept", "counter drop")
    assert len(differences(ready)) == 1
    manage(ready, "reconcile")
    assert connects(gateway, guest, public(5), 22)
    assert not connects(gateway, guest, public(5), 80)


@pytest.mark.parametrize(
    ("lines", "word"),
    [
        (["tcp dport 22 accept", "tcp dport ssssh accept"], "broken.nft:2"),
        (["", "# fine", "frobnicate"], "broken.nft:3"),
        (["add rule inet filter input drop"], "broken.nft:1: not a rule but a command"),
        (["tcp dport { 22 accept"], "broken.nft:1: an open brace"),
        (["accept; drop"], "broken.nft:1"),
    ],
)
def test_a_broken_profile_is_named_with_its_line_and_troubles_nobody_else(
    ready: Node, tap: MakeTap, lines: list[str], word: str
) -> None:
    profile(ready, "broken", *lines)
    one, other = tap(ready), tap(ready)
    attach(ready, routed(other.name, 6, TAGS="vif:0:profile:limited"))
    assert word in refusal(ready, routed(one.name, TAGS="vif:0:profile:broken"))
    done = run(ready, "setup")
    assert done.returncode == 1 and word in done.stderr
    assert [nic["state"] for nic in answer(ready, "status")["nics"]] == ["ok"]


def test_a_profile_that_does_not_exist_or_does_not_suit_is_refused_with_its_tag(ready: Node, tap: MakeTap) -> None:
    one = tap(ready)
    said = refusal(ready, routed(one.name, TAGS="vif:0:profile:nowhere"))
    assert "vif:0:profile:nowhere" in said
    said = complaint(vif_script(ready, bridged(one.name, TAGS="synnefo:network:0:protected")))
    assert "synnefo:network:0:protected" in said and "ct" in said


@pytest.mark.parametrize("tags", ["", "private-filtered"])
def test_a_profile_without_connections_holds_for_bridged_nics_too(ready: Node, tap: MakeTap, tags: str) -> None:
    profile(ready, "quiet", "udp dport 4001 counter drop", "udp dport 67 drop", "udp dport 68 drop")
    one, other, third = tap(ready), tap(ready), tap(ready)
    attach(ready, bridged(one.name, 5, NETWORK_TAGS=tags))
    attach(ready, bridged(other.name, 6, NETWORK_TAGS=tags, TAGS="vif:0:profile:quiet"))
    attach(ready, bridged(third.name, 7, NETWORK_TAGS=tags, TAGS="vif:0:profile:quiet"))
    for ports, text in (((4000, 4001), "a secret"), ((4000, 4002), "the last word")):
        one.send(udp(mac(5), BROADCAST, private(5), "255.255.255.255", text, ports=ports))
    for ears in (other, third):
        assert not any(b"a secret" in frame for frame in _until(ears))
    assert differences(ready) == []
    shown = answer(ready, "explain", other.name)["nics"][0]
    assert shown["profile"] == "quiet" and all(chain["as_it_should_be"] for chain in shown["chains"])


def _until(ears: Tap) -> list[bytes]:
    return ears.before(lambda frame: b"the last word" in frame, "the last word")


def test_one_rule_serves_any_number_of_routed_nics(ready: Node, tap: MakeTap) -> None:
    taps = [tap(ready) for _ in range(4)]
    for number, one in enumerate(taps, 5):
        attach(ready, routed(one.name, number, TAGS="vif:0:profile:limited"))
    shown = json.loads(ready.run(["nft", "-j", "list", "chain", "inet", "ganeti_vif", "profiles"]).stdout)
    assert sum("rule" in thing for thing in shown["nftables"]) == 1
