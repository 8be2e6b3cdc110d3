# SPDX-License-Identifier: BSD-2-Clause
"""Each fix that the doctor prints is a command, works, and takes away what was found; then it finds nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.lab import Node

from .actions import attach, differences, ip, names, run, sysctl
from .conftest import MakeTap
from .environment import routed


@pytest.fixture
def fresh(ready: Node) -> Node:
    """A node as after the tutorial's second step. Its kernel has br_netfilter built in, which Debian's have not."""
    for name in ("iptables", "ip6tables", "arptables"):
        ready.run(
            ["sh", "-c", f"! test -e /proc/sys/net/bridge || echo 0 > /proc/sys/net/bridge/bridge-nf-call-{name}"]
        )
    return ready


def findings(node: Node) -> list[str]:
    """What the doctor says, without the daemon, which does not run here and is started by nothing.

    A table of iptables-legacy counts as one that may read connections, and stays when it is empty.
    """
    lines = run(node, "doctor").stdout.splitlines()
    left_out = "ganeti-vifd does not run", "the connections of all guests"
    return [line for line in lines if not line.startswith("  ") and not any(words in line for words in left_out)]


def cured(node: Node) -> None:
    """Do all that the doctor says, in its order: each command works, and then it has only notes to tell."""
    done = run(node, "doctor")
    fixes = [line[7:] for line in done.stdout.splitlines() if line.startswith("  fix: ") and "ganeti-vifd" not in line]
    assert fixes
    for fix in fixes:
        told = node.run(["bash", "-c", fix], check=False)
        assert (told.returncode, told.stderr) == (0, ""), (fix, told)
    assert [line for line in findings(node) if not line.startswith("note: ")] == []


def test_a_fresh_node_has_no_conflict(fresh: Node) -> None:
    assert findings(fresh) == []


def test_a_name_for_a_table_is_not_needed_and_must_not_mislead(fresh: Node) -> None:
    fresh.run(
        ["sh", "-c", "mkdir -p /etc/iproute2/rt_tables.d; echo '99 public' >> /etc/iproute2/rt_tables.d/own.conf"]
    )
    assert "calls 99 so" in findings(fresh)[0]
    cured(fresh)
    assert fresh.path("/etc/iproute2/rt_tables.d/own.conf").read_text() == "222 public\n"


def test_switches_of_br_netfilter_are_put_back_for_good(fresh: Node) -> None:
    sysctl(fresh, "net/bridge/bridge-nf-call-iptables", "1")
    sysctl(fresh, "net/bridge/bridge-nf-call-arptables", "1")
    assert len(findings(fresh)) == 2
    fresh.run(["mkdir", "-p", "/etc/sysctl.d"])
    cured(fresh)
    for name in ("iptables", "arptables"):
        kept = fresh.path(f"/etc/sysctl.d/ganeti-vif-{name}.conf").read_text()
        assert kept == f"net.bridge.bridge-nf-call-{name} = 0\n"


def test_what_snf_network_left_is_found_and_goes(fresh: Node, tap: MakeTap) -> None:
    """As its scripts make it (kvm-ifup-custom, vmrouter.ifup); tap77 is gone, the other is its name's next owner's."""
    if missing := [name for name in ("arptables-nft", "ebtables-nft", "iptables-nft") if not shutil.which(name)]:
        pytest.skip(f"not installed: {', '.join(missing)} (apt install iptables arptables ebtables)")
    one = tap(fresh)
    attach(fresh, routed(one.name))
    for name in ("tap77", one.name):
        chains = f"FROM{name.upper()}", f"TO{name.upper()}"
        for chain, option in zip(chains, "io", strict=True):
            fresh.run(["ebtables-nft", "-N", chain])
            fresh.run(["ebtables-nft", "-A", "FORWARD", f"-{option}", name, "-j", chain])
            fresh.run(["ebtables-nft", "-A", chain, "-s", "!", "aa:00:00:00:00:05", "-j", "DROP"])
        fresh.run(["iptables-nft", "-A", "FORWARD", "-i", name, "-s", "192.0.2.7", "-j", "DROP"])
    mangle = "-A OUTPUT -o eth1 --opcode 1 -j mangle --mangle-ip-s 192.0.2.254"
    fresh.run(["arptables-nft", *mangle.split()])
    ip(
        fresh,
        "rule add iif tap77 lookup 222",
        "rule add iif eth1 lookup 222",
        "route add 192.0.2.0/24 dev eth1",
        "route add 2001:db8::/64 dev eth1",
    )
    told = findings(fresh)
    for what in ("FROMTAP77", "TOTAP77", f"FROM{one.name.upper()}", "ARP requests on eth1", "192.0.2.0/24 dev eth1"):
        assert any(what in line for line in told), (what, told)
    assert any("2001:db8::/64 dev eth1" in line for line in told) and any("uplink eth1" in line for line in told)
    assert not [line for line in told if "legacy" in line], "each rule is told once, of the program that made it"
    cured(fresh)
    left = fresh.run(["sh", "-c", "ebtables-nft-save; arptables-nft-save; iptables-nft-save"]).stdout
    assert "TAP" not in left.upper() and "mangle-ip" not in left
    assert differences(fresh) == []


@pytest.mark.parametrize("program", ["arptables-legacy", "iptables-legacy", "ebtables-legacy"])
def test_the_older_generations_are_told_apart(fresh: Node, program: str) -> None:
    """Debian's arptables-legacy-save and ebtables-legacy-save say what the other generation has."""
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    made = fresh.run([program, "-A", "FORWARD", "-i", "tap77", "-j", "DROP"], check=False)
    if made.returncode:
        pytest.skip(f"this kernel has no {program}: {made.stderr.strip()}")
    (told,) = (line for line in findings(fresh) if line.startswith("conflict: "))
    assert f"{program} has a rule of others for tap77" in told
    cured(fresh)


def test_the_uplinks_rule_goes_out_of_interfaces_too(fresh: Node) -> None:
    text = "auto eth1\niface eth1 inet manual\n  up ip rule add iif eth1 lookup 222 # snf\n  up ip link set eth1 mtu 1500\n"
    fresh.run(["mkdir", "-p", "/etc/network"])
    fresh.path("/etc/network/interfaces").write_text(text)
    assert any("/etc/network/interfaces:3 makes a policy rule" in line for line in findings(fresh))
    cured(fresh)
    lines = fresh.path("/etc/network/interfaces").read_text().splitlines()
    assert lines[2] == "#  up ip rule add iif eth1 lookup 222 # snf" and lines[3] == "  up ip link set eth1 mtu 1500"


@pytest.mark.parametrize("condoned", ["", "  bridge-ports-condone-regex ^veth\n"])
def test_ifupdown2_is_told_to_leave_taps_alone(fresh: Node, condoned: str) -> None:
    fresh.run(["mkdir", "-p", "/etc/network", "/usr/share/ifupdown2"])
    text = f"auto pvn1\niface pvn1 inet manual\n  bridge-ports none\n{condoned}"
    fresh.path("/etc/network/interfaces").write_text(text)
    assert any("ifreload takes the VMs' taps out of pvn1" in line for line in findings(fresh))
    cured(fresh)
    wanted = "^veth|^tap" if condoned else "^tap"
    assert f"bridge-ports-condone-regex {wanted}\n" in fresh.path("/etc/network/interfaces").read_text()


@contextmanager
def running(node: Node, *programs: str) -> Iterator[None]:
    """Meanwhile processes of these names run on NODE: they do nothing."""
    with ExitStack() as stack:
        for program in programs:
            node.run(["sh", "-c", f"mkdir -p /usr/local/lib && cp /bin/sleep /usr/local/lib/{program}"])
            process = stack.enter_context(node.popen([f"/usr/local/lib/{program}", "infinity"]))
            stack.callback(process.kill)
        yield


def test_network_programs_that_were_stopped_manage_nothing(fresh: Node) -> None:
    """Their directories in /run are there until the next boot."""
    fresh.run(["sh", "-c", "mkdir -p /run/systemd/netif /run/NetworkManager; touch /run/systemd/netif/state"])
    fresh.run(["sh", "-c", "rm /usr/lib/systemd/network*/*ganeti-vif.* /usr/lib/NetworkManager/conf.d/ganeti-vif.conf"])
    with running(fresh, "NetworkManager"):
        assert any("NetworkManager manages" in line for line in findings(fresh))
        assert not any("networkd" in line for line in findings(fresh))
    assert not any("NetworkManager" in line for line in findings(fresh))


def test_networkd_and_network_manager_are_told_to_leave_ours_alone(fresh: Node, stack: ExitStack) -> None:
    """Neither runs here: of their files and of the names by which they are seen, all is as it would be."""
    fresh.run(["mkdir", "-p", "/etc/systemd/network", "/usr/local/bin"])
    stack.enter_context(running(fresh, "systemd-networkd", "NetworkManager"))
    for program in ("systemctl", "networkctl"):
        fresh.run(
            ["sh", "-c", f"printf '#!/bin/sh\\n' > /usr/local/sbin/{program}; chmod 755 /usr/local/sbin/{program}"]
        )
    fresh.run(["sh", "-c", "rm /usr/lib/systemd/network*/*ganeti-vif.* /usr/lib/NetworkManager/conf.d/ganeti-vif.conf"])
    fresh.path("/etc/systemd/network/20-all.network").write_text("[Match]\nName=*\n[Network]\nDHCP=no\n")
    told = "".join(findings(fresh))
    for what in ("ManageForeignRoutes=yes", "manages tap0", "proxy_ndp of eth1 to 0", "NetworkManager manages pvn1"):
        assert what in told
    fresh.run(
        ["sh", "-c", r"""ganeti-vif doctor | sed -n 's/^  fix: //p' | grep -v vifd | while read -r fix; do
            bash -c "PATH=/usr/local/sbin:\$PATH; $fix" || exit 1; done"""]
    )  # fmt: skip
    assert findings(fresh) == []
    assert "pvn1" in names(fresh)
