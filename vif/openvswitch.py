"""What a NIC on Open vSwitch needs: its tap as a port of the switch, with its VLANs."""

from __future__ import annotations

from collections.abc import Iterator

from engine.objects import Link, OvsPort, Sysctl, Up
from engine.state import Object
from vif import profile, tap_filter
from vif.bridged import port_mac
from vif.nic import Nic
from vif.surroundings import Surroundings


def needs(nic: Nic, around: Surroundings) -> Iterator[Object]:
    """What NIC needs on an Open vSwitch bridge."""
    yield Link(name=nic.tap, mac=nic.tap_mac or port_mac(nic.mac))
    yield tap_filter.ingress(nic, any_link_local=around.any_link_local)
    yield from tap_filter.egress(nic, False, None, profile.egress(nic, around.profile))
    yield Sysctl(path=f"net/ipv6/conf/{nic.tap}/disable_ipv6", value="1")
    yield OvsPort(device=nic.tap, bridge=nic.link, tag=nic.vlans.untagged, trunks=nic.vlans.tagged)
    yield Up(device=nic.tap)
