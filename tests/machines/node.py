# SPDX-License-Identifier: BSD-2-Clause
"""The node that a machine is, its gateway, guests, and what is asked of it.

```
 node: uplink ─┬─ gateway, a namespace: 192.0.2.1, 2001:db8::1; VLAN 2991: 10.0.0.1
       second ─┘
       tap5 ── vm5, a namespace; what is sent there, inside/guest.py hands on
```
"""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Mapping, Sequence
from types import TracebackType

from tests.kernel.environment import GATEWAY, GATEWAY6, SCRIPT, mac

from .machine import PATIENCE, Job, Machine, name_of

UPLINK, SECOND = name_of("uplink"), name_of("second")
CONFIGURATION = "/etc/ganeti-vif/ganeti-vif.conf"
CONFIG = f"""\
[private pvn]
bridges = 1-3
uplink  = vlan {UPLINK} +2990

[public public]
table      = 222
uplink     = {UPLINK}
subnets    = 192.0.2.0/24 2001:db8::/64
gateways   = {GATEWAY} {GATEWAY6}
arp-source = 192.0.2.254

[bindings]
for = all

[responder]
nameservers = 192.0.2.53 2001:db8::53
"""
PRIVATE_GATEWAY = "10.0.0.1"
REPAIRED = 45.0
"""Seconds in which what somebody broke is whole again, emulated: the daemon hears of it. It is less than the minute in which
it looks at everything anyway, so that this is seen to be another thing."""
INSTALL = "DEBIAN_FRONTEND=noninteractive apt-get -o Dpkg::Use-Pty=0 install --yes --no-install-recommends"
FAULTS = re.compile(r"Traceback|error:|not permitted|Permission denied|Read-only|core-dump|Failed with result")
"""In the journal of our units: what is wrong with them."""
LEASE = """#!/bin/sh
[ "$1" != bound ] || { ip addr replace "$ip/$mask" dev "$interface"; echo "$ip" "$router" "$dns"; }
"""


def sh(machine: Machine, command: str, *, check: bool = True, timeout: float = PATIENCE) -> str:
    """What COMMAND of root's shell prints, errors too."""
    return machine.run(["sh", "-c", f"exec 2>&1; {command}"], check=check, timeout=timeout).stdout


def write(machine: Machine, path: str, text: str) -> None:
    """Write a file, and its directory if there is none."""
    machine.run(["sh", "-c", 'mkdir -p "${1%/*}"; cat >"$1"', "write", path], input=text)


def install(machine: Machine, config: str = CONFIG) -> None:
    """The package, as an administrator installs it whose configuration is there before."""
    write(machine, CONFIGURATION, config)
    sh(machine, f"{INSTALL} -o Dpkg::Options::=--force-confold /mnt/this.deb")


def cable(machine: Machine, uplink: str = UPLINK) -> None:
    """The node's uplink is up, and beyond it is the gateway. As often as the node boots, for it is no file's affair."""
    gateway = name_of("gateway")
    sh(
        machine,
        f"""set -e
        ip link set {uplink} up
        ip netns add gateway
        ip link set {gateway} netns gateway
        ip -n gateway link set lo up
        ip -n gateway link set {gateway} up
        ip -n gateway addr add {GATEWAY}/24 dev {gateway}
        ip -n gateway addr add {GATEWAY6}/64 dev {gateway} nodad
        ip -n gateway link add link {gateway} name vlan2991 type vlan id 2991
        ip -n gateway addr add {PRIVATE_GATEWAY}/24 dev vlan2991
        ip -n gateway link set vlan2991 up""",
    )


def set_up(machine: Machine, config: str) -> None:
    """Give the node this configuration and put it in force, as docs/administration.md says."""
    write(machine, CONFIGURATION, config)
    sh(machine, "systemctl reload-or-restart ganeti-vif ganeti-vifd ganeti-vif-responder")


class Guest:
    """A guest with an IP stack of its own, behind a tap that is one. It is there until gone()."""

    def __init__(self, machine: Machine, number: int, *addresses: str) -> None:
        self._machine, self._there = machine, True
        self.number, self.tap, self.name = number, f"tap{number}", f"vm{number}"
        sh(machine, f"ip netns add {self.name}; ip -n {self.name} link set lo up")
        guest = f"/usr/bin/python3 /mnt/inside/guest.py {self.tap} {self.name} {mac(number)}"
        sh(machine, f"systemd-run --quiet --collect --unit={self.name} --property=Type=notify {guest}")
        for address in addresses:
            self.sh(f"ip addr add {address} dev eth0")

    def sh(self, command: str, *, check: bool = True) -> str:
        """What COMMAND of the guest's shell prints, errors too."""
        return self._machine.run(
            ["ip", "netns", "exec", self.name, "sh", "-c", f"exec 2>&1; {command}"], check=check
        ).stdout

    def attach(self, environment: Mapping[str, str]) -> None:
        """As Ganeti attaches its NIC. It works and says nothing."""
        done = self._machine.run(["sh", "-c", f"umask 077; exec {SCRIPT}"], env=environment, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def lease(self) -> Sequence[str]:
        """The address, the router and the first name server that it is told by DHCP; the address is its own from then on."""
        write(self._machine, "/run/lease", LEASE)
        sh(self._machine, "chmod 755 /run/lease")
        return self.sh("busybox udhcpc -i eth0 -f -q -n -t 20 -T 3 -s /run/lease 2>/dev/null").split()

    def gone(self) -> None:
        """The end of the guest, and of its tap; a second call does nothing."""
        if not self._there:
            return
        self._there = False
        sh(self._machine, f"systemctl stop {self.name}; ip netns del {self.name}")


def differences(machine: Machine) -> list[str]:
    """What `ganeti-vif check` finds."""
    done = machine.run(["ganeti-vif", "check"], check=False)
    assert (done.returncode, done.stderr) == (1 if done.stdout else 0, ""), done
    return done.stdout.splitlines()


def clean(machine: Machine, within: float = PATIENCE) -> float:
    """`check` finds nothing, sooner or later. Returns after how many seconds it did; what it found last is told if it does not."""
    begun = time.monotonic()
    while found := differences(machine):
        assert time.monotonic() - begun < within, f"check still finds after {within} s:\n" + "\n".join(found)
    return time.monotonic() - begun


def doctor(machine: Machine) -> list[str]:
    """What the doctor says is in the way, without the fixes."""
    said = machine.run(["ganeti-vif", "doctor", "--json"], check=False)
    assert said.returncode in (0, 1), said
    return [finding["what"] for finding in json.loads(said.stdout)["findings"] if finding["grave"]]


def faults(machine: Machine) -> list[str]:
    """What our units and commands said in the journal that is wrong with themselves."""
    said = sh(machine, "journalctl --no-pager -b -u 'ganeti-vif*' -t ganeti-vif")
    return [line for line in said.splitlines() if FAULTS.search(line)]


def heed(machine: Machine) -> list[str]:
    """Do what the doctor says to do about what is in the way. Returns what was."""
    said = machine.run(["ganeti-vif", "doctor", "--json"], check=False)
    found = [finding for finding in json.loads(said.stdout)["findings"] if finding["grave"]]
    for finding in found:
        machine.run(["bash", "-ec", finding["fix"]])
    return [finding["what"] for finding in found]


def answers(machine: Machine, address: str) -> None:
    """ADDRESS answers the gateway, sooner or later: ping itself gives up at the first error that comes back."""
    again = 'for _ in 1 2 3 4 5; do ping -n -c 1 -w 10 "$0" && exit; done; ip neigh; exit 1'
    machine.run(["ip", "netns", "exec", "gateway", "sh", "-c", again, address])


class Pings:
    """Pings from the gateway to some guests, five a second each, while the block runs."""

    def __init__(self, machine: Machine, *addresses: str) -> None:
        self._machine, self._addresses = machine, addresses
        self._jobs: dict[str, Job] = {}
        self.lost: dict[str, int] = {}
        """How many were lost, by address: known at the end of the block."""

    def __enter__(self) -> Pings:
        for address in self._addresses:
            # the first teaches both sides where the other is
            answers(self._machine, address)
            ping = ["ip", "netns", "exec", "gateway", "ping", "-n", "-q", "-i", "0.2", "-W", "10", address]
            self._jobs[address] = self._machine.start(ping)
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        for job in self._jobs.values():
            job.signal(signal.SIGINT)
        for address, job in self._jobs.items():
            said = job.wait()
            found = re.search(r"(\d+) packets transmitted, (\d+) received", said.stdout)
            if kind is None:
                assert found, said
            # the last may be on its way when ping is told to stop
            self.lost[address] = max(0, int(found[1]) - int(found[2]) - 1) if found else -1
