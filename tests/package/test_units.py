# SPDX-License-Identifier: BSD-2-Clause
"""The units, under a systemd that runs: what they may do is enough, and little more than that."""

from __future__ import annotations

import os
import re
import signal
from contextlib import ExitStack

import pytest

from tests.kernel.environment import CONFIG, bridged, routed
from tests.kernel.instance import Instance
from tests.kernel.migration_site import RARP, hook
from tests.kernel.responder_lab import udhcpc
from tests.lab import Tap
from tests.lab.tap import VNET_HEADER

from .actions import CONFIGURATION, attach, configure, daemon, install, plug, reaches, routed_over_ipv6, sh, until
from .conftest import Boot
from .machine import Machine
from .root import SUITES, TESTED

EXPOSURE = {"ganeti-vif.service": 7.0, "ganeti-vifd.service": 4.0, "ganeti-vif-responder.service": 2.0}
"""The most that `systemd-analyze security` may say of a unit."""


@pytest.fixture(params=SUITES)
def node(request: pytest.FixtureRequest, boot: Boot) -> Machine:
    """A machine with systemd and the package."""
    machine = boot(request.param, "systemd")
    install(machine)
    return machine


def journal(machine: Machine) -> str:
    """What our units said."""
    return sh(machine, "journalctl --no-pager --output=cat -u ganeti-vif -u ganeti-vifd -u ganeti-vif-responder")


def units(machine: Machine) -> list[str]:
    return sh(machine, "dpkg -L ganeti-vif | grep '[.]service$'").split()


def test_systemd_finds_no_fault_in_them(node: Machine) -> None:
    assert len(units(node)) >= 2
    said = sh(node, f"systemd-analyze verify --man=no {' '.join(units(node))}", check=False)
    assert [line for line in said.splitlines() if "ganeti-vif" in line] == []
    pages = re.findall(r"^Documentation=man:(.*)\((.)\)", sh(node, f"cat {' '.join(units(node))}"), re.MULTILINE)
    assert len(pages) == len(units(node))
    for name, section in pages:
        sh(node, f"zcat /usr/share/man/man{section}/{name}.{section}.gz")


def test_they_may_do_little(node: Machine) -> None:
    paths = {path.rpartition("/")[2]: path for path in units(node)}
    assert paths.keys() == EXPOSURE.keys()
    for name, path in paths.items():
        said = sh(node, f"systemd-analyze security --no-pager --offline=yes {path}", check=False)
        found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
        assert found, said
        assert float(found[1]) <= EXPOSURE[name], said


def test_ganetis_own_units_come_after_the_networks(node: Machine) -> None:
    assert "ganeti-noded.service" in sh(node, "systemctl show -P Before ganeti-vif.service")
    assert "ganeti-vif.service" in sh(node, "systemctl show -P After ganeti-vifd.service")


def test_the_daemon_does_all_its_work_in_its_cell(node: Machine, stack: ExitStack) -> None:
    sh(node, "ip link add eth1 type bridge; ip link set eth1 up")
    configure(node)
    process = daemon(node)
    assert process
    # attaches: devices, filters, sysctls, routes, bindings, and an announcement from a packet socket
    one_routed = plug(node, stack, "tap0", 5, "192.0.2.99/24")
    one, other = plug(node, stack, "tap1", 6, "10.0.0.6/24"), plug(node, stack, "tap2", 7, "10.0.0.7/24")
    reaches(one, "10.0.0.7")
    # the responder, in its own: an address by DHCP, and an IPv6 one by its advertisement
    assert udhcpc(one_routed)["ip"] == "192.0.2.5"
    until(lambda: routed_over_ipv6(one_routed), "an IPv6 address by the responder's word")
    # the responder tells the daemon of an address that the guest chose
    one_routed.run(["ip", "addr", "add", "2001:db8::77:5/64", "dev", "eth0"])
    until(lambda: "claims      2001:db8::77:5" in sh(node, "ganeti-vif explain tap0"), "the claim")
    assert sh(node, "ls /var/lib/nfdhcpd").split() == ["tap0", "tap1", "tap2"]
    said = journal(node)
    assert len(re.findall(r"\(tap[012]\): attached", said)) == 3
    # repairs: in a child process, a route, a filter, a sysctl, a device, a binding
    sh(node, "ip route flush table 222; nft flush ruleset; rm /var/lib/nfdhcpd/tap0; ip link del pvn3")
    sh(node, "ip link set tap1 nomaster; sysctl -qw net.ipv4.conf.tap0.proxy_arp=0")
    until(lambda: sh(node, "ganeti-vif check", check=False) == "", "the repair of everything")
    reaches(other, "10.0.0.6")
    # clears up
    tap = stack.enter_context(Tap(node))
    attach(node, bridged(tap.name, 8))
    tap.close()
    until(lambda: not node.path("/var/lib/nfdhcpd/tap3").exists(), "the clearing up after a tap")
    # all of it was the same process, nobody had to do it in its place, and nothing was forbidden to it
    assert daemon(node) == process
    said = journal(node)
    assert "ganeti-vifd.service: Main process exited" not in said
    wrong = [line for line in said.splitlines() if re.search(r"Traceback|not permitted|Read-only|denied", line)]
    assert [line for line in wrong if "dbus" not in line] == []


@pytest.mark.parametrize("suite", SUITES)
def test_the_daemon_takes_a_guest_over_in_its_cell(suite: str, boot: Boot, stack: ExitStack) -> None:
    """It comes from another node, in a QEMU that has every right, as Ganeti's has."""
    node = boot(suite, "systemd", *TESTED)
    install(node)
    sh(node, "ip link add eth1 type bridge; ip link set eth1 up")
    configure(node)
    until(lambda: daemon(node) != 0, "the daemon")
    hook(node, GANETI_OLD_PRIMARY="node2.example.com", GANETI_NEW_PRIMARY="node1.example.com")
    tap = Tap(node)
    mouth = os.dup(tap.fd)
    Instance(node, "vm5.example.com", [(tap, routed(tap.name))], None, "-incoming", "defer")
    until(lambda: "its guest is on another node" in journal(node), "the readiness for it")
    assert " standby" in sh(node, "ganeti-vif status")
    # runs before all others while the guest may come at any moment
    until(lambda: "SCHED_RR" in sh(node, f"chrt --pid {daemon(node)}"), "the daemon to be urgent")
    os.write(mouth, VNET_HEADER + RARP)
    until(lambda: f"({tap.name}): attached to routed public" in journal(node), "the answers for it")
    assert tap.name in sh(node, "ip route show table 222")
    assert "cannot be read" not in journal(node)
    os.close(mouth)


@pytest.mark.parametrize("suite", SUITES)
def test_the_daemon_writes_names_in_its_cell(suite: str, boot: Boot, stack: ExitStack) -> None:
    node = boot(suite, "systemd", *TESTED)
    install(node)
    sh(node, "ip link add eth1 type bridge; ip link set eth1 up; ip link set lo up")
    configure(node)
    plug(node, stack, "tap0", 5, "192.0.2.5/24")
    key = "key ganeti-vif { algorithm hmac-sha256; secret c2VjcmV0; };"
    sh(node, f"echo '{key}' >/etc/ganeti-vif/dns.key; chmod 600 /etc/ganeti-vif/dns.key")
    text = node.path(CONFIGURATION).read_text()
    names = "hosts-file = /var/lib/ganeti-vif/names/hosts\nzone = example.com\nkey-file = /etc/ganeti-vif/dns.key\n"
    for server in ("127.0.0.1", "::1"):  # nobody is there; but nothing forbids the daemon to ask
        node.path(CONFIGURATION).write_text(f"{text}\n[names]\nserver = {server}\n{names}")
        sh(node, "ganeti-vif setup")
        told = f"the DNS server {server} does not answer: Connection refused"
        until(lambda told=told: told in sh(node, "ganeti-vif check", check=False), "the report")  # type: ignore[misc]
    assert "192.0.2.5 vm5.example.com" in sh(node, "cat /var/lib/ganeti-vif/names/hosts")
    node.path(CONFIGURATION).write_text(text)
    sh(node, "ganeti-vif setup")
    until(lambda: sh(node, "ganeti-vif check", check=False) == "", "the end of the report")


@pytest.mark.parametrize("consumer", ["responder", "nfdhcpd"])
def test_the_networks_are_made_in_their_cell(node: Machine, consumer: str) -> None:
    sh(node, "systemctl stop ganeti-vifd; ip link add eth1 type bridge; ip link set eth1 up")
    node.path(CONFIGURATION).write_text(
        f"{CONFIG.partition('[private')[1]}{CONFIG.partition('[private')[2]}consumer = {consumer}\n"
    )
    sh(node, "systemctl restart ganeti-vif")
    assert sh(node, "ganeti-vif setup --dry-run") == ""
    assert "default via 192.0.2.1" in sh(node, "ip route show table 222")


def test_the_daemon_comes_back_when_it_died_and_when_it_hangs(node: Machine) -> None:
    sh(node, "mkdir -p /run/systemd/system/ganeti-vifd.service.d")
    node.path("/run/systemd/system/ganeti-vifd.service.d/test.conf").write_text("[Service]\nWatchdogSec=2\n")
    sh(node, "systemctl daemon-reload; systemctl restart ganeti-vifd")
    for number in (signal.SIGKILL, signal.SIGSTOP):
        process = daemon(node)
        assert process
        sh(node, f"kill -{number.value} {process}")
        until(lambda process=process: daemon(node) not in (0, process), "a new daemon")  # type: ignore[misc]
    assert "watchdog" in sh(node, "journalctl --no-pager -u ganeti-vifd").lower()


def test_networkd_leaves_routes_rules_and_devices_alone(node: Machine, stack: ExitStack) -> None:
    everything = "[Match]\nName=*\n[Network]\nDHCP=no\nLinkLocalAddressing=no\nIPv6ProxyNDP=yes\n"
    node.path("/etc/systemd/network/20-all.network").write_text(everything)
    sh(node, "ip link add eth1 type bridge; ip link set eth1 up")
    configure(node)
    sh(node, "systemctl disable --now ganeti-vifd")  # who would repair it; stopped alone, check would tell of it
    plug(node, stack, "tap0", 5, "192.0.2.5/24")
    guest, _ = plug(node, stack, "tap1", 6, "10.0.0.6/24"), plug(node, stack, "tap2", 7, "10.0.0.7/24")
    sh(node, "systemctl restart systemd-networkd; systemctl restart systemd-networkd")
    until(lambda: "configuring" not in sh(node, "networkctl list --no-legend"), "networkd at rest")
    states = {
        words[1]: words[-1] for line in sh(node, "networkctl list --no-legend").splitlines() if (words := line.split())
    }
    assert [states[name] for name in ("tap0", "tap1", "pvn1")] == ["unmanaged"] * 3
    assert states["eth1"] != "unmanaged"
    reaches(guest, "10.0.0.7")
    assert sh(node, "ganeti-vif check", check=False) == ""
    sh(node, "systemctl enable --now ganeti-vifd")
    assert "networkd" not in sh(node, "ganeti-vif doctor", check=False)
    # and without our file the same networkd is a conflict, which the doctor names
    sh(node, "rm /usr/lib/systemd/networkd.conf.d/ganeti-vif.conf /usr/lib/systemd/network/05-ganeti-vif.network")
    said = sh(node, "ganeti-vif doctor", check=False)
    assert "ManageForeignRoutes=yes" in said and "manages tap0" in said and "20-all.network" in said
    # until what it says is done
    for fix in re.findall(r"^  fix: (.*)$", said, re.MULTILINE):
        sh(node, fix)
    assert "networkd" not in sh(node, "ganeti-vif doctor", check=False)


def test_check_tells_of_a_daemon_that_should_run(node: Machine) -> None:
    assert sh(node, "ganeti-vif check", check=False) == ""
    sh(node, "systemctl kill --signal=STOP ganeti-vifd; systemctl stop ganeti-vif-responder")
    said = sh(node, "ganeti-vif check", check=False)
    for name in ("ganeti-vifd", "ganeti-vif-responder"):
        assert f"{name} does not run" in said and f"  fix: service {name} restart" in said
    for fix in re.findall(r"^  fix: (.*)$", said, re.MULTILINE):
        sh(node, fix)
    until(lambda: sh(node, "ganeti-vif check", check=False) == "", "both to run")
    sh(node, "systemctl disable --now ganeti-vifd")
    assert sh(node, "ganeti-vif check", check=False) == ""
    assert "note: ganeti-vifd does not run" in sh(node, "ganeti-vif doctor", check=False)


@pytest.mark.parametrize(
    "kind", ["tuntap add tap7 mode tap", "link add pvn200 type bridge", "link add vx9 type bridge"]
)
def test_udev_leaves_the_mac_addresses_of_ours_alone(node: Machine, kind: str) -> None:
    name = kind.split()[2]
    sh(node, f"ip {kind}")
    mac = node.path(f"/sys/class/net/{name}/address").read_text()
    said = sh(node, f"udevadm test-builtin net_setup_link /sys/class/net/{name}")
    assert "ID_NET_LINK_FILE=/usr/lib/systemd/network/05-ganeti-vif.link" in said
    assert f"ID_NET_NAME={name}" in said
    assert node.path(f"/sys/class/net/{name}/address").read_text() == mac
