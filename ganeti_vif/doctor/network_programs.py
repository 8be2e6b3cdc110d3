# SPDX-License-Identifier: BSD-2-Clause
"""Checks of the programs that configure a node's network: systemd-networkd, NetworkManager, ifupdown2."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from fnmatch import fnmatchcase

from ganeti_vif.doctor.facts import Facts, Finding, NetworkFile
from ganeti_vif.nic.nic import Mode
from ganeti_vif.predecessors.interfaces import Stanza

FOREIGN = ("ManageForeignRoutes", "ManageForeignRoutingPolicyRules")


def _written(path: str, *lines: str) -> str:
    """The command that writes LINES to the file PATH, which must not belong to the package."""
    return f"mkdir -p {path.rpartition('/')[0]} && printf '%s\\n' {shlex.join(lines)} > {path}"


def networkd_foreign_routes(facts: Facts) -> Iterator[Finding]:
    """systemd-networkd removes routes and rules that it did not make, whenever it starts (networkd.conf(5))."""
    lines = ("[Network]", *(f"{key}=no" for key in FOREIGN))
    for key in FOREIGN if facts.networkd else ():
        assert facts.networkd
        if facts.networkd.settings.get(key, "yes").lower() not in ("no", "false", "off", "0", "n", "f"):
            yield Finding(
                what=f"systemd-networkd has {key}=yes: when it restarts it removes what VMs' packets are routed by",
                do=_written("/etc/systemd/networkd.conf.d/zz-ganeti-vif.conf", *lines)
                + " && systemctl restart systemd-networkd",
            )


def networkd_devices(facts: Facts) -> Iterator[Finding]:
    """A .network file must not manage our devices."""
    for device in _ours(facts) if facts.networkd else ():
        assert facts.networkd
        first = next((file for file in facts.networkd.files if _applies(file, device)), None)
        if first and not first.unmanaged:
            yield Finding(
                what=f"systemd-networkd manages {device} and devices like it, by {first.path}",
                do=_written(
                    f"/etc/systemd/network/00-ganeti-vif-{_stem(device)}.network",
                    *("[Match]", f"Name={_stem(device)}*", "[Link]", "Unmanaged=yes"),
                )
                + " && networkctl reload",
            )


def networkd_uplinks(facts: Facts) -> Iterator[Finding]:
    """systemd-networkd sets proxy_ndp of each device that it manages to 0, unless IPv6ProxyNDP= is set."""
    for public in facts.config.public if facts.networkd else ():
        assert facts.networkd
        first = next((file for file in facts.networkd.files if _applies(file, public.uplink)), None)
        if 6 in public.versions and first and not first.unmanaged and not first.proxy_ndp:
            yield Finding(
                what=f"systemd-networkd sets proxy_ndp of {public.uplink} to 0, and IPv6 does not reach VMs",
                do=_written(
                    f"/etc/systemd/network/{first.path.rpartition('/')[2]}.d/ganeti-vif.conf",
                    *("[Network]", "IPv6ProxyNDP=yes"),
                )
                + f" && networkctl reload && networkctl reconfigure {public.uplink}",
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
        if device in _uplinks(facts) and device not in facts.devices:
            continue  # when setup makes it, the package's udev rule keeps NetworkManager off it
        patterns = [one.removeprefix("interface-name:").removeprefix("=") for one in facts.unmanaged]
        if not any(fnmatchcase(device, pattern) for pattern in patterns):
            yield Finding(
                what=f"NetworkManager manages {device} and devices like it",
                do=_written(
                    f"/etc/NetworkManager/conf.d/zz-ganeti-vif-{_stem(device)}.conf",
                    *("[keyfile]", f"unmanaged-devices+=interface-name:{_stem(device)}*"),
                )
                + " && systemctl reload NetworkManager",
            )


def _ours(facts: Facts) -> list[str]:
    """One device of each kind of ours: a tap, and a bridge and an uplink of each private network."""
    names = ["tap0"]
    for private in facts.config.private:
        names += [f"{private.prefix}{private.numbers[0]}"]
    return [*names, *_uplinks(facts)]


def _uplinks(facts: Facts) -> list[str]:
    """One uplink of each private network that has uplinks."""
    return [private.uplink.port(private.numbers[0]) for private in facts.config.private if private.uplink]


def _stem(device: str) -> str:
    return device.rstrip("0123456789")


def ifupdown2_ports(facts: Facts) -> Iterator[Finding]:
    """ifreload removes each port of a bridge that the bridge's stanza neither names nor condones."""
    bridges = {nic.link for nic in facts.nics if nic.mode is Mode.BRIDGED}
    bridges |= {bridge for private in facts.config.private for bridge in private.bridges}
    for stanza in facts.stanzas if facts.ifupdown2 else ():
        given = {option.key.replace("_", "-"): option.value for option in stanza.options}
        if stanza.device not in bridges or "bridge-ports" not in given:
            continue
        if not _condones(given.get("bridge-ports-condone-regex", "")):
            yield Finding(
                what=f"{stanza.place}: ifreload takes the VMs' taps out of {stanza.device}",
                do=_condoning(stanza),
            )


def _condoning(stanza: Stanza) -> str:
    """The command that makes STANZA condone taps."""
    for option in stanza.options:
        if option.key.replace("_", "-") == "bridge-ports-condone-regex":
            path, _, number = option.place.rpartition(":")
            return f"sed -i '{number}s/[[:space:]]*$/|^tap/' {path}"
    path, _, _ = stanza.place.rpartition(":")
    # By name, not by line number: a fix for another stanza of this file may have moved the lines.
    line = f"^[[:space:]]*iface[[:space:]]+{re.escape(stanza.device)}([[:space:]]|$)"
    return f"sed -i -E '/{line}/a\\    bridge-ports-condone-regex ^tap' {path}"


def _condones(pattern: str) -> bool:
    try:
        return bool(pattern and re.match(pattern, "tap0"))
    except re.error:
        return False
