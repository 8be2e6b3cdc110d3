# SPDX-License-Identifier: BSD-2-Clause
"""Calling Ganeti's script in a node of the laboratory, and what Ganeti gives it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.lab import Node

OURS, BUILT_IN = "/etc/ganeti/kvm-vif-bridge", "/usr/lib/ganeti/kvm-ifup"
MODES = ("bridged", "routed")
CONFIG = """\
[private pvn]
bridges = 1-{bridges}
[public rt_pub]
table = 222
uplink = eth1
subnets = 10.77.0.0/16 2001:db8:77::/64
gateways = 10.77.0.1 2001:db8:77::1
arp-source = 10.77.0.2
[bindings]
for = all
"""


def environment(mode: str, tap: str, number: int, bridge: str = "pvn1") -> dict[str, str]:
    """What Ganeti gives its script for the NIC of that number, from 10 on: its addresses are nobody else's."""
    common = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL": "C",
        "INSTANCE": f"inst{number}.example.com",
        "INTERFACE": tap,
        "INTERFACE_INDEX": "0",
        "INTERFACE_UUID": f"8ea16126-78bc-4322-b857-{number:012x}",
        "MAC": f"aa:00:77:00:{number >> 8:02x}:{number & 255:02x}",
        "MODE": mode,
        "VLAN": "",
        "TAGS": "",
        "NETWORK_NAME": "net",
        "NETWORK_UUID": "9696066a-7821-42d1-9e6d-aa3dcbb17b20",
        "NETWORK_TAGS": "nfdhcpd",
    }
    if mode == "bridged":
        return common | {"LINK": bridge, "BRIDGE": bridge, "IP": f"192.168.{number >> 8}.{number & 255}"}
    return common | {
        "LINK": "rt_pub",
        "IP": f"10.77.{number >> 8}.{number & 255}",
        "NETWORK_SUBNET": "10.77.0.0/16",
        "NETWORK_GATEWAY": "10.77.0.1",
        "NETWORK_SUBNET6": "2001:db8:77::/64",
        "NETWORK_GATEWAY6": "2001:db8:77::1",
    }


class Caller:
    """A process in NODE that calls SCRIPT, again and again."""

    def __init__(self, node: Node, script: str = OURS) -> None:
        self._script = script
        self._process = node.popen([sys.executable, "-I", str(Path(__file__).with_name("call.py"))], stdin=-1)

    def call(self, given: dict[str, str]) -> float:
        """Milliseconds that one run takes. It has to end well."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps([self._script, given]) + "\n")
        self._process.stdin.flush()
        took, status, errors = json.loads(self._process.stdout.readline())
        assert status == 0, (given, errors)
        return float(took)
