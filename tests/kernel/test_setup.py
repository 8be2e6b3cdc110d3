# SPDX-License-Identifier: BSD-2-Clause
"""Setting up and tearing down a node's networks: made once, found clean, repaired where they drifted, refused with a reason."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
from pathlib import Path

import pytest

from ganeti_vif.engine.chains import table_of
from ganeti_vif.engine.failure import remedy
from tests.lab import PATIENCE, Node, wait_for

from .actions import attach, complaint, differences, ip, link, manage, names, ping, run, shot, sysctl, vif_script
from .conftest import MakeTap, Plug, apply, configure
from .environment import CONFIG, GATEWAY, bridged, public, routed
from .snapshot import anew

LINK = CONFIG[CONFIG.index("[public") : CONFIG.index("[bindings")]


def test_a_node_is_set_up_once_and_then_there_is_nothing_to_change(node: Node) -> None:
    assert differences(node) != []
    assert manage(node, "setup").endswith("made\n")
    assert {"pvn1", "pvn2", "pvn3"} <= names(node)
    assert differences(node) == []
    before = shot(node)
    assert manage(node, "setup") == "nothing to change\n"
    assert manage(node, "reconcile") == "nothing to change\n"
    assert shot(node) == before


def test_bridges_are_up_without_spanning_tree_and_without_the_nodes_ipv6(ready: Node) -> None:
    for bridge in ("pvn1", "pvn2", "pvn3"):
        found = link(ready, bridge)
        assert "UP" in found["flags"]
        assert found["linkinfo"]["info_data"]["stp_state"] == 0
        assert found["linkinfo"]["info_data"]["forward_delay"] == 0
        assert sysctl(ready, f"net/ipv6/conf/{bridge}/disable_ipv6") == "1"


def test_a_bridge_has_the_same_mac_at_every_start(ready: Node) -> None:
    before = link(ready, "pvn1")["address"]
    ip(ready, "link del pvn1")
    manage(ready, "setup")
    assert link(ready, "pvn1")["address"] == before


DRIFTS = {
    "MTU": "ip link set pvn1 mtu 1400",
    "MAC": "ip link set pvn1 address 02:00:00:00:00:99",
    "forward delay": "ip link set pvn1 type bridge forward_delay 1500",
    "a bridge that is down": "ip link set pvn1 down",
    "IPv6 of the node": "sysctl -q net.ipv6.conf.pvn1.disable_ipv6=0",
    "a bridge that is gone": "ip link del pvn2",
    "a rule that is gone": "ip rule del pref 20000",
    "an IPv6 rule that is gone": "ip -6 rule del pref 20000",
    "a route that is gone": "ip route del default via 192.0.2.1 table 222",
    "the last route that is gone": "ip -6 route del unreachable default table 222 metric 4294967295",
    "a route to elsewhere": "ip route replace default via 192.0.2.99 dev eth1 onlink table 222 proto 156",
    "no filters at all": "nft flush ruleset",
    "filters without rules": "nft flush table inet ganeti_vif",
    "no forwarding": "sysctl -q net.ipv4.conf.eth1.forwarding=0",
    "no proxy ARP": "sysctl -q net.ipv4.conf.eth1.proxy_arp=0",
    "an uplink that is down": "ip link set eth1 down",
}


def test_a_bridge_with_spanning_tree_loses_it(ready: Node) -> None:
    before = shot(ready)
    ip(ready, "link set pvn1 type bridge stp_state 1")
    assert differences(ready) != []
    manage(ready, "setup")
    assert differences(ready) == []
    assert shot(ready) == before


def test_a_bridge_with_spanning_tree_is_adopted(node: Node) -> None:
    ip(node, "link add pvn1 type bridge stp_state 1")
    manage(node, "setup")
    assert link(node, "pvn1")["linkinfo"]["info_data"]["stp_state"] == 0


@pytest.mark.parametrize("mends", ["setup", "reconcile"])
def test_whatever_drifts_is_found_and_mended(ready: Node, mends: str) -> None:
    before = anew(shot(ready))
    for what, command in DRIFTS.items():
        ready.run(command.split())
        assert differences(ready) != [], what
        assert manage(ready, mends).endswith("made\n"), what
        assert differences(ready) == [], what
    assert anew(shot(ready)) == before


def test_everything_can_drift_at_once(ready: Node) -> None:
    before = anew(shot(ready))
    for command in DRIFTS.values():
        ready.run(command.split(), check=False)
    assert len(differences(ready)) > 10
    manage(ready, "setup")
    assert differences(ready) == []
    assert anew(shot(ready)) == before


def test_a_rule_of_ours_that_nobody_wants_is_left_over(ready: Node) -> None:
    ip(
        ready,
        "rule add pref 20000 fwmark 0x56490001 lookup 333 protocol 156",
        "rule add pref 20001 lookup 334 protocol static",
    )
    assert [line for line in differences(ready) if "333" in line and line.startswith("left over")]
    manage(ready, "reconcile")
    rules = ready.run(["ip", "rule"]).stdout
    assert "333" not in rules and "334" in rules


def test_a_bridge_that_was_there_is_adopted_and_survives_the_teardown(node: Node) -> None:
    ip(node, "link add pvn1 type bridge", "link set pvn1 mtu 1400")
    index = link(node, "pvn1")["ifindex"]
    manage(node, "setup")
    assert differences(node) == []
    found = link(node, "pvn1")
    assert (found["ifindex"], found["mtu"]) == (index, 1500)
    manage(node, "teardown")
    found = link(node, "pvn1")
    assert found["ifindex"] == index and found.get("group", "default") == "default"
    assert not {"pvn2", "pvn3"} & names(node)


def test_teardown_takes_away_what_setup_made_and_nothing_else(node: Node, gateway: Node) -> None:
    ip(node, "link add br0 type bridge", "rule add pref 100 lookup 500", "route add 198.18.0.0/15 dev eth1 table 222")
    node.run(["nft", "add table inet mine; add chain inet mine own { type filter hook input priority 0; }"])
    before = shot(node)
    manage(node, "setup")
    manage(node, "teardown")
    after = shot(node)
    for section in ("links", "rules", "routes", "proxies", "files"):
        kept = [line for line in after[section] if "/run/ganeti-vif/configuration.json" not in line]
        assert kept == before[section], section
    assert not [line for line in after["filters"] if "chain seclusion" in line or 'device "eth1"' in line]
    assert [line for line in after["filters"] if "chain own" in line]
    again = run(node, "teardown")  # which says besides that what the file has is not in force
    assert (again.returncode, again.stdout) == (0, "nothing to change\n")


@pytest.mark.parametrize(
    ("commands", "says"),
    [
        (["link add pvn3 type veth peer name far"], "pvn3"),
        (["tuntap add pvn3 mode tap"], "pvn3"),
        (
            ["link add pvn3 type bridge", "link add foreign type veth peer name far", "link set foreign master pvn3"],
            "foreign",
        ),
    ],
)
def test_what_belongs_to_somebody_else_is_refused_and_the_others_are_set_up(
    node: Node, commands: list[str], says: str
) -> None:
    ip(node, *commands)
    before = link(node, "pvn3")
    done = run(node, "setup")
    assert done.returncode == 1
    assert says in complaint(done)
    assert {"pvn1", "pvn2"} <= names(node)
    assert node.run(["ip", "rule"]).stdout.count("lookup 222") >= 1
    after = link(node, "pvn3")
    for fact in ("ifindex", "address", "mtu", "flags", "group"):
        assert after.get(fact) == before.get(fact), fact
    assert [line for line in differences(node) if says in line]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("[private pvn]\nbridges = 1-3\nuplink = vxlan eth7 +100\n", "eth7"),
        ("[private pvn]\nbridges = 1-3\nuplink = vlan eth7 +100\n", "eth7"),
        (LINK.replace("eth1", "eth7"), "eth7"),
        ("[private abcdefghijklm]\nbridges = 1-100\n", "abcdefghijklm100"),
        ("[private pvn]\nbridges = 1\nuplink = vlan interface10 +4000\n", "interface10.4001"),
        ("[private pvn]\nbridges = 1-10\nuplink = vlan eth1 +4090\n", "4095"),
        ("[private pvn]\nbridges = 1-10\nuplink = vxlan eth1 +16777210\n", "16777216"),
        ("[private a]\nbridges = 1\nuplink = vxlan eth1 +5\n[private b]\nbridges = 2\nuplink = vxlan eth1 +4\n", "vx6"),
        ("[private pvn]\nbridges = 11\n[private pvn1]\nbridges = 1\n", "pvn11"),
        (f"{LINK}[public other]{LINK.partition(']')[2]}", "table 222"),
        ("[private pvn]\nbridges = 1-3\nmtu = 9000\nuplink = vlan eth1 +10\n", "9000"),
        ("[private pvn]\nbridges = 3-1\n", "3-1"),
        ("[private pvn]\nbridges = 1-3\nuplink = gre eth1 +1\n", "gre"),
    ],
)
def test_a_mistake_is_told_before_anything_is_changed(node: Node, config: str, says: str) -> None:
    configure(node, config)
    before = shot(node)
    done = run(node, "setup")
    assert done.returncode == 1
    assert says in complaint(done)
    assert shot(node) == before


def test_teardown_takes_what_is_not_configured_any_more_too(node: Node, tap: MakeTap) -> None:
    """Bridges, their uplinks, and nothing while a guest uses one of them; what was there before us only loses our mark."""
    ip(node, "link add pvn3 type bridge", "link add br9 type bridge")
    apply(node, CONFIG.replace("bridges = 1-3", "bridges = 1-3\nuplink = vxlan eth1 +10000"))
    before = names(node) - {"pvn1", "pvn2", "vx10001", "vx10002", "vx10003"}
    one = tap(node)
    attach(node, bridged(one.name, link="pvn2"))
    apply(node, CONFIG.replace("bridges = 1-3", "bridges = 1"))
    assert "pvn2" in complaint(run(node, "teardown")) and {"pvn1", "pvn2", "pvn3"} <= names(node)
    one.close()
    one.wait_gone()
    manage(node, "detach", one.name)
    manage(node, "teardown")
    assert names(node) == before
    assert link(node, "pvn3").get("group", "default") == "default"
    assert "ganeti_vif" not in node.run(["nft", "list", "ruleset"]).stdout


def test_teardown_refuses_while_guests_live_and_names_their_taps(ready: Node, tap: MakeTap) -> None:
    private, other = tap(ready), tap(ready)
    attach(ready, bridged(private.name, 5))
    attach(ready, routed(other.name, 6))
    before = shot(ready)
    done = run(ready, "teardown")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for name in ("pvn1", private.name, "public", other.name):
        assert name in done.stderr
    assert shot(ready) == before


def test_what_a_dry_run_prints_can_be_typed_in(node: Node) -> None:
    before = shot(node)
    commands = manage(node, "setup", "--dry-run")
    assert shot(node) == before
    node.run(["sh", "-e"], input=commands)
    assert differences(node) == []


def test_what_a_dry_run_of_vxlan_networks_prints_makes_them(node: Node) -> None:
    configure(node, "[private pvn]\nbridges = 1-2\nuplink = vxlan eth1 +10000\n")
    node.run(["sh", "-e"], input=manage(node, "setup", "--dry-run"))
    assert [line for line in differences(node) if "filter chain" not in line] == []
    assert {"vx10001", "vx10002"} <= names(node)


def test_networks_for_once_need_no_configuration_file(node: Node) -> None:
    node.path("/etc/ganeti-vif/ganeti-vif.conf").unlink()
    manage(node, "setup", "--private", "pvn=1-100", "--mtu", "1400")
    assert {f"pvn{number}" for number in range(1, 101)} <= names(node)
    assert link(node, "pvn100")["mtu"] == 1400
    assert manage(node, "setup", "--private", "pvn=1-100", "--mtu", "1400") == "nothing to change\n"
    manage(node, "teardown", "--private", "pvn=1-100")
    assert not {name for name in names(node) if name.startswith("pvn")}


def test_a_progress_bar_shows_on_a_terminal_when_it_takes_over_a_second(node: Node) -> None:
    ours, theirs = os.openpty()
    try:
        said = _slow_setup(node, stderr=theirs)
        os.close(theirs)
        drawn = _all_of(ours)
    finally:
        os.close(ours)
    assert said.endswith("made\n")
    assert re.search(rb"\[[#.]+\] \d+/\d+", drawn), drawn
    assert drawn.endswith(b"\r\x1b[K"), "the bar is still there"


def test_no_progress_bar_goes_into_a_log(node: Node, tmp_path: Path) -> None:
    with open(tmp_path / "log", "w+") as log:
        assert _slow_setup(node, stderr=log.fileno()).endswith("made\n")
        assert log.read() == ""


def _slow_setup(node: Node, stderr: int) -> str:
    """Set up bridges, with a rest of over a second in the middle; returns what is printed. To take that long by
    itself it would need thousands, and the kernel half a minute to clear them away."""
    with node.popen(["ganeti-vif", "setup", "--private", "many=1-150"], stderr=stderr) as setup:
        wait_for(node, lambda: node.ifindex("many1") is not None, "the first bridge")
        os.kill(setup.pid, signal.SIGSTOP)
        with pytest.raises(subprocess.TimeoutExpired):
            setup.wait(timeout=1.2)
        os.kill(setup.pid, signal.SIGCONT)
        said, _ = setup.communicate(timeout=PATIENCE)
    assert setup.returncode == 0
    return said


def _all_of(terminal: int) -> bytes:
    """What was written to the other side of a terminal that is closed by now."""
    found = b""
    while select.select([terminal], [], [], 0)[0]:
        try:
            found += os.read(terminal, 65536)
        except OSError:
            break
    return found


def test_vlan_uplinks(node: Node, gateway: Node, plug: Plug) -> None:
    probe = node.run(["ip", "link", "add", "link", "eth1", "name", "probe", "type", "vlan", "id", "5"], check=False)
    if probe.returncode:
        pytest.skip(f"this kernel has no VLAN devices: {probe.stderr.strip()}")
    ip(node, "link del probe")
    configure(node, "[private pvn]\nbridges = 1-2\nuplink = vlan eth1 +2990\n")
    manage(node, "setup")
    assert differences(node) == []
    assert link(node, "eth1.2991")["master"] == "pvn1"
    ip(gateway, "link add link eth0 name vlan type vlan id 2991", "addr add 10.0.0.1/24 dev vlan", "link set vlan up")
    guest = plug(node, "tap5", 5, "10.0.0.5/24")
    attach(node, bridged("tap5"))
    ping(guest, "10.0.0.1")
    ip(node, "link del tap5")
    manage(node, "reconcile")
    manage(node, "teardown")
    assert not {"pvn1", "eth1.2991"} & names(node)


def test_a_vlan_uplink_that_the_kernel_cannot_make_is_refused_and_leaves_no_half_network(node: Node) -> None:
    configure(node, "[private pvn]\nbridges = 1-2\nuplink = vlan eth1 +2990\n")
    probe = node.run(["ip", "link", "add", "link", "eth1", "name", "probe", "type", "vlan", "id", "5"], check=False)
    if probe.returncode == 0:
        pytest.skip("this kernel has VLAN devices")
    done = run(node, "setup")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    for name in ("pvn1", "pvn2"):
        assert name in done.stderr
        assert name not in names(node)


@pytest.fixture(params=["this", "older"])
def advertised(node: Node, request: pytest.FixtureRequest) -> Node:
    """A node whose own IPv6 default route comes from a router's advertisements on eth0, and is needed.

    Its kernel is this one, or plays one before Linux 6.17, which forwards IPv6 everywhere or nowhere.
    """
    ip(node, "link add eth0 type veth peer name router", "link set eth0 up", "link set router up")
    sysctl(node, "net/ipv6/conf/eth0/accept_ra", "1")
    ip(node, "-6 route add default via fe80::1 dev eth0 proto ra metric 1024")
    if request.param == "older":
        with open(node.path("/usr/share/ganeti-vif/ganeti_vif/kernel/sysctl.py"), "a") as module:
            module.write("\n\ndef force_forwarding() -> bool:\n    return False\n")
    elif node.run(["test", "-e", "/proc/sys/net/ipv6/conf/all/force_forwarding"], check=False).returncode:
        pytest.skip("this kernel is an older one")
    return node


def test_an_ipv6_public_link_does_not_cost_the_node_its_own_way_out(advertised: Node) -> None:
    """A node that forwards everywhere ignores advertisements."""
    done = run(advertised, "setup")
    assert sysctl(advertised, "net/ipv6/conf/all/forwarding") == "0"
    assert {"pvn1", "pvn2", "pvn3"} <= names(advertised)
    if done.returncode:
        said = complaint(done)
        assert "eth0" in said and "router advertisements" in said
        assert "accept_ra=2" in done.stderr.splitlines()[1]
        sysctl(advertised, "net/ipv6/conf/eth0/accept_ra", "2")
        manage(advertised, "setup")
    assert differences(advertised) == []


@pytest.mark.parametrize("verb", ["reconcile", "attach"])
def test_no_other_verb_costs_it_either(advertised: Node, tap: MakeTap, verb: str) -> None:
    run(advertised, "setup")
    if verb == "attach":
        vif_script(advertised, routed(tap(advertised).name))
    else:
        run(advertised, "reconcile")
    assert sysctl(advertised, "net/ipv6/conf/all/forwarding") == "0"


def test_setup_leaves_running_guests_alone(ready: Node, gateway: Node, plug: Plug) -> None:
    guest = plug(ready, "tap5", 5, f"{public(5)}/24")
    ip(guest, f"route add default via {GATEWAY}")
    attach(ready, routed("tap5"))
    before = shot(ready)
    assert manage(ready, "setup") == "nothing to change\n"
    assert shot(ready) == before
    ping(guest, GATEWAY)


def test_what_a_translator_that_was_killed_left_goes_with_the_next_reconcile(ready: Node) -> None:
    table = f"netdev {table_of('netdev', 'scratch-1')}"
    ready.run(["nft", "-f", "-"], input=f"add table {table}\nadd chain {table} scratch-1\n")
    assert differences(ready) == ["left over: filter chain netdev scratch-1"]
    manage(ready, "reconcile")
    assert differences(ready) == []
    assert "scratch" not in ready.run(["nft", "list", "ruleset"]).stdout


def test_setup_says_whose_link_is_no_longer_in_the_file(ready: Node, tap: MakeTap) -> None:
    """As after a mistake in the section's name. The guest stays connected, but could not be started again."""
    one = tap(ready)
    attach(ready, routed(one.name))
    configure(ready, CONFIG.replace("[public public]", "[public pubic]").replace("222", "223").replace("eth1", "eth9"))
    for flags in (["--dry-run"], []):
        done = run(ready, "setup", *flags)
        assert done.returncode == 1
        lines = done.stderr.splitlines()
        assert len(lines) == 4 and "eth9" in lines[0], done.stderr
        assert lines[2] == f"error: vm5.example.com NIC 0 ({one.name}): the link public is no routing table"
        assert "[public public]" in lines[3]
    configure(ready, CONFIG.replace("192.0.2.0/24", "192.0.2.0/30"))
    assert "192.0.2.5 is in no subnet of the public link public" in run(ready, "setup").stderr
    configure(ready, CONFIG)
    manage(ready, "setup")
    manage(ready, "setup", "--private", "pvn=1-3")


@pytest.mark.parametrize(
    ("bridge", "fix"),
    [
        ("pvn2", "ganeti-vif setup"),
        (
            "pvn9",
            "note: add 9 to the bridges of [private pvn] of /etc/ganeti-vif/ganeti-vif.conf, then: ganeti-vif setup",
        ),
        ("br7", "ip link add br7 type bridge && ip link set br7 up"),
    ],
)
def test_what_makes_a_bridge_that_is_missing_is_named_and_makes_it(
    ready: Node, tap: MakeTap, bridge: str, fix: str
) -> None:
    one = tap(ready)
    if bridge in names(ready):
        ip(ready, f"link del {bridge}")
    nic = bridged(one.name, LINK=bridge)
    done = vif_script(ready, nic)
    assert complaint(done).endswith(f"the bridge {bridge} does not exist")
    assert done.stderr.splitlines()[1] == f"  {remedy(fix)}"
    if bridge == "pvn9":
        configure(ready, CONFIG.replace("1-3", "1-3,9"))
    ready.run(["sh", "-ec", fix.rpartition("then: ")[2]], check=False)
    attach(ready, nic)


def test_empty_tables_of_ours_go_with_teardown(ready: Node) -> None:
    """Before Linux 6.16 a tap's chains go with it, and leave their table."""
    ready.run(
        ["nft", "-f", "-"], input=f"add table netdev {table_of('netdev', 'tap7-in')}\nadd table netdev ganeti_vifs\n"
    )
    manage(ready, "teardown")
    assert ready.run(["nft", "list", "tables"]).stdout == "table netdev ganeti_vifs\n"
