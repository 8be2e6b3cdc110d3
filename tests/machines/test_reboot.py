# SPDX-License-Identifier: BSD-2-Clause
"""Boots: the networks are there before Ganeti is, whoever else starts, and with an uplink that udev gives another name."""

from __future__ import annotations

import pytest

from tests.kernel.environment import bridged, private

from .conftest import cost
from .machine import Machine, mac_of
from .node import CONFIG, PRIVATE_GATEWAY, UPLINK, Guest, cable, clean, differences, faults, sh, write

NAME = "wan0"
RENAMED = f"[Match]\nMACAddress={mac_of('uplink')}\n[Link]\nName={NAME}\n"
NETWORKD = f"[Match]\nName={NAME}\n[Network]\nLinkLocalAddressing=no\n"
GANETI = "ganeti.service"
"""Of Debian's init script. Without a cluster it ends at once; what counts is when it begins."""


def reached(node: Machine, unit: str) -> int:
    """When UNIT was left alone by systemd as started, in microseconds since the boot; 0 if it was not."""
    return int(sh(node, f"systemctl show --value --property=ActiveEnterTimestampMonotonic {unit}"))


def begun(node: Machine, unit: str) -> int:
    """When systemd began to start UNIT; 0 if it did not."""
    return int(sh(node, f"systemctl show --value --property=InactiveExitTimestampMonotonic {unit}"))


@pytest.mark.parametrize("ganeti", ["without Ganeti", "with Ganeti"])
def test_networks_are_there_after_a_boot(node: Machine, ganeti: str) -> None:
    """Networkd brings the uplink up, under the name that udev gave it in this boot."""
    sh(node, "systemctl stop vm5 vm6; ip netns del vm5; ip netns del vm6", check=False)
    write(node, "/etc/systemd/network/10-wan.link", RENAMED)
    write(node, "/etc/systemd/network/30-wan.network", NETWORKD)
    write(node, "/etc/ganeti-vif/ganeti-vif.conf", CONFIG.replace(UPLINK, NAME))
    verb = "enable" if ganeti == "with Ganeti" else "disable"
    sh(node, f"systemctl enable systemd-networkd; systemctl {verb} ganeti")
    try:
        with cost(f"a boot {ganeti}"):
            node.reboot()
        assert differences(node) == []
        assert reached(node, "ganeti-vif.service") > 0
        if ganeti == "with Ganeti":
            assert begun(node, GANETI) > reached(node, "ganeti-vif.service")
        cable(node, NAME)
        guest = Guest(node, 51, f"{private(51)}/24")
        guest.attach(bridged(guest.tap, 51))
        assert "1 received" in guest.sh(f"ping -n -c 1 -w 60 {PRIVATE_GATEWAY}")
        guest.gone()
        clean(node)
        assert faults(node) == []
    finally:
        sh(node, "rm -f /etc/systemd/network/*-wan.*; systemctl disable systemd-networkd ganeti")
