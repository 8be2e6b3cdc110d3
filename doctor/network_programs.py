"""Checks of the programs that configure a node's network: systemd-networkd, NetworkManager, ifupdown2."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

from doctor.facts import Facts, Finding, NetworkFile
from vif.nic import Mode

DROPIN = "/etc/systemd/networkd.conf.d/ganeti-vif.conf"


def networkd_foreign_routes(facts: Facts) -> Iterator[Finding]:
    """systemd-networkd removes routes and rules that it did not make, whenever it starts (networkd.conf(5))."""
    for key in ("ManageForeignRoutes", "ManageForeignRoutingPolicyRules") if facts.networkd else ():
        assert facts.networkd
        if facts.networkd.settings.get(key, "yes").lower() not in ("no", "false", "off", "0", "n", "f"):
            yield Finding(
                what=f"systemd-networkd has {key}=yes: when it restarts it removes what VMs' packets are routed by",
                do=f"in {DROPIN}: [Network] {key}=no; then: systemctl restart systemd-networkd",
            )


def networkd_devices(facts: Facts) -> Iterator[Finding]:
    """A .network file that applies to our devices, and manages them."""
    for device in _ours(facts) if facts.networkd else ():
        assert facts.networkd
        first = next((file for file in facts.networkd.files if _applies(file, device)), None)
        if first and not first.unmanaged:
            yield Finding(
                what=f"systemd-networkd manages {device} and devices like it, by {first.path}",
                do=f"in /etc/systemd/network/00-ganeti-vif.network: [Match] Name={_like(device)} [Link] Unmanaged=yes",
            )


def networkd_uplinks(facts: Facts) -> Iterator[Finding]:
    """systemd-networkd sets proxy_ndp of each device that it manages, to 0 unless it is told otherwise."""
    for public in facts.config.public if facts.networkd else ():
        assert facts.networkd
        first = next((file for file in facts.networkd.files if _applies(file, public.uplink)), None)
        if 6 in public.versions and first and not first.unmanaged and not first.proxy_ndp:
            yield Finding(
                what=f"systemd-networkd sets proxy_ndp of {public.uplink} to 0, and IPv6 does not reach VMs",
                do=f"in {first.path}: [Network] IPv6ProxyNDP=yes; then: networkctl reload",
            )


def _applies(file: NetworkFile, device: str) -> bool:
    if any(fnmatchcase(device, name[1:]) for name in file.names if name.startswith("!")):
        return False
    plain = [name for name in file.names if not name.startswith("!")]
    return not plain or any(fnmatchcase(device, name) for name in plain)


def network_manager(facts: Facts) -> Iterator[Finding]:
    """NetworkManager takes taps out of their bridges when it manages them."""
    for device in _ours(facts) if facts.unmanaged is not None else ():
        assert facts.unmanaged is not None
        patterns = [one.removeprefix("interface-name:").removeprefix("=") for one in facts.unmanaged]
        if not any(fnmatchcase(device, pattern) for pattern in patterns):
            yield Finding(
                what=f"NetworkManager manages {device} and devices like it",
                do="in /etc/NetworkManager/conf.d/ganeti-vif.conf: [keyfile] "
                f"unmanaged-devices+=interface-name:{_like(device)}; then: systemctl reload NetworkManager",
            )


def _ours(facts: Facts) -> list[str]:
    """One device of each kind that is ours: a tap, a bridge of each family, an uplink of each."""
    names = ["tap0"]
    for private in facts.config.private:
        names += [f"{private.prefix}{private.numbers[0]}"]
        names += [private.uplink.port(private.numbers[0])] if private.uplink else []
    return names


def _like(device: str) -> str:
    return f"{device.rstrip('0123456789')}*"


def ifupdown2_ports(facts: Facts) -> Iterator[Finding]:
    """ifreload takes from a bridge of its own every port that its stanza neither names nor condones."""
    bridges = {nic.link for nic in facts.nics if nic.mode is Mode.BRIDGED}
    bridges |= {bridge for private in facts.config.private for bridge in private.bridges}
    for stanza in facts.stanzas if facts.ifupdown2 else ():
        given = {option.key.replace("_", "-"): option.value for option in stanza.options}
        if stanza.device not in bridges or "bridge-ports" not in given:
            continue
        if not _condones(given.get("bridge-ports-condone-regex", "")):
            yield Finding(
                what=f"{stanza.place}: ifreload takes the VMs' taps out of {stanza.device}",
                do="add to this stanza: bridge-ports-condone-regex ^tap",
            )


def _condones(pattern: str) -> bool:
    try:
        return bool(pattern and re.match(pattern, "tap0"))
    except re.error:
        return False
