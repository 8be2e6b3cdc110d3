# SPDX-License-Identifier: BSD-2-Clause
"""`ganeti-vif doctor`: reads facts about other software on this node, and prints each conflict and its remedy."""

from __future__ import annotations

import argparse
import configparser
import json
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress

from ganeti_vif.cli.importing import stanzas
from ganeti_vif.config.model import Config
from ganeti_vif.doctor.checks import findings
from ganeti_vif.doctor.facts import (
    Facts,
    Finding,
    Networkd,
    NetworkFile,
    PolicyRule,
    Process,
    XtablesRule,
)
from ganeti_vif.engine.failure import remedy
from ganeti_vif.kernel import modules, sysctl
from ganeti_vif.lifecycle.recorded import recorded_nics
from ganeti_vif.nic.nic import Nic
from ganeti_vif.reconcile import responding, services
from ganeti_vif.reconcile.forwarding import forward_chains
from ganeti_vif.reconcile.in_force import in_force, unapplied
from ganeti_vif.system import processes, settings, tables, udev, units, xtables
from ganeti_vif.system.node import Node

DHCP_SERVER_PORT = 67
NETWORKD, NETWORK_MANAGER = "systemd-networkd", "NetworkManager"
MODULES = ("bridge", "tun", "nf_tables", "8021q", "vxlan", "br_netfilter")


def run(given: argparse.Namespace) -> int:
    """Run the verb. Returns 1 if a finding is grave. Raises Failure if a fact cannot be read."""
    edited = unapplied(given.config)
    found = [Finding(what=edited.what, do=edited.do)] if edited else []
    found += findings(facts(in_force(given.config).config))
    if given.json:
        print(json.dumps({"findings": [_row(finding) for finding in found]}, indent=2))
    else:
        sys.stdout.writelines(_lines(finding) for finding in found)
        if not found:
            print("no conflict found")
    return 1 if any(finding.grave for finding in found) else 0


def _row(finding: Finding) -> dict[str, object]:
    return {"what": finding.what, "fix": finding.do, "note": finding.note, "grave": finding.grave}


def _lines(finding: Finding) -> str:
    note = f"  note: {finding.note}\n" if finding.note else ""
    return f"{'conflict' if finding.grave else 'note'}: {finding.what}\n  {remedy(finding.do)}\n{note}"


def facts(config: Config) -> Facts:
    """The facts about this node. Raises Failure if one cannot be read."""
    nics = tuple(recorded_nics())
    with Node() as node:
        devices = {name: device.index for name, device in node.devices().by_name.items()}
        routes = [route for public in config.public for route in node.routes_on_link(public.uplink)]
        following = node.following()
        forwarding = forward_chains(node)
        rules = [PolicyRule(version=v, device=d, priority=p) for v, d, p in node.incoming_rules()]
    return Facts(
        config=config,
        nics=nics,
        devices=frozenset(devices),
        sysctls=_sysctls(config, nics),
        modules={name: modules.available(name) for name in MODULES},
        networkd=_networkd(),
        unmanaged=_unmanaged(devices),
        ifupdown2=settings.exists("/usr/share/ifupdown2"),
        stanzas=stanzas(),
        xtables=tuple(XtablesRule(program=p, table=t, rule=r) for p, t, r in xtables.rules()),
        rules=tuple(rules),
        forwarding=tuple(forwarding),
        routes=tuple(routes),
        followers=following.others,
        dhcp=_named(processes.listeners(DHCP_SERVER_PORT)),
        nfdhcpd=_named(processes.named(["nfdhcpd"])),
        tables=tables.names(),
        calls=services.calls(),
        daemons=services.daemons(
            config, runs=services.daemon_state() is not None, responds=responding.look(config)[0] is not None
        ),
        systemd=units.systemd(),
    )


def _named(found: Iterable[tuple[int, str]]) -> tuple[Process, ...]:
    return tuple(Process(pid=pid, name=name) for pid, name in sorted(found) if not name.startswith("ganeti-vif"))


def _sysctls(config: Config, nics: Iterable[Nic]) -> dict[str, str]:
    scopes = ["all", *(public.uplink for public in config.public), *(nic.tap for nic in nics)]
    paths = [f"net/ipv4/conf/{scope}/{name}" for scope in scopes for name in ("rp_filter", "src_valid_mark")]
    paths += ["net/netfilter/nf_conntrack_max"]
    paths += [f"net/bridge/bridge-nf-call-{name}" for name in ("iptables", "ip6tables", "arptables")]
    paths += [f"net/ipv{version}/neigh/default/gc_thresh{number}" for version in (4, 6) for number in (2, 3)]
    return {path: value for path in paths if (value := sysctl.value(path)) is not None}


def _ini(text: str) -> configparser.ConfigParser:
    """A file in the format of systemd and NetworkManager, as far as it is readable. Of equal keys the last counts."""
    parser = configparser.ConfigParser(
        interpolation=None, strict=False, delimiters=("=",), default_section="\0", allow_no_value=True
    )
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    with suppress(configparser.Error):  # the program itself reports this; the part before the error counts
        parser.read_string(text)
    return parser


def _yes(text: str | None) -> bool:
    """Whether TEXT is true for systemd (systemd.syntax(7))."""
    return (text or "").lower() in ("1", "yes", "y", "true", "t", "on")


def _networkd() -> Networkd | None:
    """systemd-networkd's configuration; None if it does not run."""
    if not processes.named([NETWORKD]):  # /run/systemd/netif stays when it stops
        return None
    known: dict[str, str] = {}
    main = settings.layered(settings.SYSTEMD, ".", "networkd.conf")
    for _, text in [*main, *settings.layered(settings.SYSTEMD, "networkd.conf.d", ".conf")]:
        parser = _ini(text)
        known |= dict(parser["Network"]) if parser.has_section("Network") else {}
    files = []
    for path, text in settings.layered(settings.SYSTEMD, "network", ".network"):
        parser = _ini(text)
        for _, more in settings.layered(settings.SYSTEMD, f"network/{path.rpartition('/')[2]}.d", ".conf"):
            with suppress(configparser.Error):
                parser.read_string(more)  # a drop-in (systemd.network(5)) overrides the file
        match = dict(parser["Match"]) if parser.has_section("Match") else {}
        if match and "Name" not in match and match.get("Type") != "ether":
            continue  # matches by MAC, driver or path, and so no tap of ours
        files.append(
            NetworkFile(
                path=path,
                names=tuple(match.get("Name", "").split()),
                unmanaged=_yes(parser.get("Link", "Unmanaged", fallback="no")),
                proxy_ndp=_yes(parser.get("Network", "IPv6ProxyNDP", fallback="no")),
            )
        )
    return Networkd(settings=known, files=tuple(files))


def _unmanaged(devices: Mapping[str, int]) -> tuple[str, ...] | None:
    """The devices that NetworkManager does not manage; None if it does not run.

    A key with + adds to the former value (NetworkManager.conf(5)). For single DEVICES udev has the property
    NM_UNMANAGED (NetworkManager(8)).
    """
    if not processes.named([NETWORK_MANAGER]):  # /run/NetworkManager stays when it stops
        return None
    patterns: list[str] = []
    texts = settings.layered(settings.NETWORK_MANAGER, "conf.d", ".conf")
    main = settings.text("/etc/NetworkManager/NetworkManager.conf")
    for text in [*([main] if main else []), *(text for _, text in texts)]:
        parser = _ini(text)
        for key, value in parser["keyfile"].items() if parser.has_section("keyfile") else ():
            if key.rstrip("+").strip() == "unmanaged-devices":
                patterns = [*(patterns if key.endswith("+") else ()), *(value or "").replace(",", ";").split(";")]
    known = (pattern.strip() for pattern in patterns if pattern.strip())
    return (*known, *udev.marked(devices, "NM_UNMANAGED=1"))
