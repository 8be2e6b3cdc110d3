# SPDX-License-Identifier: BSD-2-Clause
"""Converting the variables of /etc/default/snf-network (0.16) and /etc/default/gnt-networking (0.17)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from ganeti_vif.predecessors.report import Fate, Note
from ganeti_vif.predecessors.shell import Assignment

TAGS: Mapping[str, str] = {
    "NFDHCPD_TAG": "nfdhcpd",
    "IP_LESS_ROUTED_TAG": "ip-less-routed",
    "MAC_FILTERED_TAG": "private-filtered",
    "BRIDGED_TAG": "bridged",
}
"""Tags whose names were configurable, and are fixed now."""

NEEDLESS: Mapping[str, str] = {
    "STATE_DIR": "what was done is read from the kernel",
    "LOGFILE": "the log is the journal, or /var/log/ganeti/vif.log",
    "RUNLOCKED_OPTS": "filters are changed in transactions of nftables",
    "MAC2EUI64": "addresses are computed without a program",
    "GANETI_NIC_DIR": "Xen is not supported",
    "MASQ_TAG": "it never had an effect",
    "PUBLIC_TAG": "it never had an effect",
}
PROGRAMS = re.compile(r"(ARP|EB|IP|IP6)TABLES(_SAVE)?|BRCTL|IP_CMD|ARPING|NDSEND|NSUPDATE|VCONFIG|MODPROBE")
DNS = re.compile(r"DNS_TAG|SERVER|FZONE|TTL|AUTHENTICATION_METHOD|KEYFILE|KERBEROS_[A-Z_]+")
MAC_MASK = "ff:ff:ff:00:00:00"
"""Of a network's MAC prefix: what private-filtered compares here."""


def bindings(found: Mapping[str, Assignment], nfdhcpd: bool) -> list[str]:
    """The lines of [bindings] for FOUND. NFDHCPD: whether the node has NFDHCPD."""
    given = found.get("NFDHCPD_STATE_DIR")
    directory = given.value if given and given.value else "/var/lib/nfdhcpd"
    consumer = "nfdhcpd" if nfdhcpd else "responder"
    return ["[bindings]", f"directory = {directory}", "for = tagged", f"consumer = {consumer}"]


def notes(found: Mapping[str, Assignment]) -> Iterator[Note]:
    """A note on each variable of FOUND."""
    dynamic_dns = bool(found["SERVER"].value) if "SERVER" in found else False
    for one in found.values():
        fate, what = _fate(one, dynamic_dns)
        yield Note(place=one.place, fate=fate, what=f"{one.name}={one.value}: {what}")


def _fate(one: Assignment, dynamic_dns: bool) -> tuple[Fate, str]:
    if one.name == "NFDHCPD_STATE_DIR":
        return Fate.TAKEN, "[bindings] directory"
    if one.name in TAGS:
        if one.value == TAGS[one.name]:
            return Fate.TAKEN, "the tag has the same name"
        return Fate.LOST, f"the tag is called {TAGS[one.name]}: gnt-network add-tags NETWORK {TAGS[one.name]}"
    if one.name in NEEDLESS:
        return Fate.NEEDLESS, NEEDLESS[one.name]
    if PROGRAMS.fullmatch(one.name):
        return Fate.NEEDLESS, "no program is called for it"
    if DNS.fullmatch(one.name):
        what = "names of VMs are not sent to a DNS server: keep its hook, or another"
        return (Fate.LOST, what) if dynamic_dns else (Fate.NEEDLESS, "no DNS server was set")
    if not one.value:
        return Fate.NEEDLESS, "it is empty"
    if one.name == "TAP_CONSTANT_MAC":
        return (
            Fate.LOST,
            "routed taps have another MAC, the same on all nodes; ganeti-vif adopt keeps that of running VMs",
        )
    if one.name == "MAC_MASK":
        if one.value.lower() == MAC_MASK:
            return Fate.TAKEN, "private-filtered compares as much"
        return Fate.LOST, f"private-filtered compares the network's MAC prefix, {MAC_MASK}"
    if one.name == "IFUP_EXTRA_SCRIPT":
        return Fate.LOST, f"{one.value} is not run"
    if one.name == "SERVICENAME":
        return Fate.LOST, f"the functions of /etc/ganeti/gnt-networking/{one.value} are not run"
    if one.name == "NFDHCPD_STATE_EXTRA":
        return Fate.LOST, "bindings have what Ganeti says and no more"
    return Fate.UNREAD, "no variable of snf-network or gnt-networking"
