# SPDX-License-Identifier: BSD-2-Clause
"""The responder on a node, bindings for it, and guests with real clients."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.lab import PATIENCE, Node

from .actions import answer
from .environment import CONFIG, mac

USER = "ganeti-vif-responder"
DIRECTORY = "/var/lib/nfdhcpd"
TOLD = """
[responder]
nameservers = 192.0.2.53 192.0.2.54 2001:db8::53
domain = guests.example.org
search = guests.example.org example.org
"""
RESPONDS = CONFIG.replace("[responder]\nenabled = no\n", "") + TOLD
OUTPUT = "/run/responder-output"


def until(met: Callable[[], bool], what: str) -> None:
    """Wait for what no event tells of."""
    deadline = time.monotonic() + PATIENCE
    while not met():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def start(node: Node, *arguments: str) -> subprocess.Popen[str]:
    """A responder that serves what there is to serve."""
    node.run(["useradd", "--system", "--no-create-home", USER], check=False)
    with node.path(OUTPUT).open("a") as output:
        command = ["ganeti-vif-responder", "--foreground", *arguments]
        daemon = node.popen(command, stdout=output.fileno(), stderr=output.fileno())
    until(lambda: bool(state(node)) or daemon.poll() is not None, "the responder")
    assert daemon.poll() is None, said(node)
    return daemon


def stop(daemon: subprocess.Popen[str]) -> None:
    """End it; that it ends well is the test's to say, by its status."""
    daemon.terminate()
    daemon.wait(timeout=PATIENCE)


@contextmanager
def responding(node: Node, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A responder for a while, that ends well."""
    daemon = start(node, *arguments)
    try:
        yield daemon
        assert daemon.poll() is None, said(node)
    finally:
        stop(daemon)
    assert daemon.returncode == 0, said(node)
    assert "Traceback" not in said(node)


def said(node: Node) -> str:
    """What the responder said."""
    return node.path(OUTPUT).read_text()


def state(node: Node) -> Any:
    """What the responder says of itself, as `ganeti-vif status` has it; None if it does not run."""
    return answer(node, "status")["responder"]


def counts(node: Node, tap: str) -> Mapping[str, int]:
    found: Mapping[str, int] = state(node)["taps"][tap]["counts"]
    return found


def served(node: Node, tap: str, address: str | None) -> bool:
    """Whether the tap is served with this address."""
    taps = state(node)["taps"]
    return tap in taps and taps[tap]["address"] == address


def path_of(node: Node, tap: str) -> Path:
    path = node.path(f"{DIRECTORY}/{tap}")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def binding(tap: str, number: int = 5, **changes: str | None) -> str:
    """The text of a routed tap's binding; of the CHANGES None takes a key away."""
    given: dict[str, str | None] = {
        "INDEV": tap,
        "MAC": mac(number),
        "HOSTNAME": f"vm{number}.example.com",
        "IP": f"192.0.2.{number}",
        "SUBNET": "192.0.2.0/24",
        "GATEWAY": "192.0.2.1",
        "SUBNET6": "2001:db8::/64",
        "GATEWAY6": "2001:db8::1",
        **changes,
    }
    return "".join(f"{key}={value}\n" for key, value in given.items() if value is not None)


def bind(node: Node, tap: str, number: int = 5, **changes: str | None) -> None:
    """Write a binding in one go."""
    path_of(node, tap).write_text(binding(tap, number, **changes))


SCRIPT = """#!/bin/sh
# What the clients do with a lease: note it, and take the address, so that the next request can come from it.
{ echo "event=${1:-$reason}"; env | grep -E '^(new_|old_)?[a-z0-9_]+='; echo; } >> /run/lease
case "${1:-$reason}" in
bound|renew|BOUND|RENEW|REBIND|REBOOT)
    address=${ip:-$new_ip_address}
    ip addr replace "$address/${mask:-${new_subnet_cidr:-24}}" dev "${interface}"
    for old in $(ip -4 -o addr show dev "$interface" | awk '{print $4}'); do
        [ "${old%/*}" = "$address" ] || ip addr del "$old" dev "$interface"
    done
    ;;
deconfig|EXPIRE|FAIL) ip -4 addr flush dev "$interface" ;;
esac
exit 0
"""


def script(guest: Node) -> str:
    """The path of the script that clients call in GUEST."""
    path = guest.path("/run/client")
    if not path.exists():
        path.write_text(SCRIPT)
        path.chmod(0o755)
    return "/run/client"


def leases(guest: Node) -> list[dict[str, str]]:
    """What the clients of GUEST were told, call by call."""
    path = guest.path("/run/lease")
    calls = path.read_text().split("\n\n")[:-1] if path.exists() else []
    return [dict(line.split("=", 1) for line in call.splitlines() if "=" in line) for call in calls]


def udhcpc(guest: Node, *arguments: str) -> dict[str, str]:
    """A lease by busybox's client, once; what it told its script."""
    before = len(leases(guest))
    options = [part for name in ("mtu", "staticroutes", "search", "broadcast") for part in ("-O", name)]
    command = ["busybox", "udhcpc", "-i", "eth0", "-f", "-q", "-n", "-t", "10", "-T", "2", "-s", script(guest)]
    guest.run([*command, *options, *arguments])
    return next(lease for lease in leases(guest)[before:] if lease["event"] == "bound")


def addresses(guest: Node, version: int = 4) -> set[str]:
    """The global addresses of the guest's card."""
    found = json.loads(guest.run(["ip", "-j", f"-{version}", "addr", "show", "dev", "eth0"]).stdout)
    return {
        f"{one['local']}" for device in found for one in device.get("addr_info", []) if one.get("scope") == "global"
    }
