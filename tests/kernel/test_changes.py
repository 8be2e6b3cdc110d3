# SPDX-License-Identifier: BSD-2-Clause
"""What docs/administration.md says of changing a network that guests use: done by its commands, with a guest pinged."""

from __future__ import annotations

import itertools
import json
import re
import signal
from contextlib import ExitStack

import pytest

from tests.lab import PATIENCE, Node, wire

from .actions import attach, complaint, differences, ip, link, manage, names, ping, run, shot
from .conftest import Plug, configure, installed, quick
from .environment import CONFIG, GATEWAY, GATEWAY6, bridged, private, public, public6, routed

VXLAN = "[private pvn]\nbridges = 1-3\nuplink  = vxlan eth2 +10000\n"


def change(node: Node, config: str) -> None:
    """Change the configuration as the page says, where the daemon does not run: what is shown first is what is done."""
    configure(node, config)
    shown = json.loads(run(node, "setup", "--dry-run", "--json").stdout)
    assert shown["commands"] and not shown["trouble"]
    before = shot(node)
    manage(node, "setup", "--dry-run")
    assert shot(node) == before
    assert manage(node, "setup").split()[0] == str(shown["changes"])


class Pinged:
    """A ping every 10 ms, by GUEST to ADDRESS or the other way round, from the first answer on."""

    def __init__(self, node: Node, address: str, stack: ExitStack) -> None:
        self._process = stack.enter_context(node.popen(["ping", "-n", "-i", "0.01", address]))
        assert self._process.stdout
        self._lines = [line for line in itertools.islice(self._process.stdout, 2)]

    def lost(self) -> int:
        """The number of packets without an answer before the last answer of all. It ends by this."""
        self._process.send_signal(signal.SIGINT)
        rest, _ = self._process.communicate(timeout=PATIENCE)
        answered = {int(number) for number in re.findall(r"seq=([0-9]+)", "".join(self._lines) + rest)}
        assert len(answered) > 20
        return max(answered) + 1 - min(answered) - len(answered)


@pytest.fixture
def served(ready: Node, gateway: Node, plug: Plug) -> Node:
    """The node with a routed guest, whose gateway's cable ends in a switch with a second socket for the node."""
    wire(ready, "eth2", gateway, "eth9")
    ip(gateway, "link add switch type bridge", "link set switch up", "addr flush dev eth0")
    ip(gateway, "link set eth0 master switch", "link set eth9 master switch")
    ip(gateway, f"addr add {GATEWAY}/24 dev switch", f"addr add {GATEWAY6}/64 dev switch")
    guest = plug(ready, "tap5", 5, f"{public(5)}/24", f"{public6(5)}/64")
    ip(guest, f"route add default via {GATEWAY}", f"-6 route add default via {GATEWAY6} dev eth0")
    attach(ready, routed("tap5"))
    ping(gateway, public(5))
    ping(gateway, public6(5))
    return ready


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("= 222", "= 223"),
        ("uplink     = eth1", "uplink     = eth2"),
        ("192.0.2.254", "192.0.2.253"),
        ("192.0.2.0/24", "192.0.2.0/25"),
        ("192.0.2.0/24", "192.0.2.0/24 198.18.0.0/24"),
    ],
    ids=["table", "uplink", "arp-source", "smaller-subnet", "another-subnet"],
)
def test_a_public_link_changes_and_its_guests_lose_nothing(
    served: Node, gateway: Node, stack: ExitStack, old: str, new: str
) -> None:
    assert old in CONFIG
    four, six = Pinged(gateway, public(5), stack), Pinged(gateway, public6(5), stack)
    change(served, CONFIG.replace(old, new))
    manage(served, "reconcile")  # what the daemon does: a subnet's route that is not wanted any more goes
    assert differences(served) == []
    ping(gateway, public(5))
    ping(gateway, public6(5))
    assert (four.lost(), six.lost()) == (0, 0)


def test_nothing_of_a_former_table_or_uplink_is_left(served: Node) -> None:
    change(served, CONFIG.replace("= 222", "= 223").replace("uplink     = eth1", "uplink     = eth2"))
    left = shot(served)
    assert not any("table 222" in route for route in left["routes"])
    assert not any("lookup 222" in rule for rule in left["rules"])
    assert not any("eth1" in line for section in ("filters", "proxies") for line in left[section])


@pytest.fixture
def pair(stack: ExitStack) -> tuple[Node, Node]:
    """Two nodes with two networks between them, and private networks over the first."""
    one, other = (installed(quick(stack.enter_context(Node(name))), VXLAN) for name in ("node1", "node2"))
    for device in ("eth2", "eth3"):
        wire(one, device, other, device)
    for number, node in enumerate((one, other), 1):
        node.path("/etc/machine-id").write_text(f"{number:032x}\n")
        ip(node, f"addr add 172.16.0.{number}/24 dev eth2", f"addr add 172.17.0.{number}/24 dev eth3")
        manage(node, "setup")
    return one, other


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("+10000", "+20000"),
        ("eth2", "eth3"),
        ("+10000", "+10000 group 239.5.5.5"),
        ("bridges", "mtu = 1400\nbridges"),
        ("1-3", "1-4"),
    ],
    ids=["offset", "device", "group", "mtu", "bridges"],
)
def test_private_networks_change_under_their_guests(
    pair: tuple[Node, Node], plug: Plug, stack: ExitStack, old: str, new: str
) -> None:
    guests = [plug(node, "tap0", number, f"{private(number)}/24") for number, node in enumerate(pair, 5)]
    beside = plug(pair[0], "tap1", 7, f"{private(7)}/24")
    for number, node in enumerate(pair, 5):
        attach(node, bridged("tap0", number))
    attach(pair[0], bridged("tap1", 7))
    ping(guests[0], private(6))
    here, there = Pinged(guests[0], private(7), stack), Pinged(guests[0], private(6), stack)
    for node in pair:
        change(node, VXLAN.replace(old, new))
    ping(guests[0], private(6))
    assert here.lost() == 0, "between two guests of one node nothing changes"
    print(f"lost between two nodes while one had changed and the other had not: {there.lost()}")
    for node in pair:
        # A tap's MTU is its NIC's: the daemon's work, or reconcile's.
        manage(node, "reconcile")
        assert differences(node) == []
    ping(beside, private(6))


def test_an_uplink_that_is_not_wanted_any_more_goes(pair: tuple[Node, Node]) -> None:
    node = pair[0]
    change(node, "[private pvn]\nbridges = 1-3\n")
    assert differences(node) == []
    assert not {name for name in names(node) if name.startswith("vx")}


def test_flags_choose_among_the_networks_of_the_configuration(pair: tuple[Node, Node]) -> None:
    """Their uplink and MTU hold, and the fix that would cut them is not printed."""
    node = pair[0]
    before = shot(node)
    for flags in ("pvn=1-2", "pvn=3"):
        assert manage(node, "setup", "--private", flags) == "nothing to change\n"
    assert shot(node) == before
    ip(node, "link del pvn2", "link del vx10002")
    manage(node, "setup", "--private", "pvn=2")
    assert link(node, "vx10002")["master"] == "pvn2"
    assert link(node, "pvn2")["mtu"] == link(node, "pvn1")["mtu"]


def test_teardown_takes_the_uplink_that_a_network_has_whatever_the_file_says_by_now(pair: tuple[Node, Node]) -> None:
    node = pair[0]
    configure(node, "[private pvn]\nbridges = 1\nuplink = vxlan eth2 +20000\n")
    manage(node, "setup")
    manage(node, "teardown", "--private", "pvn=2-3")
    assert {"pvn1", "vx20001"} <= names(node)
    assert not {"pvn2", "pvn3", "vx10002", "vx10003"} & names(node)


def test_teardown_names_taps_as_taps_and_other_ports_as_what_they_are(pair: tuple[Node, Node], plug: Plug) -> None:
    node = pair[0]
    plug(node, "tap0", 5)
    attach(node, bridged("tap0"))
    assert complaint(run(node, "teardown")) == "error: pvn1 has taps on it: tap0"
    manage(node, "detach", "tap0")
    ip(node, "link add far type veth peer name farther", "link set far master pvn1")
    done = run(node, "teardown")
    assert complaint(done) == "error: pvn1 has the port far (veth), which ganeti-vif did not make"
    node.run(done.stderr.splitlines()[1].partition("fix: ")[2].split())
    manage(node, "teardown")
    assert "pvn1" not in names(node)


def test_an_uplink_that_was_there_before_us_is_changed_by_the_command_that_setup_prints(node: Node) -> None:
    ip(node, "link add br0 type bridge", "link set br0 name pvn1", "link add vx1 type vxlan id 7 dev eth1 dstport 4789")
    ip(node, "link set vx1 master pvn1")
    done = run(node, "setup")
    assert "pvn1 has the port vx1 (vxlan)" in complaint(done)
    node.run(done.stderr.splitlines()[1].partition("fix: ")[2].split())
    manage(node, "setup")
    assert "vx1" in names(node)
